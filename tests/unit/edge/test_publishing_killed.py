"""Publishing, killed at places drawn at random, hundreds of times: what the mirror has is good at each of them."""

import functools
import random
import shutil
from pathlib import Path

import pytest

import directory_kit as kit
from kill_kit import killed_at, places
from sottovoce.device.directory import accept
from sottovoce.edge.files import write_whole
from sottovoce.tlog.directoryfiles import HISTORY, note_name, proof_name

KILLS, A_DOCUMENT = 300, 12


def publish(log: kit.Log, folder: Path, note: bytes) -> None:
    kit.publisher(log, folder).publish(note, kit.NOON)


def seen(log: kit.Log, folder: Path) -> set[int]:
    """The epochs whose documents a device gets from the mirror; each must be good."""
    epochs = set()
    for epoch in (kit.TODAY, kit.TODAY + 1):
        note = folder / note_name(epoch)
        if note.exists():
            now = kit.NOON + (epoch - kit.TODAY) * 86_400 // 2
            proof, history = (folder / proof_name(epoch)).read_bytes(), (folder / HISTORY).read_bytes()
            accepted = accept(
                note.read_bytes(), note.read_bytes(), proof, key=kit.KEY.verifier, log=log.log.policy(),
                now=now, last=None, history=history,
            )  # fmt: skip
            assert accepted.directory.epoch == epoch
            epochs.add(epoch)
    return epochs


def test_the_mirror_is_good_whenever_publishing_is_killed(tmp_path: Path) -> None:
    draw = random.Random(3)  # noqa: S311 - the test must repeat
    kills = late = 0
    cut: set[frozenset[str]] = set()
    for number in range(KILLS // A_DOCUMENT):
        log, folder = kit.Log(), tmp_path / str(number)
        publish(log, folder, kit.note(kit.TODAY))
        # What the log has acknowledged stays: another test kills that.
        log.append(kit.directory(kit.TODAY + 1).encode())
        note = kit.note(kit.TODAY + 1)
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(folder, copy)
        total = places(functools.partial(publish, log, copy, note))
        for _ in range(A_DOCUMENT):
            # Some come to their end: those that were killed often enough before have little left to do.
            kills += killed_at(functools.partial(publish, log, folder, note), draw.randrange(total * 5 // 4))
            late += kit.TODAY + 1 in seen(log, folder)
            assert kit.TODAY in seen(log, folder)
            cut.add(frozenset(path.name for path in folder.iterdir()))
        publish(log, folder, note)
        assert seen(log, folder) == {kit.TODAY, kit.TODAY + 1}
    # It was killed most times, before and after the document was there, and in between.
    assert kills > KILLS // 3
    assert 0 < late < KILLS
    assert len(cut) > 2


def test_the_loop_sees_a_document_that_comes_before_its_proof(tmp_path: Path) -> None:
    log, folder = kit.Log(), tmp_path / "mirror"
    publish(log, folder, kit.note(kit.TODAY))
    write_whole(folder / note_name(kit.TODAY + 1), kit.note(kit.TODAY + 1))
    with pytest.raises(FileNotFoundError):
        seen(log, folder)

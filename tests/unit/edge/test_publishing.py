"""Publishing a directory: nothing before the log has it and witnesses have seen it, and again after a crash at any step."""

import dataclasses
from pathlib import Path

import pytest

import directory_kit as kit
from directory_kit import KEY, NOON, TODAY, Log, note, publisher
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.directory import accept
from sottovoce.edge.directories import sign_directory
from sottovoce.edge.publishing import NotSeenError, SecondDirectoryError
from sottovoce.tlog.directoryfiles import HISTORY, note_name, proof_name
from sottovoce.tlog.history import History
from sottovoce.tlog.note import SigningKey
from sottovoce.tlog.proof import Proof

STEPS = ("logged", "proved", "consistency", "proofs", "published")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def served(mirror: Path) -> set[str]:
    return {path.name for path in mirror.iterdir()}


def accepted(mirror: Path, log: Log, epoch: int, *, now: int) -> None:
    """A device that comes at `now` accepts what the mirror has."""
    document = (mirror / note_name(epoch)).read_bytes()
    found = accept(
        document,
        document,
        (mirror / proof_name(epoch)).read_bytes(),
        key=KEY.verifier,
        log=log.log.policy(),
        now=now,
        last=None,
        history=(mirror / HISTORY).read_bytes(),
    )
    assert found.directory == kit.directory(epoch)


def test_the_next_day_is_there_before_it_begins_and_both_are_accepted(log: Log, mirror: Path) -> None:
    publisher(log, mirror).publish(note(), NOON)
    assert publisher(log, mirror).publish(note(TODAY + 1), NOON) == TODAY + 1
    accepted(mirror, log, TODAY, now=NOON)
    begins = (TODAY + 1) * EPOCH_SECONDS
    for moment in (begins - 60, begins, begins + 60):
        accepted(mirror, log, TODAY + 1, now=moment)
        accepted(mirror, log, TODAY, now=moment)  # in its grace
    # Both proofs are of one tree head, and one file leads to it from the one before.
    heads = {Proof.parse((mirror / proof_name(one)).read_bytes()).note.text for one in (TODAY, TODAY + 1)}
    assert len(heads) == 1
    history = History.parse((mirror / HISTORY).read_bytes())
    assert (history.head.size, list(history.paths)) == (len(log.log.leaves), [len(log.log.leaves) - 1])


def test_what_is_published_anybody_may_read(log: Log, mirror: Path) -> None:
    publisher(log, mirror).publish(note(), NOON)
    assert {path.stat().st_mode & 0o777 for path in mirror.iterdir()} == {0o644}


class _Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_same_command_finishes(log: Log, mirror: Path, step: str) -> None:
    publisher(log, mirror).publish(note(), NOON)

    def kill(now_at: str) -> None:
        if now_at == step:
            raise _Killed

    with pytest.raises(_Killed):
        publisher(log, mirror, progress=kill).publish(note(TODAY + 1), NOON)
    assert (note_name(TODAY + 1) in served(mirror)) == (step == "published")
    # Whoever comes now gets today's as before.
    accepted(mirror, log, TODAY, now=NOON)
    entries = len(log.log.leaves)
    publisher(log, mirror).publish(note(TODAY + 1), NOON)
    accepted(mirror, log, TODAY + 1, now=NOON + EPOCH_SECONDS // 2)
    assert len(log.log.leaves) == entries
    assert not [name for name in served(mirror) if name.endswith(".new")]


def test_the_steps_are_all_that_there_are(log: Log, mirror: Path) -> None:
    told: list[str] = []
    publisher(log, mirror, progress=told.append).publish(note(), NOON)
    assert tuple(told) == STEPS


def test_given_twice_it_changes_nothing(log: Log, mirror: Path) -> None:
    publisher(log, mirror).publish(note(), NOON)
    before = {path.name: path.read_bytes() for path in mirror.iterdir()}
    publisher(log, mirror).publish(note(), NOON)
    assert {name for name in before if name.endswith(".note")} == {note_name(TODAY)}
    assert (mirror / note_name(TODAY)).read_bytes() == before[note_name(TODAY)]
    accepted(mirror, log, TODAY, now=NOON)


def test_a_second_document_for_a_day_is_refused(log: Log, mirror: Path) -> None:
    publisher(log, mirror).publish(note(), NOON)
    other = dataclasses.replace(kit.directory(), issuer="other.example")
    entries = list(log.log.entries)
    with pytest.raises(SecondDirectoryError):
        publisher(log, mirror).publish(sign_directory(other, KEY), NOON)
    assert log.log.entries == entries
    accepted(mirror, log, TODAY, now=NOON)


def test_nothing_is_published_below_the_quorum_of_witnesses(log: Log, mirror: Path) -> None:
    log.log.cosigning = 1
    with pytest.raises(NotSeenError, match="witness"):
        publisher(log, mirror).publish(note(), NOON)
    assert served(mirror) == set()
    log.log.cosigning = 2
    publisher(log, mirror).publish(note(), NOON)
    accepted(mirror, log, TODAY, now=NOON)


def test_nothing_is_published_that_the_log_does_not_have(
    log: Log, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "append", lambda _: None)
    with pytest.raises(UnavailableError, match="no such entry"):
        publisher(log, mirror).publish(note(), NOON)
    assert served(mirror) == set()


def test_a_proof_that_no_device_would_take_any_more_is_not_published(log: Log, mirror: Path) -> None:
    publisher(log, mirror).publish(note(), NOON)
    before = (mirror / proof_name(TODAY)).read_bytes()
    with pytest.raises(NotSeenError, match="too old"):
        publisher(log, mirror).publish(note(TODAY + 1), NOON + 86401)
    assert served(mirror) & {note_name(TODAY + 1), proof_name(TODAY + 1)} == set()
    assert (mirror / proof_name(TODAY)).read_bytes() == before


@pytest.mark.parametrize(
    "data", [b"", b"{}", note()[:-9], note().replace(b"issuer.example", b"another.exampl")]
)
def test_forged_and_damaged_documents_are_not_entered(log: Log, mirror: Path, data: bytes) -> None:
    entries = list(log.log.entries)
    with pytest.raises(ConfigError):
        publisher(log, mirror).publish(data, NOON)
    assert log.log.entries == entries
    assert served(mirror) == set()


def test_another_key_and_a_second_signature_are_refused(log: Log, mirror: Path) -> None:
    stranger = SigningKey.generate(KEY.verifier.name)
    for data in (
        sign_directory(kit.directory(), stranger),
        note() + sign_directory(kit.directory(), stranger).rpartition(b"\n\n")[2],
    ):
        with pytest.raises(ConfigError, match="not signed by the directory's key alone"):
            publisher(log, mirror).publish(data, NOON)
    assert log.asked == []


def test_a_day_that_is_over_is_not_published(log: Log, mirror: Path) -> None:
    with pytest.raises(ConfigError, match="over"):
        publisher(log, mirror).publish(note(), (TODAY + 1) * EPOCH_SECONDS + 3600)
    assert log.asked == []


def test_fresh_proofs_for_all_that_a_device_may_ask_for(log: Log, mirror: Path) -> None:
    for epoch in (TODAY, TODAY + 1):
        publisher(log, mirror).publish(note(epoch), NOON)
    log.now = NOON + 20 * 3600
    log.log.add(b"something else")
    assert publisher(log, mirror).refresh(log.now) == [TODAY + 1]
    accepted(mirror, log, TODAY + 1, now=NOON + 30 * 3600)
    # A week later the first one goes.
    log.now = NOON + 9 * EPOCH_SECONDS
    publisher(log, mirror).publish(note(TODAY + 9), log.now)
    assert note_name(TODAY) not in served(mirror)
    assert note_name(TODAY + 1) not in served(mirror)
    assert served(mirror) >= {note_name(TODAY + 9), proof_name(TODAY + 9)}


def test_the_secret_stays_out_of_what_can_be_printed(log: Log) -> None:
    assert "secret" not in repr(log)

"""Publishing a directory: nothing before the log has it and witnesses have seen it, and again after a crash at any step."""

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import directory_kit as kit
from directory_kit import KEY, NOON, TODAY, Log, note, publisher
from sottovoce.attest.evidence import Logged
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.directory import LastSeen, VerifiedDirectory, accept
from sottovoce.edge.directories import sign_directory
from sottovoce.edge.files import FolderBusyError, locked
from sottovoce.edge.publishing import Mirror, NotSeenError, SecondDirectoryError
from sottovoce.tlog import merkle
from sottovoce.tlog.directoryfiles import HISTORY, history_name, note_name, proof_name
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


def everything(mirror: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in mirror.iterdir()}


@pytest.mark.parametrize("change", ["another leaf", "one leaf less", "none"])
def test_a_consistency_file_that_does_not_give_the_tree_head_is_not_published(
    log: Log, mirror: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    publisher(log, mirror).publish(note(), NOON)
    seen, before = (
        LastSeen(epoch=TODAY, checkpoint=by_two_ways(log, mirror, mirror).checkpoint),
        everything(mirror),
    )

    def history(origin: str, size: int, earlier: Iterable[int]) -> History:
        leaves = list(log.log.leaves[:size])
        changed = {"another leaf": [*leaves[:-1], bytes(32)], "one leaf less": leaves[:-1], "none": []}
        return History.of(origin, changed[change], earlier)

    monkeypatch.setattr(log, "history", history)
    for work in (
        lambda: publisher(log, mirror).publish(note(TODAY + 1), NOON),
        lambda: publisher(log, mirror).refresh(NOON),
    ):
        with pytest.raises(NotSeenError, match="tiles do not give the tree head"):
            work()
        assert everything(mirror) == before
    # A device that was here before still gets in, and when the log's files are good again, the same command goes on.
    by_two_ways(log, mirror, mirror, last=seen)
    monkeypatch.undo()
    publisher(log, mirror).publish(note(TODAY + 1), NOON)
    by_two_ways(log, mirror, mirror, last=seen)


@pytest.mark.parametrize("wrong", [0, 1])
def test_of_two_consistency_files_none_is_published_if_one_is_wrong(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for epoch in (TODAY, TODAY + 1):
        publisher(log, one, two).publish(note(epoch), NOON)
    before, size = everything(one), len(log.log.leaves)
    prove = log.prove

    def prove_while_it_grows(entry: bytes) -> Logged:
        log.log.add(b"something else")
        return prove(entry)

    def history(origin: str, of: int, earlier: Iterable[int]) -> History:
        return History.of(origin, log.log.leaves[:of], earlier)

    def history_with_one_wrong(origin: str, of: int, earlier: Iterable[int]) -> History:
        if of == size + 1 + wrong:
            return History.of(origin, [merkle.leaf_hash(b"%d" % number) for number in range(of)], earlier)
        return history(origin, of, earlier)

    monkeypatch.setattr(log, "prove", prove_while_it_grows)
    monkeypatch.setattr(log, "history", history_with_one_wrong)
    with pytest.raises(NotSeenError, match="tiles do not give the tree head"):
        publisher(log, one, two).refresh(NOON)
    assert everything(one) == everything(two) == before
    # Both right: both are there, and the larger one is the newest.
    monkeypatch.setattr(log, "history", history)
    publisher(log, one, two).refresh(NOON)
    larger = len(log.log.leaves)
    after = everything(one)
    assert after[HISTORY] == after[history_name(larger)]
    assert larger - 1 in History.parse(after[HISTORY]).paths
    assert {History.parse(after[history_name(number)]).head.size for number in (larger - 1, larger)} == {
        larger - 1,
        larger,
    }


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


# Several mirrors.


def by_two_ways(log: Log, mirror: Path, relay: Path, *, last: LastSeen | None = None) -> VerifiedDirectory:
    """What a device accepts that asks `mirror`, and a relay that asks `relay`: each for the files as they are now."""
    note, proof, history = (
        (mirror / name).read_bytes() for name in (note_name(TODAY), proof_name(TODAY), HISTORY)
    )
    second, second_proof = ((relay / name(TODAY)).read_bytes() for name in (note_name, proof_name))
    newest = max(head_of(one) for one in (proof, second_proof))
    if History.parse(history).head.size != newest:
        history = (mirror / history_name(newest)).read_bytes()
    return accept(
        note, second, proof, key=KEY.verifier, log=log.log.policy(), now=NOON, last=last,
        second_proof=second_proof, history=history,
    )  # fmt: skip


def head_of(proof: bytes) -> int:
    return int(Proof.parse(proof).note.text.split("\n")[1])


def test_at_any_moment_every_two_mirrors_go_together(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publisher(log, one, two).publish(note(), NOON)
    put, looked = Mirror.put, []

    def put_and_look(mirror: Mirror, name: str, data: bytes) -> None:
        put(mirror, name, data)
        for pair in ((one, two), (two, one), (one, one), (two, two)):
            by_two_ways(log, *pair)
        looked.append(name)

    monkeypatch.setattr(Mirror, "put", put_and_look)
    log.log.add(b"something else")
    publisher(log, one, two).refresh(NOON)
    publisher(log, one, two).publish(note(TODAY + 1), NOON)
    # Of each mirror: a proof and two consistency files, then two of each and a document.
    assert len(looked) == 2 * (3 + 5)
    for name in (note_name(TODAY), proof_name(TODAY), HISTORY, proof_name(TODAY + 1)):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_mirrors_that_were_refreshed_apart_are_brought_together(log: Log, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publisher(log, one, two).publish(note(), NOON)
    seen = []
    for number, apart in enumerate((one, two, one)):
        log.log.add(b"entry %d" % number)
        publisher(log, apart).refresh(NOON)
        accepted = by_two_ways(log, apart, apart)
        seen.append(LastSeen(epoch=TODAY, checkpoint=accepted.checkpoint))
    with pytest.raises(FileNotFoundError):
        by_two_ways(log, two, one)  # it has no file that leads to the other's tree head
    publisher(log, one, two).refresh(NOON)
    # A device that was at either comes back to either, by any two ways.
    for pair in ((one, two), (two, one), (one, one), (two, two)):
        for last in seen:
            by_two_ways(log, *pair, last=last)


def test_a_new_mirror_gets_all_that_a_device_may_ask_for(log: Log, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publisher(log, one).publish(note(), NOON)
    publisher(log, one, two, one).refresh(NOON)
    by_two_ways(log, two, one)
    by_two_ways(log, one, two)


def test_mirrors_with_different_documents_are_left_alone(log: Log, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publisher(log, one).publish(note(), NOON)
    two.mkdir()
    other = sign_directory(dataclasses.replace(kit.directory(), issuer="other.example"), KEY)
    (two / note_name(TODAY)).write_bytes(other)
    before, asked = {path.name: path.read_bytes() for path in one.iterdir()}, list(log.asked)
    with pytest.raises(SecondDirectoryError, match="two mirrors"):
        publisher(log, one, two).refresh(NOON)
    with pytest.raises(SecondDirectoryError, match="two mirrors"):
        publisher(log, one, two).publish(note(TODAY + 1), NOON)
    assert {path.name: path.read_bytes() for path in one.iterdir()} == before
    assert served(two) == {note_name(TODAY)}
    assert log.asked == asked


# Two commands at once, and wrong clocks.


@pytest.mark.parametrize(
    "work",
    [
        lambda log, *mirrors: publisher(log, *mirrors).refresh(NOON),
        lambda log, *mirrors: publisher(log, *mirrors).publish(note(TODAY + 1), NOON),
    ],
    ids=["refresh", "publish"],
)
def test_one_command_at_a_time_is_at_work_at_a_mirror(
    log: Log, tmp_path: Path, work: Callable[..., object]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publisher(log, one, two).publish(note(), NOON)
    asked = list(log.asked)
    with locked(two), pytest.raises(FolderBusyError, match="another command"):
        work(log, one, two)
    assert log.asked == asked
    # What it had locked before is free, and so is the other now.
    work(log, one, two)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def hold() -> None:
        with locked(tmp_path):
            there.send(None)
            time.sleep(600)

    process = context.Process(target=hold)
    process.start()
    here.recv()
    with pytest.raises(FolderBusyError), locked(tmp_path):
        pass
    process.kill()
    process.join()
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said_to_be_none(log: Log, mirror: Path) -> None:
    nowhere = publisher(log, mirror)
    mirror.rmdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        nowhere.refresh(NOON)


@pytest.mark.parametrize("days", [-400, -2, 2, 9, 400])
def test_a_clock_that_is_wrong_by_days_changes_nothing(log: Log, mirror: Path, days: int) -> None:
    for epoch in (TODAY, TODAY + 1):
        publisher(log, mirror).publish(note(epoch), NOON)
    before = {path.name: path.read_bytes() for path in mirror.iterdir()}
    with pytest.raises(NotSeenError, match="too old, or from the future") as caught:
        publisher(log, mirror).refresh(NOON + days * EPOCH_SECONDS)
    assert "clock" in caught.value.hint
    assert {path.name: path.read_bytes() for path in mirror.iterdir()} == before


@pytest.mark.parametrize("hours", [0, 11, 12, 13, 14, 20, 23, 24])
def test_a_clock_that_is_ahead_by_hours_leaves_out_nothing(log: Log, mirror: Path, hours: int) -> None:
    for epoch in (TODAY, TODAY + 1):
        publisher(log, mirror).publish(note(epoch), NOON)
    log.log.add(b"something else")
    assert publisher(log, mirror).refresh(NOON + hours * 3600) == [TODAY, TODAY + 1]
    heads = [head_of((mirror / proof_name(epoch)).read_bytes()) for epoch in (TODAY, TODAY + 1)]
    assert heads == [len(log.log.leaves)] * 2
    accepted(mirror, log, TODAY, now=NOON)
    accepted(mirror, log, TODAY + 1, now=NOON + 13 * 3600)


def test_the_newest_one_stays_however_late_the_next_one_comes(log: Log, mirror: Path) -> None:
    for epoch in (TODAY - 1, TODAY):
        log.now = NOON + (epoch - TODAY) * EPOCH_SECONDS
        publisher(log, mirror).publish(note(epoch), log.now)
    log.now = NOON + 40 * EPOCH_SECONDS
    assert publisher(log, mirror).refresh(log.now) == [TODAY]
    assert served(mirror) >= {note_name(TODAY - 1), note_name(TODAY), proof_name(TODAY)}


def test_the_secret_stays_out_of_what_can_be_printed(log: Log) -> None:
    assert "secret" not in repr(log)

import base64
import collections
import dataclasses
import hashlib
import inspect
import json
import random
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import token_kit
from device_kit import no_file_above
from ohttp_world import KEYS
from sottovoce.core.errors import ConfigError
from sottovoce.core.ohttp import encode_key_configs
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE
from sottovoce.device.directory import (
    DirectoryRefused,
    LastSeen,
    LogForked,
    VerifiedDirectory,
    accept,
    check_usable,
    draw_candidates,
    load_last_seen,
    save_last_seen,
)
from sottovoce.device.files import DiskError
from sottovoce.edge.directories import directory_of, sign_directory
from sottovoce.edge.keyfolder import EpochKey, PublicKeys
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.entries import Directory, Host, Relay, Release, Revocations, TokenKey
from sottovoce.tlog.history import History
from sottovoce.tlog.note import Note, SigningKey, sign_note
from sottovoce.tlog.policy import VerifiedCheckpoint
from sottovoce.tlog.proof import Proof, encode_proof

ORIGIN = "log.example/test"
TODAY = 20_000
START = TODAY * EPOCH_SECONDS
NOON = START + EPOCH_SECONDS // 2
KEY = SigningKey.generate("directory.example")


def host(number: int, role: str = "orchestrator") -> Host:
    return Host(
        id=f"host-{number}", role=role, platform="sev-snp", product="Milan", hardware_id=f"{number:0128x}"
    )


HOSTS = (*map(host, range(1, 6)), host(6, "guard"))
DIRECTORY = directory_of(
    TODAY,
    gateway=PublicKeys(
        party="gateway",
        epoch=TODAY,
        ohttp_key_configs=base64.b64encode(encode_key_configs([key.config() for key in KEYS])).decode(),
    ),
    token_keys=[
        PublicKeys(party="issuer", epoch=epoch, token_keys=[EpochKey.of(epoch, 2, token_kit.key(epoch).spki)])
        for epoch in (TODAY, TODAY + 1)
    ],
    issuer="issuer.example",
    relays=[Relay(operator="Relay", url="https://relay.example/ohttp")],
    hosts=HOSTS,
    origin=ORIGIN,
    quorum=2,
)


class World:
    """A log with a directory in it, and all that `accept` is given about it."""

    def __init__(
        self, directory: Directory = DIRECTORY, *, now: int = NOON, signer: SigningKey = KEY, before: int = 2
    ) -> None:
        self.log = MemoryLog(ORIGIN)
        for number in range(before):
            self.log.append(b"entry %d" % number)
        self.now = now
        self.index = self.log.append(directory.encode())
        self.note = sign_directory(directory, signer)

    def history(self, *, size: int | None = None, earlier: Iterable[int] = range(1, 100)) -> bytes:
        return History.of(ORIGIN, self.log.leaves[:size], earlier).encode()

    def accept(self, **changes: Any) -> VerifiedDirectory:
        given: dict[str, Any] = {
            "first": self.note,
            "second": self.note,
            "proof": self.log.proof(self.index, now=self.now),
            "key": KEY.verifier,
            "log": self.log.policy(),
            "now": self.now,
            "last": None,
        }
        return accept(**(given | changes))


def of_day(epoch: int) -> Directory:
    start = epoch * EPOCH_SECONDS
    return dataclasses.replace(
        DIRECTORY, epoch=epoch, not_before=start - GRACE, not_after=start + EPOCH_SECONDS + GRACE
    )


def test_a_directory_that_passes_every_rule_is_accepted_as_it_was_given() -> None:
    world = World()
    accepted = world.accept()
    assert accepted.directory == DIRECTORY
    assert (accepted.note, accepted.proof) == (world.note, world.log.proof(2, now=NOON))
    assert (accepted.index, accepted.checkpoint.size, accepted.checkpoint.time) == (2, 3, NOON)


# Rule 1


def test_two_different_copies_are_refused_though_both_are_signed_and_logged() -> None:
    world = World()
    other = dataclasses.replace(DIRECTORY, issuer="issuer.other")
    index = world.log.append(other.encode())
    second = sign_directory(other, KEY)
    assert world.accept(first=second, proof=world.log.proof(index, now=NOON), second=second).index == 3
    for proof in (world.log.proof(index, now=NOON), world.log.proof(2, now=NOON)):
        for pair in ((world.note, second), (second, world.note)):
            with pytest.raises(DirectoryRefused, match="different"):
                world.accept(first=pair[0], second=pair[1], proof=proof)


def test_copies_that_differ_in_a_signature_only_are_refused() -> None:
    world = World()
    text = DIRECTORY.encode().decode() + "\n"
    more = sign_note(text, [KEY, SigningKey.generate("other.example")]).encode()
    assert world.accept(first=more, second=more).directory == DIRECTORY
    with pytest.raises(DirectoryRefused, match="different"):
        world.accept(second=more)


# Rule 2


@pytest.mark.parametrize("name", [KEY.name, "other.example"])
def test_a_directory_signed_by_another_key_is_refused(name: str) -> None:
    with pytest.raises(DirectoryRefused, match="not signed by the pinned key"):
        World(signer=SigningKey.generate(name)).accept()


def test_a_signature_of_another_text_is_refused() -> None:
    world = World()
    signatures = Note.parse(sign_directory(of_day(TODAY - 1), KEY)).signatures
    note = Note(text=DIRECTORY.encode().decode() + "\n", signatures=signatures).encode()
    with pytest.raises(DirectoryRefused, match="does not verify"):
        world.accept(first=note, second=note)


# Rule 3


def test_a_directory_of_another_log_is_refused() -> None:
    with pytest.raises(DirectoryRefused, match="another log"):
        World(dataclasses.replace(DIRECTORY, log_origin="log.example/production")).accept()


@pytest.mark.parametrize(
    ("now", "accepted"),
    [
        (START - GRACE - 1, False),
        (START - GRACE, True),
        (START, True),
        (START + EPOCH_SECONDS + GRACE - 1, True),
        (START + EPOCH_SECONDS + GRACE, False),
    ],
)
def test_a_directory_is_valid_for_its_day_and_an_hour_on_each_side(now: int, *, accepted: bool) -> None:
    world = World(now=now)
    if accepted:
        assert world.accept().directory.epoch == TODAY
        return
    with pytest.raises(DirectoryRefused, match="expired, or not valid yet"):
        world.accept()


@pytest.mark.parametrize(
    "changes",
    [
        {"not_after": START + 365 * EPOCH_SECONDS},
        {"not_after": START + EPOCH_SECONDS + GRACE + 1},
        {"not_after": START + EPOCH_SECONDS},
        {"not_before": 0},
        {"not_before": START - GRACE - 1},
        {"not_before": START},
        {"epoch": TODAY + 1},
        {"epoch": TODAY - 1},
        {"epoch": 2**53 - 1},
    ],
)
def test_a_directory_cannot_be_valid_for_another_time_than_its_epochs(changes: dict[str, Any]) -> None:
    with pytest.raises(DirectoryRefused, match="another time than its epoch"):
        World(dataclasses.replace(DIRECTORY, **changes)).accept()


def test_another_kind_of_entry_is_no_directory_though_signed_and_logged() -> None:
    release = Release(
        role="orchestrator",
        version="1",
        security_version=1,
        platform="sev-snp",
        measurements=("ab" * 48,),
        vmpl=0,
        artifacts=(),
        accelerators=(),
        issued=NOON,
        expires=NOON + 1,
    )
    world = World()
    index = world.log.append(release.encode())
    note = sign_note(release.encode().decode() + "\n", [KEY]).encode()
    with pytest.raises(DirectoryRefused, match="not of the kind directory"):
        world.accept(first=note, second=note, proof=world.log.proof(index, now=NOON))


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b"{}\n\n\xe2\x80\x94 x AAAA\n"])
def test_bytes_that_are_no_directory_are_refused(data: bytes) -> None:
    with pytest.raises(DirectoryRefused, match="does not verify"):
        World().accept(first=data, second=data)
    with pytest.raises(DirectoryRefused, match="does not verify"):
        World().accept(proof=data)


# Rule 4


def test_a_directory_that_is_not_in_the_log_is_refused() -> None:
    world = World()
    other = sign_directory(dataclasses.replace(DIRECTORY, issuer="issuer.other"), KEY)
    with pytest.raises(DirectoryRefused, match="inclusion proof"):
        world.accept(first=other, second=other)


def test_a_proof_from_another_log_is_refused() -> None:
    world, other = World(), World()
    with pytest.raises(DirectoryRefused, match="not signed by the pinned log"):
        world.accept(proof=other.log.proof(other.index, now=NOON))
    other.log.origin = "log.example/other"
    with pytest.raises(DirectoryRefused, match="another log"):
        world.accept(proof=other.log.proof(other.index, now=NOON))


@pytest.mark.parametrize(
    ("age", "accepted"),
    [(EPOCH_SECONDS, True), (EPOCH_SECONDS + 1, False), (-300, True), (-301, False)],
)
def test_the_checkpoint_is_at_most_a_day_old_and_not_of_the_future(age: int, *, accepted: bool) -> None:
    world = World()
    proof = world.log.proof(world.index, now=NOON - age)
    if accepted:
        assert world.accept(proof=proof).checkpoint.time == NOON - age
        return
    with pytest.raises(DirectoryRefused, match="too old, or from the future"):
        world.accept(proof=proof)


@pytest.mark.parametrize("witnesses", [0, 1])
def test_a_checkpoint_below_the_quorum_is_refused(witnesses: int) -> None:
    world = World()
    whole = Proof.parse(world.log.proof(world.index, now=NOON))
    note = Note(text=whole.note.text, signatures=whole.note.signatures[: 1 + witnesses])
    proof = encode_proof(index=whole.index, path=whole.path, checkpoint=note)
    with pytest.raises(DirectoryRefused, match="too few pinned witnesses"):
        world.accept(proof=proof)
    if witnesses:
        assert world.accept(proof=proof, log=world.log.policy(quorum=1)).index == 2


# Rule 5


def seen(world: World, **changes: Any) -> LastSeen:
    """That this device accepted `world` before, with changes to what it saw of the log."""
    accepted = world.accept()
    checkpoint = dataclasses.replace(accepted.checkpoint, **changes)
    digest = hashlib.sha256(accepted.directory.encode()).hexdigest()
    return LastSeen(epoch=accepted.directory.epoch, checkpoint=checkpoint, digest=digest)


def test_the_same_directory_and_a_grown_log_continue_what_was_seen() -> None:
    world = World()
    last = seen(world)
    assert world.accept(last=last).directory == DIRECTORY
    world.log.append(b"more")
    assert world.accept(last=last, history=world.history()).checkpoint.size == last.checkpoint.size + 1
    with pytest.raises(DirectoryRefused, match="not proved to be of one history: there is no consistency"):
        world.accept(last=last)
    with pytest.raises(DirectoryRefused, match="of another tree head"):
        world.accept(last=last, history=world.history(size=3))
    with pytest.raises(DirectoryRefused, match="has no proof from that tree head"):
        world.accept(last=last, history=world.history(earlier=(1, 2)))
    with pytest.raises(DirectoryRefused, match="does not verify: this is not a consistency file"):
        world.accept(last=last, history=b"x")


def test_a_log_that_does_not_continue_what_was_seen_is_named_a_fork_before_anything_else() -> None:
    world, other = World(), World(before=5)
    other.log.key, other.log.witnesses = world.log.key, world.log.witnesses
    last, note = seen(world), Note.parse(other.log.proof(5, now=NOON).partition(b"\n\n")[2])
    for proof in (other.log.proof(5, now=NOON), alone(other, note)):
        with pytest.raises(LogForked, match="tree head of size 6 does not continue the one of size 3"):
            world.accept(last=last, proof=proof, history=other.history(earlier=(3,)))
    three = World(before=0)
    three.log.key = world.log.key
    for number in range(2):
        three.log.append(b"other %d" % number)
    with pytest.raises(LogForked, match="two tree heads of size 3"):
        world.accept(last=last, proof=three.log.proof(0, now=NOON))


def alone(world: "World", note: Note) -> bytes:
    """The proof without any witness: a fork that they did not sign is named all the same."""
    bare = Note(text=note.text, signatures=note.signatures[:1])
    path = Proof.parse(world.log.proof(world.index, now=NOON)).path
    return encode_proof(index=world.index, path=path, checkpoint=bare)


def test_the_two_ways_must_show_one_log() -> None:
    world = World()
    first = world.log.proof(world.index, now=NOON)
    assert world.accept(second_proof=first).checkpoint.size == 3
    assert world.accept(second_proof=world.log.proof(world.index, now=NOON - 60)).checkpoint.time == NOON
    world.log.append(b"more")
    later = world.log.proof(world.index, now=NOON)
    for one, other in ((first, later), (later, first)):
        accepted = world.accept(proof=one, second_proof=other, history=world.history())
        assert (accepted.checkpoint.size, accepted.proof) == (4, later)
        with pytest.raises(DirectoryRefused, match="the mirror and the relay show two tree heads"):
            world.accept(proof=one, second_proof=other)
    fork = World(before=2)
    fork.log.key, fork.log.witnesses = world.log.key, world.log.witnesses
    fork.log.leaves[0] = bytes(32)
    with pytest.raises(LogForked, match="two tree heads of size 3"):
        world.accept(proof=first, second_proof=fork.log.proof(fork.index, now=NOON))


def test_tomorrows_directory_continues_todays_and_not_the_other_way() -> None:
    now = START + EPOCH_SECONDS  # both are valid in the hour of grace
    world = World(of_day(TODAY), now=now)
    today = seen(world)
    world.index = world.log.append(of_day(TODAY + 1).encode())
    world.note, yesterday = sign_directory(of_day(TODAY + 1), KEY), world.note
    accepted = world.accept(last=today, history=world.history())
    assert accepted.directory.epoch == TODAY + 1
    last = LastSeen(epoch=TODAY + 1, checkpoint=today.checkpoint)
    with pytest.raises(DirectoryRefused, match="older than the last one"):
        world.accept(first=yesterday, second=yesterday, proof=world.log.proof(2, now=now), last=last)


def test_a_log_that_was_rolled_back_is_refused() -> None:
    world = World()
    for size, root in ((4, bytes(32)), (100, bytes(32))):
        with pytest.raises(DirectoryRefused, match="rolled back since"):
            world.accept(last=seen(world, size=size, root=root))


def test_a_log_that_was_forked_at_the_same_size_is_refused() -> None:
    world = World()
    with pytest.raises(DirectoryRefused, match="is forked: it has signed two tree heads of size 3"):
        world.accept(last=seen(world, root=bytes(32)))


def test_what_was_seen_of_another_log_says_nothing_about_this_one() -> None:
    world = World()
    for size in (1, 3, 100):
        last = seen(world, origin="log.example/other", size=size, root=bytes(32))
        assert world.accept(last=last).directory == DIRECTORY


# What is used of it


def test_the_keys_of_a_good_directory_are_usable() -> None:
    accepted = World().accept()
    check_usable(accepted)
    assert accepted.token_keys() == {epoch: token_kit.key(epoch) for epoch in (TODAY, TODAY + 1)}
    assert accepted.ohttp_config in {key.config() for key in KEYS}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


SPKI = token_kit.key(TODAY).spki


@pytest.mark.parametrize(
    "changes",
    [
        {"ohttp_key_configs": "A"},
        {"ohttp_key_configs": _text(b"noise")},
        {"ohttp_key_configs": _text(b"\0\0")},
        {"ohttp_key_configs": DIRECTORY.ohttp_key_configs[:40]},
        {"ohttp_key_configs": DIRECTORY.ohttp_key_configs + "AAAA"},
        *(
            {"token_keys": (*DIRECTORY.token_keys, TokenKey(epoch=TODAY + 2, token_type=2, key=key))}
            for key in ("A", _text(b"noise"), _text(SPKI[:-1]), _text(SPKI + b"x"), _text(bytes(len(SPKI))))
        ),
    ],
)
def test_a_malformed_key_is_found_before_it_is_used(changes: dict[str, Any]) -> None:
    accepted = World(dataclasses.replace(DIRECTORY, **changes)).accept()
    with pytest.raises(DirectoryRefused, match="malformed key"):
        check_usable(accepted)


def test_keys_of_both_token_types() -> None:
    element = bytes(range(32))
    other = TokenKey(epoch=TODAY, token_type=5, key=base64.b64encode(element).decode())
    accepted = World(dataclasses.replace(DIRECTORY, token_keys=(*DIRECTORY.token_keys, other))).accept()
    check_usable(accepted)
    assert set(accepted.token_keys()) == {TODAY, TODAY + 1}
    assert {epoch: key.encoded for epoch, key in accepted.batch_token_keys().items()} == {TODAY: element}


def test_a_malformed_key_of_type_5() -> None:
    other = TokenKey(epoch=TODAY, token_type=5, key="AAAA")
    accepted = World(dataclasses.replace(DIRECTORY, token_keys=(*DIRECTORY.token_keys, other))).accept()
    with pytest.raises(DirectoryRefused, match="malformed"):
        check_usable(accepted)


def test_keys_of_another_token_type_are_left_out() -> None:
    other = TokenKey(epoch=TODAY, token_type=6, key="AAAA")
    accepted = World(dataclasses.replace(DIRECTORY, token_keys=(*DIRECTORY.token_keys, other))).accept()
    check_usable(accepted)
    assert set(accepted.token_keys()) == {TODAY, TODAY + 1}


def test_hosts_are_those_of_the_role_without_the_revoked_ones() -> None:
    revoked = Revocations(hosts=frozenset({"host-2", "host-6", "host-99"}))
    accepted = World(dataclasses.replace(DIRECTORY, revocations=revoked)).accept()
    assert [one.id for one in accepted.hosts("orchestrator")] == ["host-1", "host-3", "host-4", "host-5"]
    assert accepted.hosts("guard") == accepted.hosts("predictor") == ()
    drawn = {name for _ in range(200) for name in draw_candidates(accepted.hosts("orchestrator"))}
    assert drawn == {"host-1", "host-3", "host-4", "host-5"}
    with pytest.raises(DirectoryRefused, match="no host"):
        draw_candidates(accepted.hosts("guard"))


# Candidates


def test_candidates_are_drawn_uniformly_and_never_one_host_twice() -> None:
    rng, draws = random.Random(20_000), 20_000  # noqa: S311 - seeded, so that the test says the same each time
    counts = collections.Counter(draw_candidates(HOSTS[:5], rng=rng.randrange) for _ in range(draws))
    pairs = [(one.id, other.id) for one in HOSTS[:5] for other in HOSTS[:5] if one != other]
    assert set(counts) == set(pairs)
    expected = draws / len(pairs)
    chi_square = sum((counts[pair] - expected) ** 2 / expected for pair in pairs)
    # 19 degrees of freedom: 43.8 is passed by chance once in a thousand, 5.4 is undercut as rarely.
    assert 5.4 < chi_square < 43.8


def test_candidates_are_drawn_with_the_systems_randomness() -> None:
    assert inspect.signature(draw_candidates).parameters["rng"].default is secrets.randbelow


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_there_are_two_candidates_where_there_are_two_hosts(count: int) -> None:
    drawn = draw_candidates(HOSTS[:count])
    assert len(drawn) == len(set(drawn)) == min(2, count)
    assert set(drawn) <= {one.id for one in HOSTS[:count]}


def test_each_draw_is_over_the_hosts_that_are_left() -> None:
    asked: list[int] = []

    def first(bound: int) -> int:
        asked.append(bound)
        return bound - 1

    assert draw_candidates(HOSTS[:4], rng=first) == ("host-4", "host-3")
    assert asked == [4, 3]


def test_without_a_host_there_is_no_candidate() -> None:
    with pytest.raises(DirectoryRefused, match="no host"):
        draw_candidates(())


# What was seen last


def test_a_second_document_for_a_day_is_refused_whoever_has_logged_it() -> None:
    world = World()
    last = seen(world)
    other = dataclasses.replace(last, digest="0" * 64)
    with pytest.raises(DirectoryRefused, match="a second one for its day"):
        world.accept(last=other)
    assert world.accept(last=dataclasses.replace(last, digest="")).directory == DIRECTORY, (
        "a record of before"
    )
    assert world.accept(last=dataclasses.replace(other, epoch=TODAY - 1)).directory == DIRECTORY


def test_what_was_accepted_is_remembered(tmp_path: Path) -> None:
    path, world = tmp_path / "last.json", World()
    assert load_last_seen(path) is None
    save_last_seen(path, world.accept())
    assert load_last_seen(path) == seen(world)
    assert path.stat().st_mode & 0o777 == 0o600
    world.log.append(b"more")
    save_last_seen(path, world.accept())
    last = load_last_seen(path)
    assert last is not None
    assert last.checkpoint.size == 4
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_remembered_is_an_error_and_what_was_remembered_stays(tmp_path: Path) -> None:
    path, world = tmp_path / "last.json", World()
    save_last_seen(path, world.accept())
    world.log.append(b"more")
    with no_file_above(10), pytest.raises(DiskError):
        save_last_seen(path, world.accept())
    last = load_last_seen(path)
    assert last is not None
    assert last.checkpoint.size == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_written_with_spaces_and_in_another_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "last.json"
    path.write_text(
        json.dumps({"epoch": 1, "origin": ORIGIN, "size": 2, "root": "ab" * 32, "time": 3}, indent=1)
    )
    checkpoint = VerifiedCheckpoint(origin=ORIGIN, size=2, root=b"\xab" * 32, time=3)
    assert load_last_seen(path) == LastSeen(epoch=1, checkpoint=checkpoint)


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        *(_without(name) for name in ("epoch", "origin", "size", "root", "time")),
        *(
            lambda record, extra=extra: record | extra
            for extra in (
                {"epoch": "1"},
                {"epoch": -1},
                {"epoch": None},
                {"size": 3.5},
                {"size": True},
                {"size": -3},
                {"size": float("inf")},
                {"size": float("nan")},
                {"time": "now"},
                {"root": "ab" * 31},
                {"root": "ab" * 33},
                {"root": "xy" * 32},
                {"root": "ab" * 32 + "\n"},
                {"root": 7},
                {"origin": ""},
                {"origin": 1},
                {"more": 1},
            )
        ),
    ],
)
def test_a_damaged_record_is_refused_and_never_forgotten(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = tmp_path / "last.json"
    save_last_seen(path, World().accept())
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(ConfigError, match="damaged"):
        load_last_seen(path)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_is_no_record_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        load_last_seen(path)


def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        load_last_seen(tmp_path)

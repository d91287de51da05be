"""How the directory is fetched: what is asked for, how often, and what is remembered over a restart."""

import asyncio
import base64
import json
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.directory import DirectoryRefused, LogForked, VerifiedDirectory
from sottovoce.device.directory_fetch import DirectorySource, refresh_time
from sottovoce.device.environment import Environment
from sottovoce.edge.directories import sign_directory
from unit.device.test_directory import KEY, NOON, ORIGIN, TODAY, World, of_day

if TYPE_CHECKING:
    from sottovoce.device.transport import Network
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.directoryfiles import note_name, proof_name
from sottovoce.tlog.history import History
from sottovoce.tlog.proof import Proof

NOTE, PROOF = note_name(TODAY), proof_name(TODAY)
MIRROR, RELAY = "https://mirror.example", "https://relay.example"


class Fake:
    """The network: files by URL, and what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def get(self, url: str, *, party: str, limit: int) -> bytes:
        self.asked.append(url)
        if url not in self.files:
            raise UnavailableError("it does not have the file", party=party)
        assert len(self.files[url]) <= limit
        return self.files[url]

    def show(
        self, world: World, *, second: World | None = None, history: bytes | None = b"", now: int = NOON
    ) -> None:
        """What mirror and relay show of `world`."""
        self.files.clear()
        for base, one in ((MIRROR, world), (f"{RELAY}/directory", second or world)):
            self.files[f"{base}/{NOTE}"] = one.note
            self.files[f"{base}/{PROOF}"] = one.log.proof(one.index, now=now)
        if history is not None:
            for name in ("directory.consistency", f"consistency-{len(world.log.leaves)}"):
                self.files[f"{MIRROR}/{name}"] = history or world.history()


def rolled_back(world: World) -> World:
    before = World()
    before.log.key, before.log.witnesses = world.log.key, world.log.witnesses
    return before


class Device:
    """Started anew for each fetch."""

    def __init__(self, home: Path, world: World) -> None:
        self.home, self.network = home, Fake()
        self.environment = Environment(
            name="test", simulated=True, log_origin=ORIGIN, log_key=str(world.log.key.verifier),
            witnesses=[str(key.verifier) for key in world.log.witnesses], quorum=2,
            directory_key=str(KEY.verifier), vendor_roots=[], mirrors=[MIRROR], relays=[RELAY],
            issuer="https://issuer.example", issuer_name="issuer.example", service="s",
            minimum_security_version=1,
        )  # fmt: skip

    def get(self, *, now: int = NOON, **more: Any) -> tuple[VerifiedDirectory, bool]:
        self.network.asked.clear()
        source = DirectorySource(self.environment, cast("Network", self.network), self.home)
        return asyncio.run(source.get(now, **more))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def device(tmp_path: Path, world: World) -> Device:
    device = Device(tmp_path, world)
    device.network.show(world)
    return device


def test_both_ways_and_one_more_file_whatever_was_seen_before(device: Device, world: World) -> None:
    wanted = [
        f"{MIRROR}/directory.consistency",
        f"{MIRROR}/{NOTE}",
        f"{MIRROR}/{PROOF}",
        f"{RELAY}/directory/{NOTE}",
        f"{RELAY}/directory/{PROOF}",
    ]
    assert device.get()[1]
    assert sorted(device.network.asked) == sorted(wanted)
    assert device.get(fresh=True)[1]
    assert sorted(device.network.asked) == sorted(wanted)
    assert not device.get()[1]
    assert device.network.asked == []
    world.log.append(b"more")
    device.network.show(world)
    accepted, fetched = device.get(fresh=True)
    assert (accepted.checkpoint.size, fetched, len(device.network.asked)) == (4, True, 5)
    # What is kept has its history with it.
    kept, fetched = device.get()
    assert (kept.history, fetched) == (accepted.history, False)


def test_all_of_it_takes_one_round_trip(device: Device, world: World) -> None:
    """No request waits for the answer of another one."""
    device.get()
    world.log.append(b"more")
    device.network.show(world)
    everything = asyncio.Event()
    answer = device.network.get

    async def together(url: str, *, party: str, limit: int) -> bytes:
        data = await answer(url, party=party, limit=limit)
        if len(device.network.asked) == 5:
            everything.set()
        await asyncio.wait_for(everything.wait(), 20)
        return data

    device.network.get = together  # type: ignore[method-assign]
    assert device.get(fresh=True)[0].checkpoint.size == 4


def test_what_was_seen_is_compared_after_a_restart(device: Device, world: World) -> None:
    device.get()
    world.log.append(b"more")
    seen = (device.home / "last-directory.json").read_bytes()
    device.network.show(world, history=None)
    with pytest.raises(DirectoryRefused, match="there is no consistency file"):
        device.get(fresh=True)
    fork = World(before=4)
    fork.log.key, fork.log.witnesses = world.log.key, world.log.witnesses
    device.network.show(fork)
    with pytest.raises(LogForked, match="size 5 does not continue the one of size 3") as caught:
        device.get(fresh=True)
    # What proves it is kept: a tree head of each history, with the log's own signature.
    assert "fork.json" in caught.value.hint
    kept = json.loads((device.home / "fork.json").read_bytes())
    heads = [Proof.parse(base64.b64decode(kept[name])).note for name in ("accepted", "mirror", "relay")]
    assert all(note.signed_by(world.log.key.verifier) for note in heads)
    assert [Checkpoint.parse(note.text).size for note in heads] == [3, 5, 5]
    assert (device.home / "last-directory.json").read_bytes() == seen
    assert json.loads(seen)["size"] == 3
    device.network.show(world)
    assert device.get(fresh=True)[0].checkpoint.size == 4


def test_a_mirror_that_spoils_its_file_proves_nothing_and_hides_no_fork(device: Device, world: World) -> None:
    device.get()
    world.log.append(b"more")
    good = History.parse(world.history())
    spoilt = History(head=good.head, paths={size: (bytes(32),) for size in good.paths})
    device.network.show(world, history=spoilt.encode())
    with pytest.raises(LogForked, match="or the mirror's consistency file is wrong") as caught:
        device.get(fresh=True)
    assert not caught.value.proved
    assert "log compare" in caught.value.hint
    assert not json.loads((device.home / "fork.json").read_bytes())["proved"]
    fork = World()
    fork.log.key, fork.log.witnesses = world.log.key, world.log.witnesses
    fork.log.leaves[1] = bytes(32)
    device.network.show(fork)
    with pytest.raises(LogForked, match="two tree heads of size 3") as caught:
        device.get(fresh=True)
    assert caught.value.proved
    kept = (device.home / "fork.json").read_bytes()
    assert json.loads(kept)["proved"]
    device.network.show(world, history=spoilt.encode())
    with pytest.raises(LogForked):
        device.get(fresh=True)
    assert (device.home / "fork.json").read_bytes() == kept


def test_the_relay_shows_another_history_than_the_mirror(device: Device, world: World) -> None:
    fork = World(before=2)
    fork.log.key, fork.log.witnesses = world.log.key, world.log.witnesses
    fork.log.leaves[1] = bytes(32)
    for one, other in ((world, fork), (fork, world)):
        device.network.show(one, second=other)
        with pytest.raises(LogForked, match="two tree heads of size 3"):
            device.get()
    assert not (device.home / "last-directory.json").exists()


def test_a_log_that_was_rolled_back_learns_nothing_of_what_was_seen(device: Device, world: World) -> None:
    world.log.append(b"more")
    device.network.show(world)
    device.get()
    device.network.show(rolled_back(world))
    with pytest.raises(DirectoryRefused, match="rolled back"):
        device.get(fresh=True)
    # A mirror that showed an old tree head to find out what this device has seen is asked for nothing that tells.
    assert not [url for url in device.network.asked if "consistency-4" in url]


def test_a_relay_that_is_behind_shows_the_same_history(device: Device, world: World) -> None:
    behind = World()
    behind.log.key, behind.log.witnesses = world.log.key, world.log.witnesses
    world.log.append(b"more")
    device.network.show(world, second=behind)
    assert device.get()[0].checkpoint.size == 4


def test_without_the_consistency_file_a_first_directory_is_accepted(device: Device, world: World) -> None:
    device.network.show(world, history=None)
    assert device.get()[0].history is None


def test_a_file_of_another_tree_head_is_asked_for_by_its_size(device: Device, world: World) -> None:
    device.get()
    world.log.append(b"more")
    right = world.history()
    world.log.append(b"and more")
    for wrong in (world.history(), b"x", b""):
        world.log.leaves = world.log.leaves[:4]
        device.network.show(world, history=right)
        device.network.files[f"{MIRROR}/directory.consistency"] = wrong
        assert device.get(fresh=True)[0].checkpoint.size == 4
        assert device.network.asked[5:] == [f"{MIRROR}/consistency-4"]
        (device.home / "last-directory.json").unlink()
        device.get()


@pytest.mark.parametrize("data", [b"x", b"sottovoce/1 consistency\n"])
def test_a_consistency_file_that_is_none_is_refused(device: Device, world: World, data: bytes) -> None:
    device.network.show(world, history=data)
    with pytest.raises(DirectoryRefused, match="not a consistency file"):
        device.get()


# Over the change of day.

DAY_ENDS = (TODAY + 1) * EPOCH_SECONDS


def show_tomorrow(device: Device, world: World, *, now: int) -> None:
    """Both ways have tomorrow's directory under its name."""
    directory = of_day(TODAY + 1)
    index = world.log.append(directory.encode())
    note = sign_directory(directory, KEY)
    for base in (MIRROR, f"{RELAY}/directory"):
        device.network.files[f"{base}/{note_name(TODAY + 1)}"] = note
        device.network.files[f"{base}/{proof_name(TODAY + 1)}"] = world.log.proof(index, now=now)
    for name in ("directory.consistency", f"consistency-{len(world.log.leaves)}"):
        device.network.files[f"{MIRROR}/{name}"] = world.history()


def test_the_next_fetch_is_two_to_five_hours_away_or_spread_over_the_grace() -> None:
    draw = random.Random(7)  # noqa: S311 - the same numbers each time
    noon = [refresh_time(TODAY, NOON, draw) - NOON for _ in range(2_000)]
    assert 7200 <= min(noon) < 7400
    assert 17_800 < max(noon) <= 18_000
    # From an hour before the end of the day on, all come within 45 minutes after it, none more often at one time than at another.
    late = [refresh_time(TODAY, DAY_ENDS - 3600, draw) - DAY_ENDS for _ in range(2_000)]
    assert min(late) >= 0
    assert max(late) <= 2700
    tenths = Counter(at * 10 // 2701 for at in late)
    assert sorted(tenths) == list(range(10))
    # 200 each, standard deviation 13: six of these.
    assert all(120 < count < 280 for count in tenths.values())
    # Whatever is drawn, the one at hand is still valid when its time comes.
    assert all(
        refresh_time(TODAY, DAY_ENDS - before, draw) < of_day(TODAY).not_after - 600
        for before in range(1, EPOCH_SECONDS, 97)
    )


def test_the_day_after_is_asked_for_by_its_name_and_costs_one_fetch(device: Device, world: World) -> None:
    late = DAY_ENDS - 1800
    device.network.show(world, now=late)
    assert device.get(now=late)[1]
    show_tomorrow(device, world, now=late)
    fetches, epochs = 0, list[int]()
    for now in range(late, DAY_ENDS + 7200, 60):
        accepted, fetched = device.get(now=now)
        fetches += fetched
        epochs.append(accepted.directory.epoch)
        assert accepted.directory.not_before <= now < accepted.directory.not_after
    assert fetches == 1
    assert epochs == sorted(epochs)
    assert set(epochs) == {TODAY, TODAY + 1}


def test_a_mirror_that_is_late_costs_nothing_while_the_kept_one_is_valid(
    device: Device, world: World
) -> None:
    late = DAY_ENDS - 1800
    device.network.show(world, now=late)
    device.get(now=late)
    asked = 0
    for now in range(DAY_ENDS, DAY_ENDS + 3600, 60):
        accepted, fetched = device.get(now=now)
        assert (accepted.directory.epoch, fetched) == (TODAY, False)
        asked += bool(device.network.asked)
    # It is tried again now and then, not each time: every 5 to 15 minutes.
    assert 1 <= asked <= 12
    with pytest.raises(UnavailableError, match="directory of today") as caught:
        device.get(now=DAY_ENDS + 3600)
    assert "clock" in caught.value.hint
    show_tomorrow(device, world, now=DAY_ENDS)
    assert device.get(now=DAY_ENDS + 3600)[1]


def test_a_kept_one_does_not_stand_in_where_a_fresh_one_is_needed(device: Device) -> None:
    device.get()
    device.network.files.clear()
    assert not device.get()[1]
    with pytest.raises(UnavailableError):
        device.get(fresh=True)


def test_a_refused_answer_is_not_covered_up_by_the_kept_one(device: Device, world: World) -> None:
    device.get()
    device.network.files[f"{MIRROR}/{NOTE}"] = world.note + b"x"
    with pytest.raises(DirectoryRefused, match="different"):
        device.get(now=NOON + 18_001)


@pytest.mark.parametrize(("asked", "now"), [(TODAY + 1, DAY_ENDS + 60), (TODAY, DAY_ENDS - 60)])
def test_another_epochs_document_under_the_name_is_refused_though_it_is_valid(
    device: Device, world: World, asked: int, now: int
) -> None:
    """Both ways together could otherwise hold one device at the old keys, or hand it the new ones early."""
    device.network.show(world, now=now)
    show_tomorrow(device, world, now=now)
    other = TODAY + (asked == TODAY)
    for base in (MIRROR, f"{RELAY}/directory"):
        for name in (note_name, proof_name):
            device.network.files[f"{base}/{name(asked)}"] = device.network.files[f"{base}/{name(other)}"]
    with pytest.raises(DirectoryRefused, match="another epoch"):
        device.get(now=now)


def test_one_way_with_the_old_one_is_a_difference(device: Device, world: World) -> None:
    show_tomorrow(device, world, now=DAY_ENDS)
    device.network.files[f"{MIRROR}/{note_name(TODAY + 1)}"] = world.note
    with pytest.raises(DirectoryRefused, match="different"):
        device.get(now=DAY_ENDS)


def test_half_of_a_publication_is_not_accepted(device: Device, world: World) -> None:
    show_tomorrow(device, world, now=DAY_ENDS)
    for missing in (note_name(TODAY + 1), proof_name(TODAY + 1)):
        for base in (MIRROR, f"{RELAY}/directory"):
            kept = device.network.files.pop(f"{base}/{missing}")
            with pytest.raises(UnavailableError):
                device.get(now=DAY_ENDS)
            device.network.files[f"{base}/{missing}"] = kept
    assert device.get(now=DAY_ENDS)[1]


def test_a_clock_that_was_set_back_has_the_directory_fetched(device: Device, world: World) -> None:
    device.get(now=NOON)
    device.network.show(world, now=NOON - 6 * 3600)
    assert device.get(now=NOON - 6 * 3600)[1]


def test_what_another_process_of_this_device_accepts_meanwhile_counts(
    device: Device, world: World, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    newer = Device(tmp_path / "other", world)
    world.log.append(b"more")
    newer.network.show(world)
    newer.get()
    record = (newer.home / "last-directory.json").read_bytes()
    asked = device.network.get

    async def slow(url: str, **more: Any) -> bytes:
        (device.home / "last-directory.json").write_bytes(record)
        return await asked(url, **more)

    device.network.get = slow  # type: ignore[method-assign]
    with pytest.raises(DirectoryRefused, match="rolled back"):
        device.get()
    assert (device.home / "last-directory.json").read_bytes() == record

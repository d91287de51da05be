"""How the directory is fetched: what is asked for, how often, and what is remembered over a restart."""

import asyncio
import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.device.directory import DirectoryRefused, LogForked, VerifiedDirectory
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.environment import Environment
from unit.device.test_directory import KEY, NOON, ORIGIN, TODAY, World

if TYPE_CHECKING:
    from sottovoce.device.transport import Network
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.directoryfiles import note_name, proof_name
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

    def show(self, world: World, *, second: World | None = None, history: bytes | None = b"") -> None:
        """What mirror and relay show of `world`."""
        self.files.clear()
        for base, one in ((MIRROR, world), (f"{RELAY}/directory", second or world)):
            self.files[f"{base}/{NOTE}"] = one.note
            self.files[f"{base}/{PROOF}"] = one.log.proof(one.index, now=NOON)
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

    def get(self, **more: Any) -> tuple[VerifiedDirectory, bool]:
        self.network.asked.clear()
        source = DirectorySource(self.environment, cast("Network", self.network), self.home)
        return asyncio.run(source.get(NOON, **more))


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

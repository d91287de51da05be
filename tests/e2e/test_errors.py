"""Each thing that can go wrong, as a person meets it: one clear line, an exit code of its own, and nothing lost."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from e2e.conftest import CHATS, Device, nobody_connects, without
from sottovoce.attacks.mirrors import serving
from sottovoce.cli.exits import EXIT_CODES
from sottovoce.core.tokens import epoch_at
from sottovoce.device.issuance import QuotaUsedError
from sottovoce.device.reports import ReportStore
from sottovoce.simulator.world import World
from sottovoce.tlog.directoryfiles import note_name, proof_name

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

CHAT = str(CHATS / "book-club.txt")
DRAFT = "wodekela cant make it"
REWRITE = ("rewrite", DRAFT)


def refused(done: "subprocess.CompletedProcess[str]", code: str) -> str:
    """It failed with this code and no other; what it said."""
    said = done.stderr.strip().splitlines()
    assert said, done.stdout
    assert said[0].startswith("sottovoce: "), done.stderr
    assert said[0].endswith("]"), done.stderr
    named = said[0].rpartition("[")[2].rstrip("]")
    prefix = code if not code.startswith("unavailable.") else "unavailable"
    assert named == prefix or named.startswith(prefix + "."), done.stderr
    assert done.returncode == EXIT_CODES[code][0], done.stderr
    assert len(said) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "wodekela" not in done.stderr
    return said[0]


def nothing_was_sent(device: Device) -> None:
    """The last report says so."""
    report = ReportStore(device.home).list()[-1]
    assert (report.size_class, report.message_count) == (0, 0)
    assert report.outcome != "done"


def fresh_directory(device: Device) -> None:
    """The device has to fetch it again."""
    (device.home / "directory.json").unlink(missing_ok=True)


@contextlib.contextmanager
def pinned(device: Device, **changes: object) -> Iterator[None]:
    """The device's environment, changed."""
    path = device.home / "environment.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), **changes}))
    yield
    path.write_text(before)


# Parties that are down.


@pytest.mark.parametrize("relay", ["relay-1", "relay-2"])
def test_without_one_relay_the_other_is_used(world: World, device: Device, relay: str) -> None:
    with without(world, relay):
        for _ in range(3):
            done = device.run(*REWRITE)
            assert done.returncode == 0, done.stderr
            used = ReportStore(device.home).list()[-1].relay
            assert used == {"relay-1": "simulated relay 2", "relay-2": "simulated relay 1"}[relay]


def test_without_any_relay(world: World, device: Device) -> None:
    before = device.ready()
    with without(world, "relay-1", "relay-2"):
        refused(device.run(*REWRITE), "unavailable.relay")
        nothing_was_sent(device)
        assert device.ready() == before
        fresh_directory(device)
        refused(device.run(*REWRITE), "unavailable.relay")
    assert device.run(*REWRITE).returncode == 0


def test_without_the_gateway(world: World, device: Device) -> None:
    with without(world, "gateway"):
        refused(device.run(*REWRITE), "unavailable.gateway")
        nothing_was_sent(device)
    assert device.run(*REWRITE).returncode == 0


def test_without_the_router(world: World, device: Device) -> None:
    with without(world, "router"):
        refused(device.run(*REWRITE), "unavailable.gateway")
        nothing_was_sent(device)
    assert device.run(*REWRITE).returncode == 0


def test_without_one_orchestrator_the_other_is_used(world: World, device: Device) -> None:
    with without(world, "orchestrator-1"):
        for _ in range(3):
            assert device.run(*REWRITE).returncode == 0


def test_without_any_orchestrator(world: World, device: Device) -> None:
    with without(world, *world.orchestrators):
        refused(device.run(*REWRITE), "unavailable.orchestrator")
        nothing_was_sent(device)
    assert device.run(*REWRITE).returncode == 0


@pytest.mark.parametrize("party", ["predictor-1", "guard-1"])
def test_without_a_back_end_the_evidence_lacks_it(world: World, device: Device, party: str) -> None:
    world.stop_one(party)
    try:
        done = device.run("summarize", CHAT, "--unread", "5")
        line = refused(done, "verification")
        assert party.partition("-")[0] in line
        nothing_was_sent(device)
    finally:
        world.restart(party)
        for name in world.orchestrators:
            world.restart(name)
    assert device.run("summarize", CHAT, "--unread", "5").returncode == 0


def test_without_log_and_witnesses_what_was_proved_goes_on(world: World, device: Device) -> None:
    with without(world, "log", "witness-1", "witness-2"):
        assert device.run(*REWRITE).returncode == 0


def test_without_the_issuer(world: World, fresh: Device) -> None:
    fresh.opt_in()
    with without(world, "issuer"):
        refused(fresh.run("wallet", "refill", "--now"), "unavailable.issuer")
        refused(fresh.run(*REWRITE), "wallet.empty")
        nothing_was_sent(fresh)
    fresh.refill()
    assert fresh.run(*REWRITE).returncode == 0


def test_without_the_mirror_the_kept_directory_goes_on(world: World, device: Device) -> None:
    assert device.run(*REWRITE).returncode == 0
    with without(world, "mirror"):
        assert device.run(*REWRITE).returncode == 0
        fresh_directory(device)
        refused(device.run(*REWRITE), "unavailable.directory")
        nothing_was_sent(device)
    assert device.run(*REWRITE).returncode == 0


# The directory.


def test_an_expired_directory(device: Device) -> None:
    before = device.ready()
    late = Device(device.home, days_ahead=9)
    # What it has is expired, and its day's is not there.
    assert "of today" in refused(late.run(*REWRITE), "unavailable.directory")
    nothing_was_sent(device)
    assert device.ready() == before


@contextlib.contextmanager
def another_mirror(world: World, changes: Mapping[str, bytes] | None = None) -> Iterator[str]:
    """A mirror that serves the world's files, but some changed."""
    files = {path.name: path.read_bytes() for path in (world.folder / "mirror").iterdir()}
    with serving(files | dict(changes or {})) as url:
        yield url


def test_a_mirror_that_shows_this_device_another_directory(world: World, device: Device) -> None:
    name = note_name(epoch_at(int(time.time())))
    note = (world.folder / "mirror" / name).read_bytes()
    before = device.ready()
    for changed in (
        note + b"\n",
        note.replace(b"simulated relay 1", b"simulated relay 3"),
        b"",
        b"\xff" * 100,
    ):
        fresh_directory(device)
        with another_mirror(world, {name: changed}) as url, pinned(device, mirrors=[url]):
            refused(device.run(*REWRITE), "directory")
        nothing_was_sent(device)
    with another_mirror(world) as url, pinned(device, mirrors=[url]):
        assert device.run(*REWRITE).returncode == 0
    assert device.ready() == before - 1


def test_a_directory_whose_proof_is_of_another_tree(world: World, device: Device) -> None:
    name = proof_name(epoch_at(int(time.time())))
    proof = bytearray((world.folder / "mirror" / name).read_bytes())
    proof[len(proof) // 2] ^= 1
    fresh_directory(device)
    with another_mirror(world, {name: bytes(proof)}) as url, pinned(device, mirrors=[url]):
        refused(device.run(*REWRITE), "directory")
    nothing_was_sent(device)


# Tokens.


def test_an_empty_wallet(world: World, fresh: Device) -> None:
    fresh.opt_in()
    with without(world, "issuer"):
        line = refused(fresh.run("summarize", CHAT), "wallet.empty")
    assert "no token" in line
    nothing_was_sent(fresh)


def test_a_wallet_put_back_from_a_copy_spends_nothing_twice(device: Device, tmp_path: Path) -> None:
    wallet, copy = device.home / "wallet.sqlite", tmp_path / "copy"
    with contextlib.closing(sqlite3.connect(wallet)) as database, database:
        database.execute(
            "DELETE FROM tokens WHERE rowid NOT IN (SELECT rowid FROM tokens ORDER BY rowid LIMIT 1)"
        )
    assert device.ready() == 1
    shutil.copy(wallet, copy)
    assert device.run(*REWRITE).returncode == 0
    shutil.copy(copy, wallet)
    refused(device.run(*REWRITE), "token")
    nothing_was_sent(device)


def test_an_account_that_has_had_its_tokens(device: Device) -> None:
    with contextlib.suppress(QuotaUsedError):
        while True:
            device.refill()
    before = device.ready()
    refused(device.run("wallet", "refill", "--now"), "quota")
    assert before > 0
    assert device.run(*REWRITE).returncode == 0
    assert device.ready() == before - 1


def test_an_account_that_the_issuer_does_not_know(device: Device) -> None:
    before = device.ready()
    (device.home / "account.key").write_text("A" * 43)
    refused(device.run("wallet", "refill", "--now"), "refused")
    assert device.ready() == before


# What a person gives.


def test_too_much_is_refused_before_anything_is_connected(device: Device, tmp_path: Path) -> None:
    long = tmp_path / "WhatsApp Chat with Ada.txt"
    long.write_text("01/02/2024, 10:00 - Ada: " + "wodekela " * 3000 + "\n")
    with nobody_connects(device):
        refused(device.run("rewrite", "wodekela " * 1000), "limit")
        refused(device.run("summarize", str(long)), "limit")
        refused(device.run("rewrite", "  "), "usage")


def test_what_is_not_a_chat(device: Device, tmp_path: Path) -> None:
    with nobody_connects(device):
        for name, data in {
            "letter.txt": b"Dear wodekela,\n\nnothing to see.\n",
            "empty.txt": b"",
            "picture.txt": os.urandom(5000),
            "broken.zip": b"PK\x03\x04wodekela",
        }.items():
            path = tmp_path / name
            path.write_bytes(data)
            refused(device.run("summarize", str(path)), "chat")


# This device.


@pytest.mark.parametrize("damage", [None, b"", b"{", b"\xff\xfe", b"[]", b'{"version":9}'])
def test_a_damaged_environment(device: Device, damage: bytes | None) -> None:
    path, right = device.home / "environment.json", (device.home / "environment.json").read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    refused(device.run(*REWRITE), "config")
    assert damage is None or path.read_bytes() == damage
    path.write_bytes(right)
    assert device.run("wallet", "show").returncode == 0


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"enabled":true}'])
def test_damaged_settings_count_as_off_and_are_not_written_over(device: Device, damage: bytes) -> None:
    path = device.home / "settings.json"
    path.write_bytes(damage)
    with nobody_connects(device):
        refused(device.run(*REWRITE), "config")
        refused(device.run("settings", "enable", "--yes"), "config")
    assert path.read_bytes() == damage


@pytest.mark.parametrize("name", ["wallet.sqlite", "reports.sqlite", "last-directory.json"])
def test_a_damaged_file_of_state_is_named_and_left_alone(device: Device, name: str) -> None:
    assert device.run(*REWRITE).returncode == 0
    path, damage = device.home / name, b"no such thing" * 1000
    path.write_bytes(damage)
    refused(device.run(*REWRITE), "config")
    assert path.read_bytes() == damage


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    person = Device(tmp_path / "home", {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)})
    person = Device(
        person.home, {**person.environment, "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    )
    refused(person.run("demo", "--small"), "model")


@pytest.fixture
def small_disk(device: Device, tmp_path: Path) -> Iterator[Device]:
    """The device on a disk of its own that is full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("to mount a small disk takes CAP_SYS_ADMIN: run as root")
    try:
        shutil.copytree(device.home, disk / "home")
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        yield Device(disk / "home")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk(small_disk: Device) -> None:
    device = small_disk
    before = device.ready()
    settings = (device.home / "settings.json").read_bytes()
    fresh_directory(device)
    for words in (REWRITE, ("wallet", "refill", "--now"), ("settings", "disable"), ("summarize", CHAT)):
        refused(device.run(*words), "disk")
    assert (device.home / "settings.json").read_bytes() == settings
    assert device.ready() == before
    (device.home.parent / "filler").unlink()
    done = device.run(*REWRITE)
    assert done.returncode == 0, done.stderr
    assert device.ready() == before - 1

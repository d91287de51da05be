"""`sottovoce log` on a real log with real witnesses, served on loopback in the test's own process."""

import asyncio
import hashlib
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import device_kit
import edge_kit
from log_kit import FilesLog, encoded
from sottovoce.cli.log import log
from sottovoce.cli.main import Context
from sottovoce.core import canonical
from sottovoce.core.events import EventLog
from sottovoce.device.environment import Environment
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.thirdparty import log as service
from sottovoce.thirdparty import witness
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note

ROOT = Path(__file__).parents[3]
ORIGIN = "log.example/test"
SECRET = "correct horse battery staple"
WORLD = EvidenceWorld()
RELEASE = WORLD.releases["guard"].encode()
HOST = WORLD.hosts["guard"].encode()


@contextmanager
def served(make: Callable[[], Any]) -> Iterator[str]:
    """The application that `make` gives, on a loop in a thread of its own; its URL."""
    running: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        async with edge_kit.serving(make()) as where:
            running.append((where, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    ((url, loop, stop),) = running
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


class Party:
    """The log's operator, its two publishers, a witness, and a device that pins them."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self.home = folder / "home"
        self.home.mkdir()
        self.key = SigningKey.generate(ORIGIN)
        self.witness = SigningKey.generate("witness.example/one", COSIGNATURE)
        self.url = ""
        self.write("log.key", self.key.secret().encode())
        self.write("witness.key", self.witness.secret().encode())
        self.secret = self.write("secret", SECRET.encode())
        self.release = self.write("release.json", RELEASE)
        self.host = self.write("host.json", HOST)
        self.publishers = [self.keygen(name) for name in ("anna", "ben")]
        environment = {
            "name": "test", "simulated": True, "log_origin": ORIGIN, "log_key": str(self.key.verifier),
            "witnesses": [str(self.witness.verifier)], "quorum": 1,
            "directory_key": str(SigningKey.generate("directory.example").verifier),
            "vendor_roots": [{"product": "simulated", "ark": encoded(WORLD.vendor.root.ark_der)}],
            "mirrors": ["https://m.example"], "relays": ["https://r.example"], "issuer": "https://i.example",
            "issuer_name": "i", "service": "s", "minimum_security_version": 1,
        }  # fmt: skip
        (self.home / "environment.json").write_bytes(msgspec.json.encode(environment))
        Environment.load(self.home / "environment.json")

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *words: object) -> Result:
        context = Context(home=self.home, world=self.folder)
        return CliRunner().invoke(log, [str(word) for word in words], obj=context)

    def keygen(self, name: str) -> str:
        done = self.run("keygen", name, "--out", self.folder / f"{name}.key")
        assert done.exit_code == 0, done.output
        return done.output.strip()

    def sign(self, name: str, entry: Path | None = None) -> Path:
        out = self.folder / f"{name}.sig"
        done = self.run("sign", entry or self.release, "--key", self.folder / f"{name}.key", "--out", out)
        assert done.exit_code == 0, done.output
        return out

    def publish(self, entry: Path, *signatures: Path) -> Result:
        given = [word for path in signatures for word in ("--signature", path)]
        return self.run("publish", entry, *given, "--log", self.url, "--secret", self.secret)

    def log(self, witness_url: str) -> Any:
        config = service.Config(
            origin=ORIGIN,
            key=str(self.folder / "log.key"),
            folder=str(self.folder / "log"),
            secret=str(self.secret),
            witnesses=[service.WitnessAddress(key=str(self.witness.verifier), url=witness_url)],
            quorum=1,
            publishers=self.publishers,
        )
        return service.create_app(config, log=EventLog(lambda _: None))

    def witness_app(self) -> Any:
        config = witness.Config(
            key=str(self.folder / "witness.key"),
            state=str(self.folder / "state"),
            logs=[str(self.key.verifier)],
        )
        return witness.create_app(config, log=EventLog(lambda _: None), clock=self.clock)


@pytest.fixture
def offline(tmp_path: Path) -> Party:
    return Party(tmp_path)


@pytest.fixture
def party(offline: Party) -> Iterator[Party]:
    with served(offline.witness_app) as witness_url, served(lambda: offline.log(witness_url)) as url:
        offline.url = url
        yield offline


# Two keys


def test_a_release_needs_two_people(party: Party) -> None:
    anna, ben = party.sign("anna"), party.sign("ben")
    party.keygen("carl")
    carl = party.sign("carl")
    for given in ((), (anna,), (anna, anna), (anna, carl), (anna, ben, carl)):
        refused = party.publish(party.release, *given)
        assert refused.exit_code == 2, refused.output
        assert "refuses the entry" in refused.output
    assert json.loads(party.run("show", "--log", party.url, "--json").output)["size"] == 0
    done = party.publish(party.release, anna, ben)
    assert (done.exit_code, done.output) == (0, "entry 0\n")
    # Again, and in the other order: it stays where it is.
    assert party.publish(party.release, ben, anna).output == "entry 0\n"


def test_a_release_does_not_get_in_as_another_entry(party: Party) -> None:
    async def submit() -> None:
        from sottovoce.thirdparty.logreader import LogReader  # noqa: PLC0415

        async with LogReader(party.url) as reader:
            await reader.submit("entries", RELEASE, SECRET)

    with pytest.raises(Exception, match="signatures of two publishers"):
        asyncio.run(submit())


def test_other_entries_need_none(party: Party) -> None:
    assert party.publish(party.host).output == "entry 0\n"
    assert party.publish(party.host, party.sign("anna")).exit_code == 3
    unknown = party.write("unknown.json", canonical.encode({"kind": "backdoor"}))
    assert party.publish(unknown).exit_code == 2
    wrong = party.write("secret", b"another secret")
    assert "operator's secret" in party.publish(party.host).output
    wrong.write_bytes(SECRET.encode())


def test_key_files(offline: Party) -> None:
    path = offline.folder / "anna.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert offline.run("keygen", "anna", "--out", path).exit_code == 2
    assert path.read_bytes() == before
    assert offline.run("keygen", "a b", "--out", offline.folder / "x").exit_code == 3
    secret = path.read_text().strip()
    for mode in (0o640, 0o604, 0o644, 0o660):
        path.chmod(mode)
        done = offline.run("sign", offline.release, "--key", path, "--out", offline.folder / "sig")
        assert done.exit_code == 2
        assert "others may read this key" in done.output
        assert secret not in done.output
    path.chmod(0o600)
    for entry in (offline.host, offline.secret, offline.folder / "gone"):
        done = offline.run("sign", entry, "--key", path, "--out", offline.folder / "sig")
        assert done.exit_code == 2
    assert not (offline.folder / "sig").exists()
    assert offline.run("sign", offline.release, "--key", offline.secret, "--out", "x").exit_code == 2


# Showing and proving


def test_what_is_published_is_shown_proved_and_checked_without_a_network(party: Party) -> None:
    assert party.publish(party.host).exit_code == 0
    assert party.publish(party.release, party.sign("anna"), party.sign("ben")).exit_code == 0
    shown = json.loads(party.run("show", "--log", party.url, "--json").output)
    assert (shown["size"], shown["fault"]) == (2, "")
    assert [item["entry"]["kind"] for item in shown["entries"]] == ["host", "release"]
    text = party.run("show", "--log", party.url, "--from", 1, "--count", 1)
    assert text.exit_code == 0
    assert "witness.example/one cosigned at" in text.output
    assert text.output.count("kind") == 1
    proof = party.folder / "proof"
    done = party.run("prove", party.release, "--log", party.url, "--out", proof)
    assert (done.exit_code, done.output) == (0, "entry 1 of 2, seen by 1 witnesses or more\n")
    assert party.run("prove", party.secret, "--log", party.url, "--out", proof).exit_code == 2
    assert party.run("check", party.release, "--proof", proof).output == done.output
    assert party.run("check", party.host, "--proof", proof).exit_code == 1
    assert party.run("check", party.host, "--proof", party.host).exit_code == 2
    assert party.run("check", party.host).exit_code == 3


def test_a_log_that_says_it_is_endless_is_not_read(offline: Party) -> None:
    checkpoint = Checkpoint(origin=ORIGIN, size=1 << 50, root=bytes(32)).encode()
    note, asked = sign_note(checkpoint, [offline.key]).encode(), list[str]()

    async def answer(request: Request) -> Response:
        asked.append(request.url.path)
        return Response(note if request.url.path == "/checkpoint" else b"")

    seen(offline.home, Checkpoint(origin=ORIGIN, size=1, root=bytes(32)))
    given, out = offline.write("head", note), offline.folder / "proof"
    with served(lambda: Starlette(routes=[Route("/{path:path}", answer)])) as url:
        for words, reads in (
            (("show",), ["/checkpoint"]),
            (("show", "--count", 0), ["/checkpoint"]),
            (("prove", offline.host, "--out", out), ["/checkpoint"]),
            (("compare", given), []),
        ):
            asked.clear()
            done = offline.run(*words, "--log", url)
            assert done.exit_code == 2, done.output
            assert "more entries than are read at one time [peer.limit]" in done.output
            assert asked == reads
    assert not out.exists()


# The monitor


def test_the_monitor_from_the_command_line(party: Party) -> None:
    schema = json.loads((ROOT / "docs" / "monitor.schema.json").read_text())
    assert party.publish(party.host).exit_code == 0
    page = party.folder / "page.html"
    done = party.run("monitor", "--log", party.url, "--json", "--page", page)
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    jsonschema.validate(report, schema)
    assert (report["checkpoint"]["size"], report["findings"]) == (1, [])
    assert "Nothing was found" in page.read_text()
    fork = FilesLog(entries=[HOST.replace(b"host-guard", b"host-other")])
    fork.key = party.key
    head = party.write("head", fork.checkpoint(now=1).encode())
    done = party.run("monitor", "--log", party.url, "--checkpoint", head)
    assert done.exit_code == 1
    assert "fork: two tree heads of size 1" in done.output
    assert party.run("monitor", "--log", "http://127.0.0.1:1").exit_code == 2
    assert party.run("monitor").exit_code == 3
    (party.home / "monitor" / "state.json").write_bytes(b"x")
    assert party.run("monitor", "--log", party.url).exit_code == 2


def test_releases_that_devices_report(party: Party) -> None:
    world, shown = EvidenceWorld(), WORLD.evidence(b"e" * 32, b"key").encode()
    for role, release in WORLD.releases.items():
        if role != "guard":
            path = party.write("release.json", release.encode())
            signed = (party.sign("anna", path), party.sign("ben", path))
            assert party.publish(path, *signed).exit_code == 0
    reports = party.folder / "reports.json"

    def look(**changes: Any) -> list[str]:
        one = device_kit.report(evidence=encoded(shown), **{"time": NOW, **changes})
        document = {
            "format": "sottovoce-reports",
            "version": 1,
            "reports": [msgspec.to_builtins(msgspec.structs.replace(one, messages=()))],
        }
        reports.write_bytes(canonical.encode(document))
        done = party.run("monitor", "--log", party.url, "--reports", reports, "--json")
        assert done.exit_code == 1, done.output
        return [finding["code"] for finding in json.loads(done.output)["findings"]]

    # The guard's release is not in this log.
    assert look() == ["release-unlogged"]
    late = world.releases["guard"].expires
    assert sorted(look(time=late)) == ["release-expired", "release-expired", "release-unlogged"]
    reports.write_bytes(b"[]")
    assert party.run("monitor", "--log", party.url, "--reports", reports).exit_code == 2


# Gossip


def seen(home: Path, head: Checkpoint) -> None:
    record = {"epoch": 1, "origin": head.origin, "size": head.size, "root": head.root.hex(), "time": 0}
    (home / "last-directory.json").write_bytes(msgspec.json.encode(record))


def test_two_devices_compare_their_tree_heads(party: Party) -> None:
    assert party.publish(party.host).exit_code == 0
    small = party.folder / "proof-1"
    assert party.run("prove", party.host, "--log", party.url, "--out", small).exit_code == 0
    # The device keeps the directory with its proof; any entry's proof has the same tree head.
    kept = {"note": "", "proof": encoded(small.read_bytes()), "history": "", "refresh": 0}
    (party.home / "directory.json").write_bytes(msgspec.json.encode(kept))
    head = party.folder / "head"
    assert party.run("export", "--out", head).exit_code == 0
    seen(party.home, Checkpoint.parse(Note.parse(head.read_bytes()).text))
    same = party.run("compare", head, "--log", party.url)
    assert (same.exit_code, same.output) == (0, "both hold the same tree head, of size 1\n")
    assert party.publish(party.release, party.sign("anna"), party.sign("ben")).exit_code == 0
    large = FilesLog(entries=[HOST, RELEASE])
    fork = FilesLog(entries=[HOST, RELEASE.replace(b"0.1.0", b"0.1.1")])
    large.key = fork.key = party.key
    head.write_bytes(large.checkpoint(now=1).encode())
    grown = party.run("compare", head, "--log", party.url)
    assert (grown.exit_code, grown.output) == (0, "the tree head of size 2 continues the one of size 1\n")
    head.write_bytes(fork.checkpoint(now=1).encode())
    forked = party.run("compare", head, "--log", party.url)
    assert forked.exit_code == 1
    assert "the log is forked" in forked.output
    seen(party.home, Checkpoint.parse(large.checkpoint(now=1).text))
    assert party.run("compare", head, "--log", party.url).exit_code == 1
    stranger = FilesLog(entries=[HOST, RELEASE])
    head.write_bytes(stranger.checkpoint(now=1).encode())
    assert party.run("compare", head, "--log", party.url).exit_code == 1
    (party.home / "last-directory.json").unlink()
    assert party.run("compare", head, "--log", party.url).exit_code in {1, 2}


def test_a_device_that_saw_another_log_last_is_told_so_and_of_no_fork(offline: Party) -> None:
    log = FilesLog(entries=[HOST])
    log.key = offline.key
    head = offline.folder / "head"
    head.write_bytes(log.checkpoint(now=1).encode())
    stranger = FilesLog(entries=[RELEASE], origin="log.example/before")
    seen(offline.home, Checkpoint.parse(stranger.checkpoint(now=1).text))
    told = offline.run("compare", head, "--log", "http://127.0.0.1:1")
    assert told.exit_code == 2
    assert "another log" in told.output
    assert "fork" not in told.output


def test_the_empty_tree_is_continued_by_every_other(party: Party) -> None:
    assert party.publish(party.host).exit_code == 0
    empty, grown = FilesLog(entries=[]), FilesLog(entries=[HOST])
    empty.key = grown.key = party.key
    head = party.folder / "head"
    for one, other in ((empty, grown), (grown, empty)):
        head.write_bytes(one.checkpoint(now=1).encode())
        seen(party.home, Checkpoint.parse(other.checkpoint(now=1).text))
        told = party.run("compare", head, "--log", party.url)
        assert (told.exit_code, told.output) == (0, "the tree head of size 1 continues the one of size 0\n")


# Artifacts on the disk


def test_an_artifact_of_a_folder(offline: Party) -> None:
    folder = offline.folder / "prompts"
    folder.mkdir()
    (folder / "a.json").write_bytes(b"one")
    (folder / "b.json").write_bytes(b"two")
    out = offline.folder / "entry.json"
    words = ("artifact", folder, "--name", "prompts", "--purpose", "prompts")
    done = offline.run(*words, "--out", out)
    assert done.exit_code == 0, done.output
    entry = json.loads(out.read_bytes())
    assert entry["digest"] == done.output.strip()
    assert [file["sha256"] for file in entry["files"]] == [
        hashlib.sha256(data).hexdigest() for data in (b"one", b"two")
    ]
    private = offline.run(*words, "--private", "--out", out)
    assert private.output == done.output
    assert json.loads(out.read_bytes())["files"] == []
    (folder / "b.json").rename(folder / "c.json")
    assert offline.run(*words).output != done.output
    assert offline.run(*words[:-1], "inference").exit_code == 0


@pytest.mark.parametrize("kind", ["link", "pipe", "empty", "name", "link itself"])
def test_what_an_artifact_must_not_hold(offline: Party, kind: str) -> None:
    import os  # noqa: PLC0415

    folder = offline.folder / "prompts"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    given = folder
    if kind == "link":
        (folder / "b").symlink_to("a")
    elif kind == "pipe":
        os.mkfifo(folder / "b")
    elif kind == "empty":
        (folder / "b").mkdir()
    elif kind == "name":
        (folder / "b\nc").write_bytes(b"")
    else:
        given = offline.folder / "link"
        given.symlink_to(folder)
    done = offline.run("artifact", given, "--name", "x", "--purpose", "x")
    assert done.exit_code == 2
    assert "peer.decode.artifact" in done.output

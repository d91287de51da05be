"""Logs, witnesses and proofs against torchwood and Tessera, both ways; `tlogpeer versions` says which."""

import asyncio
import base64
import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import asgi
import edge_kit
from peers import golang
from sottovoce.core.events import EventLog
from sottovoce.thirdparty import log, witness
from sottovoce.thirdparty.log import WitnessAddress
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, VerifierKey
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.proof import verify_proof

pytestmark = pytest.mark.peer

ORIGIN = "log.example/test"
SECRET = "correct horse battery staple"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Somebody's witness: its key, and where it is."""

    key: str
    url: str


class Peer:
    """The other implementations' tools."""

    def __init__(self) -> None:
        self._program = golang.program("tlogpeer")

    def run(self, *arguments: str | Path) -> Any:
        """The result of one command.

        Raises:
            CalledProcessError: the other implementation refuses.
        """
        done = subprocess.run([self._program, *arguments], capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    async def ask(self, *arguments: str | Path) -> Any:
        return await asyncio.to_thread(self.run, *arguments)

    async def refuses(self, *arguments: str | Path) -> str:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await self.ask(*arguments)
        text: str = caught.value.stderr.decode()
        return text

    @contextlib.contextmanager
    def litewitness(self, folder: Path, name: str, log_key: VerifierKey) -> Iterator[Witness]:
        """A witness of theirs that follows the log with `log_key`."""
        folder.mkdir()
        port = golang.free_port()
        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(golang.serving(self._program, "agent", folder / "agent"))
            assert agent.stdout
            fingerprint = agent.stdout.readline().strip()
            command: list[str | Path] = [golang.program("litewitness"), "-name", name, "-db", folder / "db"]
            command += ["-ssh-agent", folder / "agent", "-key", fingerprint, "-listen", f"127.0.0.1:{port}"]
            with (folder / "messages").open("w") as messages:
                process = subprocess.Popen(command, stderr=messages)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
            golang.await_port(process, port)
            (key,) = re.findall(r'vkey="?([^\s"]+)', (folder / "messages").read_text())
            _follow(folder / "db", log_key)
            yield Witness(key=key, url=f"http://127.0.0.1:{port}")


def _follow(database: Path, key: VerifierKey) -> None:
    """What `witnessctl add-log` and `add-key` do."""
    with contextlib.closing(sqlite3.connect(database)) as rows, rows:
        root = base64.b64encode(merkle.EMPTY_ROOT).decode()
        rows.execute("INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", (key.name, root))
        rows.execute("INSERT INTO key (origin, key) VALUES (?, ?)", (key.name, str(key)))


@pytest.fixture
def peer() -> Peer:
    return Peer()


@contextlib.asynccontextmanager
async def our_witness(folder: Path, name: str, *log_keys: str) -> AsyncIterator[Witness]:
    key = SigningKey.generate(name, COSIGNATURE)
    folder.mkdir()  # noqa: ASYNC240 - one call, in a test
    (folder / "key").write_text(key.secret())
    config = witness.Config(key=str(folder / "key"), state=str(folder / "state"), logs=list(log_keys))
    async with edge_kit.serving(witness.create_app(config, log=EventLog(lambda _: None))) as url:
        yield Witness(key=str(key.verifier), url=url)


@contextlib.asynccontextmanager
async def our_log(
    folder: Path, key: SigningKey, *witnesses: Witness, files: str = "log"
) -> AsyncIterator[tuple[asgi.App, str]]:
    (folder / "key").write_text(key.secret())
    (folder / "secret").write_text(SECRET)
    config = log.Config(
        origin=ORIGIN,
        key=str(folder / "key"),
        folder=str(folder / files),
        secret=str(folder / "secret"),
        witnesses=[WitnessAddress(key=one.key, url=one.url) for one in witnesses],
        quorum=len(witnesses),
    )
    app = log.create_app(config, log=EventLog(lambda _: None))
    async with edge_kit.serving(app) as url:
        yield app, url


async def append(app: asgi.App, *entries: bytes) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = await asgi.fetch(app, "POST", "/batch", headers=headers, body=tiles.encode_bundle(entries))
    assert answer.status == 200, answer
    told: dict[str, Any] = json.loads(answer.body)
    return told


async def prove(app: asgi.App, entry: bytes) -> bytes:
    answer = await asgi.fetch(app, "GET", f"/proof?hash={merkle.leaf_hash(entry).hex()}")
    assert answer.status == 200, answer
    return answer.body


def policy(key: str, *witnesses: Witness) -> LogPolicy:
    """Our devices' policy: all of the witnesses."""
    log_key = VerifierKey.parse(key)
    keys = tuple(VerifierKey.parse(one.key) for one in witnesses)
    return LogPolicy(origin=log_key.name, log_key=log_key, witnesses=keys, quorum=len(keys))


def policy_file(folder: Path, key: str, *witnesses: Witness) -> Path:
    """The same as a C2SP tlog-policy file, which both of the others read."""
    lines = [f"log {key}"]
    lines += [f"witness w{number} {one.key} {one.url}" for number, one in enumerate(witnesses)]
    names = " ".join(f"w{number}" for number in range(len(witnesses)))
    path = folder / f"policy-{len(list(folder.glob('policy-*')))}"
    path.write_text("\n".join([*lines, f"group all-of-them all {names}", "quorum all-of-them", ""]))
    return path


def entries(first: int, count: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(first, first + count)]


def now() -> int:
    """The real time: their witnesses have no other clock."""
    return int(time.time())


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 100))


def test_the_versions_are_those_that_are_pinned(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    versions = peer.run("versions")
    with capsys.disabled():
        print(f"\n{versions}")  # noqa: T201 - the versions belong into what CI shows
    pinned = (golang.BUILT.parent / "tlog/go.mod").read_text()
    for module in ("filippo.io/torchwood", "github.com/transparency-dev/tessera"):
        assert f"{module} {versions[module]}\n" in pinned


def test_their_witnesses_sign_our_log_and_our_device_accepts_it(peer: Peer, tmp_path: Path) -> None:
    key = SigningKey.generate(ORIGIN)

    async def play(*theirs: Witness) -> None:
        async with (
            our_witness(tmp_path / "ours", "witness.example/ours", str(key.verifier)) as ours,
            our_log(tmp_path, key, *theirs, ours) as (app, _),
        ):
            for first, count in ((0, 1), (1, 255), (256, 44), (300, 300)):
                told = await append(app, *entries(first, count))
                assert told == {"indexes": list(range(first, first + count)), "cosignatures": 3}
            for witnesses in ((*theirs, ours), theirs):
                proof = await prove(app, b"entry 299")
                logged = verify_proof(proof, b"entry 299", policy(str(key.verifier), *witnesses), now=now())
                assert (logged.index, logged.checkpoint.size) == (299, 600)
            # And their verifier accepts our proof, under the same policy.
            (tmp_path / "entry").write_bytes(b"entry 299")
            (tmp_path / "proof").write_bytes(proof)
            rules = policy_file(tmp_path, str(key.verifier), *theirs, ours)
            assert await peer.ask("verify-proof", rules, tmp_path / "entry", tmp_path / "proof") == "ok"
            (tmp_path / "entry").write_bytes(b"entry 298")
            assert await peer.refuses("verify-proof", rules, tmp_path / "entry", tmp_path / "proof")

    with (
        peer.litewitness(tmp_path / "one", "witness.example/one", key.verifier) as one,
        peer.litewitness(tmp_path / "two", "witness.example/two", key.verifier) as two,
    ):
        run(play(one, two))


def test_their_witness_signs_no_second_history_of_our_log(peer: Peer, tmp_path: Path) -> None:
    key = SigningKey.generate(ORIGIN)

    async def play(theirs: Witness) -> None:
        async with our_log(tmp_path, key, theirs) as (app, _):
            assert (await append(app, *entries(0, 5)))["cosignatures"] == 1
        for count in (5, 3, 9):
            async with our_log(tmp_path, key, theirs, files=f"other-{count}") as (app, _):
                told = await append(app, *entries(100, count))
                assert told == {"indexes": list(range(count)), "cosignatures": 0}
                # Nothing is published that too few have seen.
                assert b"\n0\n" in (await asgi.fetch(app, "GET", "/checkpoint")).body
        async with our_log(tmp_path, key, theirs) as (app, _):
            assert (await append(app, *entries(5, 5)))["cosignatures"] == 1

    with peer.litewitness(tmp_path / "one", "witness.example/one", key.verifier) as one:
        run(play(one))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 513])
def test_their_clients_read_our_tiles(peer: Peer, tmp_path: Path, size: int) -> None:
    key = SigningKey.generate(ORIGIN)

    async def play() -> None:
        async with (
            our_witness(tmp_path / "ours", "witness.example/ours", str(key.verifier)) as ours,
            our_log(tmp_path, key, ours) as (app, url),
        ):
            await append(app, *entries(0, size))
            rules = policy_file(tmp_path, str(key.verifier), ours)
            read = await peer.ask("read", url, rules)
            assert read["size"] == size
            assert [base64.b64decode(entry) for entry in read["entries"]] == entries(0, size)
            # The proof that their client builds out of our tiles is the one that our log gives.
            last = entries(size - 1, 1)[0]
            assert read["proof"].encode() == await prove(app, last)
            for where in (url, (tmp_path / "log").as_uri()):
                assert await peer.ask("fsck", where, str(key.verifier)) == "ok"
            spoiled = shutil.copytree(tmp_path / "log", tmp_path / "spoiled")
            tile = next(path for path in sorted((spoiled / "tile/0").rglob("*")) if path.is_file())
            tile.write_bytes(bytes(len(tile.read_bytes())))
            assert await peer.refuses("fsck", spoiled.as_uri(), str(key.verifier))

    run(play())


def test_their_client_follows_our_log_as_it_grows(peer: Peer, tmp_path: Path) -> None:
    key = SigningKey.generate(ORIGIN)

    async def play() -> None:
        async with our_log(tmp_path, key) as (app, url):
            await append(app, *entries(0, 3))
            tracker = await asyncio.create_subprocess_exec(
                golang.program("tlogpeer"), "track", url, str(key.verifier),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert tracker.stdin
            assert tracker.stdout
            sizes = [3]
            assert await tracker.stdout.readline() == b"3\n"
            for count in (1, 252, 1, 300):
                await append(app, *entries(sizes[-1], count))
                sizes.append(sizes[-1] + count)
                tracker.stdin.write(b"\n")
                assert await tracker.stdout.readline() == b"%d\n" % sizes[-1]
            tracker.stdin.close()
            assert json.loads(await tracker.stdout.readline()) == sizes
            assert await tracker.wait() == 0

    run(play())


def test_our_witnesses_sign_a_log_of_theirs_and_their_tools_accept_it(peer: Peer, tmp_path: Path) -> None:
    pair = peer.run("keygen", "log.example/theirs")

    async def play() -> None:
        async with (
            our_witness(tmp_path / "one", "witness.example/one", pair["public"]) as one,
            our_witness(tmp_path / "two", "witness.example/two", pair["public"]) as two,
        ):
            rules = policy_file(tmp_path, pair["public"], one, two)
            folder, done = tmp_path / "tessera", 0
            grow = ["append", "-folder", str(folder), "-key", pair["secret"], "-policy", str(rules)]
            for count in (1, 4, 251, 300):
                more = await peer.ask(*grow, "-first", str(done), "-count", str(count))
                done += count
                assert sorted(more["indexes"]) == list(range(done - count, done))
                # Our device's policy accepts what their log has published with our cosignatures, and their client too.
                note = Note.parse((folder / "checkpoint").read_bytes())
                seen = policy(pair["public"], one, two).verify_checkpoint(note, now=now())
                assert seen.size == done
            assert await peer.ask("fsck", folder.as_uri(), pair["public"]) == "ok"
            # Another history of theirs gets no cosignature of ours.
            shutil.rmtree(folder)
            assert await peer.refuses(*grow, "-first", "9000", "-count", "3")
            assert not (folder / "checkpoint").exists()

    run(play())

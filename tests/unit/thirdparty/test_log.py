import asyncio
import contextlib
import gzip
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import asgi
import edge_kit
from http_kit import Answer, Upstream, reply, upstream
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.thirdparty import cosigners as cosigners_module
from sottovoce.thirdparty import log as log_module
from sottovoce.thirdparty import stores, witness
from sottovoce.thirdparty.files import StorageError, write_whole
from sottovoce.thirdparty.log import Config, WitnessAddress, create_app
from sottovoce.thirdparty.sequencer import Sequencer
from sottovoce.thirdparty.stores import OtherWriterError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note
from sottovoce.tlog.policy import LogPolicy, QuorumError, VerifiedCheckpoint
from sottovoce.tlog.proof import verify_proof

ORIGIN = "log.example/test"
NOW = 1_800_000_000
DOWN = "http://127.0.0.1:1"
SECRET = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@dataclass(kw_only=True)
class Witness:
    """A witness that can be down; its clock is the world's."""

    app: asgi.App
    key: SigningKey
    up: bool = True
    url: str = ""
    wait: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wait.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self.up:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["type"] == "http":
            await self.wait.wait()
        await self.app(scope, receive, send)


@dataclass(kw_only=True)
class World:
    """A log's folder and keys, and its witnesses."""

    folder: Path
    key: SigningKey = field(default_factory=lambda: SigningKey.generate(ORIGIN))
    witnesses: list[Witness] = field(default_factory=list)
    now: float = NOW
    lines: list[str] = field(default_factory=list)

    def config(self, **changes: Any) -> Config:
        (self.folder / "key").write_text(self.key.secret())
        (self.folder / "secret").write_text(SECRET + "\n")
        values: dict[str, Any] = {
            "origin": ORIGIN,
            "key": str(self.folder / "key"),
            "folder": str(self.folder / "log"),
            "secret": str(self.folder / "secret"),
            "witnesses": [WitnessAddress(key=str(w.key.verifier), url=w.url or DOWN) for w in self.witnesses],
        }
        return Config(**(values | changes))

    def app(self, **changes: Any) -> asgi.App:
        """The log, started anew on the same folder."""
        return create_app(self.config(**changes), log=EventLog(self.lines.append))

    @contextlib.asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[asgi.App]:
        """The log with its lifespan, so that it can reach its witnesses."""
        app = self.app(**changes)
        async with edge_kit.serving(app):
            yield app

    def policy(self, quorum: int = 2) -> LogPolicy:
        keys = tuple(one.key.verifier for one in self.witnesses)
        return LogPolicy(origin=ORIGIN, log_key=self.key.verifier, witnesses=keys, quorum=quorum)

    async def checkpoint(self, app: asgi.App, quorum: int = 2) -> VerifiedCheckpoint:
        note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
        return self.policy(quorum).verify_checkpoint(note, now=None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path)


@contextlib.asynccontextmanager
async def witnessed(world: World, count: int = 2) -> AsyncIterator[World]:
    """Start the witnesses of `world`."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            key = SigningKey.generate(f"witness.example/{number}", COSIGNATURE)
            path = world.folder / f"witness-{number}"
            path.write_text(key.secret())
            config = witness.Config(
                key=str(path), state=str(world.folder / f"state-{number}"), logs=[str(world.key.verifier)]
            )
            app = witness.create_app(config, log=EventLog(lambda _: None), clock=lambda: world.now)
            one = Witness(app=app, key=key)
            one.url = await stack.enter_async_context(edge_kit.serving(one))
            world.witnesses.append(one)
        yield world


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def append(app: asgi.App, entry: bytes) -> dict[str, int]:
    answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=entry)
    assert answer.status == 200, answer
    told: dict[str, int] = json.loads(answer.body)
    return told


async def batch(app: asgi.App, items: list[bytes]) -> dict[str, Any]:
    body = tiles.encode_bundle(items)
    answer = await asgi.fetch(app, "POST", "/batch", headers=BEARER, body=body)
    assert answer.status == 200, answer
    told: dict[str, Any] = json.loads(answer.body)
    return told


async def prove(app: asgi.App, entry: bytes) -> bytes:
    answer = await asgi.fetch(app, "GET", f"/proof?hash={merkle.leaf_hash(entry).hex()}")
    assert answer.status == 200, answer
    return answer.body


async def head(app: asgi.App) -> Checkpoint:
    return Checkpoint.parse(Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body).text)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(2000):
        if await condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came")


def entries(count: int, word: str = "entry") -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(count)]


# Appending


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", SECRET, f"Basic {SECRET}", f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}x", "Bearer \u00e9"],
)  # fmt: skip
def test_who_lacks_the_secret_gets_401_and_appends_nothing(world: World, value: str | None) -> None:
    async def play() -> None:
        app = world.app()
        headers = {} if value is None else {"Authorization": value}
        answer = await asgi.fetch(app, "POST", "/entries", headers=headers, body=b"entry")
        assert (answer.status, answer.body) == (401, b'{"code": "refused.operator"}')
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await head(app)).size == 0

    run(play())


def test_the_secret_is_compared_in_constant_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def spy(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return False

    monkeypatch.setattr(hmac, "compare_digest", spy)
    answer = asyncio.run(asgi.fetch(world.app(), "POST", "/entries", headers=BEARER, body=b"entry"))
    assert answer.status == 401
    assert compared == [(BEARER["Authorization"].encode(), BEARER["Authorization"].encode())]


@pytest.mark.parametrize("secret", [b"", b"\n", b" " * 40, b"x" * 15])
def test_a_log_without_a_real_secret_does_not_start(world: World, secret: bytes) -> None:
    config = world.config()
    Path(config.secret).write_bytes(secret)
    with pytest.raises(ConfigError):
        create_app(config, log=EventLog(world.lines.append))


def test_an_entry_gets_an_index_and_a_proof_that_a_quorum_of_witnesses_saw(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for number, entry in enumerate(entries(5)):
                assert await append(app, entry) == {"index": number, "cosignatures": 2}
            for number, entry in enumerate(entries(5)):
                logged = verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)
                assert (logged.index, logged.checkpoint.size) == (number, 5)
                assert logged.checkpoint.time == NOW
        assert [json.loads(line)["size"] for line in world.lines] == [1, 2, 3, 4, 5]
        assert not any("entry" in line.replace("event", "") for line in world.lines)

    run(play())


def test_the_same_entry_twice_keeps_its_index(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for entry in entries(3):
                await append(app, entry)
            assert await append(app, b"entry 1") == {"index": 1, "cosignatures": 2}
            assert (await head(app)).size == 3

    run(play())


def test_entries_at_once_get_different_indexes_in_one_history(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            told = await asyncio.gather(*(append(app, entry) for entry in entries(8)))
            assert sorted(one["index"] for one in told) == list(range(8))
            for entry in entries(8):
                verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)

    run(play())


def test_an_entry_of_the_largest_size_is_taken_and_a_larger_one_is_refused(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            largest = bytes(tiles.MAX_ENTRY)
            assert (await append(app, largest))["index"] == 0
            body = [largest, b"x"]
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=body)
            assert (answer.status, answer.body) == (400, b'{"code": "peer.limit"}')
            assert (await head(app)).size == 1
        async with world.serving() as app:
            verify_proof(await prove(app, largest), largest, world.policy(), now=NOW)

    run(play())


# Proofs and public files


@pytest.mark.parametrize(
    "query",
    ["", "?", "?hash=", "?hash=zz", "?hash=00", "?hash=" + "00" * 32, "?hash=" + "0" * 63, "?other=00"],
)
def test_an_unknown_hash_is_404(world: World, query: str) -> None:
    answer = asyncio.run(asgi.fetch(world.app(), "GET", "/proof" + query))
    assert (answer.status, answer.body) == (404, b'{"code": "peer.no-entry"}')


def test_the_checkpoint_is_text_and_the_tiles_are_bytes(world: World) -> None:
    # tlog-tiles, "Checkpoints" and "Merkle Tree"
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            answer = await asgi.fetch(app, "GET", "/checkpoint")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            answer = await asgi.fetch(app, "GET", "/tile/0/000.p/1")
            assert answer.headers["content-type"] == "application/octet-stream"

    run(play())


def test_the_tiles_that_are_served_give_the_signed_tree(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for size, entry in enumerate(entries(4), start=1):
                await append(app, entry)
                seen = await world.checkpoint(app)
                hashes = tiles.read_tile((await asgi.fetch(app, "GET", f"/tile/0/000.p/{size}")).body)
                bundle = (await asgi.fetch(app, "GET", f"/tile/entries/000.p/{size}")).body
                assert merkle.tree_head(hashes) == seen.root
                assert tiles.decode_bundle(bundle) == entries(size)
                assert list(map(merkle.leaf_hash, entries(size))) == hashes

    run(play())


@pytest.fixture
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize(
    "path",
    ["/", "/key", "/tile", "/tile/", "/tile/0", "/tile/entries", "/tile/0/000", "/tile/0/000.p/2", "/tile/0/000.p/01", "/tile/1/000.p/1",
     "/tile/64/000.p/1", "/tile/00/000.p/1", "/tile/0/000.p/1.new", "/tile/0/../0/000.p/1", "/tile/../checkpoint", "/tile/../../key",
     "/tile/0//000.p/1", "/tile/0/000.p/1/", "/checkpoint/", "/checkpoint.new", "/log/checkpoint", "/entries"],
)  # fmt: skip
def test_nothing_but_the_checkpoint_and_its_tiles_is_served(world: World, path: str) -> None:
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            for name in ("checkpoint.new", "tile/0/000.p/1.new"):
                (world.folder / "log" / name).write_bytes(b"half")
            assert (await asgi.fetch(app, "GET", "/tile/0/000.p/1")).status == 200
            answer = await asgi.fetch(app, "GET", path)
            assert (answer.status, answer.body) == (404, b"")

    run(play())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_public_files_can_only_be_fetched(world: World, method: str) -> None:
    app = world.app()
    for path in ("/checkpoint", "/proof", "/tile/0/000"):
        assert asyncio.run(asgi.fetch(app, method, path, headers=BEARER)).status == 404


def test_health(world: World) -> None:
    assert asyncio.run(asgi.fetch(world.app(), "GET", "/healthz")).status == 204


# Restarts and damage


def test_a_restart_keeps_the_tree_and_continues_it(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
                before = await world.checkpoint(app)
            async with world.serving() as app:
                assert await world.checkpoint(app) == before
                assert await append(app, b"entry 3") == {"index": 3, "cosignatures": 2}
                after = await world.checkpoint(app)
                path = merkle.consistency_proof(list(map(merkle.leaf_hash, entries(4))), 3)
                merkle.verify_consistency(
                    old_size=3, old_root=before.root, size=after.size, root=after.root, path=path
                )
                for number, entry in enumerate(entries(4)):
                    logged = verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)
                    assert logged.index == number

    run(play())


def test_a_new_log_signs_the_empty_tree_and_can_be_started_again(world: World) -> None:
    first, second = (asyncio.run(head(world.app())) for _ in range(2))
    assert first == second
    assert (first.origin, first.size, first.root) == (ORIGIN, 0, merkle.EMPTY_ROOT)


def test_a_full_disk_is_503_and_the_entry_can_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("full")

    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            await append(app, b"first")
            monkeypatch.setattr(stores, "write_whole", full)
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"second")
            assert (answer.status, answer.body) == (503, b'{"code": "disk"}')
            assert (await world.checkpoint(app)).size == 1
            monkeypatch.undo()
            assert await append(app, b"second") == {"index": 1, "cosignatures": 2}

    run(play())


def test_a_log_needs_a_note_key_and_witnesses_keys(world: World) -> None:
    note_key = str(world.key.verifier)
    for key in (note_key, "no key", ""):
        with pytest.raises(ConfigError):
            world.app(witnesses=[WitnessAddress(key=key, url=DOWN)])
    for name in ("key", "secret"):
        with pytest.raises(ConfigError):
            world.app(**{name: str(world.folder / "none")})
    (world.folder / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        world.app(key=str(world.folder / "bytes"))
    world.key = SigningKey.generate(ORIGIN, COSIGNATURE)
    with pytest.raises(ConfigError):
        world.app()


# Batches


def test_a_batch_is_appended_in_one_step(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            assert await batch(app, entries(300)) == {"indexes": list(range(300)), "cosignatures": 2}
            assert (await world.checkpoint(app)).size == 300
            assert await batch(app, [b"new", b"entry 7"]) == {"indexes": [300, 7], "cosignatures": 2}
            assert await batch(app, []) == {"indexes": [], "cosignatures": 2}
        assert [json.loads(line)["size"] for line in world.lines] == [300, 301]

    run(play())


def test_entries_that_come_at_once_share_a_step(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            told = await asyncio.gather(*(append(app, entry) for entry in entries(60)))
            assert sorted(one["index"] for one in told) == list(range(60))
        assert len(world.lines) < 10

    run(play())


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\x00", "peer.decode"), (b"\x00\x02x", "peer.decode"), (bytes(2 * 4097), "peer.decode"), (bytes(4 << 20) + b"x", "peer.limit")],
)  # fmt: skip
def test_a_batch_that_is_malformed_or_too_large_is_refused(world: World, body: bytes, code: str) -> None:
    async def play() -> None:
        async with world.serving() as app:
            answer = await asgi.fetch(app, "POST", "/batch", headers=BEARER, body=body)
            assert (answer.status, json.loads(answer.body)) == (400, {"code": code})
            assert (await asgi.fetch(app, "POST", "/batch", body=body)).status == 401
            assert (await head(app)).size == 0

    run(play())


def test_more_than_may_wait_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with world.serving() as app:
            monkeypatch.setattr(log_module, "_MAX_WAITING", 500)
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=bytes(437))
            assert (answer.status, answer.body) == (503, b'{"code": "unavailable.log"}')
            assert (await append(app, bytes(436)))["index"] == 0

    run(play())


def test_a_second_log_on_the_same_files_does_not_start(world: World) -> None:
    async def play() -> None:
        async with world.serving():
            with pytest.raises(OtherWriterError):
                await asgi.shutdown(world.app())

    run(play())


def test_the_files_are_in_one_place(world: World) -> None:
    s3 = stores.S3Settings(bucket="b", endpoint="http://x", region="r", access_key_id="a", secret="none")
    for changes in ({"folder": ""}, {"s3": s3}):
        with pytest.raises(ConfigError, match="in a folder or"):
            world.app(**changes)


def test_what_never_changes_may_be_kept_and_what_does_may_not(world: World) -> None:
    # tlog-tiles: "Checkpoints", "Merkle Tree", "Log entries"
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            for path in ("/tile/0/000.p/1", "/tile/entries/000.p/1"):
                answer = await asgi.fetch(app, "GET", path)
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            packed = await asgi.fetch(app, "GET", path, headers={"Accept-Encoding": "gzip, br"})
            assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
            assert gzip.decompress(packed.body) == answer.body == tiles.encode_bundle([b"entry"])
            shown = await asgi.fetch(app, "GET", "/checkpoint")
            assert shown.headers["cache-control"] == "public, max-age=2"
            missing = await asgi.fetch(app, "GET", "/tile/0/000.p/2")
            assert (missing.status, missing.headers["cache-control"]) == (404, "no-store")

    run(play())


# Witnesses


def test_nothing_is_published_that_too_few_have_seen(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(quorum=2) as app:
            await append(app, b"first")
            world.witnesses[1].up = False
            assert await append(app, b"second") == {"index": 1, "cosignatures": 1}
            assert (await world.checkpoint(app)).size == 1
            verify_proof(await prove(app, b"first"), b"first", world.policy(), now=NOW)
            answer = await asgi.fetch(app, "GET", f"/proof?hash={merkle.leaf_hash(b'second').hex()}")
            assert (answer.status, answer.body) == (503, b'{"code": "unavailable.witnesses"}')
            world.witnesses[1].up = True
            assert await append(app, b"third") == {"index": 2, "cosignatures": 2}
            verify_proof(await prove(app, b"second"), b"second", world.policy(), now=NOW)

    run(play())


def test_a_quorum_larger_than_the_witnesses_is_refused(world: World) -> None:
    for quorum in (1, -1):
        with pytest.raises(ConfigError, match="quorum"):
            world.app(quorum=quorum)


@pytest.mark.usefixtures("brief")
def test_a_slow_witness_holds_up_nothing_beyond_the_quorum_and_its_cosignature_comes_late(
    world: World,
) -> None:
    async def play() -> None:
        async with witnessed(world, 3), world.serving(quorum=2) as app:
            slow = world.witnesses[2]
            slow.wait.clear()
            assert await append(app, b"first") == {"index": 0, "cosignatures": 2}
            # While it is still being asked, nobody waits for it.
            start = time.monotonic()
            for entry in entries(5):
                assert (await append(app, entry))["cosignatures"] == 2
            assert time.monotonic() - start < 5
            assert (await world.checkpoint(app)).size == 6
            slow.wait.set()

            async def whole() -> bool:
                await append(app, os.urandom(8))
                note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
                return note.cosigned_at(slow.key.verifier) is not None

            await until(whole)

    run(play())


@pytest.mark.usefixtures("brief")
def test_a_cosignature_that_comes_late_is_published_with_the_others(world: World) -> None:
    async def play() -> None:
        async with witnessed(world, 2), world.serving(quorum=1) as app:
            slow = world.witnesses[1]
            slow.wait.clear()
            assert (await append(app, b"entry"))["cosignatures"] == 1
            slow.wait.set()

            async def whole() -> bool:
                with contextlib.suppress(QuorumError):
                    return (await world.checkpoint(app, quorum=2)).size == 1
                return False

            await until(whole)

    run(play())


def test_a_witness_that_is_needed_is_waited_for(world: World) -> None:
    async def play() -> None:
        async with witnessed(world, 2), world.serving(quorum=2) as app:
            slow = world.witnesses[1]
            slow.wait.clear()
            asked = asyncio.ensure_future(append(app, b"entry"))
            await asyncio.sleep(0.1)
            assert not asked.done()
            assert (await head(app)).size == 0
            slow.wait.set()
            assert await asked == {"index": 0, "cosignatures": 2}

    run(play())


def test_a_witness_that_lies_about_our_size_proves_nothing(world: World) -> None:
    """It says that it saw more, and shows a tree head of its own making, or of another log, or none."""

    async def play() -> None:
        text = Checkpoint(origin=ORIGIN, size=99, root=bytes(32)).encode()
        forged = sign_note(text, [SigningKey.generate(ORIGIN)]).encode()
        other = sign_note(text.replace(ORIGIN, "log.example/other"), [world.key]).encode()
        for shown in (forged, other, b"noise", b""):
            asked: list[bytes] = []

            async def lie(
                fake: Upstream,
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                shown: bytes = shown,
                asked: list[bytes] = asked,
            ) -> None:
                await fake.body(reader)
                asked.append(fake.heads[-1].split()[0])
                status, body = ("200 OK", shown) if asked[-1] == b"GET" else ("409 Conflict", b"99\n")
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()

            assert (await with_witness(world, KEY, lie))[0] == 0
            assert asked[:2] == [b"POST", b"GET"]

    run(play())


def test_a_witness_that_is_down_is_left_out_and_the_operator_is_told(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            world.witnesses[1].url = DOWN
            async with world.serving() as app:
                assert await append(app, b"entry") == {"index": 0, "cosignatures": 1}
                proof = await prove(app, b"entry")
                assert verify_proof(proof, b"entry", world.policy(quorum=1), now=NOW).index == 0
                with pytest.raises(QuorumError):
                    verify_proof(proof, b"entry", world.policy(quorum=2), now=NOW)

    run(play())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log waits 50 ms for witnesses beyond the quorum."""
    monkeypatch.setattr(cosigners_module, "_GRACE", 0.05)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log looks every 10 ms whether its tree head needs cosignatures."""
    monkeypatch.setattr(log_module, "_LOOK", 0.01)


@pytest.mark.usefixtures("eager")
def test_a_witness_that_comes_back_is_asked_at_the_next_look(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            await append(app, b"first")
            world.witnesses[1].up = False
            assert (await append(app, b"second"))["cosignatures"] == 1
            with pytest.raises(QuorumError):
                await world.checkpoint(app)
            world.witnesses[1].up = True

            async def cosigned() -> bool:
                with contextlib.suppress(QuorumError):
                    return (await world.checkpoint(app)).size == 2
                return False

            await until(cosigned)

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_refresh_gives_newer_times_to_the_same_tree(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            before = await world.checkpoint(app)
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app)).time == NOW + 50_000

            await until(newer)
            after = await world.checkpoint(app)
            assert (after.size, after.root) == (before.size, before.root)
            assert verify_proof(await prove(app, b"entry"), b"entry", world.policy(), now=int(world.now))

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_refresh_without_a_witness_keeps_its_older_cosignature(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            world.witnesses[1].up = False
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app, quorum=1)).time == NOW + 50_000

            await until(newer)
            assert (await world.checkpoint(app, quorum=2)).time == NOW
            note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
            assert len(note.signatures) == 3

    run(play())


def test_a_tree_head_is_cosigned_anew_when_the_log_starts(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                await append(app, b"entry")
            world.now += 80_000
            async with world.serving() as app:

                async def newer() -> bool:
                    return (await world.checkpoint(app)).time == NOW + 80_000

                await until(newer)

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_full_disk_does_not_end_the_refreshing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Path] = []

    def full_once(path: Path, data: bytes) -> None:
        if not failed:
            failed.append(path)
            raise StorageError("full")
        write_whole(path, data)

    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            monkeypatch.setattr(stores, "write_whole", full_once)
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app)).time == NOW + 50_000

            await until(newer)
            assert failed

    run(play())


def test_a_log_whose_files_were_rolled_back_is_told_so_and_stops(world: World, tmp_path: Path) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
            async with world.serving(folder=str(tmp_path / "rewritten")) as app:
                for _ in range(2):
                    answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"rewritten")
                    assert (answer.status, answer.body) == (503, b'{"code": "log.rolled-back"}')
                assert (await head(app)).size == 0
        assert json.loads(world.lines[-1]) == {"event": "RolledBack", "size": 0}

    run(play())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_log_that_was_rewritten_is_told_so_before_it_signs_more(
    world: World, tmp_path: Path, count: int
) -> None:
    rewritten = Sequencer(stores.Folder(tmp_path / "rewritten"), world.key, ORIGIN)
    rewritten.add(entries(count, "rewritten"))

    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
            async with world.serving(folder=str(tmp_path / "rewritten"), quorum=1) as app:
                answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"more")
                assert (answer.status, answer.body) == (503, b'{"code": "log.rolled-back"}')
                assert (await head(app)).size == 0
        assert Sequencer(stores.Folder(tmp_path / "rewritten"), world.key, ORIGIN).tree.size == count

    run(play())


def cosigning(key: SigningKey, *, cut: int = 0, padding: bytes = b"") -> Answer:
    """A witness that signs everything; its answer comes in two pieces, the second from byte `cut` on."""

    async def answer(fake: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = Note.parse((await fake.body(reader)).partition(b"\n\n")[2]).text
        line = key.cosign(text, time=NOW).line().encode() + padding
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(line) + line[:cut])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(line[cut:])
        await writer.drain()

    return answer


async def with_witness(world: World, key: SigningKey, answer: Answer) -> tuple[int, int]:
    """How many cosignatures a log takes from a witness with `key` that answers so, and requests it made: the first is about
    the empty tree.
    """
    async with upstream(answer) as fake:
        address = WitnessAddress(key=str(key.verifier), url=fake.url)
        async with world.serving(witnesses=[address]) as app:
            told = await append(app, b"entry")
            note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
            assert len(note.signatures) == 1 + told["cosignatures"]
            return told["cosignatures"], len(fake.heads)


KEY = SigningKey.generate("witness.example/w", COSIGNATURE)


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_a_cosignature_that_comes_in_pieces_is_taken(world: World, cut: int) -> None:
    async def play() -> None:
        other = "\u2014 witness.example/other AAAAAAAA\n".encode()
        assert await with_witness(world, KEY, cosigning(KEY, cut=cut, padding=other)) == (1, 2)

    run(play())


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b""),
        reply(200, b"noise\n"),
        reply(200, b"\xff" * 10_000),
        reply(200, KEY.cosign("another text\n", time=NOW).line().encode()),
        reply(404),
        reply(500),
        reply(409, b"-1\n"),
        reply(409, b"3\n"),
        reply(409, b"noise"),
        reply(409, b"9" * 18 + b"\n"),
        cosigning(SigningKey.generate("witness.example/w", COSIGNATURE)),
        cosigning(KEY, padding=f"\u2014 {'n' * 20_000} AAAAAAAA\n".encode()),
    ],
)
def test_what_is_no_cosignature_of_the_witness_is_not_taken(world: World, answer: Answer) -> None:
    async def play() -> None:
        assert (await with_witness(world, KEY, answer))[0] == 0

    run(play())


def test_a_witness_cannot_send_the_log_elsewhere(world: World) -> None:
    async def play() -> None:
        async with upstream(cosigning(KEY)) as elsewhere:
            taken, _ = await with_witness(world, KEY, reply(307, location=elsewhere.url))
            assert (taken, elsewhere.heads) == (0, [])

    run(play())


def test_a_witness_that_says_nothing_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(fake: Upstream, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await fake.body(reader)
        await reader.read()
        raise ConnectionAbortedError

    async def play() -> None:
        assert (await with_witness(world, KEY, silent))[0] == 0

    monkeypatch.setattr(cosigners_module, "_TIMEOUT", 0.05)
    run(play())

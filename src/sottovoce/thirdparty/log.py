"""A transparency log (C2SP tlog-tiles), cosigned by witnesses (C2SP tlog-witness).

    GET  /checkpoint, /tile/…          public
    GET  /proof?hash=<leaf hash, hex>  a tlog-proof under the newest published tree head
    POST /entries                      the operator's: one entry, of any kind but a release → {"index": n, "cosignatures": k}
    POST /batch                        the operator's: an entry bundle, no release in it → {"indexes": [n, …], "cosignatures": k}
    POST /releases                     the operator's: one release with the signatures of two publishers → as for one entry
    GET  /healthz

An entry is durable, and the tree head over it signed, before its index is told. Entries that come at once become one
batch: see `sequencer`. A tree head is published once `quorum` witnesses have cosigned it.
"""

import asyncio
import contextlib
import gzip
import hmac
import json
import math
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import aiohttp
import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import (
    ConfigError,
    DecodeError,
    PeerError,
    RefusedError,
    SottovoceError,
    UnavailableError,
)
from sottovoce.core.events import Event, EventLog, event
from sottovoce.thirdparty.cosigners import Cosigners, WitnessAddress
from sottovoce.thirdparty.sequencer import MAX_BATCH, NoEntryError, Sequencer
from sottovoce.thirdparty.stores import Folder, S3Settings, S3Store, Store
from sottovoce.tlog import tiles
from sottovoce.tlog.note import COSIGNATURE, ED25519, NoteSignature, SigningKey, VerifierKey
from sottovoce.tlog.proof import encode_proof
from sottovoce.tlog.publication import Publishers, PublishersError, is_release

__all__ = ["Config", "WitnessAddress", "create_app", "open_store"]

# tlog-tiles, "Merkle Tree" and "Log entries"
_TILE: Final = re.compile(
    r"/(tile/([0-9]|[1-5][0-9]|6[0-3]|entries)/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?)"
)
_BEARER: Final = b"Bearer "
_MIN_SECRET: Final = 16
_MAX_BODY: Final = 4 * 1024 * 1024
_MAX_WAITING: Final = 32 * 1024 * 1024
"""Bytes of entries that may wait for their turn, and 64 for each."""
_MAX_STEP: Final = 8 * 1024 * 1024
"""Bytes in one batch."""
_GATHER: Final = 0.005
"""Seconds that the first entry of a batch waits for others: who got an answer and sends the next entry is in time."""
_LOOK: Final = 60.0
"""Seconds between two looks at whether the tree head needs new cosignatures."""
_IMMUTABLE: Final = (b"cache-control", b"public, max-age=31536000, immutable")
_BRIEF: Final = (b"cache-control", b"public, max-age=2")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log's configuration."""

    origin: str
    key: str
    """File with the signing key."""
    folder: str = ""
    """The log's files, if they are in a folder."""
    s3: S3Settings | None = None
    """The log's files, if they are in an S3-like store."""
    secret: str
    """File with the operator's secret, for appending: 16 bytes or more."""
    witnesses: list[WitnessAddress]
    quorum: int = 0
    """Witnesses without whose cosignatures no tree head is published: the devices' quorum, or 0 to publish all."""
    publishers: list[str] = []
    """Keys (vkeys) of the people who publish releases: two of them sign each. Without any, the log takes no release."""
    refresh: int = 6 * 3600
    """Seconds after which a tree head is cosigned again, so that its age stays below a day."""


class NotOperatorError(RefusedError):
    """Only the operator appends."""

    code = "refused.operator"


class BusyError(UnavailableError):
    """Too many entries wait already."""

    code = "unavailable.log"


class TwoKeysError(RefusedError):
    """A release comes with the signatures of two publishers, or not at all."""

    code = "refused.two-keys"


@event
class Appended(Event):
    """The log grew."""

    STATE = frozenset({"size", "cosignatures"})

    size: int
    cosignatures: int


@event
class RolledBack(Event):
    """A witness has proved that the log's files were rolled back. Nothing is appended any more."""

    STATE = frozenset({"size"})

    size: int


def open_store(config: Config) -> Store:
    """The store that `config` names.

    Raises:
        ConfigError: it names none, or two.
    """
    if bool(config.folder) == (config.s3 is not None):
        raise ConfigError("a log's files are in a folder or in an S3-like store")
    return S3Store(config.s3) if config.s3 is not None else Folder(Path(config.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    indexes: list[int]
    cosignatures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    entries: list[bytes]
    size: int
    told: asyncio.Future[_Told]


class _Queue:
    """Entries that wait for their turn."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._came = asyncio.Event()

    def put(self, entries: list[bytes]) -> asyncio.Future[_Told]:
        size = sum(map(len, entries)) + 64 * len(entries)
        if self._size + size > _MAX_WAITING:
            raise BusyError("too many entries wait already", party="log")
        told: asyncio.Future[_Told] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entries=entries, size=size, told=told))
        self._size += size
        self._came.set()
        return told

    async def take(self) -> list[_Waiting]:
        """What makes the next batch: at least one request, and all that fit with it."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
            await asyncio.sleep(_GATHER)
        batch, count, size = list[_Waiting](), 0, 0
        while self._waiting:
            first = self._waiting[0]
            count, size = count + len(first.entries), size + first.size
            if batch and (count > MAX_BATCH or size > _MAX_STEP):
                break
            batch.append(self._waiting.popleft())
            self._size -= first.size
        return batch

    def close(self) -> None:
        """Refuse all that wait."""
        for one in self._waiting:
            if not one.told.done():
                one.told.set_exception(UnavailableError("the log stops", party="log"))
        self._waiting.clear()


class _Log:
    def __init__(self, config: Config, log: EventLog) -> None:
        try:
            key = SigningKey.parse(Path(config.key).read_text())
            self._secret = Path(config.secret).read_bytes().strip()
            self._cosigners = Cosigners(
                config.witnesses,
                origin=config.origin,
                log_key=key.verifier,
                quorum=config.quorum,
                late=self._late,
            )
            self._publishers = Publishers([VerifierKey.parse(text) for text in config.publishers])
        except (OSError, UnicodeDecodeError, DecodeError):
            raise ConfigError("the log's key, its secret or a key of another party cannot be read") from None
        if key.kind != ED25519 or any(one.kind != COSIGNATURE for one in self._cosigners.keys):
            raise ConfigError("a log needs a note key, and of each witness the cosignature key")
        if len(self._secret) < _MIN_SECRET:
            raise ConfigError("the log's secret is too short")
        if not 0 <= config.quorum <= len(config.witnesses):
            raise ConfigError("the quorum is larger than the number of witnesses")
        self._log = log
        self._quorum = config.quorum
        self._refresh = config.refresh
        self._store = open_store(config)
        self._sequencer = Sequencer(self._store, key, config.origin)
        self._queue: _Queue | None = None
        self._lock = asyncio.Lock()
        self._refreshed = -math.inf
        self._compared = False
        self._tasks = set[asyncio.Task[None]]()

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            await self._route(scope, receive, send)
        except NotOperatorError as error:
            await asgi.respond_error(send, 401, error, (b"www-authenticate", b"Bearer"))
        except (TwoKeysError, PublishersError) as error:
            await asgi.respond_error(send, 403, error)
        except NoEntryError as error:
            await asgi.respond_error(send, 404, error)
        except PeerError as error:
            await asgi.respond_error(send, 400, error)
        except SottovoceError as error:
            await asgi.respond_error(send, 503, error)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            self._sequencer.hold()
            stack.callback(self._sequencer.release)
            self._cosigners.session = await stack.enter_async_context(
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            )
            stack.push_async_callback(self._cosigners.stop)
            self._queue = _Queue()
            stack.callback(self._queue.close)
            for work in (self._keep_fresh(), self._sequence(self._queue)):
                await stack.enter_async_context(_running(work))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        # Only now: a server that is told so ends the process.
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_fresh(self) -> None:
        while True:
            if time.monotonic() - self._refreshed > self._refresh and self._sequencer.tree.size:
                # A full disk now may have room at the next look.
                with contextlib.suppress(SottovoceError):
                    async with self._lock:
                        await self._gather()
            await asyncio.sleep(_LOOK)

    async def _sequence(self, queue: _Queue) -> None:
        while True:
            batch = await queue.take()
            step = asyncio.ensure_future(self._step(batch))
            try:
                await asyncio.shield(step)
            except asyncio.CancelledError:
                await step  # a batch that was begun is ended, also when the log stops meanwhile
                raise

    async def _step(self, batch: list[_Waiting]) -> None:
        entries = [entry for one in batch for entry in one.entries]
        try:
            async with self._lock:
                indexes, count = await self._add(entries)
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            for one in batch:
                if not one.told.done():
                    one.told.set_exception(error)
            return
        at = 0
        for one in batch:
            if not one.told.done():
                told = indexes[at : at + len(one.entries)]
                one.told.set_result(_Told(indexes=told, cosignatures=count))
            at += len(one.entries)

    async def _add(self, entries: list[bytes]) -> tuple[list[int], int]:
        sequencer = self._sequencer
        if not self._compared:
            # Before anything is signed on top of it: whether the witnesses have seen more than the files hold.
            await self._gather()
            self._compared = True
        if self._cosigners.error is not None:
            raise self._cosigners.error
        before = sequencer.note.text
        indexes = await asyncio.to_thread(sequencer.add, entries)
        if sequencer.note.text == before == sequencer.published.text:
            return indexes, self._cosigners.count(sequencer.published)
        count = await self._gather()
        self._log.emit(Appended(size=sequencer.tree.size, cosignatures=count))
        return indexes, count

    async def _gather(self) -> int:
        """Ask each witness; publish if enough have signed, and say how many did. The others are asked at the next look."""
        found = await self._cosigners.gather(self._sequencer.note, self._sequencer.tree)
        if self._cosigners.error is not None:
            self._log.emit(RolledBack(size=self._sequencer.tree.size))
            raise self._cosigners.error
        self._refreshed = time.monotonic() if len(found) == len(self._cosigners.keys) else -math.inf
        await self._publish(found)
        return len(found)

    async def _publish(self, cosignatures: list[NoteSignature]) -> None:
        self._sequencer.cosign(cosignatures)
        if self._cosigners.count(self._sequencer.note) >= self._quorum:
            await asyncio.to_thread(self._sequencer.publish)

    def _late(self, text: str, cosignature: NoteSignature) -> None:
        task = asyncio.get_running_loop().create_task(self._publish_late(text, cosignature))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish_late(self, text: str, cosignature: NoteSignature) -> None:
        # What cannot be written now is asked for again at the next look.
        with contextlib.suppress(SottovoceError):
            async with self._lock:
                if self._sequencer.note.text == text:
                    await self._publish([cosignature])
                else:
                    await self._gather()  # it was too late for that tree head, and is free for this one

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        method, path = scope["method"], scope["path"]
        tile = _TILE.fullmatch(path)
        if method == "POST" and path in {"/entries", "/releases"}:
            self._authorize(scope)
            told = await self._append([self._submitted(path, await asgi.read_body(receive, tiles.MAX_ENTRY))])
            answer = {"index": told.indexes[0], "cosignatures": told.cosignatures}
            await asgi.respond(send, 200, json.dumps(answer).encode())
        elif (method, path) == ("POST", "/batch"):
            self._authorize(scope)
            entries = tiles.decode_bundle(await asgi.read_body(receive, _MAX_BODY), limit=MAX_BATCH)
            told = await self._append([self._submitted(path, entry) for entry in entries])
            several = {"indexes": told.indexes, "cosignatures": told.cosignatures}
            await asgi.respond(send, 200, json.dumps(several).encode())
        elif (method, path) == ("GET", "/proof"):
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await asgi.respond(send, 200, self._proof(_leaf(query)), kind=b"text/plain")
        elif (method, path) == ("GET", "/checkpoint"):
            # What is in memory: a head on the disk may be of an entry whose index was not told.
            body = self._sequencer.published.encode()
            await asgi.respond(send, 200, body, _BRIEF, kind=b"text/plain; charset=utf-8")
        elif method == "GET" and tile:
            await self._tile(scope, send, tile[1])
        else:
            await asgi.respond(send, 204 if path == "/healthz" else 404)

    async def _tile(self, scope: asgi.Scope, send: asgi.Send, path: str) -> None:
        data = await asyncio.to_thread(self._store.read, path)
        if data is None:
            await asgi.respond(send, 404)
            return
        headers = [_IMMUTABLE]
        if path.startswith("tile/entries/"):
            headers.append((b"vary", b"accept-encoding"))
            if b"gzip" in (asgi.header(scope, b"accept-encoding") or b""):
                data = gzip.compress(data, 6, mtime=0)
                headers.append((b"content-encoding", b"gzip"))
        await asgi.respond(send, 200, data, *headers, kind=b"application/octet-stream")

    def _proof(self, leaf: bytes) -> bytes:
        index, path, head = self._sequencer.locate(leaf)
        return encode_proof(index=index, path=path, checkpoint=head)

    def _authorize(self, scope: asgi.Scope) -> None:
        given = asgi.header(scope, b"authorization") or b""
        if not hmac.compare_digest(given, _BEARER + self._secret):
            raise NotOperatorError("only the operator appends")

    def _submitted(self, path: str, body: bytes) -> bytes:
        if path == "/releases":
            return self._publishers.release(body)
        if is_release(body):
            raise TwoKeysError("a release needs the signatures of two publishers")
        return body

    async def _append(self, entries: list[bytes]) -> _Told:
        if self._queue is None:
            raise UnavailableError("the log is starting", party="log")
        return await self._queue.put(entries)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _leaf(query: dict[str, list[str]]) -> bytes:
    try:
        return bytes.fromhex(query["hash"][0])
    except (KeyError, ValueError):
        raise NoEntryError("ask with ?hash=<leaf hash, hex>") from None


def create_app(config: Config, *, log: EventLog) -> asgi.App:
    """The log as an ASGI application.

    Raises:
        ConfigError: a key or the secret is missing, or the store does not hold this log as it was signed.
        StorageError, OtherWriterError: a new log cannot be begun, or an old one not be finished.
    """
    return _Log(config, log)

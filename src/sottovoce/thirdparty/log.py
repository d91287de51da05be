"""A transparency log on plain files (C2SP tlog-tiles), cosigned by witnesses (C2SP tlog-witness).

    GET  /checkpoint, /tile/…          public
    GET  /proof?hash=<leaf hash, hex>  a tlog-proof under the newest cosigned checkpoint
    POST /entries                      the operator's: one entry, of any kind but a release → {"index": n}
    POST /releases                     the operator's: one release with the signatures of two publishers → the same
    GET  /healthz

An entry is durable, and the tree head over it signed, before its index is told. A tree head is signed for a size only
after the files of that size are on the disk, and the size never goes back, so a stop at any moment forks nothing.
"""

import asyncio
import base64
import contextlib
import hmac
import json
import math
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import aiohttp
import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import (
    ConfigError,
    DecodeError,
    LimitError,
    PeerError,
    RefusedError,
    SottovoceError,
    UnavailableError,
)
from sottovoce.core.events import Event, EventLog, event
from sottovoce.thirdparty.files import StorageError, write_whole
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, ED25519, Note, NoteSignature, SigningKey, VerifierKey, sign_note
from sottovoce.tlog.proof import encode_proof
from sottovoce.tlog.publication import NotPublishedError, Publishers, is_release

__all__ = ["Config", "Storage", "WitnessAddress", "create_app"]

# tlog-tiles, "Merkle Tree" and "Log entries"
_TILE: Final = re.compile(
    r"/(tile/([0-9]|[1-5][0-9]|6[0-3]|entries)/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/[1-9][0-9]{0,2})?)"
)
_BEARER: Final = b"Bearer "
_MIN_SECRET: Final = 16
_WITNESS_TIMEOUT: Final = 10.0
_MAX_ANSWER: Final = 4096
_LOOK: Final = 60.0
"""Seconds between two looks at whether the tree head needs new cosignatures."""
_OK, _CONFLICT = 200, 409


class WitnessAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A witness: its key (vkey) and its submission prefix."""

    key: str
    url: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log's configuration."""

    origin: str
    key: str
    """File with the signing key."""
    folder: str
    """The log's files."""
    secret: str
    """File with the operator's secret, for appending: 16 bytes or more."""
    witnesses: list[WitnessAddress]
    publishers: list[str] = []
    """Keys (vkeys) of the people who publish releases: two of them sign each. Without any, the log takes no release."""
    refresh: int = 6 * 3600
    """Seconds after which a tree head is cosigned again, so that its age stays below a day."""


class NotOperatorError(RefusedError):
    """Only the operator appends."""

    code = "refused.operator"


class TwoKeysError(RefusedError):
    """A release comes with the signatures of two publishers, or not at all."""

    code = "refused.two-keys"


class NoEntryError(PeerError):
    """The log has no such entry."""

    code = "peer.no-entry"


@event
class Appended(Event):
    """The log grew."""

    size: int
    cosignatures: int


class Storage:
    """The log's files. Not trusted by anybody: whoever holds them can withhold entries, and cannot change one unseen."""

    def __init__(self, folder: Path, key: SigningKey, origin: str) -> None:
        self._folder = folder
        self._key = key
        self._origin = origin
        self.leaves: list[bytes] = []
        self._entries: list[bytes] = []
        self.note = self._load()

    def _load(self) -> Note:
        try:
            data = (self._folder / "checkpoint").read_bytes()
        except FileNotFoundError:
            return self._begin()
        except OSError:
            raise ConfigError("the log's tree head cannot be read") from None
        try:
            note = Note.parse(data)
            checkpoint = Checkpoint.parse(note.text)
            signed = note.signed_by(self._key.verifier)
        except PeerError:
            raise ConfigError("the log's tree head is damaged; it must not go on") from None
        if checkpoint.origin != self._origin or not signed:
            raise ConfigError("the log's folder is of another log")
        self._read_entries(checkpoint)
        return note

    def _begin(self) -> Note:
        # The head of the empty tree is there before the first tile, so tiles without a head are a head that was lost. A
        # log that began anew then would sign a second history.
        if (self._folder / "tile").exists():
            raise ConfigError("the log's tree head is lost; it must not go on")
        note = self._sign([])
        write_whole(self._folder / "checkpoint", note.encode())
        return note

    def _read_entries(self, checkpoint: Checkpoint) -> None:
        try:
            for index in range(-(-checkpoint.size // tiles.WIDTH)):
                width = min(tiles.WIDTH, checkpoint.size - index * tiles.WIDTH)
                bundle = self._folder / tiles.tile_path("entries", index, width)
                self._entries = tiles.decode_bundle(bundle.read_bytes())
                self.leaves += map(merkle.leaf_hash, self._entries)
        except (OSError, DecodeError):
            raise ConfigError("the log's entries are damaged; it must not go on") from None
        if len(self._entries) == tiles.WIDTH:
            self._entries = []
        if (len(self.leaves), merkle.tree_head(self.leaves)) != (checkpoint.size, checkpoint.root):
            raise ConfigError("the log's files do not give its signed tree head; it must not go on")

    def _sign(self, leaves: list[bytes]) -> Note:
        head = Checkpoint(origin=self._origin, size=len(leaves), root=merkle.tree_head(leaves))
        return sign_note(head.encode(), [self._key])

    def append(self, entry: bytes) -> int:
        """Append durably; the entry's index. An entry that is there already keeps its index.

        Raises:
            StorageError: nothing was appended, and no tree head with the entry was shown to anybody.
        """
        leaf = merkle.leaf_hash(entry)
        if leaf in self.leaves:
            return self.leaves.index(leaf)
        index = len(self.leaves)
        entries = [*self._entries, entry]
        write_whole(
            self._folder / tiles.tile_path("entries", index // tiles.WIDTH, len(entries)),
            tiles.encode_bundle(entries),
        )
        leaves = [*self.leaves, leaf]
        for path, tile in tiles.changed_tiles(leaves, index):
            write_whole(self._folder / path, tile)
        note = self._sign(leaves)
        write_whole(self._folder / "checkpoint", note.encode())
        self.leaves, self.note = leaves, note
        self._entries = [] if len(entries) == tiles.WIDTH else entries
        return index

    def cosign(self, cosignatures: list[NoteSignature]) -> None:
        """Publish the tree head with the witnesses' new cosignatures; one that none replaces stays.

        Raises:
            StorageError: the tree head is as it was.
        """
        made = {(item.name, item.key_id) for item in cosignatures}
        kept = [item for item in self.note.signatures if (item.name, item.key_id) not in made]
        note = Note(text=self.note.text, signatures=(*kept, *cosignatures))
        write_whole(self._folder / "checkpoint", note.encode())
        self.note = note

    def proof(self, leaf: bytes) -> bytes:
        """A tlog-proof of the entry with this leaf hash.

        Raises:
            NoEntryError: there is none.
        """
        if leaf not in self.leaves:
            raise NoEntryError("the log has no such entry")
        index = self.leaves.index(leaf)
        return encode_proof(
            index=index, path=merkle.inclusion_proof(self.leaves, index), checkpoint=self.note
        )

    def tile(self, path: str) -> bytes | None:
        """A tile or entry bundle; None if there is none."""
        try:
            return (self._folder / path).read_bytes()
        except OSError:
            return None


class _Witness:
    """What the log knows of one witness."""

    def __init__(self, address: WitnessAddress) -> None:
        self.key = VerifierKey.parse(address.key)
        self.url = address.url.rstrip("/") + "/add-checkpoint"
        self.size = 0


class _Log:
    def __init__(self, config: Config, log: EventLog) -> None:
        try:
            key = SigningKey.parse(Path(config.key).read_text())
            self._secret = Path(config.secret).read_bytes().strip()
            self._witnesses = [_Witness(address) for address in config.witnesses]
            self._publishers = Publishers([VerifierKey.parse(text) for text in config.publishers])
        except (OSError, UnicodeDecodeError, DecodeError):
            raise ConfigError("the log's key, its secret or a key of another party cannot be read") from None
        if key.kind != ED25519 or any(witness.key.kind != COSIGNATURE for witness in self._witnesses):
            raise ConfigError("a log needs a note key, and of each witness the cosignature key")
        if len(self._secret) < _MIN_SECRET:
            raise ConfigError("the log's secret is too short")
        self._log = log
        self._refresh = config.refresh
        self._storage = Storage(Path(config.folder), key, config.origin)
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._refreshed = -math.inf

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            await self._route(scope, receive, send)
        except NotOperatorError as error:
            await asgi.respond_error(send, 401, error, (b"www-authenticate", b"Bearer"))
        except (TwoKeysError, NotPublishedError) as error:
            await asgi.respond_error(send, 403, error)
        except NoEntryError as error:
            await asgi.respond_error(send, 404, error)
        except PeerError as error:
            await asgi.respond_error(send, 400, error)
        except SottovoceError as error:
            await asgi.respond_error(send, 503, error)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        timeout = aiohttp.ClientTimeout(total=_WITNESS_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            self._session = session
            refresher = asyncio.ensure_future(self._keep_fresh())
            await asgi.lifespan(receive, send, shutdown=lambda: None)
            refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refresher

    async def _keep_fresh(self) -> None:
        while True:
            if time.monotonic() - self._refreshed > self._refresh and self._storage.leaves:
                # A full disk now may have room at the next look.
                with contextlib.suppress(StorageError):
                    async with self._lock:
                        await self._gather()
            await asyncio.sleep(_LOOK)

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        method, path = scope["method"], scope["path"]
        tile = _TILE.fullmatch(path)
        if method == "POST" and path in {"/entries", "/releases"}:
            await self._append(scope, receive, send)
        elif (method, path) == ("GET", "/proof"):
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await asgi.respond(send, 200, self._storage.proof(_leaf(query)), kind=b"text/plain")
        elif (method, path) == ("GET", "/checkpoint"):
            # What is in memory: a head on the disk may be of an entry whose index was not told.
            await asgi.respond(send, 200, self._storage.note.encode(), kind=b"text/plain; charset=utf-8")
        elif method == "GET" and tile:
            data = self._storage.tile(tile[1])
            await asgi.respond(
                send, 404 if data is None else 200, data or b"", kind=b"application/octet-stream"
            )
        else:
            await asgi.respond(send, 204 if path == "/healthz" else 404)

    async def _append(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        given = asgi.header(scope, b"authorization") or b""
        if not hmac.compare_digest(given, _BEARER + self._secret):
            raise NotOperatorError("only the operator appends")
        entry = self._submitted(scope["path"], await asgi.read_body(receive, tiles.MAX_ENTRY))
        async with self._lock:
            index = self._storage.append(entry)
            count = await self._gather()
        self._log.emit(Appended(size=len(self._storage.leaves), cosignatures=count))
        await asgi.respond(send, 200, json.dumps({"index": index, "cosignatures": count}).encode())

    def _submitted(self, path: str, body: bytes) -> bytes:
        if path == "/releases":
            return self._publishers.release(body)
        if is_release(body):
            raise TwoKeysError("a release needs the signatures of two publishers")
        return body

    async def _gather(self) -> int:
        """Ask each witness; publish what they sign, and say how many. One that is down is asked again at the next look."""
        found = await asyncio.gather(*(self._ask(witness) for witness in self._witnesses))
        cosignatures = [signature for signature in found if signature is not None]
        self._storage.cosign(cosignatures)
        whole = len(cosignatures) == len(self._witnesses)
        self._refreshed = time.monotonic() if whole else -math.inf
        return len(cosignatures)

    async def _ask(self, witness: _Witness) -> NoteSignature | None:
        try:
            return await self._ask_at(witness, witness.size) or await self._ask_at(witness, witness.size)
        except (aiohttp.ClientError, TimeoutError, PeerError):
            return None

    async def _ask_at(self, witness: _Witness, old: int) -> NoteSignature | None:
        """One request; on 409 the witness's size is learnt and None returned."""
        if self._session is None:
            raise UnavailableError("the log is starting", party="log")
        storage = self._storage
        path = merkle.consistency_proof(storage.leaves, min(old, len(storage.leaves)))
        head = Note(text=storage.note.text, signatures=storage.note.signatures[:1])
        lines = [f"old {old}\n", *(base64.b64encode(node).decode() + "\n" for node in path), "\n"]
        body = "".join(lines).encode() + head.encode()
        async with self._session.post(witness.url, data=body, allow_redirects=False) as response:
            answer = await _read(response.content)
            if response.status == _CONFLICT and re.fullmatch(rb"[0-9]{1,18}\n", answer):
                witness.size = int(answer)
                return None
            if response.status != _OK:
                return None
        note = Note.parse(head.text.encode() + b"\n" + answer)
        note.cosigned_at(witness.key)
        witness.size = len(storage.leaves)
        return next((item for item in note.signatures if witness.key.made(item)), None)


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = b""
    while len(answer) <= _MAX_ANSWER and (piece := await content.read(_MAX_ANSWER)):
        answer += piece
    if len(answer) > _MAX_ANSWER:
        raise LimitError("the witness's answer is longer than its limit")
    return answer


def _leaf(query: dict[str, list[str]]) -> bytes:
    try:
        return bytes.fromhex(query["hash"][0])
    except (KeyError, ValueError):
        raise NoEntryError("ask with ?hash=<leaf hash, hex>") from None


def create_app(config: Config, *, log: EventLog) -> asgi.App:
    """The log as an ASGI application.

    Raises:
        ConfigError: a key or the secret is missing, or the folder does not hold this log as it was signed.
        StorageError: a new log cannot be begun.
    """
    return _Log(config, log)

"""A witness (C2SP tlog-witness): cosigns a tree head only if it continues the last one that it saw.

    POST /add-checkpoint
    GET  /<SHA-256 of the origin, hex>/checkpoint    the last tree head that it cosigned, for monitors
    GET  /healthz

What it cosigned is on the disk before the cosignature leaves, so that a stop at any moment makes it sign no two histories.
"""

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import ConfigError, CryptoError, DecodeError, PeerError, SottovoceError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.thirdparty.files import write_whole
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import ConsistencyError, verify_consistency
from sottovoce.tlog.note import COSIGNATURE, Note, SignatureError, SigningKey, VerifierKey

__all__ = ["Config", "FollowedLog", "create_app", "parse_request"]

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_MAX_PROOF: Final = 63
_MAX_REQUEST: Final = 64 * 1024
_MAX_KEPT: Final = 16
"""Tree heads kept as evidence against one log: one is enough, and a log that lies can sign any number."""
_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_LOCK: Final = ".lock"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The witness's configuration."""

    key: str
    """File with the cosignature key."""
    state: str
    """Folder for the last tree head of each log."""
    logs: list[str]
    """The logs' keys (vkeys); the name of each is the log's origin. One origin may have several keys."""


class UnknownLogError(PeerError):
    """A log that this witness does not follow."""

    code = "peer.witness.unknown-log"


class SizeConflictError(PeerError):
    """The log's idea of what this witness saw last is wrong; `size` is right."""

    code = "peer.witness.size"

    def __init__(self, size: int) -> None:
        super().__init__("the old size is not the last one seen")
        self.size = size


class ForkError(CryptoError):
    """The log signed a tree head that does not continue what this witness saw: proof that it has two histories."""

    code = "peer.witness.fork"


class EmptyTreeError(CryptoError):
    """A tree head of size 0 with another root than the empty tree's."""

    code = "peer.witness.empty-tree"


@event
class Cosigned(Event):
    """A tree head was cosigned."""

    STATE = frozenset({"size"})

    size: int


@event
class RefusedToCosign(Event):
    """A tree head that does not continue what was seen, or is not the log's."""

    CODES = frozenset({"status"})

    status: int


class FollowedLog:
    """What a witness knows of one log, and the file that keeps it. Its methods block, and are not for two threads at once."""

    def __init__(self, origin: str, keys: Sequence[VerifierKey], *, state: Path, key: SigningKey) -> None:
        """Read what was seen.

        Raises:
            ConfigError: the record is damaged.
        """
        self._origin = origin
        self._keys = tuple(keys)
        self._key = key
        self._path = state / base64.urlsafe_b64encode(origin.encode()).decode()
        self.record()

    def record(self) -> tuple[Checkpoint, bytes] | None:
        """The last tree head that was cosigned, and the cosigned note; None before the first.

        Raises:
            ConfigError: the record is damaged.
        """
        # A record that cannot be read is never taken for none: that would forget what was cosigned.
        try:
            data = self._path.read_bytes()
            seen = Checkpoint.parse(Note.parse(data).text)
        except FileNotFoundError:
            return None
        except (OSError, DecodeError):
            raise ConfigError("the record of a log's last tree head is damaged") from None
        if seen.origin != self._origin:
            raise ConfigError("the record of a log's last tree head is of another log")
        return seen, data

    def cosign(self, old: int, path: Sequence[bytes], note: Note, *, now: int) -> str:
        """The cosignature line for `note`, after what it says has been checked and recorded.

        Raises:
            SignatureError: not signed by the log, or a signature in its name is false.
            DecodeError: the old size is larger than the new one.
            SizeConflictError: another size was seen last.
            EmptyTreeError, ForkError, ConsistencyError: it does not continue what was seen.
            ConfigError, StorageError: the record is damaged or cannot be written; nothing was cosigned.
        """
        head = Checkpoint.parse(note.text, empty_root=False)
        if not [key for key in self._keys if note.signed_by(key)]:
            raise SignatureError("the tree head is not signed by the log")
        if old > head.size:
            raise DecodeError("the old size is larger than the new one")
        record = self.record()
        seen = record[0] if record else None
        if old != (seen.size if seen else 0):
            raise SizeConflictError(seen.size if seen else 0)
        try:
            _require_growth(seen, head, path)
        except ForkError:
            self._keep(note)
            raise
        line = self._key.cosign(note.text, time=now)
        kept = [item for item in note.signatures if any(key.made(item) for key in self._keys)]
        write_whole(self._path, Note(text=note.text, signatures=(*kept, line)).encode())
        return line.line()

    def _keep(self, note: Note) -> None:
        """Keep a tree head that contradicts the one seen: with it, the two are proof. A full disk loses the proof only."""
        folder = self._path.with_name(self._path.name + ".forks")
        path = folder / hashlib.sha256(note.text.encode()).hexdigest()
        kept = [item for item in note.signatures if any(key.made(item) for key in self._keys)]
        with contextlib.suppress(SottovoceError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists() and len(list(folder.iterdir())) < _MAX_KEPT:
                write_whole(path, Note(text=note.text, signatures=tuple(kept)).encode())


def _require_growth(seen: Checkpoint | None, head: Checkpoint, path: Sequence[bytes]) -> None:
    if not head.rooted:
        raise EmptyTreeError("the empty tree has another root")
    if seen is None or not seen.size:
        if path:
            raise ConsistencyError("a proof from the empty tree must be empty")
        return
    if seen.size == head.size and seen.root != head.root:
        raise ForkError("two tree heads of one size")
    verify_consistency(old_size=seen.size, old_root=seen.root, size=head.size, root=head.root, path=path)


class _Witness:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        try:
            key = SigningKey.parse(Path(config.key).read_text())
            keys = [VerifierKey.parse(text) for text in config.logs]
        except (OSError, UnicodeDecodeError, DecodeError):
            raise ConfigError("the witness's key or a log's key cannot be read") from None
        if key.kind != COSIGNATURE or not keys or any(one.kind == COSIGNATURE for one in keys):
            raise ConfigError("a witness needs a cosignature key, and logs to follow with their note keys")
        self._state = Path(config.state)
        self._log = log
        self._clock = clock
        self._logs = {
            origin: FollowedLog(
                origin, [one for one in keys if one.name == origin], state=self._state, key=key
            )
            for origin in {one.name for one in keys}
        }
        self._hashes = {hashlib.sha256(origin.encode()).hexdigest(): origin for origin in self._logs}
        # Checking and recording are one step for each log; logs do not wait for one another.
        self._locks = {origin: asyncio.Lock() for origin in self._logs}

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        kept = _CHECKPOINT.fullmatch(scope.get("path", ""))
        if scope["type"] == "lifespan":
            with _held(self._state):
                await asgi.lifespan(receive, send, shutdown=lambda: None)
        elif (scope["method"], scope["path"]) == ("POST", "/add-checkpoint"):
            await self._add(receive, send)
        elif scope["method"] == "GET" and kept:
            await self._show(send, kept[1])
        else:
            await asgi.respond(send, 204 if scope["path"] == "/healthz" else 404)

    async def _show(self, send: asgi.Send, name: str) -> None:
        origin = self._hashes.get(name)
        try:
            record = self._logs[origin].record() if origin is not None else None
        except ConfigError as error:
            await asgi.respond_error(send, 503, error)
            return
        if record is None:
            await asgi.respond(send, 404)
        else:
            await asgi.respond(send, 200, record[1], kind=b"text/plain; charset=utf-8")

    async def _add(self, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            line = await self._cosign(await asgi.read_body(receive, _MAX_REQUEST))
        except SizeConflictError as error:
            await asgi.respond(send, 409, f"{error.size}\n".encode(), kind=b"text/x.tlog.size")
        except SottovoceError as error:
            status = _status(error)
            self._log.emit(RefusedToCosign(status=status))
            await asgi.respond_error(send, status, error)
        else:
            await asgi.respond(send, 200, line.encode(), kind=b"text/plain; charset=utf-8")

    async def _cosign(self, body: bytes) -> str:
        old, path, note = parse_request(body)
        head = Checkpoint.parse(note.text, empty_root=False)
        followed = self._logs.get(head.origin)
        if followed is None:
            raise UnknownLogError("this witness does not follow that log")
        async with self._locks[head.origin]:
            # A request that is given up goes on: its record must not be written after that of a later one.
            work = asyncio.ensure_future(
                asyncio.to_thread(followed.cosign, old, path, note, now=int(self._clock()))
            )
            try:
                line = await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise
        self._log.emit(Cosigned(size=head.size))
        return line


@contextlib.contextmanager
def _held(state: Path) -> Iterator[None]:
    """Keep a second witness away from the same records: between the two, one could forget what the other signed.

    Raises:
        ConfigError: there is one already, or the folder cannot be used.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        raise ConfigError("the folder of the witness's records cannot be used") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("another witness uses the same records") from None
        yield
    finally:
        os.close(lock)


def parse_request(body: bytes) -> tuple[int, list[bytes], Note]:
    """The old size, the consistency proof and the signed tree head of a submission (tlog-witness, "add-checkpoint").

    Raises:
        DecodeError: malformed.
    """
    head, found, checkpoint = body.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    match = _OLD.fullmatch(lines[0])
    if not found or match is None or len(lines) - 1 > _MAX_PROOF:
        raise DecodeError("the request is malformed")
    try:
        path = [base64.b64decode(line, validate=True) for line in lines[1:]]
    except ValueError:  # of which binascii.Error is one
        raise DecodeError("the request is malformed") from None
    return int(match[1]), path, Note.parse(checkpoint)


def _status(error: SottovoceError) -> int:
    # tlog-witness, "add-checkpoint"
    if isinstance(error, UnknownLogError):
        return 404
    if isinstance(error, SignatureError):
        return 403
    if isinstance(error, CryptoError):
        return 422
    return 400 if isinstance(error, PeerError) else 503


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The witness as an ASGI application.

    Raises:
        ConfigError: a key is missing or of the wrong kind, or the record of a log is damaged.
    """
    return _Witness(config, log, clock)

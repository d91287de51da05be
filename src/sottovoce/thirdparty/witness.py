"""A witness (C2SP tlog-witness): cosigns a tree head only if it continues the last one that it saw.

    POST /add-checkpoint
    GET  /healthz

What it saw is on the disk before the cosignature leaves, so that a stop at any moment makes it sign no two histories.
"""

import asyncio
import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import ConfigError, DecodeError, PeerError, SottovoceError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.thirdparty.files import write_whole
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import ConsistencyError, verify_consistency
from sottovoce.tlog.note import COSIGNATURE, Note, SignatureError, SigningKey, VerifierKey

__all__ = ["Config", "create_app"]

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_MAX_PROOF: Final = 63
_MAX_REQUEST: Final = 64 * 1024


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The witness's configuration."""

    key: str
    """File with the cosignature key."""
    state: str
    """Folder for the last tree head of each log."""
    logs: list[str]
    """The logs' keys (vkeys); the name of each is the log's origin."""


class UnknownLogError(PeerError):
    """A log that this witness does not follow."""

    code = "peer.witness.unknown-log"


class SizeConflictError(PeerError):
    """The log's idea of what this witness saw last is wrong; `size` is right."""

    code = "peer.witness.size"

    def __init__(self, size: int) -> None:
        super().__init__("the old size is not the last one seen")
        self.size = size


class ForkError(SizeConflictError):
    """The log signed another tree head of the size that this witness saw last: proof that it has two histories."""

    code = "peer.witness.fork"


@event
class Cosigned(Event):
    """A tree head was cosigned."""

    size: int


@event
class RefusedToCosign(Event):
    """A tree head that does not continue what was seen, or is not the log's."""

    status: int


class _Witness:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        try:
            self._key = SigningKey.parse(Path(config.key).read_text())
            self._logs = {key.name: key for key in map(VerifierKey.parse, config.logs)}
        except (OSError, UnicodeDecodeError, DecodeError):
            raise ConfigError("the witness's key or a log's key cannot be read") from None
        if self._key.kind != COSIGNATURE or not self._logs:
            raise ConfigError("a witness needs a cosignature key and a log to follow")
        self._state = Path(config.state)
        self._log = log
        self._clock = clock
        self._lock = asyncio.Lock()
        for origin in self._logs:
            self._seen(origin)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await asgi.lifespan(receive, send, shutdown=lambda: None)
        elif (scope["method"], scope["path"]) == ("POST", "/add-checkpoint"):
            await self._add(receive, send)
        else:
            await asgi.respond(send, 204 if scope["path"] == "/healthz" else 404)

    async def _add(self, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            body = await asgi.read_body(receive, _MAX_REQUEST)
            async with self._lock:  # checking and recording are one step
                line = self._cosign(body)
        except SizeConflictError as error:
            if isinstance(error, ForkError):
                self._log.emit(RefusedToCosign(status=409))
            await asgi.respond(send, 409, f"{error.size}\n".encode(), kind=b"text/x.tlog.size")
        except SottovoceError as error:
            status = _status(error)
            self._log.emit(RefusedToCosign(status=status))
            await asgi.respond_error(send, status, error)
        else:
            await asgi.respond(send, 200, line.encode(), kind=b"text/plain")

    def _cosign(self, body: bytes) -> str:
        old, path, note = _parse(body)
        checkpoint = Checkpoint.parse(note.text)
        key = self._logs.get(checkpoint.origin)
        if key is None:
            raise UnknownLogError("this witness does not follow that log")
        if not note.signed_by(key):
            raise SignatureError("the tree head is not signed by the log")
        if old > checkpoint.size:
            raise DecodeError("the old size is larger than the new one")
        seen = self._seen(checkpoint.origin)
        if old != (seen.size if seen else 0):
            raise SizeConflictError(seen.size if seen else 0)
        if seen is not None and seen.size == checkpoint.size and seen.root != checkpoint.root:
            raise ForkError(seen.size)
        if seen is not None and seen.size:
            verify_consistency(
                old_size=seen.size, old_root=seen.root, size=checkpoint.size, root=checkpoint.root, path=path
            )
        elif path:
            raise ConsistencyError("a proof from the empty tree must be empty")
        write_whole(self._file(checkpoint.origin), note.text.encode())
        self._log.emit(Cosigned(size=checkpoint.size))
        return self._key.cosign(note.text, time=int(self._clock())).line()

    def _file(self, origin: str) -> Path:
        return self._state / base64.urlsafe_b64encode(origin.encode()).decode()

    def _seen(self, origin: str) -> Checkpoint | None:
        # A record that cannot be read is never taken for none: that would forget what was cosigned.
        try:
            seen = Checkpoint.parse(self._file(origin).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, DecodeError):
            raise ConfigError("the record of a log's last tree head is damaged") from None
        if seen.origin != origin:
            raise ConfigError("the record of a log's last tree head is of another log")
        return seen


def _parse(body: bytes) -> tuple[int, list[bytes], Note]:
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
    if isinstance(error, ConsistencyError):
        return 422
    return 400 if isinstance(error, PeerError) else 503


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The witness as an ASGI application.

    Raises:
        ConfigError: a key is missing or of the wrong kind, or the record of a log is damaged.
    """
    return _Witness(config, log, clock)

"""An oblivious relay (RFC 9458 section 6): passes sealed messages on, and nothing that says from whom.

    POST /ohttp                         → the gateway
    GET  /directory/directory-<epoch>.note    ← copies from the relay's own mirror: a device's second way to the directory
    GET  /directory/directory-<epoch>.proof
    GET  /healthz

Of a request, the method, the media type and the body pass; of its answer, the status, the media type and the body. Streamed messages
pass piece by piece in both directions. When one side leaves, the other is cut off. There is no log of requests, only counts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.counters import Counters
from sottovoce.core.errors import LimitError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.thirdparty.bodies import ClientGoneError, RequestBody
from sottovoce.thirdparty.directorycopies import DirectoryCopies
from sottovoce.thirdparty.upstream import Connection, Upstream, UpstreamError
from sottovoce.tlog.directoryfiles import is_public

__all__ = ["Config", "create_app"]

_PATH: Final = "/ohttp"
_FOLDER: Final = "/directory/"
_PLAIN, _CHUNKED = b"message/ohttp-req", b"message/ohttp-chunked-req"
_PLAIN_ANSWER, _CHUNKED_ANSWER = b"message/ohttp-res", b"message/ohttp-chunked-res"
_ANSWERS: Final = (_PLAIN_ANSWER, _CHUNKED_ANSWER, b"application/problem+json", b"application/json")
"""Media types that pass; any other could carry a mark."""
_MAX_REQUEST: Final = LIMITS.request + 256 * 1024
"""The longest request with its padding, frames, TLS records and chunks."""
_MAX_ANSWER: Final = 1024 * 1024
_READ_TIMEOUT: Final = 30.0
"""For a whole message that is not streamed, or the first piece of one that is."""
_STALL: Final = LIMITS.session_idle
"""For a client to take a piece of its answer. That a request and its answer both stand still is bounded by `Upstream`."""
_PIECE: Final = 64 * 1024
"""Bytes sent to a client at a time, so that a slow one takes a piece in time."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The relay's configuration: one gateway, one mirror."""

    gateway: str
    """URL of the gateway's oblivious resource."""
    mirror: str
    """URL under which the directory's files are."""
    directory_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """How often the mirror is asked, on average: not when a device asks (`thirdparty.directorycopies`)."""
    connections: int = 4096


class GatewayUnreachableError(UnavailableError):
    """The gateway does not answer, or broke its answer off."""

    code = "unavailable.gateway"


class _MediaTypeError(ProtocolError):
    """Not a media type of Oblivious HTTP requests."""

    code = "peer.media-type"


class _TooSlowError(ProtocolError):
    """The request did not come in time."""

    code = "peer.timeout"


@event
class Relayed(Event):
    """What the relay did since the last such line; once an hour at most, and at the end."""

    relayed: int
    directories: int
    refused: int
    failed: int
    broken_off: int


class _Relay:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        self._gateway = Upstream(config.gateway, limit=config.connections)
        self._mirror = Upstream(config.mirror, limit=config.connections)
        self._copies = DirectoryCopies(self._mirror, seconds=config.directory_seconds, clock=clock)
        self._clock = clock
        self._counters = Counters(log, Relayed)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            following = asyncio.ensure_future(self._copies.follow())
            await asgi.lifespan(receive, send, shutdown=self._close)
            following.cancel()
            return
        answer = _Answer(send)
        try:
            await self._route(scope, receive, answer)
        except ClientGoneError:
            self._count("broken_off")
        except SottovoceError as error:
            self._count("failed" if isinstance(error, UnavailableError) else "refused")
            # An answer that has begun can only be left without its end.
            if not answer.began:
                await asgi.respond_error(send, _status(error), error)

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, answer: "_Answer") -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("POST", _PATH):
            media = asgi.header(scope, b"content-type")
            body = RequestBody(receive, _MAX_REQUEST)
            if int(asgi.header(scope, b"content-length") or 0) > _MAX_REQUEST:
                raise LimitError("request longer than its limit")
            if media == _PLAIN:
                await self._relay(
                    self._head(media) + _with_length(await _in_time(body.whole())), body, answer
                )
            elif media == _CHUNKED:
                # The head goes with the first piece: some servers wait for one before they act. Until it is here, no connection is held.
                pieces = body.pieces()
                first = await _in_time(anext(pieces, b""))
                request = self._head(media) + _IN_CHUNKS + _chunk(first)
                await self._relay(request, body, answer, pieces if first else None)
            else:
                raise _MediaTypeError("not a sealed request")
        elif method == "GET" and path.startswith(_FOLDER) and is_public(path.removeprefix(_FOLDER)):
            await self._directory(path.removeprefix(_FOLDER), answer)
        else:
            await asgi.respond(answer.send, 204 if path == "/healthz" else 404)

    def _head(self, media: bytes) -> bytes:
        """All that a gateway gets to see beside the body."""
        return b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: %b\r\n" % (
            self._gateway.path,
            self._gateway.authority,
            media,
        )

    async def _relay(
        self,
        request: bytes,
        body: RequestBody,
        answer: "_Answer",
        pieces: AsyncIterator[bytes] | None = None,
    ) -> None:
        """`pieces` are what follows on `request`, if it is not whole."""
        try:
            connection = await self._gateway.acquire()
        except UpstreamError:
            raise GatewayUnreachableError("the gateway does not answer", party="gateway") from None
        connection.start(request, complete=pieces is None)
        beside = asyncio.ensure_future(_send_and_watch(connection, pieces, body))
        try:
            await answer.pass_on(connection)
        except UpstreamError:
            if beside.done() and isinstance(error := beside.exception(), ClientGoneError | LimitError):
                raise error from None
            raise GatewayUnreachableError("the gateway broke its answer off", party="gateway") from None
        finally:
            if not beside.cancel():
                beside.exception()
            self._gateway.release(connection)
        self._count("relayed")

    async def _directory(self, name: str, answer: "_Answer") -> None:
        body = await self._copies.get(name)
        self._count("directories")
        await asgi.respond(answer.send, 200, body, kind=b"application/octet-stream")

    def _close(self) -> None:
        self._gateway.close()
        self._mirror.close()
        self._counters.flush()

    def _count(self, name: str) -> None:
        self._counters.add(name, self._clock())


_IN_CHUNKS: Final = b"incremental: ?1\r\ntransfer-encoding: chunked\r\n\r\n"


def _with_length(body: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n%b" % (len(body), body)


def _chunk(piece: bytes) -> bytes:
    """A piece of a streamed body; without content, its end."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def _send_and_watch(
    connection: Connection, pieces: AsyncIterator[bytes] | None, body: RequestBody
) -> None:
    """Send the rest of a streamed body as it comes, then watch the client. When it leaves, the gateway is cut off."""
    try:
        if pieces is not None:
            async for piece in pieces:
                await connection.write(_chunk(piece))
            await connection.write(_chunk(b""), complete=True)
        await body.watch()
    except SottovoceError:
        connection.abort()
        raise


class _Answer:
    def __init__(self, send: asgi.Send) -> None:
        self.send = send
        self.began = False

    async def pass_on(self, connection: Connection) -> None:
        """Status, media type and body of the gateway's answer."""
        await connection.head()
        kind = connection.media
        headers = [(b"cache-control", b"no-store")]
        if kind in _ANSWERS:
            headers.append((b"content-type", kind))
        if kind == _CHUNKED_ANSWER:
            headers.append((b"incremental", b"?1"))
            await self._start(connection.status, headers)
            await self._stream(connection)
            return
        # What is sealed as a whole is of use as a whole: it is taken in first, so that it has a length.
        whole = await connection.whole(_MAX_ANSWER)
        headers.append((b"content-length", b"%d" % len(whole)))
        await self._start(connection.status, headers)
        await self._say({"type": "http.response.body", "body": whole})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.began = True
        await self._say({"type": "http.response.start", "status": status, "headers": headers})

    async def _stream(self, connection: Connection) -> None:
        total = 0
        while piece := await connection.read():
            total += len(piece)
            if total > LIMITS.stream:
                raise GatewayUnreachableError("an answer is longer than its limit", party="gateway")
            for at in range(0, len(piece), _PIECE):
                part = piece[at : at + _PIECE]
                await self._say({"type": "http.response.body", "body": part, "more_body": True})
        await self._say({"type": "http.response.body", "body": b""})

    async def _say(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(_STALL):
                await self.send(message)
        except TimeoutError:
            raise ClientGoneError("the client does not read its answer", party="client") from None


async def _in_time(coming: Awaitable[bytes]) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            return await coming
    except TimeoutError:
        raise _TooSlowError("the request did not come in time") from None


_STATUS: Final[tuple[tuple[type[SottovoceError], int], ...]] = (
    (_MediaTypeError, 415),
    (_TooSlowError, 408),
    (LimitError, 413),
    (UnavailableError, 502),
    (SottovoceError, 400),
)


def _status(error: SottovoceError) -> int:
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The relay as an ASGI application; `clock` gives seconds.

    Raises:
        ConfigError: a URL that is not one of a resource.
    """
    return _Relay(config, log, clock)

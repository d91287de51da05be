"""An oblivious relay (RFC 9458 section 6): passes sealed messages on, and nothing that says from whom.

    POST /ohttp                         → the gateway
    GET  /directory/directory.note      ← the relay's own mirror: a device's second way to the directory
    GET  /directory/directory.proof
    GET  /healthz

Of a request, the method, the media type and the body pass; of its answer, the status, the media type and the body. Streamed messages
pass piece by piece in both directions. When one side leaves, the other is cut off. There is no log of requests, only counts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import msgspec

from sottovoce.core import asgi
from sottovoce.core.counters import Counters
from sottovoce.core.errors import LimitError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.thirdparty.bodies import ClientGoneError, RequestBody, run_beside

__all__ = ["Config", "create_app"]

_PATH: Final = "/ohttp"
_FILES: Final = ("/directory/directory.note", "/directory/directory.proof")
_PLAIN, _CHUNKED = b"message/ohttp-req", b"message/ohttp-chunked-req"
_PLAIN_ANSWER, _CHUNKED_ANSWER = "message/ohttp-res", "message/ohttp-chunked-res"
_ANSWERS: Final = (_PLAIN_ANSWER, _CHUNKED_ANSWER, "application/problem+json", "application/json")
"""Media types that pass; any other could carry a mark."""
_MAX_REQUEST: Final = LIMITS.request + 256 * 1024
"""The longest request with its padding, frames, TLS records and chunks."""
_MAX_ANSWER: Final = 1024 * 1024
_MAX_STREAM: Final = 32 * 1024 * 1024
"""10 minutes of frames of 512 bytes, 40 ms apart, are 8 MB before they are sealed."""
_READ_TIMEOUT: Final = 30.0
_OK: Final = 200


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The relay's configuration: one gateway, one mirror."""

    gateway: str
    """URL of the gateway's oblivious resource."""
    mirror: str
    """URL under which the directory's files are."""
    connections: int = 4096


class GatewayUnreachableError(UnavailableError):
    """The gateway does not answer, or broke its answer off."""

    code = "unavailable.gateway"


class MirrorUnreachableError(UnavailableError):
    """The mirror does not answer, or does not have the directory."""

    code = "unavailable.directory"


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
        self._config = config
        self._clock = clock
        self._counters = Counters(log, Relayed)
        self._http: aiohttp.ClientSession | None = None

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
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

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        connector = aiohttp.TCPConnector(limit=self._config.connections, keepalive_timeout=60)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5, sock_read=LIMITS.session_idle + _READ_TIMEOUT
            ),
        ) as self._http:
            await asgi.lifespan(receive, send, shutdown=self._counters.flush)
        self._http = None

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, answer: "_Answer") -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("POST", _PATH):
            media = asgi.header(scope, b"content-type")
            body = RequestBody(receive, _MAX_REQUEST)
            if media == _PLAIN:
                await self._relay(media, await _in_time(body), body, answer)
            elif media == _CHUNKED:
                await self._relay(media, body.pieces(), body, answer)
            else:
                raise _MediaTypeError("not a sealed request")
        elif method == "GET" and path in _FILES:
            await self._directory(path.rpartition("/")[2], answer)
        else:
            await asgi.respond(answer.send, 204 if path == "/healthz" else 404)

    async def _relay(
        self, media: bytes, data: bytes | AsyncIterator[bytes], body: RequestBody, answer: "_Answer"
    ) -> None:
        headers = {"Content-Type": media.decode()}
        if media == _CHUNKED:
            headers["Incremental"] = "?1"
        await run_beside(self._exchange(data, headers, answer), body.watch())
        self._count("relayed")

    async def _exchange(
        self, data: bytes | AsyncIterator[bytes], headers: dict[str, str], answer: "_Answer"
    ) -> None:
        try:
            async with self._session.post(
                self._config.gateway, data=data, headers=headers, allow_redirects=False
            ) as response:
                await answer.pass_on(response)
        except (aiohttp.ClientError, TimeoutError):
            raise GatewayUnreachableError("the gateway does not answer", party="gateway") from None

    async def _directory(self, name: str, answer: "_Answer") -> None:
        try:
            async with self._session.get(f"{self._config.mirror}/{name}", allow_redirects=False) as response:
                if response.status != _OK:
                    raise MirrorUnreachableError("the mirror does not have the file", party="directory")
                body = await _whole(response, LIMITS.directory)
        except (aiohttp.ClientError, TimeoutError):
            raise MirrorUnreachableError("the mirror does not answer", party="directory") from None
        self._count("directories")
        await asgi.respond(answer.send, 200, body, kind=b"application/octet-stream")

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise UnavailableError("the relay is starting", party="relay")
        return self._http

    def _count(self, name: str) -> None:
        self._counters.add(name, self._clock())


class _Answer:
    def __init__(self, send: asgi.Send) -> None:
        self.send = send
        self.began = False

    async def pass_on(self, response: aiohttp.ClientResponse) -> None:
        """Status, media type and body of the gateway's answer."""
        kind = response.headers.get("Content-Type", "")
        headers = [(b"cache-control", b"no-store")]
        if kind in _ANSWERS:
            headers.append((b"content-type", kind.encode()))
        if kind == _CHUNKED_ANSWER:
            headers.append((b"incremental", b"?1"))
            await self._start(response.status, headers)
            await self._stream(response)
            return
        # What is sealed as a whole is of use as a whole: it is taken in first, so that it has a length.
        whole = await _whole(response, _MAX_ANSWER)
        headers.append((b"content-length", str(len(whole)).encode()))
        await self._start(response.status, headers)
        await self.send({"type": "http.response.body", "body": whole})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.began = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _stream(self, response: aiohttp.ClientResponse) -> None:
        total = 0
        async for piece in response.content.iter_any():
            total += len(piece)
            if total > _MAX_STREAM:
                raise LimitError("the gateway's answer is longer than its limit")
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})


async def _whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    whole = b""
    async for piece in response.content.iter_any():
        whole += piece
        if len(whole) > limit:
            raise GatewayUnreachableError("an answer is longer than its limit", party="gateway")
    return whole


async def _in_time(body: RequestBody) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            return await body.whole()
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


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.monotonic) -> asgi.App:
    """The relay as an ASGI application; `clock` gives seconds."""
    return _Relay(config, log, clock)

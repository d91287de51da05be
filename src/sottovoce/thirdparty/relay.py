"""An oblivious relay (RFC 9458 section 6): passes sealed messages on, and nothing that says from whom.

    POST /ohttp                         → the gateway
    GET  /directory/directory.note      ← the relay's own mirror: a device's second way to the directory
    GET  /directory/directory.proof
    GET  /healthz

Only the method, the media type and the body pass; of the answer only status, media type and body. There is no log of requests.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import LimitError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS

__all__ = ["Config", "create_app"]

_PATH: Final = "/ohttp"
_DIRECTORY: Final = "/directory/"
_FILES: Final = ("directory.note", "directory.proof")
_MEDIA: Final = (b"message/ohttp-req", b"message/ohttp-chunked-req")
_ANSWERS: Final = ("message/ohttp-res", "message/ohttp-chunked-res", "application/problem+json")
_MAX_REQUEST: Final = LIMITS.request + 128 * 1024
_SKIP: Final = ("User-Agent", "Accept", "Accept-Encoding")
_OK: Final = 200


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The relay's configuration: one gateway, one mirror."""

    gateway: str
    """URL of the gateway's oblivious resource."""
    mirror: str
    """URL under which the directory's files are."""
    connections: int = 256


@event
class Relayed(Event):
    """Counts since the start; written at the end."""

    relayed: int
    refused: int
    failed: int


class _Relay:
    def __init__(self, config: Config, log: EventLog) -> None:
        self._config = config
        self._log = log
        self._session: aiohttp.ClientSession | None = None
        self._relayed = self._refused = self._failed = 0

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            await self._route(scope, receive, send)
        except asyncio.CancelledError:
            raise
        except UnavailableError as error:
            self._failed += 1
            await asgi.respond_error(send, 502, error)
        except LimitError as error:
            self._refused += 1
            await asgi.respond_error(send, 413, error)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        connector = aiohttp.TCPConnector(limit=self._config.connections, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIP,
            timeout=aiohttp.ClientTimeout(total=LIMITS.session_total, sock_connect=5),
        )
        async with self._session:
            await asgi.lifespan(receive, send, shutdown=self._close)

    def _close(self) -> None:
        self._log.emit(Relayed(relayed=self._relayed, refused=self._refused, failed=self._failed))

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("POST", _PATH):
            await self._relay(scope, receive, send)
        elif method == "GET" and path.removeprefix(_DIRECTORY) in _FILES:
            await self._directory(path.removeprefix(_DIRECTORY), send)
        else:
            await asgi.respond(send, 204 if path == "/healthz" else 404)

    async def _relay(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        media = asgi.header(scope, b"content-type")
        if media not in _MEDIA or self._session is None:
            self._refused += 1
            await asgi.respond(send, 415)
            return
        sent = asyncio.Event()
        # A whole message goes on as one; a streamed one goes on as it comes.
        body: bytes | AsyncIterator[bytes]
        if media == _MEDIA[0]:
            body = await asgi.read_body(receive, _MAX_REQUEST)
            sent.set()
        else:
            body = _stream(receive, sent)
        headers = {"Content-Type": media.decode()}
        if media == _MEDIA[1]:
            headers["Incremental"] = "?1"
        answer = False
        try:
            async with self._session.post(self._config.gateway, data=body, headers=headers) as response:
                answer = True
                await self._answer(response, receive, send, sent)
                self._relayed += 1
        except (aiohttp.ClientError, TimeoutError):
            if answer:
                self._failed += 1
                raise ConnectionAbortedError from None  # the answer has begun: it can only be cut
            raise UnavailableError("the gateway does not answer", party="gateway") from None

    async def _answer(
        self, response: aiohttp.ClientResponse, receive: asgi.Receive, send: asgi.Send, sent: asyncio.Event
    ) -> None:
        kind = response.headers.get("Content-Type", "")
        headers = [(b"cache-control", b"no-store")]
        if kind in _ANSWERS:
            headers.append((b"content-type", kind.encode()))
        if kind == _ANSWERS[0]:
            whole = await response.read()
            headers.append((b"content-length", str(len(whole)).encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": whole})
            return
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        gone = asyncio.ensure_future(_until_gone(receive, sent))
        try:
            while piece := await _next(response, gone):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _directory(self, name: str, send: asgi.Send) -> None:
        if self._session is None:
            raise UnavailableError("the relay is starting", party="relay")
        try:
            async with self._session.get(f"{self._config.mirror}/{name}") as response:
                body = await response.content.read(LIMITS.directory + 1)
                while len(body) <= LIMITS.directory and (piece := await response.content.read(65536)):
                    body += piece
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError("the mirror does not answer", party="directory") from None
        if status != _OK or len(body) > LIMITS.directory:
            raise UnavailableError("the mirror does not have the directory", party="directory")
        await asgi.respond(send, 200, body, kind=b"application/octet-stream")


async def _stream(receive: asgi.Receive, sent: asyncio.Event) -> AsyncIterator[bytes]:
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        piece: bytes = message.get("body", b"")
        total += len(piece)
        if total > _MAX_REQUEST:
            raise ConnectionAbortedError
        if piece:
            yield piece
        if not message.get("more_body", False):
            sent.set()
            return


async def _until_gone(receive: asgi.Receive, sent: asyncio.Event) -> None:
    # Until the request is complete, its own reader would see the client go.
    await sent.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(response: aiohttp.ClientResponse, gone: "asyncio.Future[None]") -> bytes:
    """The next piece of the answer; nothing at its end, and nothing once the client is gone."""
    piece = asyncio.ensure_future(response.content.readany())
    await asyncio.wait((piece, gone), return_when=asyncio.FIRST_COMPLETED)
    if not piece.done():
        piece.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await piece
        raise ConnectionAbortedError
    return piece.result()


def create_app(config: Config, *, log: EventLog) -> asgi.App:
    """The relay as an ASGI application."""
    return _Relay(config, log)

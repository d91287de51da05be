"""A local base URL for programs that speak OpenAI's interface: each request becomes an attested session of its own.

    any client ─▶ http://127.0.0.1:PORT/v1 ─▶ Client.complete: token, relay, every check, then the request

Bound to loopback. Other programs of this machine need the key; a web page cannot use it even with one: a request with an `Origin`, or for another
host than this one, is refused, so that neither a page nor a name that points here can ask in the user's name. Fields that tell who asks stay here.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.device.client import RawEvent
from sottovoce.device.completions import EVENTS, Completes, error_document, request_body, told
from sottovoce.device.files import private_directory, write_private
from sottovoce.device.http import Body, Head, Over

__all__ = ["KEY_FILE", "create_app", "proxy_key", "serving"]

KEY_FILE: Final = "proxy.key"
_PREFIX: Final = "sottovoce-"
_CLOSE: Final = 10.0
"""Seconds for the padding of answers that are whole, when the proxy is stopped."""


def proxy_key(home: Path) -> str:
    """The key that programs of this machine show to the proxy; made at its first use.

    Raises:
        ConfigError: the file holds none.
        DiskError: it cannot be written.
    """
    private_directory(home)
    path = home / KEY_FILE
    if not path.exists():
        write_private(path, f"{_PREFIX}{secrets.token_hex(24)}\n".encode())
    key = path.read_text("ascii", errors="replace").strip()
    if not key.startswith(_PREFIX) or not key.isascii():
        raise ConfigError("the proxy's key is damaged", hint=f"delete {path}; another is made")
    return key


def create_app(
    client: Completes, *, key: str, tell: Callable[[RawEvent | SottovoceError], None] = lambda _: None
) -> web.Application:
    """The application. `tell` hears of each step of each request, and of its failure."""
    proxy = _Proxy(client, key, tell)
    app = web.Application(client_max_size=LIMITS.request, middlewares=[proxy.guard])
    app.on_shutdown.append(proxy.close)
    app.router.add_get("/v1/models", proxy.models)
    app.router.add_post("/v1/chat/completions", proxy.completions)
    return app


@asynccontextmanager
async def serving(app: web.Application, port: int) -> AsyncGenerator[int, None]:
    """Serve `app` on loopback; gives the port, which 0 leaves to the system.

    Raises:
        UsageError: the port is taken.
    """
    # A client that leaves ends its session at once.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError:
            raise UsageError("the port cannot be used", hint="--port takes another") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _Proxy:
    def __init__(
        self, client: Completes, key: str, tell: Callable[[RawEvent | SottovoceError], None]
    ) -> None:
        self._client = client
        self._key = key.encode()
        self._tell = tell
        self._sessions: set[asyncio.Future[None]] = set()

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Who may ask at all."""
        if request.host.rpartition(":")[0] not in {"127.0.0.1", "localhost"} or "Origin" in request.headers:
            return _error(403, "forbidden", "this address is for programs of this machine, not for web pages")
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(shown, self._key):
            return _error(401, "invalid_api_key", "the key is not the proxy's; `sottovoce proxy` prints it")
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "request_too_large", "the request is longer than the limits allow")
        except web.HTTPException as error:
            return _error(error.status, "not_found", "the proxy has /v1/models and /v1/chat/completions")
        return response

    async def models(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/models`."""
        return await self._pass_on(request, "/v1/models", b"", method="GET")

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/chat/completions`."""
        try:
            body = request_body(await request.read())
        except UsageError as error:
            return _error(400, "invalid_json", str(error))
        return await self._pass_on(request, "/v1/chat/completions", body, method="POST")

    async def _pass_on(
        self, request: web.Request, target: str, body: bytes, *, method: str
    ) -> web.StreamResponse:
        events: asyncio.Queue[RawEvent | SottovoceError] = asyncio.Queue()
        session = asyncio.ensure_future(self._session(events, target, body, method))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        answer = _Passing(request)
        try:
            while (response := await answer.take(await events.get())) is None:
                pass
        except BaseException:
            # The program has left, or cannot be written to: nobody waits for the rest.
            session.cancel()
            raise
        # The program has all of it; its padding goes on, so that the end does not show when the answer was whole.
        return response

    async def _session(
        self, events: asyncio.Queue[RawEvent | SottovoceError], target: str, body: bytes, method: str
    ) -> None:
        try:
            async with aclosing(self._client.complete(target, body, method=method)) as found:
                async for event in found:
                    self._tell(event)
                    events.put_nowait(event)
        except SottovoceError as error:
            self._tell(error)
            events.put_nowait(error)

    async def close(self, _: web.Application) -> None:
        """Let the sessions of answers that are whole end."""
        if self._sessions:
            late = (await asyncio.wait(self._sessions, timeout=_CLOSE))[1]
            for session in late:
                session.cancel()
            if late:
                await asyncio.wait(late)


class _Passing:
    """The answer to the program, as the service's comes."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._status = 200
        self._body = bytearray()

    async def take(self, event: RawEvent | SottovoceError) -> web.StreamResponse | None:
        """Pass on a part of the service's answer, if it is one; the response once it is whole or has failed."""
        match event:
            case Head():
                self._status = event.status
                if event.media == EVENTS:
                    headers = {"Content-Type": EVENTS, "Cache-Control": "no-store"}
                    self._response = web.StreamResponse(status=self._status, headers=headers)
                    await self._response.prepare(self._request)
            case Body() if self._response is not None:
                await self._response.write(event.data)
            case Body():
                self._body += event.data
            case Over():
                return await self._end()
            case SottovoceError():
                return await self._fail(event)
        return None

    async def _fail(self, error: SottovoceError) -> web.StreamResponse:
        status, document = told(error)
        if self._response is None:
            return web.Response(status=status, body=document, content_type="application/json")
        await self._response.write(b"data: " + document + b"\n\n")
        return await self._end()

    async def _end(self) -> web.StreamResponse:
        if self._response is None:
            return web.Response(status=self._status, body=bytes(self._body), content_type="application/json")
        await self._response.write_eof()
        return self._response


def _error(status: int, code: str, message: str) -> web.Response:
    return web.Response(status=status, body=error_document(code, message), content_type="application/json")


async def run(app: web.Application, port: int, started: Callable[[int], None]) -> None:
    """Serve until cancelled; `started` hears of the port."""
    async with serving(app, port) as found:
        started(found)
        await asyncio.Event().wait()

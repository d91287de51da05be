"""A transport for httpx2, so that a program's own HTTP client asks through attested sessions, without a proxy in between.

    async with Client(home) as client:
        openai.AsyncOpenAI(
            base_url="https://sottovoce/v1", api_key="none", max_retries=0,
            http_client=httpx2.AsyncClient(transport=AttestedTransport(client)),
        )

Host, headers and key of the request stay here: what is sent is its path and its body, as `sottovoce proxy` sends them. Each request is a session of its own and takes one
anonymous token, so a client that tries again by itself spends one each time.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import httpx2

from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.device.client import RawEvent
from sottovoce.device.completions import EVENTS, RESOURCES, Completes, error_document, request_body, told
from sottovoce.device.http import Body, Head, Over

__all__ = ["AttestedTransport"]

_JSON: Final = "application/json"
_CLOSE: Final = 10.0
"""Seconds for the padding of answers that are whole, when the transport is closed."""


class AttestedTransport(httpx2.AsyncBaseTransport):
    """Sends `POST /v1/chat/completions` and `GET /v1/models` through `client`, which has been entered and outlives it."""

    def __init__(self, client: Completes) -> None:
        self._client = client
        self._ending: set[asyncio.Future[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request; what refuses it, here or there, is an answer with a status, as the interface has it.

        Raises:
            httpx2.ReadError: the answer ended in the middle.
        """
        method, path = request.method, request.url.path
        if (method, path) not in RESOURCES:
            return _refused(404, error_document("not_found", "there are /v1/models and /v1/chat/completions"))
        try:
            body = request_body(await request.aread()) if method == "POST" else b""
        except UsageError as error:
            return _refused(400, error_document("invalid_json", str(error)))
        events = self._client.complete(path, body, method=method)
        try:
            async for event in events:
                if isinstance(event, Head):
                    return httpx2.Response(
                        event.status,
                        headers={"content-type": event.media or _JSON},
                        stream=_Answer(events, request, in_events=event.media == EVENTS, ending=self._ending),
                    )
        except SottovoceError as error:
            return _refused(*told(error))
        except BaseException:
            await events.aclose()
            raise
        raise httpx2.ReadError("the session ended without an answer", request=request)

    async def aclose(self) -> None:
        """Let the sessions of answers that are whole end; those that take too long are over, too, when this returns."""
        ending = set(self._ending)
        if not ending:
            return
        try:
            await asyncio.wait(ending, timeout=_CLOSE)
        finally:
            for late in ending:
                late.cancel()
            # A cancelled session still ends its request and keeps its report: the client may be closed next.
            await asyncio.wait(ending)


class _Answer(httpx2.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, events: AsyncGenerator[RawEvent, None], request: httpx2.Request, *, in_events: bool, ending: set[asyncio.Future[None]]) -> None:  # fmt: skip
        self._events = events
        self._request = request
        self._in_events = in_events
        self._ending = ending
        self._whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for event in self._events:
                if isinstance(event, Body):
                    yield event.data
                if isinstance(event, Over):
                    self._whole = True
                    rest = asyncio.ensure_future(_finish(self._events))
                    self._ending.add(rest)
                    rest.add_done_callback(self._ending.discard)
                    return
        except SottovoceError as error:
            if not self._in_events:
                raise httpx2.ReadError(str(error), request=self._request) from None
            yield b"data: " + told(error)[1] + b"\n\n"

    async def aclose(self) -> None:
        """The program has left: the session ends, unless the program has all of it."""
        if not self._whole:
            await self._events.aclose()


async def _finish(events: AsyncGenerator[RawEvent, None]) -> None:
    """The padding behind an answer, and its report: when an answer was whole must not show by when its session ends."""
    with contextlib.suppress(SottovoceError):
        async for _ in events:
            pass


def _refused(status: int, document: bytes) -> httpx2.Response:
    return httpx2.Response(
        status, headers={"content-type": _JSON, "x-should-retry": "false"}, content=document
    )

"""A request's body as it comes, and the news that the client has left. Whoever serves one request uses one `RequestBody`."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

from sottovoce.core import asgi
from sottovoce.core.errors import LimitError, ProtocolError, SottovoceError, UnavailableError

__all__ = ["READ_TIMEOUT", "ClientGoneError", "RequestBody", "TooSlowError", "in_time", "run_beside"]

READ_TIMEOUT: Final = 30.0
"""Seconds for what a client is to send before anything is done for it."""

_T = TypeVar("_T")


class ClientGoneError(UnavailableError):
    """The client closed the connection: there is nobody to answer."""

    code = "unavailable.client"


class TooSlowError(ProtocolError):
    """The request did not come in time."""

    code = "peer.timeout"


async def in_time(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of reading something that is short.

    Raises:
        TooSlowError: it did not come within `READ_TIMEOUT`.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            return await work
    except TimeoutError:
        raise TooSlowError("the request did not come in time") from None


class RequestBody:
    """The body of one request, at most `limit` bytes."""

    def __init__(self, receive: asgi.Receive, limit: int) -> None:
        self._receive = receive
        self._allowed = limit
        self._read = asyncio.Event()
        self._error: SottovoceError | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body's pieces, none of them empty.

        Raises:
            ClientGoneError: the client left before the end.
            LimitError: longer than the limit.
        """
        while not self._read.is_set():
            if piece := await self._next():
                yield piece

    async def whole(self) -> bytes:
        """The whole body; raises as `pieces`."""
        first = await self._next()
        if self._read.is_set():
            return first
        body = bytearray(first)
        while not self._read.is_set():
            body += await self._next()
        return bytes(body)

    def fail(self, error: SottovoceError) -> SottovoceError:
        """Say why the body cannot be used, for `watch`; returns `error`."""
        self._error = error
        self._read.set()
        return error

    async def watch(self) -> None:
        """Wait until the body has failed or, once it is read, until the client has left.

        Raises:
            SottovoceError: what `fail` was told; ClientGoneError where the client left.
        """
        await self._read.wait()
        if self._error is None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._error = ClientGoneError("the client went away", party="client")
        raise self._error

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise self.fail(ClientGoneError("the client went away", party="client"))
        piece: bytes = message.get("body", b"")
        self._allowed -= len(piece)
        if self._allowed < 0:
            raise self.fail(LimitError("request longer than its limit"))
        if not message.get("more_body", False):
            self._read.set()
        return piece


async def run_beside(work: Coroutine[Any, Any, _T], watch: Coroutine[Any, Any, None]) -> _T:
    """The result of `work`. An error of `watch`, which runs meanwhile, cancels it and is raised instead."""
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch)
            result = await work
            watching.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return result

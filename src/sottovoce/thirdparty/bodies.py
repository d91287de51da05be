"""A request's body as it comes, and the news that the client has left.

The edge has its own: no zone imports another, so that who runs a relay reads the relay's code and the core's, and no more.
"""

import asyncio
from collections.abc import AsyncIterator

from sottovoce.core import asgi
from sottovoce.core.errors import LimitError, SottovoceError, UnavailableError

__all__ = ["ClientGoneError", "RequestBody"]


class ClientGoneError(UnavailableError):
    """The client closed the connection: there is nobody to answer."""

    code = "unavailable.client"


class RequestBody:
    """The body of one request, at most `limit` bytes."""

    def __init__(self, receive: asgi.Receive, limit: int) -> None:
        self._receive = receive
        self._allowed = limit
        self._over = asyncio.Event()
        self._error: SottovoceError | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body's pieces as they come, none of them empty.

        Raises:
            ClientGoneError: the client left before the end.
            LimitError: longer than the limit.
        """
        while not self._over.is_set():
            if piece := await self._next():
                yield piece

    async def whole(self) -> bytes:
        """The whole body; raises as `pieces`."""
        first = await self._next()
        if self._over.is_set():
            return first
        body = bytearray(first)
        while not self._over.is_set():
            body += await self._next()
        return bytes(body)

    async def watch(self) -> None:
        """Wait until the body has failed or, once it is read, until the client has left; then raise as `pieces`."""
        await self._over.wait()
        if self._error is None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._error = ClientGoneError("the client went away", party="client")
        raise self._error

    async def _next(self) -> bytes:
        message = await self._receive()
        piece: bytes = message.get("body", b"")
        self._allowed -= len(piece)
        if message["type"] == "http.disconnect":
            self._error = ClientGoneError("the client went away", party="client")
        elif self._allowed < 0:
            self._error = LimitError("request longer than its limit")
        if self._error or not message.get("more_body", False):
            self._over.set()
        if self._error:
            raise self._error
        return piece

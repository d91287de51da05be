"""The router's connection to a CVM: one TCP connection a session, link messages both ways (`core.link`)."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from sottovoce.core.errors import PeerError, UnavailableError
from sottovoce.core.link import END_OF_TURN, LinkReader, link_messages

__all__ = ["CvmConnection", "CvmGoneError", "connect"]

_HIGH: Final = 256 * 1024
"""Bytes that wait for a slow client before the CVM is made to wait."""


class CvmGoneError(UnavailableError):
    """The CVM does not answer, or closed the session."""

    code = "unavailable.cvm"


class CvmConnection(asyncio.Protocol):
    """Messages in and out; `lost` is called once, when the connection is over."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._link = LinkReader()
        self._inbox: deque[bytes] = deque()
        self._waiting = 0
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False
        self.is_cut = False
        """Whether the CVM's stream ended within a message."""

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended; what came before may still be received."""
        return self._ended

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take in what is complete."""
        try:
            self._inbox.extend(self._link.feed(data))
        except PeerError:
            self.abort()
            return
        self._waiting += len(data)
        if self._waiting > _HIGH and self._transport is not None:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """The CVM has closed: so does this side."""

    def connection_lost(self, _: Exception | None) -> None:
        """Wake who waits."""
        self._ended = True
        self.is_cut = self.is_cut or not self._link.is_between_messages
        self._news.set()
        self._writable.set()
        self._lost()

    def pause_writing(self) -> None:
        """Make senders wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._writable.set()

    # What a session calls.

    async def send(self, data: bytes) -> None:
        """Send a piece of a turn.

        Raises:
            CvmGoneError: the connection is over.
        """
        await self._write(link_messages(data))

    async def end_turn(self) -> None:
        """Say that the turn is complete; raises as `send`."""
        await self._write(END_OF_TURN)

    async def receive(self, enough: int = 1 << 62) -> bytes:
        """What the CVM has sent so far, at most one message more than `enough` bytes; nothing at the end of its turn.

        Raises:
            CvmGoneError: the connection is over.
        """
        while not self._inbox:
            if self._ended:
                raise CvmGoneError("the CVM closed the session", party="orchestrator")
            self._news.clear()
            await self._news.wait()
        pieces = []
        while self._inbox and self._inbox[0] and enough > 0:
            pieces.append(self._inbox.popleft())
            enough -= len(pieces[-1])
        if not pieces:
            self._inbox.popleft()
        elif self._inbox and self._inbox[0]:
            return b"".join(pieces)
        self._waiting = 0
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()
        return b"".join(pieces)

    def abort(self) -> None:
        """End the session at the CVM, at once; whatever was on its way is lost."""
        if not self._ended and self._transport is not None:
            self.is_cut = True
            self._transport.abort()

    async def _write(self, data: bytes) -> None:
        if self._ended or self._transport is None:
            raise CvmGoneError("the CVM closed the session", party="orchestrator")
        self._transport.write(data)
        await self._writable.wait()


async def connect(address: tuple[str, int], *, timeout: float, lost: Callable[[], None]) -> CvmConnection:  # noqa: ASYNC109 - callers want the typed error
    """A new connection.

    Raises:
        CvmGoneError: nobody answers within `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(lambda: CvmConnection(lost), *address)
    except (OSError, TimeoutError):
        raise CvmGoneError("the CVM does not answer", party="orchestrator") from None
    return connection

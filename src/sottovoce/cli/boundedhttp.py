"""The server's reading of HTTP/1.1 with bounds: uvicorn with httptools has none for what is not a body.

Anybody who can connect could else fill a service's memory with one header without end, with a great number of them, or with trailers, and hold
connections open without saying anything, or without reading what it has asked for.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_SECONDS", "MAX_HEAD", "READ_SECONDS", "BoundedProtocol"]

MAX_HEAD: Final = 32 * 1024
"""Bytes of a head, of trailers, or between two pieces of a body; more than any of ours has, with an ID token of 8 KiB in it."""
HEAD_SECONDS: Final = 30.0
"""For a head to be whole, from the connection's beginning or its first byte."""
READ_SECONDS: Final = 60.0
"""For a client to read `_PROGRESS` of what waits for it, where an answer waits for that, or the connection is about to be closed."""
_PROGRESS: Final = 16 * 1024
"""Bytes. It is 2 kbit/s: a longest answer then takes an hour, and one that is not read a minute or two."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What is beyond the bounds ends it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn does, and wait for a head no longer than `HEAD_SECONDS`."""
        super().connection_made(transport)
        self._loose = 0
        self._headed = False
        self._timer: asyncio.TimerHandle | None = None
        self._expect_head()
        self._unread = 0
        self._look = self.loop.call_later(READ_SECONDS, self._look_at_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does."""
        self._expect_nothing()
        self._look.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """As uvicorn does: the client has read."""
        self._unread = 0
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, and count what is no body."""
        self._loose += len(data)
        super().data_received(data)
        if self._loose > MAX_HEAD and not self.transport.is_closing():
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._loose, self._headed = 0, False
        if self._timer is None:
            self._expect_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are nothing to anybody here."""
        if not self._headed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole. One that asks for another protocol is refused, as its body would be taken for the next request.

        Raises:
            ValueError: it does; the parser has it answered with 400.
        """
        self._loose, self._headed = 0, True
        self._expect_nothing()
        if self.parser.should_upgrade():
            raise ValueError("no other protocol is spoken here")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body, which its reader counts."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._loose = 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_reading(self) -> None:
        waiting = self.flow.write_paused or self.transport.is_closing()
        size = self.transport.get_write_buffer_size() if waiting else 0
        if self._unread and size > self._unread - _PROGRESS:
            self.transport.abort()
            return
        self._unread = size
        self._look = self.loop.call_later(READ_SECONDS, self._look_at_reading)

    def _too_late(self) -> None:
        self._timer = None
        self.transport.abort()

"""The relay's own HTTP/1.1 client: writes exactly the bytes that it is given, reads status, media type and body, and nothing else.

It has no headers of its own, no cookies, no redirects, no decoding. A general client costs the relay twice the time that the rest of its
work takes (docs/adr/0010).
"""

import asyncio
import select
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.core.limits import LIMITS

__all__ = ["Connection", "Upstream", "UpstreamError"]

_CONNECT_TIMEOUT: Final = 5.0
_READ_TIMEOUT: Final = 90.0
"""Longer than a session's idle time, as a CVM may think for that long."""
_TOTAL_TIMEOUT: Final = LIMITS.session_total + 60
_IDLE: Final = 50.0
"""Shorter than the time after which our servers close an idle connection, 75 s."""
_HIGH: Final = 256 * 1024
_MAX_LOOSE: Final = 64 * 1024
"""Bytes of heads, of trailers, or between two pieces of a body."""
_FINAL: Final = 200
_BEYOND: Final = 600
"""A status is below it (RFC 9110 section 15); a server has no line for any other."""


class UpstreamError(UnavailableError):
    """The server cannot be reached, does not answer in time, or broke its answer off."""

    code = "unavailable.upstream"


def _error(text: str) -> UpstreamError:
    return UpstreamError(text, party="gateway")


class Connection(asyncio.Protocol):
    """One connection: requests and answers, one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._end = 0.0
        self._buffered = 0
        self._loose = 0
        self._has_head = self._sent = self._keep = self._paused = False
        self._complete = True
        """Whether no answer is due: before a request, and after its answer."""
        self.closed = False
        self.idle_since = 0.0
        self.status = 0
        self.media = b""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse. What comes when no answer is due is the beginning of no later one."""
        if self._complete:
            self.abort()
            return
        self._deadline = self._loop.time() + _READ_TIMEOUT
        self._loose += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
            return
        if self._loose > _MAX_LOOSE and not self._complete:
            self.abort()
            return
        if self._has_head:
            self._wake()
        if self._buffered > _HIGH and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """An answer without its end is broken off; a connection without a request is over."""

    def connection_lost(self, _: Exception | None) -> None:
        """Wake who waits."""
        self.closed = True
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """Make the writer wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._writable.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A new head.

        Raises:
            ValueError: behind an answer that is whole; the parser makes it an error of its own.
        """
        if self._complete:
            raise ValueError("a second answer to one request")
        self.media = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the media type counts, and no trailer."""
        if name.lower() == b"content-type" and not self._has_head:
            self.media = value

    def on_headers_complete(self) -> None:
        """The head is here; informational ones are not passed on (RFC 9458 section 5.1).

        Raises:
            ValueError: not a status of HTTP.
        """
        self.status = self._parser.get_status_code()
        if self.status >= _BEYOND:
            raise ValueError("not a status of HTTP")
        if self.status >= _FINAL:
            self._has_head = True
            self._loose = 0

    def on_body(self, data: bytes) -> None:
        """A piece."""
        self._loose = 0
        self._pieces.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """The end, if it was not an informational answer."""
        self._complete = self._has_head
        self._keep = self._parser.should_keep_alive()

    # What an exchange calls.

    def start(self, request: bytes, *, complete: bool) -> None:
        """Begin a request; `complete` when `request` is the whole of it."""
        self._has_head = self._complete = False
        self._loose = self._buffered = 0
        self._sent = complete
        self._deadline = self._loop.time() + _READ_TIMEOUT
        self._end = self._loop.time() + _TOTAL_TIMEOUT
        self._timer = self._loop.call_later(_READ_TIMEOUT, self._tick)
        self._write(request)

    async def write(self, data: bytes, *, complete: bool = False) -> None:
        """Go on with the request.

        Raises:
            UpstreamError: the connection is over.
        """
        if self.closed:
            raise _error("the server closed the connection")
        self._sent = complete
        self._deadline = self._loop.time() + _READ_TIMEOUT
        self._write(data)
        await self._writable.wait()

    async def head(self) -> None:
        """Wait for `status` and `media`; raises as `read`."""
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body; nothing at its end.

        Raises:
            UpstreamError: the server broke its answer off, or does not go on with it.
        """
        while not self._pieces:
            if self._complete:
                return b""
            await self._wait()
        data = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        self._pieces.clear()
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._deadline = self._loop.time() + _READ_TIMEOUT
            self._transport.resume_reading()
        self._buffered = 0
        return data

    async def whole(self, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            UpstreamError: as `read`, or it is longer than `limit` bytes.
        """
        found = bytearray()
        while piece := await self.read():
            found += piece
            if len(found) > limit:
                raise _error("an answer is longer than its limit")
        return bytes(found)

    def finish(self) -> bool:
        """End the exchange: whether another may follow on this connection. If not, it is closed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._complete and self._keep and self._sent and not self._pieces and not self.closed:
            return True
        self.abort()
        return False

    def usable(self, since: float) -> bool:
        """Whether a request may follow: idle since `since` at the earliest, open, and nothing has come, read by the event loop or not."""
        if self.closed or self._transport is None or self._transport.is_closing() or self.idle_since < since:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def abort(self) -> None:
        """Close, at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    async def _wait(self) -> None:
        if self.closed:
            raise _error("the server broke its answer off")
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._paused:
            # It is not the server that keeps us waiting.
            self._deadline = now + _READ_TIMEOUT
        left = min(self._deadline, self._end) - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._tick)
        else:
            self.abort()


class Upstream:
    """One resource of one server, and a pool of at most `limit` connections to it."""

    def __init__(self, url: str, *, limit: int) -> None:
        """Parse `url`.

        Raises:
            ConfigError: not an absolute http or https URL, or one with a query, fragment or password.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or url != parts._replace(query="", fragment="").geturl() or "@" in parts.netloc:  # fmt: skip
            raise ConfigError("not an http or https URL of a resource")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ConfigError("not a port") from None
        self.path = parts.path.encode() or b"/"
        self.authority = parts.netloc.encode()
        self._address = (parts.hostname, port)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._limit = limit
        self._used = 0
        self._idle: deque[Connection] = deque()

    async def acquire(self) -> Connection:
        """A connection for one exchange; give it back with `release`.

        Raises:
            UpstreamError: the server cannot be reached, or all connections are in use.
        """
        since = asyncio.get_running_loop().time() - _IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(since):
                self._used += 1
                return connection
            connection.abort()
        if self._used >= self._limit:
            raise _error("all connections to the server are in use")
        self._used += 1
        try:
            return await self._connect()
        except BaseException:
            self._used -= 1
            raise

    def release(self, connection: Connection) -> None:
        """Take a connection back, whatever has become of it."""
        self._used -= 1
        if connection.finish():
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
            self._prune(connection.idle_since - _IDLE)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                _, connection = await loop.create_connection(Connection, *self._address, ssl=self._tls)
        except (OSError, TimeoutError):
            raise _error("the server cannot be reached") from None
        return connection

    def _prune(self, before: float) -> None:
        while self._idle and (self._idle[0].closed or self._idle[0].idle_since < before):
            self._idle.popleft().abort()

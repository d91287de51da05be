"""The channel between a CVM's parent and a session's process: packets on a socket pair, one kind byte and a value.

    to the parent                              to the process
    R complete (0 or 1)   ready for a session  C + descriptor   here is your connection
    T                     it is taken
    Q leaf (32 bytes)     a quote, please      q quote          empty: there is none
    S                     a turn to compute    w place (u16)    you wait, at this place
                                               s                it is yours
    F                     the turn is over
    E event               for the log

Nothing of a session's content ever passes here. Either side closing it ends the process.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.core.events import Event, encode_event
from sottovoce.tee.attestation import Quote

__all__ = [
    "CONNECTION",
    "EVENT",
    "FREE",
    "LEAF",
    "PACKET",
    "QUOTE",
    "READY",
    "SLOT",
    "TAKEN",
    "ProcessChannel",
    "granted",
    "waits",
]

READY, TAKEN, QUOTE, SLOT, FREE, EVENT, CONNECTION = b"R", b"T", b"Q", b"S", b"F", b"E", b"C"
_QUOTED, _GRANTED, _WAITS = b"q", b"s", b"w"
_TURN: Final = 0
"""The place of whose turn it is."""
PACKET: Final = 16 * 1024
LEAF: Final = 32


def granted() -> bytes:
    """The packet for a process whose turn it is."""
    return _GRANTED


def waits(place: int) -> bytes:
    """The packet for a process that waits at `place`, from 1."""
    return _WAITS + min(place, 0xFFFF).to_bytes(2, "big")


class ProcessChannel:
    """The process's end: blocking until `attach`, then on the event loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._quote: asyncio.Future[bytes] | None = None
        self._places: asyncio.Queue[int] = asyncio.Queue()

    def ready(self, *, complete: bool) -> None:
        """Say that this process can take a session; `complete` when it has all its back ends."""
        self._send(READY + bytes([complete]))

    def log(self, entry: Event) -> None:
        """Hand an event to the log."""
        self._send(EVENT + encode_event(entry))

    def quote(self, leaf: bytes) -> Quote:
        """A quote for `leaf`, blocking.

        Raises:
            UnavailableError: there is none.
        """
        self._send(QUOTE + leaf)
        return _quote(self._take(self._sock.recv(PACKET)))

    def connection(self, watched: Iterable[int]) -> socket.socket | None:
        """The session's connection, blocking; None when one of `watched` ends or the parent wants no more."""
        poll = select.poll()
        for fd in (self._sock.fileno(), *watched):
            poll.register(fd, select.POLLIN)
        if any(fd != self._sock.fileno() for fd, _ in poll.poll()):
            return None
        kind, fds, _, _ = socket.recv_fds(self._sock, PACKET, 1)
        if kind != CONNECTION or not fds:
            return None
        self._send(TAKEN)
        return socket.socket(fileno=fds[0])

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with `loop`."""
        self._sock.settimeout(0)
        loop.add_reader(self._sock, self._readable)

    async def quote_soon(self, leaf: bytes) -> Quote:
        """A quote for `leaf`.

        Raises:
            UnavailableError: there is none.
        """
        self._quote = asyncio.get_running_loop().create_future()
        self._send(QUOTE + leaf)
        return _quote(await self._quote)

    @contextlib.asynccontextmanager
    async def slot(self, told: Callable[[int], Awaitable[None]]) -> AsyncIterator[None]:
        """One of the CVM's turns to compute; `told` hears the place in the queue, whenever it is another one."""
        self._places = asyncio.Queue()
        self._send(SLOT)
        try:
            while (place := await self._places.get()) != _TURN:
                await told(place)
            yield
        finally:
            self._send(FREE)

    def _readable(self) -> None:
        packet = self._take(self._sock.recv(PACKET))
        if packet[:1] == _QUOTED and self._quote is not None and not self._quote.done():
            self._quote.set_result(packet)
        elif packet == _GRANTED:
            self._places.put_nowait(_TURN)
        elif packet[:1] == _WAITS:
            self._places.put_nowait(int.from_bytes(packet[1:], "big"))

    def _send(self, packet: bytes) -> None:
        try:
            self._sock.send(packet)
        except OSError:
            os._exit(0)  # the parent is gone, and this process with it

    def _take(self, packet: bytes) -> bytes:
        if not packet:
            os._exit(0)
        return packet


def _quote(packet: bytes) -> Quote:
    if packet[:1] != _QUOTED or packet == _QUOTED:
        raise UnavailableError("there is no quote", party="processor")
    try:
        return Quote.decode(packet[1:])
    except DecodeError:
        raise UnavailableError("there is no quote", party="processor") from None

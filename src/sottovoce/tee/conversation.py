"""One session over one connection: handshake with evidence, then requests and answers, turn by turn.

The peer's bytes are read all the time, so that its leaving ends the work for it at once.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sottovoce.core.errors import ProtocolError, SottovoceError
from sottovoce.core.frames import Pacer, encode_message, stream_class
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import END_OF_TURN, LinkReader, link_messages
from sottovoce.core.tls import AttestationWanted, Closed, Data, PeerEvidence, ServerConnection
from sottovoce.tee.http import Answer, ASGIApp, HttpServer, run_app
from sottovoce.tee.logfilter import Code, code_of

__all__ = ["Conversation"]

_READ: Final = 64 * 1024
_HANDSHAKE: Final = 10.0
"""Seconds for the peer's first flight, once it is connected."""


class _Left(Exception):  # noqa: N818 - not an error: the peer may leave
    def __init__(self, code: Code) -> None:
        super().__init__()
        self.code: Final = code


class Conversation:
    """The server's side of one session.

    `evidence` makes this CVM's evidence; `admit` decides about the peer's, or raises. `idle` is in seconds, `cadence` too.

    With `steady`, frames leave at the cadence from the arrival of a request on, whatever the application does meanwhile, so that nothing shows when it had
    something to say. Otherwise from its first data on, and an answer that is complete at once leaves at once.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        tls: ServerConnection,
        app: ASGIApp,
        evidence: Callable[[AttestationWanted], Awaitable[bytes]],
        admit: Callable[[AttestationWanted, bytes], None],
        cadence: float,
        steady: bool = False,
        idle: float = LIMITS.session_idle,
        total: float = LIMITS.session_total,
    ) -> None:
        self._sock = sock
        self._tls = tls
        self._app = app
        self._evidence = evidence
        self._admit = admit
        self._cadence = cadence
        self._steady = steady
        self._idle = idle
        self._total = total
        self._link = LinkReader()
        self._http = HttpServer()
        self._wanted: AttestationWanted | None = None
        self._turns = 0  # turns that the peer has ended and we have not
        self._busy = False
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._pacer: Pacer | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.open = asyncio.Event()
        self.requests = 0
        self.received = 0
        self.sent = 0

    async def run(self) -> Code:
        """Serve the session to its end; how it ended."""
        self._loop = asyncio.get_running_loop()
        self._sock.settimeout(0)
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = await self._until_end()
        with contextlib.suppress(OSError):
            # A last word if it fits into the buffer; nobody is waited for.
            self._tls.close()
            self._sock.send(link_messages(self._tls.outgoing()))
        return code

    async def _until_end(self) -> Code:
        try:
            async with asyncio.timeout(self._total):
                return await self._first(self._reading(), self._serving())
        except TimeoutError:
            return Code.TOO_LONG
        except _Left as left:
            return left.code
        except SottovoceError as error:
            return code_of(error)
        except OSError:
            return Code.CUT

    async def _first(self, *coroutines: Awaitable[Code]) -> Code:
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Where both ended, the reader says why.
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()

    # What comes in.

    async def _reading(self) -> Code:
        while data := await self._loop.sock_recv(self._sock, _READ):
            self.received += len(data)
            for message in self._link.feed(data):
                if message:
                    await self._take(message)
                else:
                    self._turns += 1
            self._news.set()
        self._left.set()
        return Code.CUT if self._busy or not self.open.is_set() else Code.CLOSED

    async def _take(self, message: bytes) -> None:
        for event in self._tls.receive(message):
            if isinstance(event, AttestationWanted):
                self._wanted = event
                self._tls.attest(await self._evidence(event))
                await self._transmit()
            elif isinstance(event, PeerEvidence):
                if self._wanted is None:
                    raise ProtocolError("evidence at the wrong time")
                self._admit(self._wanted, event.evidence)
                await self._transmit()  # the library's tickets, so that no frame comes with them
                self.open.set()
            elif isinstance(event, Data):
                self._http.feed(event.data)
            elif isinstance(event, Closed):
                self._left.set()
                raise _Left(Code.CLOSED)

    # What goes out.

    async def _serving(self) -> Code:
        try:
            await asyncio.wait_for(self._first_flight(), _HANDSHAKE)
            while True:
                self._news.clear()
                request = self._http.next_request() if self.open.is_set() else None
                if request is None:
                    await self._end_turn()
                    await self._more()
                    continue
                self.requests += 1
                self._busy = True
                if self._steady:
                    # An answer that takes no longer than this is one burst: a status, a refusal.
                    self._pace(Pacer(stream_class), after=self._cadence)
                await run_app(self._app, request, Answer(self._http, self), self._left.wait)
                if self._ticking is not None:
                    await self._ticking
                    self._ticking = None
                self._busy = False
                if not self._http.next_cycle():
                    return Code.CLOSED
        except TimeoutError:
            return Code.IDLE

    async def _first_flight(self) -> None:
        while self._wanted is None or not self._turns:
            self._news.clear()
            await self._more()

    async def _more(self) -> None:
        # Who has not proved yet who it is may not be idle for long.
        idle = self._idle if self.open.is_set() else min(self._idle, LIMITS.session_idle)
        async with asyncio.timeout(idle):
            await self._news.wait()

    async def _end_turn(self) -> None:
        # One for each of the peer's: the router waits for exactly that before it ends the gateway's answer.
        while self._turns:
            self._turns -= 1
            await self._loop.sock_sendall(self._sock, END_OF_TURN)

    async def _transmit(self) -> None:
        data = link_messages(self._tls.outgoing())
        self.sent += len(data)
        await self._loop.sock_sendall(self._sock, data)

    async def whole(self, data: bytes) -> None:
        """Send an answer that is complete: at once, where no frame of it has left."""
        if self._pacer is not None and self._pacer.has_begun:
            self.paced(data)
            self.end_paced()
            return
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = self._pacer = None
        await self._burst(encode_message(data))

    async def _burst(self, frames: bytes) -> None:
        self._tls.send(frames)
        await self._transmit()

    def paced(self, data: bytes) -> None:
        """Add data to the paced answer; the first starts the cadence, if it does not run yet."""
        if self._pacer is None:
            self._pace(Pacer())
        if self._pacer is not None:
            self._pacer.put(data)

    def _pace(self, pacer: Pacer, *, after: float = 0.0) -> None:
        self._pacer = pacer
        self._ticking = asyncio.ensure_future(self._tick(pacer, after))

    def end_paced(self) -> None:
        """Say that the paced answer is complete; its padding still goes on at the cadence."""
        if self._pacer is not None:
            self._pacer.end()
            self._pacer = None

    async def _tick(self, pacer: Pacer, after: float) -> None:
        due = time.monotonic() + after
        await asyncio.sleep(after)
        while not pacer.is_over:
            # A late frame moves those after it: catching up would show that it was late.
            due = max(due, time.monotonic()) + self._cadence
            await self._burst(pacer.tick())
            await asyncio.sleep(due - time.monotonic())

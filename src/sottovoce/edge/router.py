"""The host router: carries sealed records between the gateway and the CVMs of its hosts.

    POST   /sessions        Candidates: id[, id]    first flight → 201, Session: <id>, the CVM's flight
    POST   /sessions/{id}                           records      → 200, records, both ways at once
    POST   /sessions/{id}      Flight: ?1           records      → 200, records, More: ?1 where the turn goes on
    POST   /sessions/{id}      Flight: ?1, More: ?1              → 200, the next of its records
    DELETE /sessions/{id}                                        → 204
    GET    /healthz

It knows which host has which address, and sees ciphertext. A flight (docs/relays.md) is answered after ten
seconds at most, whole, with what the CVM has said by then. A session ends on DELETE, when the CVM closes it, is
broken off before its end, after 60 s without a byte, and after 10 minutes.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.counters import Counters
from sottovoce.core.errors import ConfigError, LimitError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.edge.bodies import ClientGoneError, RequestBody, run_beside
from sottovoce.edge.candidates import CandidatesError, parse_candidates
from sottovoce.edge.cvm import CvmConnection, CvmGoneError, connect

__all__ = ["Config", "HostAddress", "Router", "create_app"]

_SESSION: Final = re.compile(r"/sessions/([0-9a-f]{32})")
_MAX_BODY: Final = LIMITS.request + 128 * 1024
"""The longest request with its padding, frames and TLS records."""
_MAX_FLIGHT: Final = LIMITS.evidence + 64 * 1024
"""The CVM's first flight: its handshake and its evidence."""
_MAX_TURN: Final = 16 * 1024 * 1024
"""The CVM's answer: 10 minutes of frames of 512 bytes, 40 ms apart, are 8 MB."""
_CONNECT_TIMEOUT: Final = 5.0
_FLIGHT_TIMEOUT: Final = 30.0
_SWEEP: Final = 1.0
_FLIGHT_WAIT: Final = 10.0
"""A flight's answer is on its way by then: servers that buffer give up after 15 s (some CDNs) to 60 s (nginx)."""
_MAX_FLIGHT_ANSWER: Final = 256 * 1024
"""Twice what ten seconds bring at the cadence of an answer, and with one message of the CVM's more still below what a whole
Binary HTTP message may hold."""
_TRUE: Final = b"?1"


class HostAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the CVM of a host listens: "ADDRESS:PORT"."""

    id: str
    address: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The router's configuration."""

    hosts: list[HostAddress]
    max_sessions: int = 4096


class UnknownSessionError(ProtocolError):
    """There is no such session (any more)."""

    code = "peer.protocol.session"


class SessionBusyError(ProtocolError):
    """A session takes one request at a time."""

    code = "peer.protocol.session-busy"


class NoTurnError(ProtocolError):
    """There is no answer of which more could be asked for."""

    code = "peer.protocol.turn"


class RouterFullError(UnavailableError):
    """The router has as many sessions as it may."""

    code = "unavailable.full"


@event
class Routed(Event):
    """What the router did since the last such line; once an hour at most, and at the end."""

    opened: int
    refused: int
    turns: int
    closed: int
    """Sessions ended by DELETE."""
    ended_by_cvm: int
    broken_off: int
    idle: int
    too_long: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Session:
    host: str
    connection: CvmConnection
    born: float
    used: float
    busy: bool = False
    asked: bool = False
    """Whether the request of the turn went out whole."""
    flying: bool = False
    """Whether a turn goes on that is carried in flights."""
    carried: int = 0
    """Bytes of that turn's answer so far."""


class Router:
    """The application, and its table of sessions."""

    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        self._hosts = {host.id: _address(host.address) for host in config.hosts}
        self._max = config.max_sessions
        self._clock = clock
        self._counters = Counters(log, Routed)
        self._sessions: dict[str, _Session] = {}

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            sweeper = asyncio.ensure_future(self._sweep_forever())
            await asgi.lifespan(receive, send, shutdown=self._close)
            sweeper.cancel()
            return
        answer = _Answer(send)
        try:
            await self._route(scope, receive, answer)
        except ClientGoneError:
            return
        except SottovoceError as error:
            # An answer that has begun can only be left without its end.
            if not answer.began:
                self._count("refused")
                await asgi.respond_error(send, _status(error), error)

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, answer: "_Answer") -> None:
        method, path = scope["method"], scope["path"]
        match = _SESSION.fullmatch(path)
        if (method, path) == ("POST", "/sessions"):
            candidates = parse_candidates(asgi.header(scope, b"candidates"))
            await self._open(candidates, RequestBody(receive, LIMITS.first_flight), answer)
        elif match and method == "POST" and asgi.header(scope, b"flight") == _TRUE:
            more = asgi.header(scope, b"more") == _TRUE
            # Who asks for more has nothing to say.
            await self._flight(match[1], RequestBody(receive, 0 if more else _MAX_BODY), answer, more=more)
        elif match and method == "POST":
            await self._turn(match[1], RequestBody(receive, _MAX_BODY), answer)
        elif match and method == "DELETE":
            self._session(match[1])
            self._end(match[1], "closed")
            await asgi.respond(answer.send, 204)
        else:
            await asgi.respond(answer.send, 204 if path == "/healthz" else 404)

    async def _open(self, candidates: Sequence[str], body: RequestBody, answer: "_Answer") -> None:
        flight = await body.whole()
        if len(self._sessions) >= self._max:
            raise RouterFullError("no more sessions", party="router")
        name = secrets.token_hex(16)
        host, connection = await self._connect(candidates, name)
        now = self._clock()
        self._sessions[name] = _Session(host=host, connection=connection, born=now, used=now, busy=True)
        try:
            async with asyncio.timeout(_FLIGHT_TIMEOUT):
                reply = await run_beside(_exchange(connection, flight), body.watch())
            self._begin(name)
        except TimeoutError:
            self._end(name, "ended_by_cvm")
            raise CvmGoneError("the CVM does not answer", party="orchestrator") from None
        except BaseException:
            self._end(name, "broken_off")
            raise
        self._count("opened")
        fields = (b"session", name.encode())
        await asgi.respond(answer.send, 201, reply, fields, kind=b"application/octet-stream")

    def _begin(self, name: str) -> None:
        if name not in self._sessions:
            raise CvmGoneError("the CVM closed the session", party="orchestrator")
        self._sessions[name].busy = False

    async def _connect(self, candidates: Sequence[str], name: str) -> tuple[str, CvmConnection]:
        """A connection to the candidate with fewer open sessions, or else to the other: the device drew both."""
        load = Counter(session.host for session in self._sessions.values())
        here = sorted((host for host in candidates if host in self._hosts), key=lambda host: load[host])
        if not here:
            raise CandidatesError("no candidate is a host of this router")
        for host in here:
            with contextlib.suppress(CvmGoneError):
                return host, await connect(
                    self._hosts[host], timeout=_CONNECT_TIMEOUT, lost=lambda: self._lost(name)
                )
        raise CvmGoneError("no candidate's CVM answers", party="orchestrator")

    async def _turn(self, name: str, body: RequestBody, answer: "_Answer") -> None:
        session = self._session(name)
        if session.busy or session.flying:
            raise SessionBusyError("the session has a request already")
        session.busy, session.asked = True, False
        self._count("turns")
        try:
            await run_beside(self._answer(session, answer), self._request(session, body))
        except BaseException:
            self._end(name, "broken_off")
            raise
        session.busy, session.used = False, self._clock()
        if not session.asked:
            self._end(name, "broken_off")
        await answer.end()

    async def _flight(self, name: str, body: RequestBody, answer: "_Answer", *, more: bool) -> None:
        session = self._session(name)
        if session.busy or (session.flying and not more):
            raise SessionBusyError("the session has a request already")
        if more and not session.flying:
            raise NoTurnError("there is no turn that goes on")
        session.busy = session.flying = True
        try:
            data = await body.whole()
            if not more:
                self._count("turns")
                session.carried = 0
                await session.connection.send(data)
                await session.connection.end_turn()
            reply, session.flying = await run_beside(self._collect(session), body.watch())
        except BaseException:
            self._end(name, "broken_off")
            raise
        session.busy, session.used = False, self._clock()
        if session.connection.is_over and not session.flying:
            self._end(name, "ended_by_cvm")
        goes_on = ((b"more", _TRUE),) if session.flying else ()
        await asgi.respond(answer.send, 200, reply, *goes_on, kind=b"application/octet-stream")

    @staticmethod
    async def _collect(session: _Session) -> tuple[bytes, bool]:
        """What the CVM says until its turn is over, time is up or it is enough; and whether the turn goes on."""
        reply, end = bytearray(), asyncio.get_running_loop().time() + _FLIGHT_WAIT
        while len(reply) < _MAX_FLIGHT_ANSWER:
            try:
                async with asyncio.timeout_at(end):
                    piece = await session.connection.receive(_MAX_FLIGHT_ANSWER - len(reply))
            except TimeoutError:
                return bytes(reply), True
            except CvmGoneError:
                # As in a streamed turn: the session may end with the CVM's last record.
                if session.connection.is_cut or not (session.carried or reply):
                    raise
                return bytes(reply), False
            if not piece:
                return bytes(reply), False
            reply += piece
            session.carried += len(piece)
            if session.carried > _MAX_TURN:
                raise LimitError("the CVM's answer is longer than its limit")
        return bytes(reply), True

    async def _request(self, session: _Session, body: RequestBody) -> None:
        async for piece in body.pieces():
            session.used = self._clock()
            await session.connection.send(piece)
        await session.connection.end_turn()
        session.asked = True
        await body.watch()

    async def _answer(self, session: _Session, answer: "_Answer") -> None:
        try:
            async for piece in _turn_of(session.connection, _MAX_TURN):
                session.used = self._clock()
                await answer.put(piece)
            await answer.start()
        except CvmGoneError:
            # The session ends with the CVM's last record. Whether that was the right place, TLS says to the device.
            if not answer.began or session.connection.is_cut:
                raise

    def _session(self, name: str) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            raise UnknownSessionError("there is no such session", hint="open a new one")
        return session

    def _lost(self, name: str) -> None:
        session = self._sessions.get(name)
        # What the CVM said before it closed is still to be fetched.
        if session is None or not session.flying:
            self._end(name, "ended_by_cvm")

    def _end(self, name: str, why: str) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            self._count(why)
            session.connection.abort()

    def _count(self, name: str) -> None:
        self._counters.add(name, self._clock())

    def sweep(self) -> None:
        """End the sessions whose time is over."""
        now = self._clock()
        for name, session in list(self._sessions.items()):
            if now - session.born >= LIMITS.session_total:
                self._end(name, "too_long")
            elif now - session.used >= LIMITS.session_idle:
                self._end(name, "idle")

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self.sweep()

    def _close(self) -> None:
        for name in list(self._sessions):
            self._end(name, "closed")
        self._counters.flush()


class _Answer:
    """A streamed answer whose head goes out with its first piece."""

    def __init__(self, send: asgi.Send) -> None:
        self.send = send
        self.began = False

    async def start(self) -> None:
        if not self.began:
            self.began = True
            await self.send(_START)

    async def put(self, piece: bytes) -> None:
        await self.start()
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        await self.send({"type": "http.response.body", "body": b""})


_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store")],
}


async def _exchange(connection: CvmConnection, flight: bytes) -> bytes:
    await connection.send(flight)
    await connection.end_turn()
    return b"".join([piece async for piece in _turn_of(connection, _MAX_FLIGHT)])


async def _turn_of(connection: CvmConnection, limit: int) -> AsyncIterator[bytes]:
    while piece := await connection.receive():
        limit -= len(piece)
        if limit < 0:
            raise LimitError("the CVM's answer is longer than its limit")
        yield piece


_STATUS: Final[tuple[tuple[type[SottovoceError], int], ...]] = (
    (UnknownSessionError, 404),
    (SessionBusyError, 409),
    (CandidatesError, 421),
    (RouterFullError, 503),
    (LimitError, 413),
    (UnavailableError, 502),
    (SottovoceError, 400),
)


def _status(error: SottovoceError) -> int:
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError("a host's address is not ADDRESS:PORT")
    return host.strip("[]"), int(port)


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.monotonic) -> Router:
    """The router as an ASGI application; `clock` gives seconds.

    Raises:
        ConfigError: a malformed address.
    """
    return Router(config, log, clock)

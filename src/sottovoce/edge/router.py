"""The host router: carries sealed records between the gateway and the CVMs of its hosts.

    POST   /sessions        Candidates: id[, id]    first flight → 201, Session: <id>, the CVM's flight
    POST   /sessions/{id}                           records      → 200, records, streamed
    DELETE /sessions/{id}                                        → 204
    GET    /healthz

It knows which host has which address, and sees ciphertext. A session ends on DELETE, when the CVM closes it, when the client leaves
an answer before its end, after 60 s without a request, and after 10 minutes.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from enum import Enum
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import (
    ConfigError,
    LimitError,
    PeerError,
    ProtocolError,
    SottovoceError,
    UnavailableError,
)
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import END_OF_TURN, LinkReader, encode_turn, link_messages

__all__ = ["Config", "HostAddress", "create_app", "parse_candidates"]

_HOST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SESSION: Final = re.compile(r"/sessions/([0-9a-f]{32})")
_READ: Final = 64 * 1024
_MAX_BODY: Final = LIMITS.request + 64 * 1024
_CONNECT_TIMEOUT: Final = 5.0
_FLIGHT_TIMEOUT: Final = 30.0
_SWEEP: Final = 5.0


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


class CandidatesError(ProtocolError):
    """None of the candidates is a host of this router."""

    code = "peer.protocol.candidates"


class _End(Enum):
    CLOSED = "closed"
    CVM = "cvm"
    CLIENT = "client"
    IDLE = "idle"
    TOTAL = "total"


@event
class SessionEnded(Event):
    """One session is over."""

    end: _End
    seconds: int


def parse_candidates(value: bytes | None) -> tuple[str, ...]:
    """One or two host ids, "a, b".

    Raises:
        CandidatesError: missing or malformed.
    """
    try:
        ids = tuple(part.strip() for part in (value or b"").decode("ascii").split(","))
    except UnicodeDecodeError:
        ids = ()
    if len(ids) not in {1, 2} or len(set(ids)) != len(ids) or not all(map(_HOST_ID.fullmatch, ids)):
        raise CandidatesError("the candidates are missing or malformed")
    return ids


class _Session:
    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.host = host
        self.writer = writer
        self.busy = False
        self.born = self.used = time.monotonic()
        self._reader = reader
        self._link = LinkReader()

    async def send_turn(self, body: bytes) -> None:
        """Pass a whole turn on."""
        self.writer.write(encode_turn(body))
        await self.writer.drain()

    async def send(self, piece: bytes) -> None:
        """Pass a piece of a turn on; an empty one ends the turn."""
        self.writer.write(link_messages(piece) if piece else END_OF_TURN)
        await self.writer.drain()

    async def turn(self) -> AsyncIterator[bytes]:
        """The CVM's messages until its turn ends.

        Raises:
            UnavailableError: the CVM closed the connection or broke the protocol.
        """
        while True:
            try:
                data = await self._reader.read(_READ)
                messages = self._link.feed(data)
            except (OSError, PeerError):
                data, messages = b"", []
            if not data:
                raise UnavailableError("the CVM closed the session", party="orchestrator")
            ready = b"".join(messages)
            if ready:
                yield ready
            if messages and not messages[-1]:
                return


class _Router:
    def __init__(self, config: Config, log: EventLog) -> None:
        self._hosts = {host.id: _address(host.address) for host in config.hosts}
        self._max = config.max_sessions
        self._log = log
        self._sessions: dict[str, _Session] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            self._sweeper = asyncio.ensure_future(self._sweep())
            await asgi.lifespan(receive, send, shutdown=self._close)
            return
        try:
            await self._route(scope, receive, send)
        except SottovoceError as error:
            await asgi.respond_error(send, _status(error), error)

    def _close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for name in list(self._sessions):
            self._end(name, _End.CLOSED)

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("POST", "/sessions"):
            await self._open(scope, receive, send)
            return
        match = _SESSION.fullmatch(path)
        if match and method == "POST":
            await self._turn(match[1], receive, send)
        elif match and method == "DELETE":
            self._end(match[1], _End.CLOSED)
            await asgi.respond(send, 204)
        else:
            await asgi.respond(send, 204 if path == "/healthz" else 404)

    async def _open(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        candidates = parse_candidates(asgi.header(scope, b"candidates"))
        flight = await asgi.read_body(receive, LIMITS.first_flight)
        if len(self._sessions) >= self._max:
            raise UnavailableError("the router serves as many sessions as it can", party="router")
        host = self._choose(candidates)
        session = await self._connect(host)
        name = os.urandom(16).hex()
        self._sessions[name] = session
        try:
            async with asyncio.timeout(_FLIGHT_TIMEOUT):
                await session.send_turn(flight)
                answer = b"".join([piece async for piece in session.turn()])
        except (OSError, TimeoutError):
            self._end(name, _End.CVM)
            raise UnavailableError("the CVM does not answer", party="orchestrator") from None
        except UnavailableError:
            self._end(name, _End.CVM)
            raise
        await asgi.respond(send, 201, answer, (b"session", name.encode()), kind=b"application/octet-stream")

    def _choose(self, candidates: tuple[str, ...]) -> str:
        load = dict.fromkeys((name for name in candidates if name in self._hosts), 0)
        if not load:
            raise CandidatesError("none of the candidates is a host of this router")
        for session in self._sessions.values():
            if session.host in load:
                load[session.host] += 1
        return min(load, key=lambda name: load[name])

    async def _connect(self, host: str) -> _Session:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(*self._hosts[host], limit=2 * _READ)
        except (OSError, TimeoutError):
            raise UnavailableError("the CVM does not answer", party="orchestrator") from None
        return _Session(host, reader, writer)

    async def _turn(self, name: str, receive: asgi.Receive, send: asgi.Send) -> None:
        session = self._sessions.get(name)
        if session is None:
            raise UnknownSessionError("there is no such session", hint="open a new one")
        if session.busy:
            raise SessionBusyError("the session has a request already")
        session.busy = True
        over = False
        try:
            await self._forward(session, receive)
            await send(_START)
            over = await self._answer(session, receive, send)
        except OSError:
            raise UnavailableError("the CVM closed the session", party="orchestrator") from None
        finally:
            session.busy, session.used = False, time.monotonic()
            if not over:
                self._end(name, _End.CLIENT)

    @staticmethod
    async def _forward(session: _Session, receive: asgi.Receive) -> None:
        total = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise UnavailableError("the client went away", party="client")
            piece: bytes = message.get("body", b"")
            total += len(piece)
            if total > _MAX_BODY:
                raise LimitError("request longer than its limit")
            if piece:
                await session.send(piece)
            if not message.get("more_body", False):
                await session.send(b"")
                return

    @staticmethod
    async def _answer(session: _Session, receive: asgi.Receive, send: asgi.Send) -> bool:
        """Pass the CVM's turn on; whether the session goes on after it."""
        gone = asyncio.ensure_future(receive())
        turn = session.turn()
        try:
            while True:
                piece = asyncio.ensure_future(anext(turn, b""))
                await asyncio.wait((piece, gone), return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await piece
                    return False
                data = piece.result()
                await send({"type": "http.response.body", "body": data, "more_body": bool(data)})
                if not data:
                    return True
        except UnavailableError:
            # The CVM ended the session after its last record; TLS says whether that was the right place.
            await send({"type": "http.response.body", "body": b""})
            return False
        finally:
            gone.cancel()

    def _end(self, name: str, why: _End) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            session.writer.close()
            self._log.emit(SessionEnded(end=why, seconds=round(time.monotonic() - session.born)))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for name, session in list(self._sessions.items()):
                if now - session.born > LIMITS.session_total:
                    self._end(name, _End.TOTAL)
                elif not session.busy and now - session.used > LIMITS.session_idle:
                    self._end(name, _End.IDLE)


_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store")],
}


def _status(error: SottovoceError) -> int:
    if isinstance(error, UnknownSessionError):
        return 404
    if isinstance(error, SessionBusyError):
        return 409
    if isinstance(error, CandidatesError):
        return 421
    if isinstance(error, LimitError):
        return 413
    return 502 if isinstance(error, UnavailableError) else 400


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError("a host's address is not ADDRESS:PORT")
    return host, int(port)


def create_app(config: Config, *, log: EventLog) -> asgi.App:
    """The router as an ASGI application.

    Raises:
        ConfigError: a malformed address.
    """
    return _Router(config, log)

"""An attested connection to another CVM: set up blocking, before the sandbox closes; used with asyncio after it."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, TypeVar

from sottovoce.attest.binding import peer_leaf
from sottovoce.core.errors import PeerError, UnavailableError
from sottovoce.core.link import LinkReader, encode_turn
from sottovoce.core.tls import ClientConnection, ClientHandshake, Data, EvidenceOffer, TlsError, Verified
from sottovoce.tee.http import ClientExchange, Head, Piece
from sottovoce.tee.settings import VSOCK

__all__ = ["Backend", "BackendResponse", "connect", "establish"]

_READ: Final = 64 * 1024
_V_co = TypeVar("_V_co", bound=Verified, covariant=True)


class Appraise(Protocol[_V_co]):
    """Verifies the evidence of a back end."""

    def __call__(self, evidence: bytes, *, exporter: bytes, spki: bytes) -> _V_co:
        """What proves the verification, or a VerificationError."""


def connect(address: tuple[str, int], *, party: str, timeout: float) -> socket.socket:
    """A connection to `address`, which the host chose, by TCP or to a port of the host's own; nothing about it is trusted.

    Raises:
        UnavailableError: nobody answers there.
    """
    try:
        if address[0] == VSOCK:
            return _to_host(address[1], timeout)
        sock = socket.create_connection(address, timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        raise UnavailableError("a back end does not answer", party=party) from None
    return sock


def _to_host(port: int, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((socket.VMADDR_CID_HOST, port))
    except OSError:
        sock.close()
        raise
    return sock


def establish(
    sock: socket.socket, *, party: str, appraise: Appraise[_V_co], own_evidence: Callable[[bytes], bytes]
) -> "tuple[Backend, _V_co]":
    """The back end at the other end of `sock`, verified, and verified by it.

    `own_evidence` makes this CVM's evidence for a leaf of 32 bytes.

    Raises:
        UnavailableError: it closed the connection, or was silent for too long; it may have refused our evidence.
        PeerError: it broke the protocol.
        VerificationError: its evidence does not satisfy the policy.
    """
    link = LinkReader()
    try:
        handshake = ClientHandshake()
        sock.sendall(encode_turn(handshake.first_flight()))
        offer = _offer(handshake, _turn(sock, link, party))
        verified = appraise(offer.evidence, exporter=offer.exporter, spki=offer.spki)
        own = own_evidence(peer_leaf(offer.exporter, offer.spki))
        connection = offer.accept(verified, own_evidence=own)
        sock.sendall(encode_turn(connection.outgoing()))
        # The turn ends when the peer has verified us; until then it reads no request.
        if connection.receive(_turn(sock, link, party)):
            raise TlsError("the back end sent something that nobody asked for")
    except OSError:
        raise UnavailableError("a back end does not answer", party=party) from None
    sock.settimeout(0)
    return Backend(party, sock, connection, link), verified


def _offer(handshake: ClientHandshake, flight: bytes) -> EvidenceOffer:
    offer = handshake.receive(flight)
    if offer is None:
        raise TlsError("the back end gave no evidence")
    return offer


def _turn(sock: socket.socket, link: LinkReader, party: str) -> bytes:
    turn = b""
    while True:
        data = sock.recv(_READ)
        if not data:
            raise UnavailableError("a back end closed the connection", party=party)
        for message in link.feed(data):
            if not message:
                return turn
            turn += message


class BackendResponse:
    """The answer of a back end: `status`, and `body` as it comes."""

    def __init__(self, status: int, pieces: AsyncIterator[bytes]) -> None:
        self.status: Final = status
        self.body: Final = pieces

    async def read(self) -> bytes:
        """The whole rest of the body."""
        return b"".join([piece async for piece in self.body])


class Backend:
    """One back end's session. One request at a time; more wait."""

    def __init__(
        self, party: str, sock: socket.socket, connection: ClientConnection, link: LinkReader
    ) -> None:
        self._party = party
        self._sock = sock
        self._tls = connection
        self._link = link
        self._lock = asyncio.Lock()
        self._exchange: ClientExchange | None = None
        self._events: deque[Head | Piece] = deque()
        self._turn_over = True
        self._broken = False

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    @contextlib.asynccontextmanager
    async def request(self, method: str, target: str, body: bytes = b"") -> AsyncIterator[BackendResponse]:
        """Send a request; the response is usable inside the `async with`.

        Raises:
            UnavailableError: the back end is gone, or broke the protocol.
            LimitError: the request is longer than the limits allow.
        """
        async with self._lock:
            # The answer before goes on to the end of its padding, so that its length does not show.
            await self._skip_turn()
            exchange = self._exchange = ClientExchange(self._party)
            self._events.clear()
            self._turn_over = False
            self._tls.send(exchange.request(method, target, body))
            await self._transmit(encode_turn(self._tls.outgoing()))
            yield BackendResponse(await self._status(), self._body(exchange))

    async def _status(self) -> int:
        while True:
            event = await self._event()
            if isinstance(event, Head):
                return event.status
            raise self._gone()

    async def _body(self, exchange: ClientExchange) -> AsyncIterator[bytes]:
        while self._exchange is exchange and (event := await self._event()) is not None:
            if isinstance(event, Piece):
                yield event.data

    async def _event(self) -> Head | Piece | None:
        while not self._events:
            if self._exchange is None or self._exchange.complete:
                return None
            if self._turn_over:
                raise self._gone()
            await self._receive()
        return self._events.popleft()

    async def _skip_turn(self) -> None:
        while not self._turn_over:
            await self._receive()
        if self._broken:
            raise self._gone()

    async def _transmit(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError:
            raise self._gone() from None

    async def _receive(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, _READ)
            if not data or self._broken:
                raise self._gone()
            for message in self._link.feed(data):
                self._take(message)
        except (OSError, PeerError):
            raise self._gone() from None

    def _take(self, message: bytes) -> None:
        if not message:
            self._turn_over = True
            return
        for event in self._tls.receive(message):
            if not isinstance(event, Data) or self._exchange is None:
                raise self._gone()
            self._events.extend(self._exchange.feed(event.data))

    def _gone(self) -> UnavailableError:
        self._broken = True
        return UnavailableError("a back end is gone or broke the protocol", party=self._party)

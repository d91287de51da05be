"""The attacker's place between the router and a CVM: a listener on loopback that plays one script for each connection."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Final, Protocol, Self

from sottovoce.attacks.rogue import RogueServer
from sottovoce.attacks.stage import Target
from sottovoce.core.errors import SottovoceError, UnavailableError
from sottovoce.core.link import END_OF_TURN, LinkReader, encode_turn, link_messages
from sottovoce.core.tls import AttestationWanted, ClientHandshake, Data
from sottovoce.simulator.processes import bind

__all__ = ["Between", "Impostor", "LinkSocket", "Passing", "Script", "Spoil", "evidence_of"]

_READ: Final = 64 * 1024
_TIMEOUT: Final = 60.0


class LinkSocket:
    """A socket that carries link messages, read a turn at a time.

    Attributes:
        is_closed: the other side sends no more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = LinkReader()
        self._inbox: deque[bytes] = deque()
        self.is_closed = False
        sock.settimeout(_TIMEOUT)

    def pieces(self) -> Iterator[bytes]:
        """The messages of the next turn as they come; `is_closed` says whether the other side closed in place of ending it."""
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if not message:
                    return
                yield message
            received = self._sock.recv(_READ)
            if not received:
                self.is_closed = True
                return
            self._inbox.extend(self._reader.feed(received))

    def turn(self) -> bytes:
        """The next turn, whole."""
        return b"".join(self.pieces())

    def send(self, data: bytes, *, end: bool = True) -> None:
        """Send a turn, or with `end` false a part of one."""
        self._sock.sendall(link_messages(data) + (END_OF_TURN if end else b""))


class Script(Protocol):
    """What is played on each connection."""

    def play(self, machine: str, sock: socket.socket) -> None:
        """Talk to the router, which believes that this is the CVM of `machine`."""


Spoil = Callable[[int, Iterator[bytes]], Iterator[bytes]]
"""Gets the number of an answer and its pieces as they come; gives what is passed on."""


def _unspoilt(_: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    return pieces


class Passing:
    """Passes every turn on to the genuine CVM, on the port that `ports` gives, and what `spoil` leaves of its answers back."""

    def __init__(self, ports: Callable[[str], int], spoil: Spoil = _unspoilt) -> None:
        self._ports = ports
        self._spoil = spoil

    def play(self, machine: str, sock: socket.socket) -> None:
        """Pass on until either side closes. Every answer ends in order, whatever is left of it."""
        router = LinkSocket(sock)
        with socket.create_connection(("127.0.0.1", self._ports(machine)), timeout=_TIMEOUT) as genuine:
            cvm, number = LinkSocket(genuine), 0
            while said := router.turn():
                cvm.send(said)
                for piece in self._spoil(number, cvm.pieces()):
                    router.send(piece, end=False)
                router.send(b"")
                number += 1
                if cvm.is_closed:
                    return


class Impostor:
    """Speaks the protocol as a CVM does, and shows what `forge` makes.

    Attributes:
        shown: how often it has shown its evidence.
        read: bytes of the user's that it got.
    """

    def __init__(
        self,
        forge: Callable[[str, Target], bytes],
        server: Callable[[str], RogueServer] = lambda _: RogueServer(),
    ) -> None:
        self._forge = forge
        self._server = server
        self.shown = 0
        self.read = 0
        self.fault: BaseException | None = None

    def play(self, machine: str, sock: socket.socket) -> None:
        """One session."""
        link, tls = LinkSocket(sock), self._server(machine)
        while said := link.turn():
            self._take(machine, tls, said)
            link.send(tls.outgoing())

    def _take(self, machine: str, tls: RogueServer, said: bytes) -> None:
        for event in tls.receive(said):
            if isinstance(event, AttestationWanted):
                try:
                    forged = self._forge(machine, Target(exporter=event.exporter, spki=event.spki))
                except BaseException as error:
                    self.fault = error  # a fault of the attack's, not a success of the device's
                    raise
                tls.attest(forged)
                self.shown += 1
            elif isinstance(event, Data):
                self.read += len(event.data)


class Between:
    """The listener of one machine. Nobody listens while `script` is None."""

    def __init__(self, machine: str, port: int = 0) -> None:
        self.machine = machine
        self._script: Script | None = None
        self._listener: socket.socket | None = bind(port)
        self.port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        """ADDRESS:PORT."""
        return f"127.0.0.1:{self.port}"

    def play(self, script: Script | None) -> None:
        """Play `script` from now on."""
        self.close()
        self._script = script
        if script is not None:
            self._listener = bind(self.port)
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, SottovoceError):
            if self._script is not None:
                self._script.play(self.machine, connection)


def evidence_of(port: int) -> Generator[bytes, None, None]:
    """Evidence that the genuine CVM on `port` shows to whoever connects. The connection is open until the iterator is closed."""
    handshake, reader = ClientHandshake(), LinkReader()
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as sock:
        sock.sendall(encode_turn(handshake.first_flight()))
        while data := sock.recv(_READ):
            for message in reader.feed(data):
                offer = handshake.receive(message) if message else None
                if offer is not None:
                    yield offer.evidence
                    return
    raise UnavailableError("there was no evidence to record", party="orchestrator")

"""The operator records genuine evidence and shows it on a connection that ends in a program of its own (threat: relay attack)."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from sottovoce.core.errors import SottovoceError, UnavailableError
from sottovoce.core.link import LinkReader, encode_turn
from sottovoce.core.tls import AttestationWanted, ClientHandshake, Data, ServerConnection
from sottovoce.simulator.processes import bind

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["CHECKS", "TRIES", "attack"]

TRIES: Final = (
    "The operator opens a session of its own, records the genuine evidence of a genuine CVM, stops the CVMs, and shows that "
    "evidence to you from a program that would read your messages."
)
CHECKS: Final = frozenset({"binding"})
_READ: Final = 64 * 1024
_TIMEOUT: Final = 20.0


@contextmanager
def attack(world: "World") -> Iterator[Callable[[], str]]:
    """Replace both orchestrators; yields what the impostor has read."""
    ports = {name: world.port(name) for name in world.orchestrators}
    evidence = _record(next(iter(ports.values())))
    with ExitStack() as stack:
        impostors = []
        for name, port in ports.items():
            world.stop_one(name)
            impostors.append(stack.enter_context(_Impostor(bind(port), evidence)))

        def got() -> str:
            shown, read = (sum(getattr(one, field) for one in impostors) for field in ("shown", "read"))
            return f"showed the evidence {shown} times, read {read} bytes of yours"

        yield got


def _record(port: int) -> bytes:
    """Genuine evidence, as anybody gets it who can reach the CVM."""
    handshake, reader = ClientHandshake(), LinkReader()
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as sock:
        sock.sendall(encode_turn(handshake.first_flight()))
        while data := sock.recv(_READ):
            for message in reader.feed(data):
                offer = handshake.receive(message) if message else None
                if offer is not None:
                    return offer.evidence
    raise UnavailableError("there was no evidence to record", party="orchestrator")


class _Impostor:
    """Speaks the protocol as a CVM does, with somebody else's evidence."""

    def __init__(self, listener: socket.socket, evidence: bytes) -> None:
        self._listener = listener
        self._evidence = evidence
        self.shown = 0
        self.read = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        tls, reader = ServerConnection(), LinkReader()
        with connection, suppress(OSError, SottovoceError):
            while data := connection.recv(_READ):
                for message in reader.feed(data):
                    if message:
                        self._take(tls, message)
                    else:
                        connection.sendall(encode_turn(tls.outgoing()))

    def _take(self, tls: ServerConnection, message: bytes) -> None:
        for event in tls.receive(message):
            if isinstance(event, AttestationWanted):
                tls.attest(self._evidence)
                self.shown += 1
            elif isinstance(event, Data):
                self.read += len(event.data)

"""Everything that a session does, done once at boot with throwaway keys.

A session's process can open no file, so a module that Python imports only when it is first needed would be missing there. It
also makes the first session as quick as the others.
"""

import asyncio
import contextlib

from sottovoce.attest.binding import peer_leaf, session_leaf
from sottovoce.core.errors import UnavailableError, VerificationError
from sottovoce.core.events import EventLog
from sottovoce.core.frames import encode_message
from sottovoce.core.tls import AttestationWanted, ClientHandshake, ServerConnection
from sottovoce.tee.attestation import Quote, quote
from sottovoce.tee.collectors.base import Collector
from sottovoce.tee.http import Answer, ClientExchange, HttpServer, run_app
from sottovoce.tee.roles import Session, pump
from sottovoce.tee.sandbox import prepare
from sottovoce.tee.worker import Machine

__all__ = ["rehearse"]


def rehearse(machine: Machine, collector: Collector, log: EventLog) -> None:
    """Go through handshake, evidence, verification, HTTP and the role's application.

    Raises:
        UnavailableError: a part of it does not work at all.
    """
    prepare()
    _handshake(machine, collector)
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        loop.run_until_complete(_request(machine, log))
        loop.run_until_complete(loop.shutdown_default_executor())


def _handshake(machine: Machine, collector: Collector) -> None:
    client, server = ClientHandshake(), ServerConnection()
    (wanted,) = server.receive(client.first_flight())
    if not isinstance(wanted, AttestationWanted):
        raise UnavailableError("the TLS library does not work", party="tls")
    own = Quote.decode(quote(collector, session_leaf(wanted.exporter, wanted.spki)).encode())
    server.attest(machine.attester.evidence(own))
    offer = client.receive(server.outgoing())
    if offer is None:
        raise UnavailableError("the TLS library does not work", party="tls")
    peer_leaf(offer.exporter, offer.spki)
    for role in machine.settings.peers:
        # It is refused, as this CVM is no such role: what counts is that every step has run.
        with contextlib.suppress(VerificationError):
            machine.attester.verify_peer(
                role, offer.evidence, exporter=offer.exporter, spki=offer.spki, from_client=False
            )
    connection = offer.accept(wanted)
    connection.send(b"x")
    server.receive(connection.outgoing())
    server.send(b"x")
    connection.receive(server.outgoing())
    connection.close()
    server.receive(connection.outgoing())


class _Nowhere:
    """The wire of a rehearsal."""

    def __init__(self) -> None:
        self.frames = b""

    async def whole(self, data: bytes) -> None:
        self.frames += encode_message(data)

    def paced(self, data: bytes) -> None:
        self.frames += encode_message(data)

    def end_paced(self) -> None:
        pass


async def _leave() -> None:
    pass


async def _request(machine: Machine, log: EventLog) -> None:
    settings = machine.settings
    app = machine.role.app(Session(settings=settings, log=log, backends={}))
    async for _ in pump(iter([b""])):
        exchange, http, wire = ClientExchange(settings.role), HttpServer(), _Nowhere()
        http.feed(exchange.request("GET", "/v1/status", b""))
        if (request := http.next_request()) is not None:
            await run_app(app, request, Answer(http, wire), _leave)
        exchange.feed(wire.frames)
        async with asyncio.timeout(60):
            await asyncio.wait([asyncio.ensure_future(_leave())], return_when=asyncio.FIRST_COMPLETED)

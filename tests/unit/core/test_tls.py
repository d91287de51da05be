import contextlib
from dataclasses import dataclass

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from sottovoce.core import tls
from sottovoce.core.errors import LimitError, UsageError
from sottovoce.core.limits import LIMITS


@dataclass(frozen=True)
class Proof:
    exporter: bytes
    spki: bytes


def offer_for(
    server: tls.ServerConnection, client: tls.ClientHandshake, evidence: bytes
) -> tls.EvidenceOffer:
    (wanted,) = server.receive(client.first_flight())
    assert isinstance(wanted, tls.AttestationWanted)
    server.attest(evidence)
    offer = client.receive(server.outgoing())
    assert offer is not None
    assert (offer.exporter, offer.spki) == (wanted.exporter, wanted.spki)
    return offer


def session(own: bytes = b"") -> tuple[tls.ServerConnection, tls.ClientConnection]:
    server = tls.ServerConnection()
    offer = offer_for(server, tls.ClientHandshake(), b"evidence")
    client = offer.accept(Proof(offer.exporter, offer.spki), own_evidence=own)
    assert server.receive(client.outgoing()) == [tls.PeerEvidence(evidence=own)]
    return server, client


def test_evidence_comes_in_the_first_flight_before_the_client_has_said_anything() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    offer = offer_for(server, client, b"e" * 20_000)
    assert offer.evidence == b"e" * 20_000
    assert len(offer.exporter) == 32


def test_both_ways() -> None:
    server, client = session(own=b"my evidence")
    client.send(b"question")
    assert server.receive(client.outgoing()) == [tls.Data(data=b"question")]
    server.send(b"answer")
    assert client.receive(server.outgoing()) == [tls.Data(data=b"answer")]
    server.close()
    assert client.receive(server.outgoing()) == [tls.Closed()]


def test_request_in_the_same_flight_as_the_finished() -> None:
    server = tls.ServerConnection()
    offer = offer_for(server, tls.ClientHandshake(), b"e")
    client = offer.accept(Proof(offer.exporter, offer.spki))
    client.send(b"question")
    assert server.receive(client.outgoing()) == [tls.PeerEvidence(evidence=b""), tls.Data(data=b"question")]


def test_byte_by_byte() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    events = [event for byte in client.first_flight() for event in server.receive(bytes([byte]))]
    assert len(events) == 1
    server.attest(b"evidence")
    offers = [client.receive(bytes([byte])) for byte in server.outgoing()]
    assert offers[:-1] == [None] * (len(offers) - 1)
    assert offers[-1] is not None
    assert offers[-1].evidence == b"evidence"


def test_every_connection_has_its_own_key_and_exporter() -> None:
    offers = [offer_for(tls.ServerConnection(), tls.ClientHandshake(), b"e") for _ in range(2)]
    assert offers[0].spki != offers[1].spki
    assert offers[0].exporter != offers[1].exporter


def test_a_proof_for_another_connection_is_not_accepted() -> None:
    one, other = (offer_for(tls.ServerConnection(), tls.ClientHandshake(), b"e") for _ in range(2))
    with pytest.raises(UsageError, match="another connection"):
        one.accept(Proof(other.exporter, other.spki))


def test_an_offer_is_accepted_once() -> None:
    offer = offer_for(tls.ServerConnection(), tls.ClientHandshake(), b"e")
    offer.accept(Proof(offer.exporter, offer.spki))
    with pytest.raises(UsageError, match="before"):
        offer.accept(Proof(offer.exporter, offer.spki))


def test_an_offer_does_not_prove_itself() -> None:
    offer = offer_for(tls.ServerConnection(), tls.ClientHandshake(), b"e")
    with pytest.raises(UsageError, match="itself"):
        offer.accept(offer)


def test_nothing_leaves_the_client_before_it_accepts() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    hello = client.first_flight()
    offer_for(server, client, b"e")
    assert client.first_flight() == hello


def test_the_first_flight_is_one_and_waits_for_evidence() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    server.receive(client.first_flight())
    before = server.outgoing()
    assert client.receive(before) is None
    server.attest(b"evidence")
    offer = client.receive(server.outgoing())
    assert offer is not None
    assert server.outgoing() == b""


def test_evidence_of_another_connection_does_not_decrypt() -> None:
    flights = []
    clients = [tls.ClientHandshake(), tls.ClientHandshake()]
    for client in clients:
        server = tls.ServerConnection()
        server.receive(client.first_flight())
        server.attest(b"evidence")
        flights.append(server.outgoing())
    for client, flight in zip(clients, reversed(flights), strict=True):
        with pytest.raises(tls.TlsError):
            client.receive(flight)


def test_a_connection_without_close_notify_is_cut() -> None:
    server, client = session()
    for end in (server, client):
        with pytest.raises(tls.TlsError, match="cut"):
            end.receive_eof()


def test_a_connection_with_close_notify_may_end() -> None:
    server, client = session()
    server.close()
    client.receive(server.outgoing())
    client.receive_eof()


def test_the_end_before_the_evidence_is_an_error() -> None:
    with pytest.raises(tls.TlsError, match="cut"):
        tls.ClientHandshake().receive_eof()


def test_a_server_that_closes_without_evidence_is_refused() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    server.receive(client.first_flight())
    server.close()
    with pytest.raises(tls.TlsError, match="without evidence"):
        client.receive(server.outgoing())


@given(st.binary(min_size=1, max_size=2000))
def test_any_bytes_give_a_typed_error_or_nothing(data: bytes) -> None:
    for receive in (tls.ServerConnection().receive, tls.ClientHandshake().receive):
        with contextlib.suppress(tls.TlsError):
            assert not receive(data)


def raw_context(*, alpn: bytes = tls.ALPN, version: int = SSL.TLS1_3_VERSION) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([alpn])
    context.set_max_proto_version(version)
    return context


def raw_client(*, alpn: bytes = tls.ALPN, version: int = SSL.TLS1_3_VERSION) -> SSL.Connection:
    connection = SSL.Connection(raw_context(alpn=alpn, version=version), None)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection


def test_no_session_can_be_resumed() -> None:
    session, context = None, raw_context()
    for _ in range(2):
        server, client = tls.ServerConnection(), SSL.Connection(context, None)
        client.set_connect_state()
        if session is not None:
            client.set_session(session)
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        server.receive(client.bio_read(1 << 16))
        server.attest(b"evidence")
        client.bio_write(server.outgoing())
        client.do_handshake()
        client.send(bytes(4))
        assert server.receive(client.bio_read(1 << 16)) == [tls.PeerEvidence(evidence=b"")]
        client.bio_write(server.outgoing())
        assert client.recv(100) == b"\0\0\0\x08evidence"
        with pytest.raises(SSL.WantReadError):
            client.recv(1)  # takes the tickets
        assert not Binding.lib.SSL_session_reused(client._ssl)
        session = client.get_session()


def test_tls_1_2_is_refused() -> None:
    with pytest.raises(tls.TlsError):
        tls.ServerConnection().receive(raw_client(version=SSL.TLS1_2_VERSION).bio_read(1 << 16))


def test_another_protocol_is_refused() -> None:
    with pytest.raises(tls.TlsError):
        tls.ServerConnection().receive(raw_client(alpn=b"http/1.1").bio_read(1 << 16))


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_classical_group_is_refused(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    # OpenSSL negotiates the hybrid group by itself, so the other outcome is put in where it is read.
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    flight = client.first_flight()
    if side == "client":
        server.receive(flight)
        server.attest(b"e")
    monkeypatch.setattr(SSL.Connection, "get_group_name", lambda _: "X25519")
    with pytest.raises(tls.TlsError, match="X25519MLKEM768"):
        client.receive(server.outgoing()) if side == "client" else server.receive(flight)


def test_a_changed_record_is_refused() -> None:
    server, client = session()
    server.send(b"answer")
    record = bytearray(server.outgoing())
    record[-1] ^= 1
    with pytest.raises(tls.TlsError):
        client.receive(bytes(record))


@pytest.mark.parametrize("flip", [0, 50, 600, 1300, -1])
def test_a_changed_first_flight_gives_no_offer(flip: int) -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    server.receive(client.first_flight())
    server.attest(b"evidence")
    flight = bytearray(server.outgoing())
    flight[flip] ^= 0x40
    with contextlib.suppress(tls.TlsError):
        assert client.receive(bytes(flight)) is None


def test_oversized_evidence() -> None:
    server, client = tls.ServerConnection(), tls.ClientHandshake()
    server.receive(client.first_flight())
    with pytest.raises(UsageError):
        server.attest(bytes(LIMITS.evidence + 1))


def test_a_client_that_claims_too_much_evidence_is_refused() -> None:
    server = tls.ServerConnection()
    offer = offer_for(server, tls.ClientHandshake(), b"e")
    client = offer.accept(Proof(offer.exporter, offer.spki), own_evidence=bytes(LIMITS.evidence + 1))
    with pytest.raises(LimitError):
        server.receive(client.outgoing())


def test_order_is_enforced_on_the_server() -> None:
    server = tls.ServerConnection()
    with pytest.raises(UsageError):
        server.attest(b"early")
    with pytest.raises(UsageError):
        server.send(b"early")
    server.receive(tls.ClientHandshake().first_flight())
    server.attest(b"e")
    with pytest.raises(UsageError):
        server.attest(b"twice")


def test_garbage_is_a_typed_error() -> None:
    for make in (tls.ServerConnection, tls.ClientHandshake):
        with pytest.raises(tls.TlsError):
            make().receive(b"GET / HTTP/1.1\r\n\r\n" * 10)


def test_nothing_secret_in_a_repr() -> None:
    server = tls.ServerConnection()
    (wanted,) = server.receive(tls.ClientHandshake().first_flight())
    assert repr(wanted) == "<AttestationWanted>"

"""The attested TLS 1.3 connection (protocol sections 2.4, 2.5 and 5), sans-IO over memory buffers.

Server: the evidence leaves in its first flight, as 0.5-RTT data (RFC 8446 section 4.4.4 allows it; RFC 9266 and section
7.5 give the exporter).
Client: three types, one a state, so that the wrong order cannot be written down:

    ClientHandshake ──receive──▶ EvidenceOffer ──accept(verified)──▶ ClientConnection

Only the last can send. The client's Finished is held back until `accept`, so a server learns nothing from a device that
refuses, not even that the handshake was in order.
"""

import contextlib
import datetime as dt
import struct
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from sottovoce.core.errors import LimitError, ProtocolError, UsageError
from sottovoce.core.limits import LIMITS

__all__ = [
    "ALPN",
    "EXPORTER_LABEL",
    "GROUP",
    "AttestationWanted",
    "ClientConnection",
    "ClientHandshake",
    "Closed",
    "Data",
    "EvidenceOffer",
    "PeerEvidence",
    "ServerConnection",
    "TlsError",
    "Verified",
]

ALPN: Final = b"sottovoce/1"
EXPORTER_LABEL: Final = b"EXPORTER-sottovoce-attestation"
"""Protocol section 5; RFC 8446 section 7.5."""
EXPORTER_LENGTH: Final = 32
GROUP: Final = "X25519MLKEM768"
_SUITES: Final = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
_LENGTH: Final = struct.Struct(">I")
_READ: Final = 64 * 1024
# OpenSSL's SSL_read_early_data: what it returns (ssl.h)
_EARLY_ERROR, _EARLY_FINISH = 0, 2
_VALID_FROM: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_VALID_TO: Final = dt.datetime(2049, 12, 31, tzinfo=dt.UTC)


class TlsError(ProtocolError):
    """The TLS connection failed: wrong version, wrong group, a bad record, or cut short."""

    code = "peer.tls"


class Verified(Protocol):
    """What proves that evidence was verified for one connection; see `attest.verify`."""

    @property
    def exporter(self) -> bytes:
        """The exporter that the evidence is bound to, 32 bytes."""

    @property
    def spki(self) -> bytes:
        """The server's public key that the evidence is bound to, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationWanted:
    """Server: the ClientHello is processed; evidence for these values is wanted now."""

    exporter: bytes
    spki: bytes

    def __repr__(self) -> str:
        return "<AttestationWanted>"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEvidence:
    """Server: the handshake is complete; what the client says to prove itself, possibly nothing."""

    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Data:
    """Plaintext of the session."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The peer closed the connection in order."""


class _Prefixed:
    """Collects `u32 length ‖ bytes` from the head of a stream."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The value and what follows it, once it is complete."""
        self._buffer += data
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > LIMITS.evidence:
            raise LimitError("the evidence is longer than its limit")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        return self._buffer[_LENGTH.size : end], self._buffer[end:]


class _Tls:
    """One pyOpenSSL connection over memory buffers, with errors of our own."""

    def __init__(self, context: SSL.Context) -> None:
        self.connection = SSL.Connection(context, None)

    def incoming(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.connection.bio_write(bytes(view)) :]

    def outgoing(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self.connection.bio_read(_READ))
        except SSL.WantReadError:
            return b"".join(pieces)

    def handshake(self) -> bool:
        """Whether the handshake is complete."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error:
            raise TlsError("the TLS handshake failed") from None
        return True

    def eof(self) -> None:
        """Raise unless the peer closed in order, which `read` has then seen."""
        if not self.connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
            raise TlsError("the connection was cut")

    def read(self) -> tuple[bytes, bool]:
        """The plaintext that has arrived, and whether the peer closed in order."""
        pieces = []
        try:
            while True:
                pieces.append(self.connection.recv(_READ))
        except SSL.WantReadError:
            return b"".join(pieces), False
        except SSL.ZeroReturnError:
            return b"".join(pieces), True
        except SSL.Error:
            raise TlsError("a TLS record is not authentic or the connection was cut") from None

    def write(self, data: bytes) -> None:
        if not data:
            return
        try:
            self.connection.sendall(data)
        except SSL.Error:
            raise UsageError("the session is closed") from None

    def close(self) -> None:
        with contextlib.suppress(SSL.Error):
            self.connection.shutdown()

    def exporter(self) -> bytes:
        return bytes(self.connection.export_keying_material(EXPORTER_LABEL, EXPORTER_LENGTH, b""))

    def require_hybrid(self) -> None:
        if self.connection.get_group_name() != GROUP:
            raise TlsError("the key exchange is not X25519MLKEM768")


def _context(method: int) -> SSL.Context:
    # UNSPECIFIED: OpenSSL still sends two tickets of a fixed size after the handshake, and pyOpenSSL has no call for "none".
    # They name sessions that no server has stored, so they resume nothing.
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_tls13_ciphersuites(_SUITES)
    # Evidence authenticates the server; its certificate carries a key only.
    context.set_verify(SSL.VERIFY_NONE)
    return context


class ServerConnection:
    """The CVM's side: one connection, one key pair, one certificate, made for it alone."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        context = _context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(_certificate(key))
        context.use_privatekey(key)
        context.set_alpn_select_callback(_select_alpn)
        self._spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._tls = _Tls(context)
        self._tls.connection.set_accept_state()
        self._attested = False
        self._wanted = False
        self._complete = False
        self._peer = _Prefixed()
        self._peer_done = False

    def receive(self, data: bytes) -> "list[AttestationWanted | PeerEvidence | Data | Closed]":
        """What `data`, the next bytes from the network, brings.

        Raises:
            TlsError: the peer offers no TLS 1.3, no X25519MLKEM768, no `sottovoce/1`, or breaks the protocol.
            LimitError: evidence longer than its limit.
        """
        self._tls.incoming(data)
        if not self._attested:
            return self._hello()
        if not self._complete and not self._finish():
            return []
        plaintext, closed = self._tls.read()
        events: list[AttestationWanted | PeerEvidence | Data | Closed] = []
        if not self._peer_done:
            found = self._peer.feed(plaintext)
            if found is None:
                if closed:
                    raise TlsError("the connection closed before the peer said who it is")
                return events
            evidence, plaintext = found
            self._peer_done = True
            events.append(PeerEvidence(evidence=evidence))
        if plaintext:
            events.append(Data(data=plaintext))
        if closed:
            events.append(Closed())
        return events

    def receive_eof(self) -> None:
        """Take the end of the network connection.

        Raises:
            TlsError: the peer did not close in order: what came last may be missing.
        """
        self._tls.eof()

    def attest(self, evidence: bytes) -> None:
        """Send `evidence` in the first flight.

        Raises:
            UsageError: it was not wanted now, or is longer than its limit.
        """
        if not self._wanted or self._attested:
            raise UsageError("evidence is not wanted now")
        if len(evidence) > LIMITS.evidence:
            raise UsageError("the evidence is longer than its limit")
        message = _LENGTH.pack(len(evidence)) + evidence
        while message:
            message = message[self._write_early(message) :]
        self._attested = True

    def send(self, plaintext: bytes) -> None:
        """Send application data."""
        if not self._complete:
            raise UsageError("the handshake is not complete")
        self._tls.write(plaintext)

    def close(self) -> None:
        """Close in order (RFC 8446 section 6.1)."""
        self._tls.close()

    def outgoing(self) -> bytes:
        """What is to be transmitted."""
        return self._tls.outgoing()

    def _hello(self) -> "list[AttestationWanted | PeerEvidence | Data | Closed]":
        if self._wanted:
            raise TlsError("the peer sent more before it had our evidence")
        if self._early() != _EARLY_FINISH:
            return []
        self._tls.require_hybrid()
        if self._tls.connection.get_alpn_proto_negotiated() != ALPN:
            raise TlsError("the peer does not speak sottovoce/1")
        self._wanted = True
        return [AttestationWanted(exporter=self._tls.exporter(), spki=self._spki)]

    def _early(self) -> int:
        # Section 4.2.10: no early data of the client's is ever accepted; the call only drives the handshake up to
        # the point where the server may write.
        read = Binding.ffi.new("size_t *")
        scratch = Binding.ffi.new("char[]", 1)
        lib: Any = Binding.lib
        state = int(lib.SSL_read_early_data(self._tls.connection._ssl, scratch, 1, read))  # noqa: SLF001
        if state == _EARLY_ERROR:
            error = lib.SSL_get_error(self._tls.connection._ssl, state)  # noqa: SLF001
            if error != lib.SSL_ERROR_WANT_READ:
                lib.ERR_clear_error()
                raise TlsError("the TLS handshake failed")
        return state

    def _write_early(self, data: bytes) -> int:
        written = Binding.ffi.new("size_t *")
        lib: Any = Binding.lib
        # pyOpenSSL has no method for it; it writes a record at a time.
        if lib.SSL_write_early_data(self._tls.connection._ssl, data, len(data), written) != 1:  # noqa: SLF001
            raise TlsError("the evidence could not be written")
        return int(written[0])

    def _finish(self) -> bool:
        self._complete = self._tls.handshake()
        return self._complete


class ClientHandshake:
    """The device's side until the server's evidence is here."""

    def __init__(self) -> None:
        context = _context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([ALPN])
        self._tls = _Tls(context)
        self._tls.connection.set_connect_state()
        self._tls.handshake()
        self._hello = self._tls.outgoing()
        self._complete = False
        self._evidence = _Prefixed()

    def first_flight(self) -> bytes:
        """The ClientHello, always: what follows it in the buffer is the Finished, which only `accept` releases."""
        return self._hello

    def receive_eof(self) -> None:
        """Take the end of the network connection.

        Raises:
            TlsError: always; the handshake is not complete.
        """
        raise TlsError("the connection was cut before the evidence was here")

    def receive(self, data: bytes) -> "EvidenceOffer | None":
        """The offer, once the server's whole first flight is here.

        Raises:
            TlsError: another version, group or protocol; a bad record; no evidence.
            LimitError: evidence longer than its limit.
        """
        self._tls.incoming(data)
        if not self._complete:
            self._complete = self._tls.handshake()
            if not self._complete:
                return None
            self._tls.require_hybrid()
            if self._tls.connection.get_alpn_proto_negotiated() != ALPN:
                raise TlsError("the server does not speak sottovoce/1")
        plaintext, closed = self._tls.read()
        found = self._evidence.feed(plaintext)
        if found is None:
            if closed:
                raise TlsError("the server closed the connection without evidence")
            return None
        evidence, rest = found
        if rest:
            raise TlsError("the server sent more than its evidence")
        certificate = self._tls.connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise TlsError("the server has no certificate")
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return EvidenceOffer(self._tls, evidence, spki)


class EvidenceOffer:
    """The server's evidence, and what it must be bound to. Nothing has been sent beyond the ClientHello."""

    def __init__(self, tls: _Tls, evidence: bytes, spki: bytes) -> None:
        self._tls: _Tls | None = tls
        self.evidence: Final = evidence
        self.exporter: Final = tls.exporter()
        self.spki: Final = spki

    def accept(self, verified: Verified, *, own_evidence: bytes = b"") -> "ClientConnection":
        """The connection, given the proof that this very evidence was verified for it.

        Raises:
            UsageError: `verified` was made for another connection, or the offer was accepted before.
        """
        tls, self._tls = self._tls, None
        if tls is None:
            raise UsageError("this evidence was accepted before")
        if isinstance(verified, EvidenceOffer):
            raise UsageError("an offer does not prove itself")
        if (verified.exporter, verified.spki) != (self.exporter, self.spki):
            raise UsageError("the verification belongs to another connection")
        tls.write(_LENGTH.pack(len(own_evidence)) + own_evidence)
        return ClientConnection(tls)


class ClientConnection:
    """The device's side of an attested session."""

    def __init__(self, tls: _Tls) -> None:
        self._tls = tls

    def send(self, plaintext: bytes) -> None:
        """Send application data."""
        self._tls.write(plaintext)

    def receive(self, data: bytes) -> list[Data | Closed]:
        """What `data`, the next bytes from the network, brings.

        Raises:
            TlsError: a record that is not authentic.
        """
        self._tls.incoming(data)
        plaintext, closed = self._tls.read()
        events: list[Data | Closed] = [Data(data=plaintext)] if plaintext else []
        return [*events, Closed()] if closed else events

    def receive_eof(self) -> None:
        """Take the end of the network connection.

        Raises:
            TlsError: the peer did not close in order: what came last may be missing.
        """
        self._tls.eof()

    def close(self) -> None:
        """Close in order (RFC 8446 section 6.1)."""
        self._tls.close()

    def outgoing(self) -> bytes:
        """What is to be transmitted; the first time, the client's Finished comes with it."""
        return self._tls.outgoing()


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # Nothing is read from it but the key, so it says nothing.
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, _VALID_FROM, _VALID_TO)
    return builder.sign(key, hashes.SHA256())


def _select_alpn(_: SSL.Connection, offered: list[bytes]) -> bytes:
    # An empty answer refuses: the caller checks what was negotiated.
    return ALPN if ALPN in offered else b""

"""The attacker's end of a connection: TLS as a CVM speaks it, with no rule of its own about what it shows."""

import datetime as dt
import struct
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sottovoce.core.tls import ServerConnection

__all__ = ["CLAIM", "RogueServer"]

CLAIM: Final = x509.ObjectIdentifier("2.23.133.5.4.9")
"""Where attested certificates carry evidence (TCG DICE, tcg-dice-TaggedEvidence)."""
_LENGTH: Final = struct.Struct(">I")


class RogueServer(ServerConnection):
    """Shows any bytes as evidence, under a certificate that may say anything.

    Attributes:
        declared: the length that it declares for its evidence; the true one if None.
    """

    def __init__(self, *, declared: int | None = None) -> None:
        super().__init__()
        self.declared = declared

    def wear(self, claim: Callable[[bytes], bytes]) -> None:
        """Present a certificate with `claim` of its key (DER) in an extension, signed by another key than its own."""
        key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "attested, approved, trusted")])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
            .add_extension(x509.UnrecognizedExtension(CLAIM, claim(self._spki)), critical=True)
            .sign(other, hashes.SHA256())
        )
        self._tls.connection.use_certificate(certificate)
        self._tls.connection.use_privatekey(key)

    def attest(self, evidence: bytes) -> None:
        """Send `evidence` in the first flight, of whatever length."""
        message = _LENGTH.pack(len(evidence) if self.declared is None else self.declared) + evidence
        while message:
            message = message[self._write_early(message) :]
        self._attested = True

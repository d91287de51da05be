"""Keys and certificates of the simulated GPU vendor: P-384, ECDSA with SHA-384, as NVIDIA's are."""

import base64
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from sottovoce.core.errors import ConfigError
from sottovoce.simulator.pki import write_private

__all__ = ["Signer", "sign_raw"]

_SHA384: Final = hashes.SHA384()
_DER: Final = serialization.Encoding.DER
_YEARS: Final = 20
_DAY: Final = 86400
_HALF: Final = 48


def sign_raw(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """An ECDSA signature with SHA-384 as r and s, 48 bytes each."""
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(_SHA384)))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Signer:
    """A key and the certificates from its own upward (DER)."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]

    @property
    def name(self) -> x509.Name:
        """The subject of its certificate."""
        return x509.load_der_x509_certificate(self.chain[0]).subject

    @classmethod
    def root(cls, name: str, *, now: int) -> "Signer":
        """A root of its own."""
        key = ec.generate_private_key(ec.SECP384R1())
        return cls(key=key, chain=(_certificate(name, key, None, now=now, authority=True),))

    def save(self, path: Path) -> None:
        """Write it to a file that only its owner reads."""
        secret = self.key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        parts = [base64.b64encode(part).decode() for part in (secret, *self.chain)]
        write_private(path, json.dumps(parts).encode())

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """Read one.

        Raises:
            ConfigError: there is none, or it is malformed.
        """
        try:
            secret, *chain = (base64.b64decode(part) for part in json.loads(path.read_bytes()))
            key = serialization.load_der_private_key(secret, None)
        except (OSError, ValueError, TypeError):
            raise ConfigError("a simulated authority's file is missing or malformed") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not chain:
            raise ConfigError("a simulated authority's file is missing or malformed")
        return cls(key=key, chain=tuple(chain))

    def issue(
        self,
        name: str,
        *,
        now: int,
        authority: bool,
        path_length: int | None = None,
        extensions: Mapping[x509.ObjectIdentifier, bytes] | None = None,
        days: int = 365 * _YEARS,
    ) -> "Signer":
        """A key below this one."""
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = _certificate(
            name,
            key,
            self,
            now=now,
            authority=authority,
            path_length=path_length,
            extensions=extensions or {},
            days=days,
        )
        return Signer(key=key, chain=(certificate, *self.chain))


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Signer | None,
    *,
    now: int,
    authority: bool,
    path_length: int | None = None,
    extensions: Mapping[x509.ObjectIdentifier, bytes] | None = None,
    days: int = 365 * _YEARS,
) -> bytes:
    start = dt.datetime.fromtimestamp(now - _DAY, dt.UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sottovoce simulated hardware"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    off = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = x509.CertificateBuilder(
        issuer_name=issuer.name if issuer else subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=start + dt.timedelta(days=days),
    ).add_extension(
        x509.KeyUsage(**off, digital_signature=not authority, key_cert_sign=authority, crl_sign=authority),
        critical=True,
    )
    if authority:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
    for name_, value in (extensions or {}).items():
        builder = builder.add_extension(x509.UnrecognizedExtension(name_, value), critical=False)
    return builder.sign(issuer.key if issuer else key, _SHA384).public_bytes(serialization.Encoding.DER)

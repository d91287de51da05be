"""X.509 certificates and revocation lists as the hardware vendors issue them (RFC 5280; AMD 57230), read strictly.

AMD's VCEK certificates have serial number 0, which RFC 5280 forbids and general libraries have announced to refuse. Only what a
chain needs is read: the signed bytes, the key, the names, the validity and the extensions.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sottovoce.attest import der
from sottovoce.attest.der import Fields, oid
from sottovoce.core.errors import DecodeError

__all__ = ["BASIC_CONSTRAINTS", "KEY_USAGE", "Certificate", "RevocationList", "oid"]

BASIC_CONSTRAINTS: Final = oid("2.5.29.19")
KEY_USAGE: Final = oid("2.5.29.15")
_COMMON_NAME: Final = oid("2.5.4.3")
_CONTEXT_0, _CONTEXT_3 = 0xA0, 0xA3
_V3, _CRL_V2 = 2, 1  # RFC 5280 sections 4.1.2.1, 5.1.2.1
_MAX: Final = 16 * 1024
_MAX_LIST: Final = 48 * 1024
"""A revocation list travels inside the evidence."""
# RFC 5280 section 4.2.1.3: the first byte after the count of unused bits
_CERTIFICATE_SIGN: Final = 0x04


@dataclass(frozen=True, slots=True)
class _Extensions:
    values: Mapping[bytes, bytes]
    critical: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A parsed certificate; nothing is verified yet. Times are unix seconds. Its bytes say all: two are equal if those are."""

    der: bytes
    signed: bytes = field(compare=False)
    signature_algorithm: bytes = field(compare=False)
    signature: bytes = field(compare=False)
    serial: int = field(compare=False)
    issuer: bytes = field(compare=False)
    subject: bytes = field(compare=False)
    not_before: int = field(compare=False)
    not_after: int = field(compare=False)
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = field(compare=False)
    extensions: Mapping[bytes, bytes] = field(compare=False)
    critical: frozenset[bytes] = field(compare=False)

    @classmethod
    def parse(cls, data: bytes) -> "Certificate":
        """Parse a DER certificate.

        Raises:
            DecodeError: malformed, too long, or with a key that is neither RSA nor elliptic-curve.
        """
        what = "the certificate"
        body, algorithm, signature = _signed(data, what, _MAX)
        fields = Fields(body.body, what)
        if der.integer(der.one(fields.take(_CONTEXT_0).body, der.INTEGER)) != _V3:
            raise DecodeError("the certificate is of an unknown version")
        serial = der.integer(fields.take(der.INTEGER))
        if fields.take(der.SEQUENCE).whole != algorithm:
            raise DecodeError("the certificate names two signature algorithms")
        issuer = fields.take(der.SEQUENCE).whole
        validity = Fields(fields.take(der.SEQUENCE).body, what)
        not_before, not_after = validity.time(), validity.time()
        validity.end()
        subject = fields.take(der.SEQUENCE).whole
        key = _public_key(fields.take(der.SEQUENCE).whole)
        extensions = _extensions(fields.take(_CONTEXT_3).body, what)
        fields.end()
        return cls(
            der=data,
            signed=body.whole,
            signature_algorithm=algorithm,
            signature=signature,
            serial=serial,
            issuer=issuer,
            subject=subject,
            not_before=not_before,
            not_after=not_after,
            public_key=key,
            extensions=extensions.values,
            critical=extensions.critical,
        )

    @property
    def common_name(self) -> str:
        """The subject's common name.

        Raises:
            DecodeError: there is not exactly one.
        """
        return _common_name(self.subject)

    @property
    def is_authority(self) -> bool:
        """Whether it may sign certificates: basicConstraints CA, and keyUsage keyCertSign (RFC 5280 section 4.2.1).

        Raises:
            DecodeError: one of the two extensions is malformed.
        """
        constraints, usage = (self.extensions.get(name) for name in (BASIC_CONSTRAINTS, KEY_USAGE))
        if constraints is None or usage is None:
            return False
        bits = der.one(usage, der.BIT_STRING).body
        return der.sequence(constraints, "basicConstraints").truth() and bool(
            bits[1:2] and bits[1] & _CERTIFICATE_SIGN
        )

    def integer(self, name: bytes) -> int:
        """The INTEGER in the extension `name`.

        Raises:
            DecodeError: there is none, or it is malformed.
        """
        return der.integer(der.one(self._extension(name), der.INTEGER))

    def text(self, name: bytes) -> str:
        """The IA5String in the extension `name`.

        Raises:
            DecodeError: there is none, or it is malformed.
        """
        try:
            return der.one(self._extension(name), der.IA5).body.decode("ascii")
        except UnicodeDecodeError:
            raise DecodeError("the certificate has text outside ASCII") from None

    def octets(self, name: bytes, length: int) -> bytes:
        """The extension `name` as `length` bytes; AMD issues them bare, others in an OCTET STRING.

        Raises:
            DecodeError: there is none, or it has another length.
        """
        value = self._extension(name)
        if len(value) == length + 2 and value[:2] == bytes([der.OCTETS, length]):
            return value[2:]
        if len(value) != length:
            raise DecodeError("the certificate has an extension of the wrong length")
        return value

    def _extension(self, name: bytes) -> bytes:
        value = self.extensions.get(name)
        if value is None:
            raise DecodeError("the certificate lacks an extension")
        return value


@functools.lru_cache(maxsize=64)
def _common_name(name: bytes) -> str:
    found = [value for kind, value in map(_attribute, der.values(_content(name))) if kind == _COMMON_NAME]
    if len(found) != 1:
        raise DecodeError("the certificate has not exactly one common name")
    try:
        return found[0].decode("ascii")
    except UnicodeDecodeError:
        raise DecodeError("the certificate has a common name outside ASCII") from None


def _content(sequence: bytes) -> bytes:
    return der.one(sequence, der.SEQUENCE).body


def _attribute(relative_name: der.Value) -> tuple[bytes, bytes]:
    # RFC 5280 section 4.1.2.4: SET OF { type, value }, here always of one
    if relative_name.tag != der.SET:
        raise DecodeError("the certificate has a malformed name")
    attribute = der.sequence(relative_name.body, "the certificate's name")
    name = attribute.take(der.OID).body
    for tag in (0x0C, 0x13, 0x16):  # UTF8String, PrintableString, IA5String
        if attribute.next_is(tag):
            return name, attribute.take(tag).body
    raise DecodeError("the certificate has a malformed name")


def _signed(data: bytes, what: str, limit: int) -> tuple[der.Value, bytes, bytes]:
    if len(data) > limit:
        raise DecodeError(f"{what} is longer than its limit")
    outer = der.sequence(data, what)
    body = outer.take(der.SEQUENCE)
    algorithm = outer.take(der.SEQUENCE).whole
    signature = outer.take(der.BIT_STRING).body
    outer.end()
    if signature[:1] != b"\0":
        raise DecodeError(f"{what} has a malformed signature")
    return body, algorithm, signature[1:]


# Few keys are in use: parsing one costs more than the rest of the certificate.
@functools.lru_cache(maxsize=64)
def _public_key(spki: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise DecodeError("the certificate has a malformed key") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise DecodeError("the certificate has a key of an unknown kind")
    return key


def _extensions(data: bytes, what: str) -> _Extensions:
    found: dict[bytes, bytes] = {}
    critical = set()
    for extension in der.values(_content(data)):
        if extension.tag != der.SEQUENCE:
            raise DecodeError(f"{what} has a malformed extension")
        parts = Fields(extension.body, what)
        name = parts.take(der.OID).body
        if parts.truth():
            critical.add(name)
        value = parts.take(der.OCTETS).body
        parts.end()
        if name in found:
            raise DecodeError(f"{what} has an extension twice")
        found[name] = value
    return _Extensions(found, frozenset(critical))


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A parsed certificate revocation list (RFC 5280 section 5.1); nothing is verified yet."""

    signed: bytes
    signature_algorithm: bytes
    signature: bytes
    issuer: bytes
    this_update: int
    next_update: int
    serials: frozenset[int]

    @classmethod
    def parse(cls, data: bytes) -> "RevocationList":
        """Parse a DER revocation list.

        Raises:
            DecodeError: malformed, without a next update, or with a critical extension: such a list is not all of it.
        """
        what = "the revocation list"
        body, algorithm, signature = _signed(data, what, _MAX_LIST)
        fields = Fields(body.body, what)
        if der.integer(fields.take(der.INTEGER)) != _CRL_V2:
            raise DecodeError("the revocation list is of an unknown version")
        if fields.take(der.SEQUENCE).whole != algorithm:
            raise DecodeError("the revocation list names two signature algorithms")
        issuer = fields.take(der.SEQUENCE).whole
        this_update, next_update = fields.time(), fields.time()
        revoked = fields.take(der.SEQUENCE).body if fields.next_is(der.SEQUENCE) else b""
        if fields.next_is(_CONTEXT_0) and _extensions(fields.take(_CONTEXT_0).body, what).critical:
            raise DecodeError("the revocation list has a critical extension")
        fields.end()
        return cls(
            signed=body.whole,
            signature_algorithm=algorithm,
            signature=signature,
            issuer=issuer,
            this_update=this_update,
            next_update=next_update,
            serials=frozenset(map(_revoked, der.values(revoked))),
        )


def _revoked(entry: der.Value) -> int:
    if entry.tag != der.SEQUENCE:
        raise DecodeError("the revocation list has a malformed entry")
    fields = Fields(entry.body, "the revocation list")
    serial = der.integer(fields.take(der.INTEGER))
    fields.time()
    if fields.next_is(der.SEQUENCE):  # the entry's reason; whatever it is, the certificate is revoked
        fields.take(der.SEQUENCE)
    fields.end()
    return serial

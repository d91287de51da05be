"""X.509 as AMD's key service issues it, read by a small strict DER reader.

VCEK certificates have serial number 0, which RFC 5280 forbids and general libraries have announced to refuse. Only what the chain
needs is read: the signed bytes, the key, the names, the validity and AMD's extensions (AMD 57230, VCEK certificate definition).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sottovoce.core.errors import DecodeError

__all__ = ["Certificate", "RevocationList", "oid"]

_INTEGER, _BIT_STRING, _OCTETS, _OID, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_BOOLEAN, _UTC_TIME, _GENERALIZED, _VERSION, _EXTENSIONS, _CRL_EXTENSIONS = 0x01, 0x17, 0x18, 0xA0, 0xA3, 0xA0
_MAX: Final = 16 * 1024
_YEAR_PIVOT: Final = 50  # RFC 5280 section 4.1.2.5.1


@dataclass(frozen=True, slots=True)
class _Value:
    tag: int
    body: bytes
    whole: bytes


def _values(data: bytes) -> Iterator[_Value]:
    at = 0
    while at < len(data):
        start = at
        if len(data) - at < 2:  # noqa: PLR2004 - a tag and a length
            raise DecodeError("the DER ends too early")
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:  # noqa: PLR2004 - X.690 section 8.1.3.5: long form
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count], "big")
            if not 1 <= count <= 3 or length < 0x80 or length >> 8 * (count - 1) == 0:  # noqa: PLR2004
                raise DecodeError("the DER has a length that is not minimal")
            at += count
        if length > len(data) - at:
            raise DecodeError("the DER ends too early")
        at += length
        yield _Value(tag, data[at - length : at], data[start:at])


def _sequence(data: bytes, tag: int = _SEQUENCE) -> list[_Value]:
    values = list(_values(data))
    if len(values) != 1 or values[0].tag != tag:
        raise DecodeError("the DER is not the one value that it should be")
    return list(_values(values[0].body))


def _take(values: list[_Value], tag: int) -> _Value:
    if not values or values[0].tag != tag:
        raise DecodeError("the certificate has a missing or misplaced field")
    return values.pop(0)


def _integer(value: _Value) -> int:
    if value.tag != _INTEGER or not value.body:
        raise DecodeError("the DER has a malformed integer")
    return int.from_bytes(value.body, "big", signed=True)


def _time(values: list[_Value]) -> int:
    tag = values[0].tag if values else 0
    if tag not in {_UTC_TIME, _GENERALIZED}:
        raise DecodeError("the certificate has a malformed time")
    try:
        text = values.pop(0).body.decode("ascii")
        if tag == _UTC_TIME:
            text = ("19" if int(text[:2]) >= _YEAR_PIVOT else "20") + text
        parsed = dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        raise DecodeError("the certificate has a malformed time") from None
    return int(parsed.timestamp())


def oid(dotted: str) -> bytes:
    """The DER body of an object identifier (X.690 section 8.19)."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return bytes(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A parsed certificate; nothing is verified yet. Times are unix seconds."""

    der: bytes
    signed: bytes
    signature_algorithm: bytes
    signature: bytes
    serial: int
    issuer: bytes
    subject: bytes
    not_before: int
    not_after: int
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    extensions: Mapping[bytes, bytes]

    @classmethod
    def parse(cls, der: bytes) -> "Certificate":
        """Parse a DER certificate.

        Raises:
            DecodeError: malformed, too long, or with a key that is neither RSA nor elliptic-curve.
        """
        if len(der) > _MAX:
            raise DecodeError("the certificate is longer than its limit")
        outer = _sequence(der)
        body = _take(outer, _SEQUENCE)
        algorithm, signature = _signature(outer)
        fields = list(_values(body.body))
        _take(fields, _VERSION)
        serial = _integer(_take(fields, _INTEGER))
        if _take(fields, _SEQUENCE).whole != algorithm:
            raise DecodeError("the certificate names two signature algorithms")
        issuer = _take(fields, _SEQUENCE).whole
        validity = list(_values(_take(fields, _SEQUENCE).body))
        subject = _take(fields, _SEQUENCE).whole
        key = _public_key(_take(fields, _SEQUENCE).whole)
        extensions = _extensions(_take(fields, _EXTENSIONS).body)
        if fields:
            raise DecodeError("the certificate has an unknown field")
        return cls(
            der=der,
            signed=body.whole,
            signature_algorithm=algorithm,
            signature=signature,
            serial=serial,
            issuer=issuer,
            subject=subject,
            not_before=_time(validity),
            not_after=_time(validity),
            public_key=key,
            extensions=extensions,
        )

    def octets(self, name: bytes) -> bytes:
        """The raw value of the extension `name`, bare or in an OCTET STRING.

        Raises:
            DecodeError: there is none.
        """
        value = self.extensions.get(name)
        if value is None:
            raise DecodeError("the certificate lacks an extension")
        if value[:1] == bytes([_OCTETS]) and len(value) == value[1] + 2:
            return value[2:]
        return value

    def integer(self, name: bytes) -> int:
        """The INTEGER in the extension `name`.

        Raises:
            DecodeError: there is none, or it is malformed.
        """
        values = list(_values(self.extensions.get(name, b"")))
        if len(values) != 1:
            raise DecodeError("the certificate lacks an extension")
        return _integer(values[0])


def _signature(outer: list[_Value]) -> tuple[bytes, bytes]:
    algorithm = _take(outer, _SEQUENCE).whole
    signature = _take(outer, _BIT_STRING).body
    if outer or signature[:1] != b"\0":
        raise DecodeError("the certificate has a malformed signature")
    return algorithm, signature[1:]


def _public_key(spki: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise DecodeError("the certificate has a malformed key") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise DecodeError("the certificate has a key of an unknown kind")
    return key


def _extensions(data: bytes) -> Mapping[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for extension in _sequence(data):
        parts = list(_values(extension.body))
        name = _take(parts, _OID).body
        if parts and parts[0].tag == _BOOLEAN:
            parts.pop(0)
        value = _take(parts, _OCTETS).body
        if parts or name in found:
            raise DecodeError("the certificate has a malformed or repeated extension")
        found[name] = value
    return found


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
    def parse(cls, der: bytes) -> "RevocationList":
        """Parse a DER revocation list.

        Raises:
            DecodeError: malformed, or without a next update.
        """
        if len(der) > 64 * _MAX:
            raise DecodeError("the revocation list is longer than its limit")
        outer = _sequence(der)
        body = _take(outer, _SEQUENCE)
        algorithm, signature = _signature(outer)
        fields = list(_values(body.body))
        _take(fields, _INTEGER)
        _take(fields, _SEQUENCE)
        issuer = _take(fields, _SEQUENCE).whole
        this_update, next_update = _time(fields), _time(fields)
        revoked = fields.pop(0).body if fields and fields[0].tag == _SEQUENCE else b""
        if fields and fields[0].tag == _CRL_EXTENSIONS:
            fields.pop(0)
        if fields:
            raise DecodeError("the revocation list has an unknown field")
        return cls(
            signed=body.whole,
            signature_algorithm=algorithm,
            signature=signature,
            issuer=issuer,
            this_update=this_update,
            next_update=next_update,
            serials=frozenset(_integer(_take(list(_values(v.body)), _INTEGER)) for v in _values(revoked)),
        )

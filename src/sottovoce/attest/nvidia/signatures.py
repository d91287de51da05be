"""Who signed what: pinned root → … → device key → report, and pinned root → … → signer → reference manifest.

All keys are P-384 and all signatures ECDSA with SHA-384; anything else is refused.
"""

import functools
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sottovoce.attest import der
from sottovoce.attest.certificates import BASIC_CONSTRAINTS, KEY_USAGE, Certificate, oid
from sottovoce.attest.nvidia.layout import Report
from sottovoce.core.errors import CryptoError, DecodeError

__all__ = [
    "FirmwareIdError",
    "GpuChainError",
    "GpuSignatureError",
    "firmware_id",
    "operational_flags",
    "require_not_revoked",
    "require_valid",
    "verify_chain",
    "verify_ecdsa",
    "verify_report",
]

MIN_CHAIN, MAX_CHAIN = 2, 8
_ECDSA_SHA384: Final = b"\x30\x0a\x06\x08" + oid("1.2.840.10045.4.3.3")
_UNDERSTOOD: Final = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})
"""The extensions that may be critical (RFC 5280 section 4.2)."""
_DIGITAL_SIGNATURE: Final = 0x80
_SHA384: Final = ec.ECDSA(hashes.SHA384())
# TCG DICE Layering Architecture, CompositeDeviceID; TCG DICE Attestation Architecture 1.1 section 6.1.1, DiceTcbInfo
_COMPOSITE: Final = oid("2.23.133.5.4.1")
_TCB_INFO: Final = oid("2.23.133.5.4.1.1")
_FWIDS, _FLAGS = 0xA6, 0x87
_UNSAFE: Final = 0b0111_0000
"""DiceTcbInfo's flags notSecure (1), recovery (2) and debug (3), counted from the highest bit."""
_SHA384_OID: Final = oid("2.16.840.1.101.3.4.2.2")
_DIGEST: Final = 48


class GpuChainError(CryptoError):
    """A certificate does not lead to the pinned NVIDIA root."""

    code = "peer.crypto.gpu-chain"


class GpuSignatureError(CryptoError):
    """A report or manifest is not signed by the key of its certificate."""

    code = "peer.crypto.gpu-signature"


class FirmwareIdError(DecodeError):
    """A device certificate without a firmware id where there should be one."""

    code = "peer.decode.firmware-id"


def _key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise GpuChainError("a certificate in the GPU chain has no P-384 key")
    return key


def verify_ecdsa(certificate: Certificate, signature: tuple[int, int], signed: bytes) -> None:
    """Check a signature, r and s, by the key of `certificate` over `signed`: ECDSA P-384 with SHA-384.

    Raises:
        GpuChainError: the key is of another kind.
        GpuSignatureError: it does not verify.
    """
    try:
        _key(certificate).verify(encode_dss_signature(*signature), signed, _SHA384)
    except InvalidSignature:
        raise GpuSignatureError("the signature does not verify") from None


def verify_report(report: Report, leaf: Certificate) -> None:
    """Check the report's signature by the device key.

    Raises:
        GpuChainError: the key is of another kind.
        GpuSignatureError: it does not verify.
    """
    verify_ecdsa(leaf, report.signature, report.signed)


# The same few chains come with every session of a machine: what was verified once stays verified.
@functools.lru_cache(maxsize=256)
def verify_chain(chain: tuple[bytes, ...], root: bytes) -> tuple[Certificate, ...]:
    """The certificates from the leaf to the pinned `root` (DER each), if each is signed by the next. Dates are `require_valid`'s.

    `chain` begins with the leaf; it may end with the root or with the certificate below it.

    Raises:
        DecodeError: a malformed certificate.
        GpuChainError: a signature, a name or a role does not fit, or there are too many or too few.
    """
    ders = chain if chain[-1:] == (root,) else (*chain, root)
    if not MIN_CHAIN <= len(ders) <= MAX_CHAIN:
        raise GpuChainError("the GPU chain has too few or too many certificates")
    certificates = tuple(map(Certificate.parse, ders))
    for certificate, issuer in zip(certificates, (*certificates[1:], certificates[-1]), strict=True):
        _require_issued(certificate, issuer)
    leaf, *authorities = certificates
    for below, authority in enumerate(authorities):
        _require_authority(authority, below)
    _require_signer(leaf)
    return certificates


def _require_issued(certificate: Certificate, issuer: Certificate) -> None:
    if certificate.issuer != issuer.subject:
        raise GpuChainError("a certificate in the GPU chain names another issuer")
    if certificate.signature_algorithm != _ECDSA_SHA384:
        raise GpuChainError("the GPU chain is not signed with ECDSA and SHA-384")
    if not certificate.critical <= _UNDERSTOOD:
        raise GpuChainError("a certificate in the GPU chain has a critical extension that is not understood")
    try:
        _key(issuer).verify(certificate.signature, certificate.signed, _SHA384)
    except InvalidSignature:
        raise GpuChainError("a signature in the GPU chain does not verify") from None


def _require_authority(authority: Certificate, below: int) -> None:
    # RFC 5280 section 4.2.1.9; `below` counts the authorities between this one and the leaf.
    if not authority.is_authority:
        raise GpuChainError("a certificate in the GPU chain is no authority")
    constraints = der.sequence(authority.extensions[BASIC_CONSTRAINTS], "basicConstraints")
    constraints.truth()
    if constraints.next_is(der.INTEGER) and der.integer(constraints.take(der.INTEGER)) < below:
        raise GpuChainError("the GPU chain is longer than an authority in it allows")
    constraints.end()


def _require_signer(leaf: Certificate) -> None:
    if leaf.is_authority:
        raise GpuChainError("the GPU chain has an authority in the place of a key")
    usage = leaf.extensions.get(KEY_USAGE)
    bits = der.one(usage, der.BIT_STRING).body if usage is not None else b""
    if not bits[1:2] or not bits[1] & _DIGITAL_SIGNATURE:
        raise GpuChainError("the key at the end of the GPU chain may not sign")


def require_valid(certificates: tuple[Certificate, ...], *, now: int) -> None:
    """Check that every certificate is valid at `now`, unix seconds.

    Raises:
        GpuChainError: one is not.
    """
    if any(not certificate.not_before <= now <= certificate.not_after for certificate in certificates):
        raise GpuChainError("a certificate is not valid at this time")


def require_not_revoked(certificates: tuple[Certificate, ...], revoked: frozenset[str]) -> None:
    """Check that no certificate is among `revoked`, SHA-256 digests in hex.

    Raises:
        GpuChainError: one is.
    """
    if any(hashlib.sha256(certificate.der).hexdigest() in revoked for certificate in certificates):
        raise GpuChainError("a certificate is revoked")


def firmware_id(leaf: Certificate) -> bytes:
    """The digest of the device's first mutable firmware that its key was derived with, 48 bytes.

    Hopper and its switch write it at the end of a CompositeDeviceID, Blackwell as the first of the list in a DiceTcbInfo.

    Raises:
        FirmwareIdError: there is none.
        DecodeError: malformed.
    """
    composite, info = leaf.extensions.get(_COMPOSITE), leaf.extensions.get(_TCB_INFO)
    if (composite is None) == (info is None):
        raise FirmwareIdError("the device certificate has no firmware id, or two")
    if composite is not None:
        fields = list(der.values(der.one(composite, der.SEQUENCE).body))
        return _digest(fields[-1]) if fields else _digest(None)
    lists = [one for one in der.values(der.one(info or b"", der.SEQUENCE).body) if one.tag == _FWIDS]
    return _digest(next(der.values(lists[0].body), None) if len(lists) == 1 else None)


def operational_flags(leaf: Certificate) -> bool | None:
    """Whether the device certificate says that the device is not secure, in recovery or in debug mode; None if it says nothing.

    Only Blackwell's do, in the flags of a DiceTcbInfo.

    Raises:
        DecodeError: malformed.
    """
    info = leaf.extensions.get(_TCB_INFO)
    flags = (
        []
        if info is None
        else [one for one in der.values(der.one(info, der.SEQUENCE).body) if one.tag == _FLAGS]
    )
    if not flags:
        return None
    # X.690 section 8.6: a count of unused bits, then the bits
    if len(flags) != 1 or flags[0].body[:1] != b"\0" or len(flags[0].body) == 1:
        raise DecodeError("the device certificate has malformed flags")
    return bool(flags[0].body[1] & _UNSAFE)


def _digest(value: der.Value | None) -> bytes:
    # SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING }
    if value is None or value.tag != der.SEQUENCE:
        raise FirmwareIdError("the device certificate has no firmware id")
    fields = der.Fields(value.body, "the firmware id")
    algorithm, digest = fields.take(der.OID).body, fields.take(der.OCTETS).body
    fields.end()
    if algorithm != _SHA384_OID or len(digest) != _DIGEST:
        raise FirmwareIdError("the device certificate's firmware id is of another kind")
    return digest

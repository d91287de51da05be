"""Who signed what: ARK → ASK → VCEK → report, and ARK → revocation list."""

import functools
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sottovoce.attest.certificates import BASIC_CONSTRAINTS, KEY_USAGE, Certificate, RevocationList
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.snp.vcek import VCEK_NAME, VLEK_NAME
from sottovoce.core.errors import CryptoError

__all__ = [
    "ChainError",
    "ReportSignatureError",
    "require_current",
    "require_valid",
    "verify_chain",
    "verify_report",
    "verify_revocation_list",
]

# RFC 4055 section 3.1, RSASSA-PSS with SHA-384, MGF1 over SHA-384 and a salt of 48 bytes. AMD writes the trailer field, which
# is a default, in some certificates and leaves it out in others; there is no other form.
_PARAMETERS: Final = bytes.fromhex(
    "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
_PSS: Final = bytes.fromhex("06092a864886f70d01010a")
_ALGORITHMS: Final = frozenset(
    {
        b"\x30\x41" + _PSS + b"\x30\x34" + _PARAMETERS,
        b"\x30\x46" + _PSS + b"\x30\x39" + _PARAMETERS + bytes.fromhex("a303020101"),
    }
)
_UNDERSTOOD: Final = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})
"""The extensions that may be critical (RFC 5280 section 4.2)."""
_SHA384: Final = hashes.SHA384()
_PADDING: Final = padding.PSS(
    padding.MGF1(_SHA384), salt_length=48
)  # AMD 57230: RSASSA-PSS, SHA-384, salt of 48


class ChainError(CryptoError):
    """The platform key's certificate does not lead to the pinned vendor root."""

    code = "peer.crypto.chain"


class ReportSignatureError(CryptoError):
    """The report is not signed by the key of the certificate."""

    code = "peer.crypto.report"


def _verify_pss(issuer: Certificate, algorithm: bytes, signature: bytes, signed: bytes) -> None:
    key = issuer.public_key
    if not isinstance(key, rsa.RSAPublicKey) or algorithm not in _ALGORITHMS:
        raise ChainError("the chain is not signed with RSASSA-PSS and SHA-384")
    try:
        key.verify(signature, signed, _PADDING, _SHA384)
    except InvalidSignature:
        raise ChainError("a signature in the chain does not verify") from None


# The same few certificates come with every session of a host: what was verified once stays verified.
@functools.lru_cache(maxsize=64)
def _verify_signatures(ark_der: bytes, ask_der: bytes, vcek_der: bytes) -> tuple[Certificate, ...]:
    ark, ask, vcek = map(Certificate.parse, (ark_der, ask_der, vcek_der))
    for issuer, certificate in ((ark, ark), (ark, ask), (ask, vcek)):
        if certificate.issuer != issuer.subject:
            raise ChainError("a certificate in the chain names another issuer")
        _verify_pss(issuer, certificate.signature_algorithm, certificate.signature, certificate.signed)
    for certificate in (ark, ask, vcek):
        if not certificate.critical <= _UNDERSTOOD:
            raise ChainError("a certificate in the chain has a critical extension that is not understood")
    if not (ark.is_authority and ask.is_authority) or BASIC_CONSTRAINTS in vcek.extensions:
        raise ChainError("the chain has an authority in the place of a key, or the other way round")
    if vcek.common_name not in (VCEK_NAME, VLEK_NAME):
        raise ChainError("the platform key is neither a VCEK nor a VLEK")
    return ark, ask, vcek


def verify_chain(
    *, ark_der: bytes, ask_der: bytes, vcek_der: bytes
) -> tuple[Certificate, Certificate, Certificate]:
    """ARK, ASK and VCEK (or ASVK and VLEK), if each is signed by the one before it. Dates are `require_valid`'s.

    Raises:
        DecodeError: a malformed certificate.
        ChainError: a signature, a name or a role does not fit.
    """
    ark, ask, vcek = _verify_signatures(ark_der, ask_der, vcek_der)
    return ark, ask, vcek


def require_valid(*certificates: Certificate, now: int) -> None:
    """Check that every certificate is valid at `now`, unix seconds.

    Raises:
        ChainError: one is not.
    """
    if any(not certificate.not_before <= now <= certificate.not_after for certificate in certificates):
        raise ChainError("a certificate in the chain is not valid at this time")


@functools.lru_cache(maxsize=64)
def _verified_list(crl_der: bytes, ark_der: bytes) -> RevocationList:
    ark, revoked = Certificate.parse(ark_der), RevocationList.parse(crl_der)
    if revoked.issuer != ark.subject:
        raise ChainError("the revocation list is of another issuer")
    _verify_pss(ark, revoked.signature_algorithm, revoked.signature, revoked.signed)
    return revoked


def verify_revocation_list(crl_der: bytes, *, ark: Certificate) -> RevocationList:
    """The vendor's revocation list, if it is signed by the root. Its dates are `require_current`'s.

    Raises:
        DecodeError: malformed.
        ChainError: there is none, or it is signed by somebody else.
    """
    if not crl_der:
        raise ChainError("there is no revocation list")
    return _verified_list(crl_der, ark.der)


def require_current(revoked: RevocationList, *, now: int) -> None:
    """Check that the revocation list is current at `now`, unix seconds.

    Raises:
        ChainError: it is not.
    """
    if not revoked.this_update <= now <= revoked.next_update:
        raise ChainError("the revocation list is not current")


def verify_report(report: Report, vcek: Certificate) -> None:
    """Check the report's signature: ECDSA P-384 with SHA-384 over its first 0x2A0 bytes.

    Raises:
        ReportSignatureError: it does not verify.
    """
    key = vcek.public_key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ReportSignatureError("the certificate's key is not a P-384 key")
    try:
        key.verify(encode_dss_signature(*report.signature), report.signed, ec.ECDSA(_SHA384))
    except InvalidSignature:
        raise ReportSignatureError("the report's signature does not verify") from None

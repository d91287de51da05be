"""Who signed what: ARK → ASK → VCEK → report, and ARK → revocation list."""

import functools
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sottovoce.attest.snp.certificates import Certificate, RevocationList, oid
from sottovoce.attest.snp.layout import Report
from sottovoce.core.errors import CryptoError

__all__ = ["ChainError", "ReportSignatureError", "verify_chain", "verify_report", "verify_revocation_list"]

_PSS: Final = oid("1.2.840.113549.1.1.10")
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
    if not isinstance(key, rsa.RSAPublicKey) or _PSS not in algorithm[:16]:
        raise ChainError("the chain is not signed with RSASSA-PSS")
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
    return ark, ask, vcek


def verify_chain(
    *, ark_der: bytes, ask_der: bytes, vcek_der: bytes, now: int | None
) -> tuple[Certificate, Certificate, Certificate]:
    """ARK, ASK and VCEK, if each is signed by the one before it and all are valid at `now` (unless None).

    Raises:
        DecodeError: a malformed certificate.
        ChainError: a signature, a name or a date does not fit.
    """
    ark, ask, vcek = _verify_signatures(ark_der, ask_der, vcek_der)
    for certificate in (ark, ask, vcek):
        if now is not None and not certificate.not_before <= now <= certificate.not_after:
            raise ChainError("a certificate in the chain is not valid at this time")
    return ark, ask, vcek


@functools.lru_cache(maxsize=64)
def _verified_list(crl_der: bytes, ark_der: bytes) -> RevocationList:
    ark, revoked = Certificate.parse(ark_der), RevocationList.parse(crl_der)
    if revoked.issuer != ark.subject:
        raise ChainError("the revocation list is of another issuer")
    _verify_pss(ark, revoked.signature_algorithm, revoked.signature, revoked.signed)
    return revoked


def verify_revocation_list(crl_der: bytes, *, ark: Certificate, now: int | None) -> RevocationList:
    """The vendor's revocation list, if it is signed by the root and current at `now` (unless None).

    Raises:
        DecodeError: malformed.
        ChainError: signed by somebody else, or not current.
    """
    revoked = _verified_list(crl_der, ark.der)
    if now is not None and not revoked.this_update <= now <= revoked.next_update:
        raise ChainError("the revocation list is not current")
    return revoked


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

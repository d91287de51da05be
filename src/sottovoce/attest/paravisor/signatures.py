"""What vouches for what: the hardware report for the runtime claims, the key in these for the TPM's quote."""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sottovoce.attest.paravisor.quote import SignedQuote, signature_bytes
from sottovoce.core.errors import CryptoError

__all__ = ["ClaimsError", "QuoteSignatureError", "claims_report_data", "require_bound", "verify_quote"]

_REPORT_DATA: Final = 64


class ClaimsError(CryptoError):
    """The hardware report does not vouch for the runtime claims."""

    code = "peer.crypto.claims"


class QuoteSignatureError(CryptoError):
    """The quote is not signed by the attestation key."""

    code = "peer.crypto.tpm-quote"


def claims_report_data(claims: bytes) -> bytes:
    """The 64 bytes of report data that vouch for `claims`: their SHA-256, then zeros."""
    return hashlib.sha256(claims).digest().ljust(_REPORT_DATA, b"\0")


def require_bound(claims: bytes, report_data: bytes) -> None:
    """Check that `report_data` (64 bytes; of an SNP report, a TDREPORT or a TDX quote) vouches for `claims`.

    The caller has verified the report. A TDREPORT proves nothing by itself: take the report data of the quote.

    Raises:
        ClaimsError: it does not.
    """
    if report_data != claims_report_data(claims):
        raise ClaimsError("the report does not hold the digest of the runtime claims")


def verify_quote(quote: SignedQuote, key: rsa.RSAPublicKey) -> None:
    """Check the quote's signature: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2).

    Raises:
        DecodeError: another scheme or hash.
        QuoteSignatureError: it does not verify.
    """
    signature = signature_bytes(quote.signature, size=key.key_size // 8)
    try:
        key.verify(signature, quote.message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise QuoteSignatureError("the quote's signature does not verify") from None

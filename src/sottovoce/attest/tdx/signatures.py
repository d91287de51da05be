"""Who signed what: Intel's root → PCK certificate → quoting enclave → quote, and Intel's root → collateral; by `dcap-qvl`."""

import functools
import re
from dataclasses import dataclass
from typing import Any, Final

import dcap_qvl

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.pem import armored, certificates
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.layout import Quote
from sottovoce.core.errors import CryptoError, DecodeError

__all__ = ["CollateralError", "QuoteSignatureError", "VerifiedQuote", "platform_id", "verify_quote"]

_CHAIN: Final = 3
_SIGNERS: Final = 2


class QuoteSignatureError(CryptoError):
    """The quote is not signed by whom it should be, or a certificate does not verify or is revoked.

    Attributes:
        collateral_verified: whether all of the collateral is known to be Intel's.
    """

    code = "peer.crypto.quote"

    def __init__(self, message: str, *, collateral_verified: bool = False) -> None:
        super().__init__(message)
        self.collateral_verified = collateral_verified


class CollateralError(CryptoError):
    """The collateral is not signed by Intel, or is not valid at the time of the verification."""

    code = "peer.crypto.collateral"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """What the library found out about a quote whose signatures verify.

    Attributes:
        status: Intel's word for the platform's patch levels, such as "UpToDate"; empty where there is none.
        unrated: why there is no status.
        advisories: Intel's advisories that apply, such as "INTEL-SA-00837".
        ppid: the platform's id from its certificate, 16 bytes.
    """

    status: str
    unrated: str = ""
    advisories: tuple[str, ...] = ()
    ppid: bytes = b""


# The library goes through its steps in one order and says in English where it stopped; so its words tell what it has verified before.
# Its words may hold values from the quote, so ours are passed on. Words that are in no table count as a bad signature.
_PREFIX: Final = "Verification failed: "
_CAUSE: Final = re.compile(r"Caused by:\s+(\w+)", re.ASCII)
_COLLATERAL: Final = {
    "TCBInfo expired": "the patch levels are expired",
    "TCBInfo issue date is in the future": "the patch levels are not valid yet",
    "QE Identity expired": "the quoting enclave's identity is expired",
    "QE Identity issue date is in the future": "the quoting enclave's identity is not valid yet",
    "Signature is invalid for tcb_info in quote_collateral": "the patch levels are not signed by Intel",
    "Signature is invalid for qe_identity in quote_collateral": "the quoting enclave's identity is not signed by Intel",
    "Failed to parse root CA CRL": "the root's revocation list is not signed by the root",
    "Failed to parse PCK CRL": "the platforms' revocation list is malformed",
    "Failed to decode TcbInfo": "the patch levels are malformed",
    "Failed to decode QeIdentity": "the quoting enclave's identity is malformed",
    "Failed to parse certs": "a certificate of the collateral is malformed",
    "Failed to parse TCB Info leaf certificate": "the certificate of the patch levels is malformed",
    "Failed to parse QE Identity leaf certificate": "the certificate of the quoting enclave's identity is malformed",
    "Unsupported QE Identity id/version": "the quoting enclave's identity is of another platform",
    "No TCB levels found in QE Identity": "the quoting enclave's identity has no patch levels",
}
"""What stops it before it has looked at the quote."""
_OTHER_ENCLAVE: Final = "the quoting enclave is not the one that Intel names"
_QUOTE: Final = {
    "Failed to extract PCK certificates from quote": "the platform's certificates are malformed",
    "Failed to parse PCK certificate": "the platform's certificate is malformed",
    "Signature is invalid for qe_report in quote": "the quoting enclave is not signed for by the platform",
    "QE report hash mismatch": "the quote's key is not the quoting enclave's",
    "Invalid QE auth data length": "what the quoting enclave adds to its key has an unknown length",
    "QE MRSIGNER mismatch": _OTHER_ENCLAVE,
    "QE ISVPRODID mismatch": _OTHER_ENCLAVE,
    "QE MISCSELECT mismatch": _OTHER_ENCLAVE,
    "QE ATTRIBUTES mismatch": _OTHER_ENCLAVE,
    "QE report validation failed": "the quoting enclave can be debugged",
    "QE ISVSVN": "Intel knows no patch level as low as the quoting enclave's",
    "ISV enclave report signature is invalid": "the quote's signature does not verify",
}
"""What stops it when the collateral has passed."""
_PATH: Final = "Failed to verify certificate chain"
_CERTIFICATE: Final = {
    "CertRevoked": "a certificate is revoked",
    "CertExpired": "a certificate has expired",
    "CertNotValidYet": "a certificate is not valid yet",
}
"""Why a chain stops it: the collateral's, or the platform's. Its signatures are good up to there."""
_LISTS: Final = {
    "UnknownRevocationStatus": "it has no revocation list of the authority that certifies the platform",
    "InvalidCrlSignatureForPublicKey": "a revocation list is not signed by its authority",
}
"""The same, where the collateral is at fault."""
_OTHER_KIND: Final = "the collateral is of another kind of platform"
_UNRATED: Final = {
    "No matching TCB level found": "Intel knows no patch level as low as the platform's",
    "Fmspc mismatch": _OTHER_KIND,
    "TDX quote with non-TDX TCB info in the collateral": "the collateral is not for TDX",
    "TDX module identity check": "the TDX module is not one that Intel knows",
    "TDX module TCB level check": "Intel knows no patch level of the TDX module as low as this one's",
    "Failed to evaluate the current TDX TCB (TEE_TCB_SVN2)": "Intel knows no patch level as low as the TDX module's",
    "TCB status is invalid: Revoked": "Revoked",
    "Debug mode is enabled": "not rated, as the TD can be debugged",
    "TD profiling is enabled": "not rated, as the TD can be profiled",
    "Reserved bits in TD attributes are set": "not rated, as the TD has unknown attributes",
    "TD migration is enabled": "not rated, as the TD can be migrated",
    "SERVTD_EXT is enabled": "not rated, as the TD has unknown attributes",
    "SEPT_VE_DISABLE is not enabled": "not rated, as the TD is interrupted when its pages are taken",
    "Invalid MR service TD": "not rated, as a service TD is bound",
    "SGX component count mismatch": "the patch levels are malformed",
    "TDX component count mismatch": "the patch levels are malformed",
}
"""What stops it when every signature has passed."""
REASONS: Final = frozenset().union(*(table.values() for table in (_COLLATERAL, _LISTS, _QUOTE, _CERTIFICATE)))
"""What an error of ours may say for one of the library's."""


def verify_quote(quote: Quote, collateral: Collateral, *, root: bytes, now: int) -> VerifiedQuote:
    """Verify every signature of the quote and its collateral up to `root` (DER), at `now`, unix seconds.

    Raises:
        CollateralError: the collateral's signatures or dates do not verify; the quote was not looked at.
        QuoteSignatureError: the quote's do not, or a certificate is revoked.
    """
    _require_plain(quote.certificates, root)
    _require_signers(collateral, root, now=now)
    try:
        verified = dcap_qvl.verify_with_root_ca(quote.exact, collateral.parsed, root, now)
    except ValueError as error:
        return _unrated(str(error).removeprefix(_PREFIX), quote, collateral)
    return VerifiedQuote(
        status=verified.status, advisories=tuple(sorted(verified.advisory_ids)), ppid=bytes(verified.ppid)
    )


def _unrated(said: str, quote: Quote, collateral: Collateral) -> VerifiedQuote:
    first, _, rest = said.partition("\n")
    if (reason := _reason(first, _UNRATED)) is not None:
        if reason == _OTHER_KIND:
            reason += f": its FMSPC is {collateral.fmspc}, the quote's {_fmspc(quote)}"
        return VerifiedQuote(status="", unrated=reason)
    cause = _CAUSE.match(rest.strip())
    why = cause[1] if cause and first == _PATH else ""
    if (reason := _reason(first, _COLLATERAL) or _LISTS.get(why)) is not None:
        raise CollateralError(reason)
    if (reason := _reason(first, _QUOTE)) is not None:
        raise QuoteSignatureError(reason, collateral_verified=True)
    # Of which chain the certificate is, the library does not say.
    raise QuoteSignatureError(_CERTIFICATE.get(why) or "a certificate does not verify")


def _reason(said: str, table: dict[str, str]) -> str | None:
    return next(
        (
            reason
            for words, reason in table.items()
            if said == words or said.startswith((f"{words}:", f"{words} "))
        ),
        None,
    )


def _fmspc(quote: Quote) -> str:
    """The quote's kind of platform, as it stands in its certificate, which is verified by now."""
    return str(dcap_qvl.parse_quote(quote.exact).fmspc())


def _require_signers(collateral: Collateral, root: bytes, *, now: int) -> None:
    """Refuse patch levels that anybody but Intel's root vouches for: the library takes every certificate with a path to it as their signer's.

    The key of each platform has such a path, two certificates long, so that whoever took one out of a machine could sign patch levels.

    Raises:
        CollateralError: not a certificate and the pinned root that issued it (Intel PCS API v4, TCB-Info-Issuer-Chain), or not valid at `now`.
    """
    for what, chain in zip(("patch levels", "quoting enclave's identity"), collateral.signers, strict=True):
        if len(chain) != _SIGNERS or chain[-1] != root:
            raise CollateralError(f"the signer of the {what} is not certified by the pinned root itself")
        first, last = _validity(chain[0])
        if not first <= now <= last:
            raise CollateralError(f"the certificate of the signer of the {what} is not valid at this time")


@functools.lru_cache(maxsize=16)
def _validity(der: bytes) -> tuple[int, int]:
    try:
        certificate = Certificate.parse(der)
    except DecodeError:
        raise CollateralError("a certificate of the collateral is malformed") from None
    return certificate.not_before, certificate.not_after


# The same platform shows the same chain in every quote; failures are not kept.
@functools.lru_cache(maxsize=16)
def _require_plain(chain: bytes, root: bytes) -> None:
    """Refuse certificates that could be read in two ways: the library does not look at the root, nor at what is between blocks.

    Raises:
        QuoteSignatureError: not the platform's certificate, one above it, and the pinned root, as PEM.
    """
    try:
        ders = certificates(chain)
    except DecodeError:
        raise QuoteSignatureError("the platform's certificates are malformed") from None
    if len(ders) != _CHAIN or ders[-1] != root:
        raise QuoteSignatureError("the platform's certificates do not lead to the pinned root")
    if chain.rstrip(b"\0\n") != armored(*ders):
        raise QuoteSignatureError("the platform's certificates are not plain PEM")


def platform_id(quote: Quote) -> bytes:
    """The platform's id (PPID) from the quote's certificate, 16 bytes, unverified; empty where it has none."""
    try:
        extension: Any = dcap_qvl.parse_quote(quote.exact).pck_extension()
    except ValueError:
        return b""
    return bytes(extension.ppid) if extension is not None else b""

"""The lines of what a paravisor adds: claims under the report, key under the claims, quote under the key, registers under the quote."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sottovoce.attest.paravisor.claims import USER_DATA, RuntimeClaims
from sottovoce.attest.paravisor.quote import PCRS, SignedQuote, TpmQuote
from sottovoce.attest.paravisor.signatures import claims_report_data, verify_quote
from sottovoce.attest.references import NO_REFERENCE, compare, only
from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import UsageError

__all__ = ["ParavisorReferences", "appraise_claims", "appraise_quote"]

_NONCE: Final = range(1, 65)
_PCR: Final = 32
_SHORT: Final = 16
_NO_QUOTE: Final = "no quote was given"
_TRUST: Final = "who controls the paravisor reads all memory, signs any quote and claims any setting; it is measured only when it starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParavisorReferences:
    """What claims and quote are compared with. A value that is not given is shown as not checked, never as passed.

    Attributes:
        nonce: what the quote must hold as extraData, 1 to 64 bytes.
        user_data: what the claims must hold, 64 bytes.
        pcrs: register (0 to 23) → its value, 32 bytes, or none.
    """

    nonce: bytes | None = None
    user_data: bytes | None = None
    pcrs: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.nonce is not None and len(self.nonce) not in _NONCE:
            raise UsageError("the expected nonce must have 1 to 64 bytes")
        if self.user_data is not None and len(self.user_data) != USER_DATA:
            raise UsageError("the expected user data must have 64 bytes")
        if any(number not in range(PCRS) or len(value) != _PCR for number, value in self.pcrs.items()):
            raise UsageError("an expected register is not one of 0 to 23, or has not 32 bytes")


def appraise_claims(
    data: bytes, report_data: bytes | None, expected: ParavisorReferences, checks: Checklist
) -> RuntimeClaims | None:
    """Record the lines of the claims, as they stand in the report; None where they do not parse.

    `report_data` (64 bytes) is the hardware report's, None where there is none.
    """
    checks.skip("paravisor-trust", _TRUST)
    if report_data is not None:
        wanted = claims_report_data(data)
        checks.add(
            "paravisor-claims",
            ok=report_data == wanted,
            found=report_data.hex(),
            wanted=f"{wanted.hex()}, SHA-256 of the claims and zeros",
        )
    claims = checks.attempt(
        "paravisor-key", lambda: RuntimeClaims.parse(data), wanted="RSA, 2,048 to 4,096 bits, exponent 65,537"
    )
    if claims is None:
        return None
    for check, value, wish in (
        ("paravisor-secure-boot", claims.secure_boot, True),
        ("paravisor-console", claims.console, False),
    ):
        checks.add(check, ok=value is wish, found=_switch(value), wanted=_switch(wish))
    compare("paravisor-user-data", claims.user_data, only(expected.user_data), checks)
    return claims


def appraise_quote(
    quote: SignedQuote | None, claims: RuntimeClaims | None, expected: ParavisorReferences, checks: Checklist
) -> None:
    """Record the lines of the quote. Where there is none, what is expected of it fails, and the rest is not checked."""
    if quote is None:
        _without_quote(expected, checks)
        return
    parsed = checks.attempt(
        "paravisor-quote", lambda: TpmQuote.parse(quote.message), wanted="TPM_ST_ATTEST_QUOTE, TPM_GENERATED"
    )
    if claims is not None:
        key = claims.attestation_key
        checks.attempt(
            "paravisor-quote-signature", lambda: verify_quote(quote, key), wanted="RSASSA-PKCS1-v1_5, SHA-256"
        )
    if parsed is not None:
        compare("paravisor-nonce", parsed.nonce, only(expected.nonce), checks)
        _registers(parsed, quote.pcrs, expected.pcrs, checks)


def _without_quote(expected: ParavisorReferences, checks: Checklist) -> None:
    for check in ("paravisor-quote", "paravisor-quote-signature", "paravisor-pcr-digest"):
        checks.skip(check, _NO_QUOTE)
    for check, wanted in (
        ("paravisor-nonce", expected.nonce.hex() if expected.nonce else ""),
        ("paravisor-pcrs", _names(expected.pcrs)),
    ):
        if wanted:
            checks.add(check, ok=False, found=_NO_QUOTE, wanted=wanted)
        else:
            checks.skip(check, _NO_QUOTE)


def _registers(
    quote: TpmQuote, shown: tuple[bytes, ...] | None, expected: Mapping[int, bytes], checks: Checklist
) -> None:
    if shown is None:
        checks.skip("paravisor-pcr-digest", "no registers were shown")
    else:
        digest = quote.digest_of(shown)
        checks.add(
            "paravisor-pcr-digest",
            ok=digest == quote.pcr_digest,
            found=f"{quote.pcr_digest.hex()[:_SHORT]}… over {_names(quote.selected)}",
            wanted=f"{digest.hex()[:_SHORT]}…",
        )
    if not expected:
        checks.skip("paravisor-pcrs", NO_REFERENCE)
        return
    # A register outside the selection is shown by nobody but the sender.
    wrong = [
        number
        for number, value in sorted(expected.items())
        if shown is None or number not in quote.selected or shown[number] != value
    ]
    checks.add(
        "paravisor-pcrs",
        ok=not wrong,
        found=f"{_names(wrong)}: another value, or not quoted" if wrong else _names(expected),
        wanted=_names(expected),
    )


def _names(numbers: Iterable[int]) -> str:
    # 0, 1, 2, 7 → PCR 0-2, 7
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    texts = [str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans]
    return f"PCR {', '.join(texts)}" if texts else ""


def _switch(value: bool | None) -> str:  # noqa: FBT001 - what the claims say
    return "not said" if value is None else "on" if value else "off"

"""Steps 2, 3, 4 and 6 for a TDX quote."""

import hashlib
from typing import Final

from sottovoce.attest.platform import AppraisedPlatform
from sottovoce.attest.policy import TDX_PRODUCT, TdxPolicy
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.tdx.policy import HostConfig, check_fields
from sottovoce.attest.tdx.signatures import (
    CollateralError,
    QuoteSignatureError,
    VerifiedQuote,
    platform_id,
    verify_quote,
)
from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import PeerError

__all__ = ["appraise", "launch_measurement"]

_NO_CONFIG: Final = HostConfig()
_NO_CLOCK: Final = "left to the device, which has a clock"
_MEASUREMENT_LABEL: Final = b"sottovoce/1 tdx measurement"
_SIGNED: Final = "by a quoting enclave that the pinned root vouches for"


def launch_measurement(quote: Quote) -> bytes:
    """What a release names for a TD, 48 bytes: SHA-384 over a label, MRTD and RTMR0 to 3 (protocol section 6.8)."""
    return hashlib.sha384(b"".join((_MEASUREMENT_LABEL, quote.mr_td, *quote.rtmrs))).digest()


def appraise(
    data: bytes,
    collateral: bytes,
    policy: TdxPolicy,
    checks: Checklist,
    *,
    now: int | None,
    config: HostConfig | None = _NO_CONFIG,
) -> tuple[AppraisedPlatform, Quote] | None:
    """Record every line that can be evaluated for the quote `data`, at `now`, unix seconds; None where there is no clock.

    `config` is what the host may have bound to the TD; None where nothing is known of that. Returns what the quote says, and the quote; None where there is none that parses.
    """
    quote = _quote(data, checks)
    vouched = _collateral(collateral, checks, now=now)
    product, ppid = "", b""
    if quote is not None and vouched is not None:
        verified = _signature(quote, vouched, policy, checks, now=now)
        if verified is not None:
            product, ppid = TDX_PRODUCT, verified.ppid
            _patches(verified, policy, checks)
        _evaluation(vouched, policy, checks)
    if quote is None:
        return None
    check_fields(quote, checks, config)
    ppid = ppid or platform_id(quote)
    checks.add(
        "tdx-hardware-id", ok=any(ppid), found=f"{ppid.hex()[:16]}…" if any(ppid) else "none", wanted="an id"
    )
    appraised = AppraisedPlatform(
        product=product,
        hardware_id=ppid,
        report_data=quote.report_data,
        measurement=launch_measurement(quote),
        vmpl=None,
    )
    return appraised, quote


def _quote(data: bytes, checks: Checklist) -> Quote | None:
    wanted = "4 or 5, of a trust domain"
    try:
        quote = Quote.parse(data)
    except PeerError as error:
        checks.add("tdx-version", ok=False, found=str(error), wanted=wanted)
        return None
    checks.add("tdx-version", ok=True, found=str(quote.version), wanted=wanted)
    after = len(quote.trailing)
    checks.add("tdx-trailing", ok=not after, found=f"{after} bytes", wanted="nothing, or zeros")
    return quote


# 2. What the vendor says.
def _collateral(data: bytes, checks: Checklist, *, now: int | None) -> Collateral | None:
    try:
        collateral = Collateral.parse(data)
    except PeerError as error:
        checks.add(
            "tdx-collateral", ok=False, found=str(error) if data else "there is none", wanted="Intel's"
        )
        return None
    if now is None:
        checks.skip("tdx-collateral-dates", _NO_CLOCK)
    else:
        checks.attempt("tdx-collateral-dates", lambda: collateral.require_current(now=now), wanted="current")
    return collateral


# 3.
def _signature(
    quote: Quote, collateral: Collateral, policy: TdxPolicy, checks: Checklist, *, now: int | None
) -> VerifiedQuote | None:
    # Dates have a line of their own; signatures are judged as of the collateral's time where it is not current.
    at = collateral.within(now)
    try:
        verified = verify_quote(quote, collateral, root=policy.root, now=at)
    except CollateralError as error:
        checks.add("tdx-collateral", ok=False, found=str(error), wanted="Intel's")
        return None
    except QuoteSignatureError as error:
        if error.collateral_verified:
            checks.add("tdx-collateral", ok=True, found="Intel's", wanted="Intel's")
        checks.add("tdx-signature", ok=False, found=str(error), wanted=_SIGNED)
        return None
    checks.add("tdx-collateral", ok=True, found="Intel's", wanted="Intel's")
    checks.add("tdx-signature", ok=True, found="ECDSA P-256", wanted=_SIGNED)
    return verified


# 4.
def _patches(verified: VerifiedQuote, policy: TdxPolicy, checks: Checklist) -> None:
    checks.add(
        "tdx-tcb-status",
        ok=verified.status in policy.statuses,
        found=verified.status or verified.unrated,
        wanted=" or ".join(sorted(policy.statuses)),
    )
    if not verified.status:
        return  # without a level no advisories are known, and the line says so
    others = [name for name in verified.advisories if name not in policy.advisories]
    allowed = ", ".join(sorted(policy.advisories))
    checks.add(
        "tdx-advisories",
        ok=not others,
        found=", ".join(verified.advisories) or "none",
        wanted=f"none but {allowed}" if allowed else "none",
    )


def _evaluation(collateral: Collateral, policy: TdxPolicy, checks: Checklist) -> None:
    number = collateral.evaluation
    if policy.evaluation is not None:
        wanted = f"at least {policy.evaluation}"
        checks.add("tdx-evaluation", ok=number >= policy.evaluation, found=str(number), wanted=wanted)

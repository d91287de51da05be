"""Steps 2, 3, 4 and 6 for an SNP report, and the part of step 5 that is between certificate and report."""

import hashlib
from dataclasses import dataclass

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.platform import AppraisedPlatform
from sottovoce.attest.policy import Root, SnpPolicy
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.attest.snp import policy as snp_policy
from sottovoce.attest.snp import signatures
from sottovoce.attest.snp.floors import part_of
from sottovoce.attest.snp.layout import TURIN_CHIP_ID, Report
from sottovoce.attest.snp.vcek import VCEK_NAME, certified_tcb, hardware_id, product_name
from sottovoce.attest.verdict import Checklist, quietly
from sottovoce.core.errors import PeerError

__all__ = ["appraise"]

_VCEK_KEY = 0
_KEYS = {0: "VCEK", 1: "VLEK", 7: "none"}
_KIND = "sev-snp"
_NO_CLOCK = "left to the device, which has a clock"
_ROOT_OF = {"Siena": "Genoa"}
"""Product lines whose keys lead to another line's root."""


def appraise(
    data: bytes,
    endorsements: Endorsements,
    policy: SnpPolicy,
    checks: Checklist,
    *,
    kind: str,
    now: int | None,
    revoked: frozenset[str] = frozenset(),
    without_list: bool = False,
) -> tuple[AppraisedPlatform, Report] | None:
    """Record every line that can be evaluated for the report `data` of a platform of `kind`.

    `revoked` holds SHA-256 digests of certificates, hex. `without_list` leaves the lines of the revocation list to the caller.
    Returns what the report says, and the report; None where there is none that parses.
    """
    chain = _chain(endorsements, policy, checks, now=now)
    if chain is not None and not without_list:
        _revocation(endorsements, chain, checks, now=now, revoked=revoked)
    report = _report(data, chain.vcek if chain else None, checks)
    if report is None:
        return None
    product = ""
    if chain is not None:
        vcek = chain.vcek
        checks.attempt(
            "signature", lambda: signatures.verify_report(report, vcek), wanted="ECDSA P-384, SHA-384"
        )
        product = _product(kind, report, chain, policy, checks)
        _tcb(report, product, vcek, policy, checks)
        _hardware_id(report, vcek, checks)
    snp_policy.check_bits(report, checks)
    snp_policy.check_demanded(report, policy.tightened, checks)
    appraised = AppraisedPlatform(
        product=product,
        hardware_id=_chip_id(report),
        report_data=report.report_data,
        measurement=report.measurement,
        vmpl=report.vmpl,
    )
    return appraised, report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    root: Root
    ark: Certificate
    ask: Certificate
    vcek: Certificate


# 2. Chain, revocation list, product.
def _chain(
    endorsements: Endorsements, policy: SnpPolicy, checks: Checklist, *, now: int | None
) -> _Chain | None:
    names = ", ".join(root.product for root in policy.roots)
    chain = _trusted(endorsements, policy.roots)
    if isinstance(chain, str):
        checks.add("chain", ok=False, found=chain, wanted=f"a pinned root: {names}")
        return None
    checks.add("chain", ok=True, found=f"{chain.root.product} root", wanted=f"a pinned root: {names}")
    if now is None:
        checks.skip("chain-dates", _NO_CLOCK)
    else:
        checks.attempt(
            "chain-dates",
            lambda: signatures.require_valid(chain.ark, chain.ask, chain.vcek, now=now),
            wanted="all three valid",
        )
    return chain


def _trusted(endorsements: Endorsements, roots: tuple[Root, ...]) -> _Chain | str:
    """The chain to one of `roots`, or why there is none."""
    if not endorsements.ask:
        return "the certificate between the root and the key is missing"
    reason = ""
    for root in roots:
        try:
            ark, ask, vcek = signatures.verify_chain(
                ark_der=root.ark_der, ask_der=endorsements.ask, vcek_der=endorsements.vcek
            )
        except PeerError as error:
            reason = str(error)
        else:
            return _Chain(root=root, ark=ark, ask=ask, vcek=vcek)
    return reason


def _revocation(
    endorsements: Endorsements,
    chain: _Chain,
    checks: Checklist,
    *,
    now: int | None,
    revoked: frozenset[str],
) -> None:
    crl = checks.attempt(
        "revocation-list",
        lambda: signatures.verify_revocation_list(endorsements.crl, ark=chain.ark),
        wanted="present, signed by the root",
    )
    if crl is None:
        return
    if now is None:
        checks.skip("revocation-list-dates", _NO_CLOCK)
    else:
        checks.attempt(
            "revocation-list-dates", lambda: signatures.require_current(crl, now=now), wanted="current"
        )
    # The list is the root's, so its serial numbers are those of the intermediates: every VCEK has serial number 0.
    digests = {hashlib.sha256(certificate.der).hexdigest() for certificate in (chain.ask, chain.vcek)}
    bad = chain.ask.serial in crl.serials or bool(digests & revoked)
    checks.add("revoked", ok=not bad, found="revoked" if bad else "not revoked", wanted="not revoked")


def _product(kind: str, report: Report, chain: _Chain, policy: SnpPolicy, checks: Checklist) -> str:
    named = quietly(lambda: product_name(chain.vcek)) or ""
    fits = (
        _ROOT_OF.get(named, named) == chain.root.product
        and snp_policy.cpuid_fits(report, named)
        and kind == (SIMULATED_KIND if chain.root.product == SIMULATED_PRODUCT else _KIND)
    )
    checks.add(
        "product-match",
        ok=fits,
        found=f"{chain.root.product} root, {kind}, "
        + ("the certificate and the report agree" if fits else "certificate or report of another product"),
        wanted="the same product",
    )
    product = named if fits else chain.root.product
    wanted = " or ".join(
        sorted(policy.products - (frozenset() if kind == SIMULATED_KIND else {SIMULATED_PRODUCT}))
    )
    checks.add("product", ok=product in policy.products, found=product, wanted=wanted)
    return product


# 3. Version and signing key; the signature itself needs the chain.
def _report(data: bytes, key: Certificate | None, checks: Checklist) -> Report | None:
    wanted = "2, 3, 4 or 5, reserved bytes zero"
    try:
        report = Report.parse(data)
    except PeerError as error:
        checks.add("version", ok=False, found=str(error), wanted=wanted)
        return None
    checks.add("version", ok=True, found=str(report.version), wanted=wanted)
    masked = ", masked" if report.mask_chip_key else ""
    other = key is not None and key.common_name != VCEK_NAME
    checks.add(
        "signing-key",
        ok=report.signing_key == _VCEK_KEY and not report.mask_chip_key and not other,
        found=_KEYS.get(report.signing_key, "unknown")
        + masked
        + (", the certificate is a VLEK's" if other else ""),
        wanted="VCEK, not masked",
    )
    return report


# 4. Patch levels.
def _tcb(report: Report, product: str, vcek: Certificate, policy: SnpPolicy, checks: Checklist) -> None:
    try:
        certified = certified_tcb(vcek, turin=report.is_turin)
        reported, committed = report.tcb(report.reported_tcb), report.tcb(report.committed_tcb)
        for value in (report.current_tcb, report.launch_tcb):
            report.tcb(value)  # reserved bytes
    except PeerError as error:
        checks.add("tcb-certificate", ok=False, found=str(error), wanted="equal patch levels")
        return
    checks.add("tcb-certificate", ok=certified == reported, found=str(certified), wanted=str(reported))
    part = part_of(product, report.cpuid)
    floor = policy.floors.get(part)
    checks.add(
        "tcb-floor",
        ok=floor is not None and certified.at_least(floor.tcb),
        found=f"{part or 'an unknown part'}: {certified}",
        wanted=f"at least {floor.tcb} ({floor.source})" if floor else "a part that has a floor in the policy",
    )
    checks.add(
        "tcb-committed", ok=committed.at_least(reported), found=str(committed), wanted=f"at least {reported}"
    )


# 5, between certificate and report.
def _chip_id(report: Report) -> bytes:
    return report.chip_id[:TURIN_CHIP_ID] if report.is_turin else report.chip_id


def _hardware_id(report: Report, vcek: Certificate, checks: Checklist) -> None:
    chip = _chip_id(report)
    # On Turin the rest of the field is reserved; an all-zero id is one that the host has masked.
    usable = any(chip) and not any(report.chip_id[len(chip) :])
    certified = quietly(lambda: hardware_id(vcek, turin=report.is_turin)) or b""
    found = f"{chip.hex()[:16]}… in the report, {f'{certified.hex()[:16]}…' if certified else 'none'} in the certificate"
    unusable = "bytes behind the id" if any(chip) else "masked"
    checks.add(
        "hardware-id",
        ok=usable and certified == chip,
        found=found if usable else unusable,
        wanted="equal, and not masked",
    )

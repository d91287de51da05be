"""Evidence of a simulated paravisor, and what judges it."""

from collections.abc import Callable
from typing import Any

from sottovoce.attest.paravisor.appraisal import ParavisorReferences
from sottovoce.attest.paravisor.quote import SignedQuote
from sottovoce.attest.paravisor.verify import verify_paravisor
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.verdict import Status, Verdict
from sottovoce.simulator.paravisor import SimulatedParavisor
from sottovoce.simulator.testing import NOW, vendor

VENDOR = vendor()
CHIP = VENDOR.make_chip(now=NOW)
MEASUREMENT = b"\x07" * 48
NONCE = b"n" * 32
USER_DATA = b"u" * 64
VTPM = SimulatedParavisor(CHIP, MEASUREMENT, user_data=USER_DATA)
REPORT = VTPM.hcl_report()
QUOTE = VTPM.quote(NONCE)
EXPECTED = ParavisorReferences(nonce=NONCE, user_data=USER_DATA, pcrs={0: VTPM.pcrs[0], 7: VTPM.pcrs[7]})
OPTIONAL = {
    "policy-page-swap", "platform-tsme", "platform-ecc", "platform-iommu-write-safe", "mitigation-vectors",
    "chip", "measurement", "host-data", "id-key", "guest-svn", "paravisor-trust",
}  # fmt: skip
"""What stands as not checked in good evidence without references for the SNP report."""


def verify(report: bytes = REPORT, quote: SignedQuote | None = QUOTE, **changes: Any) -> Verdict:
    arguments: dict[str, Any] = {
        "vcek": CHIP.vcek,
        "intermediates": (VENDOR.ask,),
        "crl": VENDOR.crl,
        "policy": SnpPolicy(roots=(VENDOR.root,)),
        "now": NOW,
        "expected": EXPECTED,
        **changes,
    }
    return verify_paravisor(report, quote=quote, **arguments)


def failed(verdict: Verdict) -> set[str]:
    assert not verdict.accepted
    return {check.id for check in verdict.failed}


def skipped(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.checks if check.status is Status.NOT_CHECKED}


def paravisor(change: Callable[[dict[str, Any]], Any]) -> SimulatedParavisor:
    """Another simulated paravisor, whose claims are changed before it has its report made."""
    other = SimulatedParavisor(CHIP, MEASUREMENT, user_data=USER_DATA)
    change(other.claims)
    return other

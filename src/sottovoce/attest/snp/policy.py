"""The guest policy and platform bits of a report (protocol section 6.6), one line each."""

from collections.abc import Mapping
from typing import Final

from sottovoce.attest.simulated import SIMULATED_PRODUCT
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.verdict import Checklist

__all__ = ["check_bits", "check_demanded", "cpuid_fits"]

# Families and models by product line (AMD 57230 section 4.1): Genoa's 0xA0 to 0xAF are its dense variants. Simulated processors
# say that they are Genoa.
_GENOA: Final = (0x19, (range(0x10, 0x20), range(0xA0, 0xB0)))
_CPUID: Final[Mapping[str, tuple[int, tuple[range, ...]]]] = {
    "Milan": (0x19, (range(0x10),)),
    "Genoa": _GENOA,
    "Siena": _GENOA,
    "Turin": (0x1A, (range(0x20),)),
    SIMULATED_PRODUCT: _GENOA,
}
_SINCE_VERSION_3: Final = frozenset({"Turin"})
"""Products that never signed a report without CPUID: theirs would be read in the wrong layout."""


def cpuid_fits(report: Report, product: str) -> bool:
    """Whether the processor that the report names is of the product line `product`."""
    if product not in _CPUID:
        return False
    if report.cpuid is None:
        return product not in _SINCE_VERSION_3
    family, models = _CPUID[product]
    return report.cpuid[0] == family and any(report.cpuid[1] in span for span in models)


# AMD 56860 table 10, POLICY: (check, bit, wanted)
_GUEST: Final = (
    ("policy-debug", 19, 0),
    ("policy-migrate", 18, 0),
    ("policy-smt", 16, 0),
    ("policy-cxl", 21, 0),
    ("policy-single-socket", 20, 1),
    ("policy-aes-256-xts", 22, 1),
    ("policy-rapl", 23, 1),
    ("policy-ciphertext-hiding", 24, 1),
)
_GUEST_RESERVED_ONE: Final = 1 << 17
_GUEST_KNOWN: Final = (1 << 26) - 1
# AMD 56860 table 24, PLATFORM_INFO
_PLATFORM: Final = (
    ("platform-smt", 0, 0),
    ("platform-rapl", 3, 1),
    ("platform-ciphertext-hiding", 4, 1),
    ("platform-alias-check", 5, 1),
)
_PLATFORM_KNOWN: Final = 0xFF  # bit 6 came with AMD-SB-3016; bit 7 says that trusted I/O is on
# Checks that only a policy can demand: (check, field, bit)
_OPTIONAL: Final = (
    ("policy-page-swap", "policy", 25),
    ("platform-tsme", "platform_info", 1),
    ("platform-ecc", "platform_info", 2),
    ("platform-iommu-write-safe", "platform_info", 6),
)


def check_bits(report: Report, checks: Checklist) -> None:
    """Record one line for each bit, and one for the unknown bits of each word."""
    unknown = report.policy & ~_GUEST_KNOWN or not report.policy & _GUEST_RESERVED_ONE
    checks.add(
        "policy-reserved",
        ok=not unknown,
        found=f"{report.policy:#x}",
        wanted="bit 17 set, 26 and above clear",
    )
    for check, bit, wanted in _GUEST:
        value = report.policy >> bit & 1
        checks.add(check, ok=value == wanted, found=str(value), wanted=str(wanted))
    unknown = report.platform_info & ~_PLATFORM_KNOWN
    checks.add(
        "platform-reserved",
        ok=not unknown,
        found=f"{report.platform_info:#x}",
        wanted="bits 8 and above clear",
    )
    for check, bit, wanted in _PLATFORM:
        value = report.platform_info >> bit & 1
        checks.add(check, ok=value == wanted, found=str(value), wanted=str(wanted))


def check_demanded(report: Report, demanded: frozenset[str], checks: Checklist) -> None:
    """Record the optional checks that a policy demands."""
    for check, word, bit in _OPTIONAL:
        if check in demanded:
            value = getattr(report, word) >> bit & 1
            checks.add(check, ok=value == 1, found=str(value), wanted="1")
    if "mitigation-vectors" in demanded:
        launch, current = report.mitigations or (0, 0)
        kept = report.mitigations is not None and launch & ~current == 0
        found = f"launch {launch:#x}, now {current:#x}" if report.mitigations else "a report without them"
        checks.add("mitigation-vectors", ok=kept, found=found, wanted="all of those at launch")

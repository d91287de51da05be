"""The lowest patch levels that are accepted, from AMD's security bulletins, each with its source.

AMD numbers microcode by stepping, so that one line of products needs several floors. A part that is not listed has no floor, and
is refused. Bulletins give no value for the boot loader and the TEE, so theirs is zero here; a policy file can demand more.

To raise a floor: change it here with the bulletin that says so, and say it in the changelog.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.simulated import SIMULATED_FLOOR, SIMULATED_PRODUCT
from sottovoce.attest.snp.layout import Tcb

__all__ = ["FLOORS", "PARTS", "Floor", "part_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The lowest accepted patch levels of one part, and where they come from."""

    tcb: Tcb
    source: str


# (family, model, stepping) → part: AMD 57230 section 4.1 and the steppings that the bulletins name
_PARTS: Final[Mapping[tuple[int, int, int], str]] = {
    (0x19, 0x01, 1): "Milan",
    (0x19, 0x01, 2): "Milan-X",
    (0x19, 0x11, 1): "Genoa",
    (0x19, 0x11, 2): "Genoa-X",
    (0x19, 0xA0, 2): "Bergamo or Siena",
    (0x1A, 0x02, 1): "Turin",
    (0x1A, 0x11, 0): "Turin Dense",  # no bulletin gives its levels as SPLs; a policy file can
}
PARTS: Final = frozenset({*_PARTS.values(), SIMULATED_PRODUCT})
"""Every part that a floor can be given for."""

FLOORS: Final[Mapping[str, Floor]] = {
    # 2025-02 AMD-SB-3019: microcode 0x0A0011DB; 2026-05 AMD-SB-3030: TCB[SNP] 0x1D
    "Milan": Floor(tcb=Tcb(bootloader=0, tee=0, snp=0x1D, microcode=0xDB), source="AMD-SB-3030; AMD-SB-3019"),
    # AMD-SB-3019: microcode 0x0A001244
    "Milan-X": Floor(
        tcb=Tcb(bootloader=0, tee=0, snp=0x1D, microcode=0x44), source="AMD-SB-3030; AMD-SB-3019"
    ),
    # AMD-SB-3020: TCB[SNP] 0x1B; AMD-SB-3027: TCB[MICROCODE] 0x56 and, for Genoa-X, 0x51
    "Genoa": Floor(tcb=Tcb(bootloader=0, tee=0, snp=0x1B, microcode=0x56), source="AMD-SB-3020; AMD-SB-3027"),
    "Genoa-X": Floor(
        tcb=Tcb(bootloader=0, tee=0, snp=0x1B, microcode=0x51), source="AMD-SB-3020; AMD-SB-3027"
    ),
    # AMD-SB-3019: microcode 0x0AA00219
    "Bergamo or Siena": Floor(
        tcb=Tcb(bootloader=0, tee=0, snp=0x1B, microcode=0x19), source="AMD-SB-3020; AMD-SB-3019"
    ),
    # AMD-SB-3020: TCB[SNP] 0x04; AMD-SB-3027: TCB[MICROCODE] 0x51
    "Turin": Floor(
        tcb=Tcb(fmc=0, bootloader=0, tee=0, snp=0x04, microcode=0x51), source="AMD-SB-3020; AMD-SB-3027"
    ),
    SIMULATED_PRODUCT: Floor(tcb=SIMULATED_FLOOR, source="the simulator"),
}


def part_of(product: str, cpuid: tuple[int, int, int] | None) -> str:
    """The part whose floor counts; empty for one that is not known.

    A report of version 2 names no processor; then it is held to the floor of the line's first part, which is the highest.
    """
    if cpuid is None or product == SIMULATED_PRODUCT:
        return product if product in PARTS else ""
    return _PARTS.get(cpuid, "")

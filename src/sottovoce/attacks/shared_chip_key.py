"""A report signed with a key that a cloud operator shares among its chips: VLEK (row 10)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK"]

# AMD 56860 table 23: KEY_INFO, bits 2 to 4 say which key signs; bit 1 says that the chip's key is masked
_VLEK: Final = 1 << 2
_MASKED: Final = 1 << 1


def _says_vlek(fields: ReportFields) -> ReportFields:
    return replace(fields, key_flags=_VLEK)


def _says_masked(fields: ReportFields) -> ReportFields:
    return replace(fields, key_flags=_MASKED)


def _shared(stage: Stage, target: Target) -> Evidence:
    chip = stage.vendor.make_shared_key(now=stage.now, chip_id=stage.chip.chip_id, operator="a cloud")
    return stage.evidence(target, chip=chip, change=_says_vlek)


ATTACK: Final = Attack(
    name="shared-chip-key",
    row="10",
    who=f"{HOST}, with a VLEK from the vendor",
    tries="a key that many chips share, so that the signature does not say which one it was",
    stopped_by=("signing-key", "hardware-id"),
    trials=(
        Trial(
            tries="a VLEK and its certificate",
            stopped_by=frozenset({"signing-key", "hardware-id"}),
            forge=_shared,
        ),
        Trial(
            tries="a report that says VLEK under a VCEK's certificate",
            stopped_by=frozenset({"signing-key"}),
            forge=lambda stage, target: stage.evidence(target, change=_says_vlek),
        ),
        Trial(
            tries="a report that says that the chip's key is masked",
            stopped_by=frozenset({"signing-key"}),
            forge=lambda stage, target: stage.evidence(target, change=_says_masked),
        ),
    ),
)

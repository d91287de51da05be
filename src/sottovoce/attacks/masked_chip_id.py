"""A report whose chip id the host has masked (row 10)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.attest.snp.layout import CHIP_ID
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK"]

_ZERO: Final = bytes(CHIP_ID)


def _mask(fields: ReportFields) -> ReportFields:
    return replace(fields, chip_id=_ZERO)


def _both(stage: Stage, target: Target) -> Evidence:
    chip = stage.vendor.make_chip(now=stage.now, chip_id=_ZERO)
    return stage.evidence(target, chip=chip)


ATTACK: Final = Attack(
    name="masked-chip-id",
    row="10",
    who=f"{HOST}, with the firmware's MASK_CHIP_ID",
    tries="a report that does not say which chip it is of",
    stopped_by=("hardware-id", "host"),
    trials=(
        Trial(
            tries="an id of zeros in the report",
            stopped_by=frozenset({"hardware-id", "host"}),
            forge=lambda stage, target: stage.evidence(target, change=_mask),
        ),
        Trial(
            tries="an id of zeros in the report and in the certificate",
            stopped_by=frozenset({"hardware-id", "host"}),
            forge=_both,
        ),
    ),
)

"""A genuine chip on old firmware, with the genuine certificate for that (row 8)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.simulator.pki import GOOD_TCB
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK"]

_OLD: Final = replace(GOOD_TCB, snp=GOOD_TCB.snp - 1)
_BACK: Final = replace(GOOD_TCB, microcode=GOOD_TCB.microcode - 1)


def _old(stage: Stage, target: Target) -> Evidence:
    chip = stage.vendor.make_chip(now=stage.now, tcb=_OLD, chip_id=stage.chip.chip_id)
    return stage.evidence(target, chip=chip)


def _can_go_back(fields: ReportFields) -> ReportFields:
    return replace(fields, committed_tcb=_BACK)


ATTACK: Final = Attack(
    name="old-certificate",
    row="8",
    who=f"{HOST}, who keeps or puts back old firmware",
    tries="firmware below the floor, with the vendor's certificate for it; firmware that can still be put back",
    stopped_by=("tcb-floor", "tcb-committed"),
    trials=(
        Trial(
            tries="certificate and report below the floor", stopped_by=frozenset({"tcb-floor"}), forge=_old
        ),
        Trial(
            tries="committed levels below the reported",
            stopped_by=frozenset({"tcb-committed"}),
            forge=lambda stage, target: stage.evidence(target, change=_can_go_back),
        ),
    ),
)

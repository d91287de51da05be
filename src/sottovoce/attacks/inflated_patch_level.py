"""A report that claims newer firmware than its key is certified for (row 8)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.simulator.pki import GOOD_TCB
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK"]

_NEWER: Final = replace(GOOD_TCB, snp=GOOD_TCB.snp + 1, microcode=GOOD_TCB.microcode + 1)
_OLDER: Final = replace(GOOD_TCB, snp=GOOD_TCB.snp - 1)


def _claims(fields: ReportFields) -> ReportFields:
    return replace(fields, reported_tcb=_NEWER, committed_tcb=_NEWER)


def _repaired(fields: ReportFields) -> ReportFields:
    return replace(fields, reported_tcb=GOOD_TCB, committed_tcb=GOOD_TCB)


def _newer(stage: Stage, target: Target) -> Evidence:
    return stage.evidence(target, change=_claims)


def _current(stage: Stage, target: Target) -> Evidence:
    old = stage.vendor.make_chip(now=stage.now, tcb=_OLDER, chip_id=stage.chip.chip_id)
    return stage.evidence(target, chip=old, change=_repaired)


ATTACK: Final = Attack(
    name="inflated-patch-level",
    row="8",
    who=f"{HOST}, on firmware with a hole through which a report's fields can be changed",
    tries="a report that claims higher patch levels than its certificate",
    stopped_by=("tcb-certificate",),
    trials=(
        Trial(
            tries="levels above the certificate's, which are good enough",
            stopped_by=frozenset({"tcb-certificate"}),
            forge=_newer,
        ),
        Trial(
            tries="levels at the floor, with a certificate for levels below it",
            stopped_by=frozenset({"tcb-certificate", "tcb-floor"}),
            forge=_current,
        ),
    ),
)

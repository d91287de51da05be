"""A genuine report from a genuine chip that nobody has listed (row 10)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.simulator.operator import host_of
from sottovoce.tlog.entries import Host

__all__ = ["ATTACK"]

_CHIP_ID: Final = b"a chip that was bought, opened and has lost its keys".ljust(64, b".")


def _listed(stage: Stage, target: Target) -> Evidence:
    chip = stage.vendor.make_chip(now=stage.now, chip_id=_CHIP_ID)
    return stage.evidence(target, chip=chip)


def _entry(stage: Stage) -> Host:
    chip = replace(stage.chip, chip_id=_CHIP_ID)
    return host_of("orchestrator-unlisted", "orchestrator", chip)


def _logged(stage: Stage, target: Target) -> Evidence:
    return replace(_listed(stage, target), host=stage.prove(_entry(stage).encode()))


ATTACK: Final = Attack(
    name="unlisted-chip",
    row="10",
    who=f"{OPERATOR}, and a chip of the same vendor that is in other hands",
    tries="the published image on a genuine chip that is not in the directory",
    stopped_by=("host", "candidate"),
    trials=(
        Trial(
            tries="under the name of a listed host",
            stopped_by=frozenset({"host"}),
            forge=_listed,
        ),
        Trial(
            tries="under an entry of its own, which is in the log and not in the directory",
            stopped_by=frozenset({"host", "candidate"}),
            forge=_logged,
        ),
    ),
    entries=lambda stage: (_entry(stage).encode(),),
)

"""Another machine with the same image in the place of the one that is named (part B)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence

__all__ = ["ATTACK"]


def _under_its_name(stage: Stage, target: Target) -> Evidence:
    return stage.evidence(target, chip=stage.chips[stage.another()])


def _other_papers(stage: Stage, target: Target) -> Evidence:
    other = stage.chips[stage.another()]
    evidence = stage.evidence(target)
    return replace(evidence, endorsements=replace(evidence.endorsements, vcek=other.vcek))


def _back_ends_machine(stage: Stage, target: Target) -> Evidence:
    """The orchestrator's image on the guard's machine."""
    return stage.evidence(target, machine=stage.of_role("guard"))


ATTACK: Final = Attack(
    name="swapped-machine",
    row="B",
    who=OPERATOR,
    tries="the published image on another listed machine, passed off as the one that the device was sent to",
    stopped_by=("host", "candidate", "signature", "hardware-id"),
    trials=(
        Trial(
            tries="another machine's report under this machine's name",
            stopped_by=frozenset({"host"}),
            forge=_under_its_name,
        ),
        Trial(
            tries="this machine's report under another machine's certificate",
            stopped_by=frozenset({"signature", "hardware-id"}),
            forge=_other_papers,
        ),
        Trial(
            tries="a machine that is listed for another role",
            stopped_by=frozenset({"host", "candidate"}),
            forge=_back_ends_machine,
        ),
    ),
)

"""Evidence of a graphics processor that the release knows nothing of (row 28)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence

__all__ = ["ATTACK"]


def _shows(stage: Stage, target: Target, *shown: bytes) -> Evidence:
    return replace(stage.evidence(target), accelerators=shown)


ATTACK: Final = Attack(
    name="undeclared-accelerator",
    row="28",
    who=OPERATOR,
    tries="a graphics processor attached to a CVM whose release declares none",
    stopped_by=("accelerators",),
    trials=(
        Trial(
            tries="something shown of it",
            stopped_by=frozenset({"accelerators"}),
            forge=lambda stage, target: _shows(stage, target, b"evidence of a GPU"),
        ),
        Trial(
            tries="empty evidence of it",
            stopped_by=frozenset({"accelerators"}),
            forge=lambda stage, target: _shows(stage, target, b""),
        ),
    ),
)

"""The host sends a user to a machine that it has chosen for him (part B)."""

from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="steered-choice",
    row="B",
    who=f"{OPERATOR}: router and gateway are its own",
    tries="a genuine, listed and logged machine that is none of the two that the device drew",
    stopped_by=("candidate",),
    trials=(
        Trial(
            tries="evidence of the third of three machines",
            stopped_by=frozenset({"candidate"}),
            forge=lambda stage, target: stage.evidence(target, machine=stage.another()),
            undrawn=True,
        ),
    ),
)

"""The host moves the CVM's clock (part B)."""

from typing import Final

from sottovoce.attacks.attack import HOST, Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="moved-clock",
    row="B",
    who=f"{HOST}, who gives a CVM its time",
    tries="a clock ten years ahead or back, so that a CVM takes what has expired, or refuses what is good",
    stopped_by=("no decision rests on it",),
    tested="tests/attack/test_moved_clock.py: simulated machines share this machine's clock, which must not be moved",
)

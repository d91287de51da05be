"""A graphics processor's evidence that is another session's, or of one that is not as it should be (row 28)."""

from typing import Final

from sottovoce.attacks.attack import HOST, Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="forged-accelerator",
    row="28",
    who=HOST,
    tries="a graphics processor's report with another nonce, a wrong measurement, or in another mode; one shown for two",
    stopped_by=("nvidia-nonce", "nvidia-measurements", "nvidia-mode", "nvidia-distinct"),
    tested="tests/attack/test_forged_accelerator.py: the CVMs of this world declare no graphics processor, and its devices pin no "
    "vendor of one, so each would be refused for that",
)

"""The published image, launched under a weaker policy: each bit of POLICY that is judged, one at a time (row 9)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK", "JUDGED"]

# AMD 56860 table 10. Bits 0 to 15 are the lowest ABI version, bit 25 forbids page swapping: no default rule judges them.
_NAMED: Final = {
    16: "policy-smt",
    17: "policy-reserved",
    18: "policy-migrate",
    19: "policy-debug",
    20: "policy-single-socket",
    21: "policy-cxl",
    22: "policy-aes-256-xts",
    23: "policy-rapl",
    24: "policy-ciphertext-hiding",
}
JUDGED: Final = {**_NAMED, **dict.fromkeys(range(26, 64), "policy-reserved")}
"""Bit → the check that must catch it."""


def _trial(bit: int, check: str) -> Trial:
    def flip(fields: ReportFields) -> ReportFields:
        return replace(fields, policy=fields.policy ^ 1 << bit)

    return Trial(
        tries=f"bit {bit} flipped",
        stopped_by=frozenset({check}),
        forge=lambda stage, target: stage.evidence(target, change=flip),
    )


ATTACK: Final = Attack(
    name="weak-guest-policy",
    row="9",
    who=HOST,
    tries="the published image launched under another guest policy, and reported so by the processor: each judged bit, one at a time",
    stopped_by=tuple(sorted(set(JUDGED.values()))),
    trials=tuple(_trial(bit, check) for bit, check in JUDGED.items()),
)

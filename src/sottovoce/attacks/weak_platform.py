"""A genuine machine in another state: each bit of PLATFORM_INFO that is judged, one at a time (row 9)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.simulator.processor import ReportFields

__all__ = ["ATTACK", "JUDGED"]

# AMD 56860 table 24. Bits 1, 2, 6 and 7 say what a platform has on top: only a policy that demands them judges them.
_NAMED: Final = {
    0: "platform-smt",
    3: "platform-rapl",
    4: "platform-ciphertext-hiding",
    5: "platform-alias-check",
}
JUDGED: Final = {**_NAMED, **dict.fromkeys(range(8, 64), "platform-reserved")}
"""Bit → the check that must catch it."""


def _trial(bit: int, check: str) -> Trial:
    def flip(fields: ReportFields) -> ReportFields:
        return replace(fields, platform_info=fields.platform_info ^ 1 << bit)

    return Trial(
        tries=f"bit {bit} flipped",
        stopped_by=frozenset({check}),
        forge=lambda stage, target: stage.evidence(target, change=flip),
    )


ATTACK: Final = Attack(
    name="weak-platform",
    row="9",
    who=HOST,
    tries="a machine with hyper-threading on, a protection off, or in an unknown state: each judged bit, one at a time",
    stopped_by=tuple(sorted(set(JUDGED.values()))),
    trials=tuple(_trial(bit, check) for bit, check in JUDGED.items()),
)

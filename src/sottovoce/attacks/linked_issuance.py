"""When tokens were fetched tells whose they are when they are spent (row 4)."""

from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="linked-issuance",
    row="4",
    who=f"{OPERATOR}: it has the logs of issuer and gateway",
    tries="the account whose batches fit a session's time best, and a pile of sessions best",
    stopped_by=("wallet's schedule",),
    tested="tests/unit/simulator/population/test_study.py: one device on one machine shows nothing, so a simulated population is played and "
    "attacked; `sottovoce simulate` does it with 10,000 devices",
)

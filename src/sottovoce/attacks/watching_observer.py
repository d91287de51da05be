"""How long an answer is, and when each word of it was there, shows in the sizes and times of what is sent (row 16)."""

from typing import Final

from sottovoce.attacks.attack import Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="watching-observer",
    row="16",
    who="whoever sees a session's bytes on their way: the network, the relay, the gateway, the operator's router",
    tries="twenty answers of other lengths and speeds, told apart by sizes and times after each was seen several times",
    stopped_by=("frames", "cadence", "classes"),
    tested="tests/attack/test_observer.py: it takes many sessions, and its control CVMs without cadence and padding: there the same observer knows more",
)

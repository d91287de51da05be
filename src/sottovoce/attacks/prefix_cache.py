"""What one session's prompt leaves in a cache shows in the time of another's (part B)."""

from typing import Final

from sottovoce.attacks.attack import Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="prefix-cache",
    row="B",
    who="another user of the same CVM, with a clock",
    tries="a prompt that begins as another session's did, timed",
    stopped_by=("no shared cache",),
    tested="tests/attack/test_prefix_cache.py: a time alone would prove nothing on a shared machine, so what is tested is the cause: "
    "after a session, the state that the next one starts from is what it was before",
)

"""What a client writes down or sends aside tells what was in its chats, and whose it is (rows 5 and 6)."""

from typing import Final

from sottovoce.attacks.attack import Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="telltale-traces",
    row="5",
    who="whoever reads the logs, crash reports and telemetry of devices and services, or all that leaves the device",
    tries="words of chats and drafts, tokens and keys in every log at every level, in exceptions, files and memory, and in each byte sent (row 6 too)",
    stopped_by=("typed log events",),
    tested="tests/e2e/test_canaries.py: whole runs are searched for canaries afterwards, which takes a world of its own",
)

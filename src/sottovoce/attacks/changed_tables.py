"""ACPI tables that the host changes when it starts a machine: nobody measures them, and those with code are run by the kernel (row 17)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.attacks.booted import PID_1, boots
from sottovoce.attacks.shown import Change, looks, table
from sottovoce.simulator.emulator import Launch

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "BOOTED", "CHANGES"]

_CODE: Final = b"SSDT with code of the host's"
CHANGES: Final[Mapping[str, Change]] = {
    "the machine's code, one bit changed": (lambda shown: shown.flip("DSDT"), "ACPI table: DSDT"),
    "other code in its place": (table("DSDT", content=_CODE), "ACPI table: DSDT"),
    "no code in its place": (table("DSDT", content=b""), "ACPI table: DSDT"),
    "one table of code more": (table("SSDT", content=_CODE), "ACPI table: SSDT"),
    "two tables of code more": (table("SSDT1", "SSDT2", content=_CODE), "ACPI table: SSDT"),
    "a second one of the machine's code": (table("DSDT2", content=_CODE), "ACPI table: DSDT2"),
    "code that is loaded later": (table("dynamic/SSDT9", content=_CODE), "added at run time"),
    "a program for the system to start (WPBT)": (table("WPBT", content=b"MZ"), "ACPI table: WPBT"),
    "a disk in memory (NFIT)": (table("NFIT", content=b"NFIT"), "ACPI table: NFIT"),
    "a table of no known name": (table("EVIL", content=b"EVIL"), "ACPI table: EVIL"),
    "a table whose name is none": (table("A\nB", content=b""), "ACPI table: of no name"),
}
BOOTED: Final[Mapping[str, tuple[Callable[[Launch], Launch], str]]] = {
    "one table of code more": (
        lambda one: replace(one, devices=("-acpitable", "sig=SSDT,data=/dev/null")),
        "an unexpected ACPI table: SSDT",
    ),
    "the machine's code for another machine": (
        lambda one: replace(one, devices=("-smp", "2")),
        "an unexpected ACPI table: DSDT",
    ),
}


def _live(lab: "Lab") -> Iterator[Result]:
    yield from looks(CHANGES)
    yield from boots(lab.workshop, BOOTED)


ATTACK: Final = Attack(
    name="changed-tables",
    row="17",
    who=HOST,
    tries="ACPI tables with other code, more code, code that is loaded later, or of no known name",
    stopped_by=("refused.premises", PID_1),
    live=_live,
)

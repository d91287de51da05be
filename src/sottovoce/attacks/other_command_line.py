"""The kernel started with other words: without its protections against guessing processors, and others of its protections (row 25).

The command line is measured: a device refuses the launch digest. Where nobody looks at that, PID 1 compares the line with the image's own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.attacks.booted import PID_1, boots
from sottovoce.attacks.images import Built, entries, measured
from sottovoce.attacks.shown import LINE, Change, line, lines, looks
from sottovoce.image.build import COMMAND_LINE, Image
from sottovoce.simulator.emulator import Launch

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "BOOTED", "CHANGES", "LINES"]

_REASON: Final = "command line is not the image's"
_MITIGATIONS: Final = "mitigations=auto,nosmt"
_ADDED: Final = (
    "mitigations=off",
    "nospectre_v1",
    "nospectre_v2",
    "spectre_v2=off",
    "spec_store_bypass_disable=off",
    "spec_rstack_overflow=off",
    "init_on_free=0",
    "lockdown=none",
    "module.sig_enforce=0",
    "init=/bin/sh",
    "rdinit=/host",
    "console=ttyS0",
)
"""The last word of a kind holds."""
LINES: Final[Mapping[str, str]] = {
    **{f"with {word}": f"{COMMAND_LINE} {word}" for word in _ADDED},
    f"without {_MITIGATIONS}": COMMAND_LINE.replace(f"{_MITIGATIONS} ", ""),
    "with mitigations=off in their place": COMMAND_LINE.replace(_MITIGATIONS, "mitigations=off"),
    "without its last word": COMMAND_LINE.rpartition(" ")[0],
    "with one space more": COMMAND_LINE.replace(" ", "  ", 1),
    "none": "",
}
CHANGES: Final[Mapping[str, Change]] = {
    **lines(_ADDED),
    **{
        f"kernel's command line {tries}": (line(LINE.replace(COMMAND_LINE, text)), _REASON)
        for tries, text in LINES.items()
        if not text.startswith(f"{COMMAND_LINE} ")
    },
}
BOOTED: Final[Mapping[str, tuple[Callable[[Launch], Launch], str]]] = {
    "mitigations=off, with a table of hashes that fits": (
        lambda one: replace(one, command_line=f"{one.command_line} mitigations=off"),
        _REASON,
    ),
}


def _started(text: str) -> Callable[[Built], Image]:
    return lambda published: replace(published.image, command_line=text)


def _live(lab: "Lab") -> Iterator[Result]:
    yield from looks(CHANGES)
    yield from measured(lab, {f"the image launched {tries}": _started(text) for tries, text in LINES.items()})
    yield from boots(lab.workshop, BOOTED)


ATTACK: Final = Attack(
    name="other-command-line",
    row="25",
    who=HOST,
    tries="the published image with another command line: mitigations off, other protections off, another first program",
    stopped_by=("refused.premises", "measurement", PID_1),
    entries=entries,
    needs_image=True,
    live=_live,
)

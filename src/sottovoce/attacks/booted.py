"""The image booted in an emulated machine, with one thing that its host has changed. PID 1 says on the serial port why it powers off.

These are some of what `make test-image` does: there each change is made that the firmware or PID 1 can see.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Outcome, Result
from sottovoce.attacks.images import built
from sottovoce.simulator.emulator import Emulator, Launch, Programs

if TYPE_CHECKING:
    from sottovoce.attacks.workshop import Workshop

__all__ = ["PID_1", "boots"]

PID_1: Final = "pid-1"
"""What stops it: the first program of the image powers the machine off, with a line of its own."""
_PATIENCE: Final = 300.0
_SAYS: Final = re.compile(r"sottovoce: ([^\r\n]*)")
_SILENT: Final = "it ended without a word"
_TIMES: Final = 3
_WHERE: Final = "tests/image/test_tampering.py boots them"


def boots(
    workshop: "Workshop", changes: Mapping[str, tuple[Callable[[Launch], Launch], str]]
) -> Iterator[Result]:
    """The machine booted with each change alone, and the words with which PID 1 must refuse it."""
    wanted = frozenset({PID_1})
    for tries, (change, reason) in changes.items():
        what = f"{tries}, booted"
        if workshop.unbooted:
            yield Result(tries=what, wanted=wanted, not_run=f"{workshop.unbooted}; {_WHERE}")
            continue
        yield Result(tries=what, wanted=wanted, reason=reason, outcome=_boot(workshop, change))


def _boot(workshop: "Workshop", change: Callable[[Launch], Launch]) -> Outcome:
    image = built(workshop).image
    launch = Launch(
        kernel=image.kernel,
        initrd=image.initrd,
        command_line=image.command_line,
        firmware=image.firmware.data,
    )
    programs = Programs.find([workshop.programs] if workshop.programs else [])
    # One that ends without a word has started nothing, and says nothing of PID 1: it is started again.
    outcomes = (_once(change(launch), programs) for _ in range(_TIMES))
    return next(
        (outcome for outcome in outcomes if outcome.says != _SILENT),
        Outcome(stopped_by=frozenset(), says=_SILENT),
    )


def _once(launch: Launch, programs: Programs) -> Outcome:
    asked: list[object] = []
    with Emulator(launch, programs, papers=asked.append) as machine:
        ended = machine.wait(_PATIENCE)
        said = _SAYS.findall(machine.console)
    # A CVM that was started has asked its host for papers.
    if asked or not ended:
        return Outcome(stopped_by=frozenset(), says="it has started a CVM" if asked else "it does not end")
    return Outcome(stopped_by=frozenset({PID_1} if said else ()), says=" / ".join(said) or _SILENT)

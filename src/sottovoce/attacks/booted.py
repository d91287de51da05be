"""The image booted in an emulated machine, with one thing that its host has changed. PID 1 says on the serial port why it powers off.

These are some of what `make test-image` does: there each change is made that the firmware or PID 1 can see.
"""

import contextlib
import functools
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Outcome, Result
from sottovoce.attacks.images import built
from sottovoce.core.errors import VerificationError
from sottovoce.simulator.emulator import Emulator, Launch, Programs
from sottovoce.tee.init import LISTEN

if TYPE_CHECKING:
    from sottovoce.attacks.workshop import Workshop

__all__ = ["ONE_PORT", "PID_1", "boots", "scan"]

PID_1: Final = "pid-1"
"""What stops it: the first program of the image powers the machine off, with a line of its own."""
_PATIENCE: Final = 300.0
_PAUSE: Final = 0.2
_PORTS: Final = 65_535
_SAYS: Final = re.compile(r"sottovoce: ([^\r\n]*)")
ONE_PORT: Final = "one-port"
"""What stops it: nothing answers but at the one port that a CVM needs."""
_STARTED: Final = "it has started a CVM"
_SILENT: Final = "it ended without a word"
_TIMES: Final = 3
_WHERE: Final = "tests/image/test_tampering.py boots them"


def boots(
    workshop: "Workshop", changes: Mapping[str, tuple[Callable[[Launch], Launch], str]]
) -> Iterator[Result]:
    """The machine booted with each change alone, and the words with which PID 1 must refuse it.

    Raises:
        VerificationError: without a change no CVM is started in it: then no refusal means anything.
    """
    wanted = frozenset({PID_1})
    for tries, (change, reason) in changes.items():
        what = f"{tries}, booted"
        if workshop.unbooted:
            yield Result(tries=what, wanted=wanted, not_run=f"{workshop.unbooted}; {_WHERE}")
            continue
        _control(workshop)
        yield Result(tries=what, wanted=wanted, reason=reason, outcome=_boot(workshop, change))


def scan(workshop: "Workshop") -> Iterator[Result]:
    """A host that knocks at the ports of a booted machine whose CVM runs."""
    what, wanted = f"the first {_PORTS} ports of a booted machine, from its host", frozenset({ONE_PORT})
    if workshop.unbooted:
        yield Result(tries=what, wanted=wanted, not_run=f"{workshop.unbooted}; nothing else knocks at them")
        return
    with _machine(workshop, _unchanged) as (machine, asked):
        _await(machine, asked)
        found = [port for port in range(1, _PORTS + 1) if _answers(machine, port)]
    says = f"ports that answer: {', '.join(map(str, found)) or 'none'}"
    stopped_by = frozenset({ONE_PORT} if found == [LISTEN] else ())
    yield Result(tries=what, wanted=wanted, outcome=Outcome(stopped_by=stopped_by, says=says))


def _answers(machine: Emulator, port: int) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect(str(machine.place / "vsock"))
        sock.sendall(b"CONNECT %d\n" % port)
        try:
            return bool(sock.recv(1))
        except ConnectionError:
            return False


def _unchanged(launch: Launch) -> Launch:
    return launch


@functools.lru_cache(maxsize=1)
def _control(workshop: "Workshop") -> None:
    outcome = _boot(workshop, _unchanged)
    if outcome.says != _STARTED:
        raise VerificationError("the image does not boot as it is", check=outcome.says)


@contextlib.contextmanager
def _machine(
    workshop: "Workshop", change: Callable[[Launch], Launch]
) -> Iterator[tuple[Emulator, list[socket.socket]]]:
    """A machine that is started with the image, changed so, and what its CVM has asked its host for."""
    image = built(workshop).image
    launch = Launch(
        kernel=image.kernel,
        initrd=image.initrd,
        command_line=image.command_line,
        firmware=image.firmware.data,
    )
    programs = Programs.find([workshop.programs] if workshop.programs else [])
    asked: list[socket.socket] = []
    nobody = dict.fromkeys(("guard", "predictor"), ("127.0.0.1", 1))
    with Emulator(change(launch), programs, papers=asked.append, back_ends=nobody) as machine:
        try:
            yield machine, asked
        finally:
            for channel in asked:
                channel.close()


def _await(machine: Emulator, asked: list[socket.socket]) -> bool:
    """Wait until a CVM has been started in it, or it ends; whether either came."""
    deadline = time.monotonic() + _PATIENCE
    while not asked and time.monotonic() < deadline:
        if machine.wait(_PAUSE):
            return True
    return bool(asked)


def _boot(workshop: "Workshop", change: Callable[[Launch], Launch]) -> Outcome:
    # One that ends without a word has started nothing, and says nothing of PID 1: it is started again.
    outcomes = (_once(workshop, change) for _ in range(_TIMES))
    silent = Outcome(stopped_by=frozenset(), says=_SILENT)
    return next((outcome for outcome in outcomes if outcome != silent), silent)


def _once(workshop: "Workshop", change: Callable[[Launch], Launch]) -> Outcome:
    with _machine(workshop, change) as (machine, asked):
        came = _await(machine, asked)
        said = _SAYS.findall(machine.console)
    # A CVM that was started has asked its host for papers.
    if asked or not came:
        return Outcome(stopped_by=frozenset(), says=_STARTED if asked else "it does not end")
    return Outcome(stopped_by=frozenset({PID_1} if said else ()), says=" / ".join(said) or _SILENT)

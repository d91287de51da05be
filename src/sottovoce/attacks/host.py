"""A dishonest host: it starts the measured program of a CVM as the simulated machine does, with documents, descriptors and an environment of its own.

    with Host.of(world, "guard-1").running(Given(settings=...)) as cvm:
        cvm.outcome()       # what it refused, or nothing: then it serves

Where the CVM ends in order, the code is that of the refusal whose words it has written as its last line. Any other end is the code "boot".
"""

import contextlib
import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Outcome, Result, refusal
from sottovoce.core.errors import ConfigError
from sottovoce.simulator.launcher import read_bundle
from sottovoce.simulator.measure import start_command
from sottovoce.simulator.pki import SimulatedChip
from sottovoce.simulator.processes import bind
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.tee import boot
from sottovoce.tee.collectors.base import REPORT_DATA
from sottovoce.tee.collectors.simulated import ENDORSEMENTS, LENGTH
from sottovoce.tee.settings import parse_settings, parse_wiring
from sottovoce.tlog.entries import Release

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["Attempt", "Cvm", "Given", "Host", "settings_of"]

_PATIENCE: Final = 120.0
_REFUSED: Final = 2
"""The exit status of a CVM that says why it does not start."""
_SAYS: Final = "sottovoce: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a host gives a CVM.

    Attributes:
        settings, wiring: documents.
        artifacts: names and descriptors.
        environment: variables.
        command: the program; None: the measured one.
    """

    settings: bytes
    wiring: bytes = b"{}"
    artifacts: tuple[tuple[str, int], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | None = None

    def check(self) -> None:
        """What the CVM does with it first, here.

        Raises:
            SottovoceError: it refuses.
        """
        settings = parse_settings(self.settings)
        parse_wiring(self.wiring, settings)
        boot.check_artifacts(settings, dict(self.artifacts))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a host gives, and what it must be refused for: a code, and words of the refusal."""

    given: Given
    code: str = "config"
    reason: str = ""


class Cvm:
    """A CVM that has been started, and may have ended again."""

    def __init__(self, given: Given, process: "subprocess.Popen[str]", ready: int) -> None:
        self._given = given
        self._process = process
        self._ready = ready

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    def outcome(self) -> Outcome:
        """What it refuses to start for, or nothing, when it serves."""
        readable, _, _ = select.select([self._ready], [], [], _PATIENCE)
        if not readable:
            return Outcome(stopped_by=frozenset({"boot"}), says="it neither serves nor ends")
        if os.read(self._ready, 1):
            return Outcome(stopped_by=frozenset())
        _, written = self._process.communicate(timeout=_PATIENCE)
        said = [line.removeprefix(_SAYS) for line in written.splitlines() if line.startswith(_SAYS)]
        if self._process.returncode != _REFUSED or len(said) != 1:
            return Outcome(stopped_by=frozenset({"boot"}), says=f"exit status {self._process.returncode}")
        known = refusal(self._given.check)
        return known if known.says == said[0] else Outcome(stopped_by=frozenset({"boot"}), says=said[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine; `code` is the folder with the package that it starts, the running one if None."""

    processor: SimulatedProcessor
    papers: Callable[[], bytes]
    code: Path | None = None

    @classmethod
    def of(cls, world: "World", machine: str) -> "Host":
        """The machine called `machine` of a running world."""
        chip = SimulatedChip.load(world.folder / "chips" / machine)
        role = parse_settings(settings_of(world, machine)).role
        release = Release.parse((world.folder / "releases" / f"{role}.json").read_bytes())
        return cls(
            processor=SimulatedProcessor(chip, bytes.fromhex(release.measurements[0])),
            papers=lambda: read_bundle(world.folder / "bundles" / machine, chip.vcek).encode(),
        )

    def start(self, given: Given) -> Outcome:
        """What a CVM that is given this refuses, or nothing: then it served."""
        with self.running(given) as cvm:
            return cvm.outcome()

    def each(self, attempts: Mapping[str, Attempt]) -> Iterator[Result]:
        """A CVM for each of them, by what is tried; as many at a time as there are processors."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = pool.map(lambda attempt: self.start(attempt.given), attempts.values())
            for (tries, attempt), outcome in zip(attempts.items(), outcomes, strict=True):
                wanted = frozenset({attempt.code})
                yield Result(tries=tries, wanted=wanted, reason=attempt.reason, outcome=outcome)

    @contextlib.contextmanager
    def running(self, given: Given) -> Iterator[Cvm]:
        """Start a CVM, and end it afterwards."""
        with contextlib.ExitStack() as stack:
            ours, theirs = (stack.enter_context(one) for one in socket.socketpair())
            listener = stack.enter_context(bind())
            read, write = os.pipe()
            stack.callback(os.close, read)
            fds = {
                "--settings-fd": _memory(stack, given.settings),
                "--wiring-fd": _memory(stack, given.wiring),
                "--listen-fd": listener.fileno(),
                "--processor-fd": theirs.fileno(),
                "--ready-fd": write,
            }
            words = [str(word) for pair in fds.items() for word in pair]
            words += [word for name, fd in given.artifacts for word in ("--artifact", f"{name}={fd}")]
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                    [*(given.command or start_command(self.code)), *words],
                    pass_fds={*fds.values(), *(fd for _, fd in given.artifacts)},
                    env=dict(given.environment),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
            finally:
                os.close(write)
            stack.enter_context(process)
            stack.callback(process.kill)
            theirs.close()
            threading.Thread(target=self._answer, args=(ours,), daemon=True).start()
            yield Cvm(given, process, read)

    def _answer(self, channel: socket.socket) -> None:
        """Be the CVM's host and security processor, until it ends."""
        with contextlib.suppress(OSError, ConfigError):
            while operation := channel.recv(1):
                if operation[0] == ENDORSEMENTS:
                    answer = self.papers()
                else:
                    answer = self.processor.report(channel.recv(REPORT_DATA, socket.MSG_WAITALL))
                channel.sendall(LENGTH.pack(len(answer)) + answer)


def settings_of(world: "World", machine: str) -> bytes:
    """The measured settings of a machine, as they were published."""
    return world.settings_document(machine.rpartition("-")[0])


def _memory(stack: contextlib.ExitStack, data: bytes) -> int:
    descriptor = os.memfd_create("sottovoce")
    stack.callback(os.close, descriptor)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor

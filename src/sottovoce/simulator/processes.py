"""Starts every party as a process of its own, waits until each serves, and stops them all.

A party inherits its listening socket, already bound, so no port can be lost between choosing and using it. Each
party also asks the kernel to end it when its starter is gone, so that nothing outlives a killed one.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError, UnavailableError

__all__ = ["Parties", "bind"]

_STOP_AFTER: Final = 5.0
"""Seconds from the request to stop until a party is killed."""
_BACKLOG: Final = 512


@dataclass(slots=True, kw_only=True)
class _Party:
    name: str
    process: subprocess.Popen[bytes]
    ready: int
    log: Path
    is_ready: bool = False
    stopped: bool = False
    """It was asked to stop."""
    ended: bool = False


def bind(port: int = 0) -> socket.socket:
    """A listening socket on loopback; `port` 0 lets the kernel choose.

    Raises:
        ConfigError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise ConfigError(f"port {port} is taken", hint="is another `sottovoce up` running?") from None
    return sock


class Parties:
    """The running parties, by name; `program` is the module that runs each, with the words before its own."""

    def __init__(self, logs: Path, *, program: Sequence[str] = ("sottovoce",)) -> None:
        self._logs = logs
        self._program = program
        self._parties: dict[str, _Party] = {}
        logs.mkdir(parents=True, exist_ok=True)

    @property
    def pids(self) -> Mapping[str, int]:
        """Name → process id."""
        return {name: party.process.pid for name, party in self._parties.items()}

    def start(self, name: str, role: str, config: Path, sock: socket.socket) -> None:
        """Start the party `name`; `sock` is handed over."""
        read, write = os.pipe()
        log = self._logs / f"{name}.log"
        command = [sys.executable, "-P", "-m", *self._program, "serve", role, "--config", str(config)]
        command += ["--fd", str(sock.fileno()), "--ready-fd", str(write)]
        with log.open("ab") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                command,
                pass_fds=(sock.fileno(), write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={"PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )
        os.close(write)
        sock.close()
        self._parties[name] = _Party(name=name, process=process, ready=read, log=log)

    def wait_ready(self, names: list[str] | None = None, *, timeout: float = 180.0) -> None:
        """Return when each of `names` (all, if None) serves.

        Raises:
            UnavailableError: one of them ended or took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for party in [self._parties[name] for name in names or self._parties]:
            if not party.is_ready:
                self._wait_one(party, deadline)

    def _wait_one(self, party: _Party, deadline: float) -> None:
        readable, _, _ = select.select([party.ready], [], [], max(0.0, deadline - time.monotonic()))
        if not readable or not os.read(party.ready, 1):
            raise UnavailableError(
                f"{party.name} did not start", party=party.name, hint=_last_line(party.log)
            )
        party.is_ready = True

    def dead(self) -> list[str]:
        """The names of the parties that ended by themselves."""
        return [p.name for p in self._parties.values() if not p.stopped and p.process.poll() is not None]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send the party `name` a signal; one that has ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            self._parties[name].process.send_signal(number)

    def stop_one(self, name: str) -> None:
        """Stop the party `name` and wait for its end."""
        self._stop([self._parties[name]])

    def stop(self) -> None:
        """Stop every party and wait for its end. Never raises."""
        self._stop(list(self._parties.values()))

    def _stop(self, parties: list[_Party]) -> None:
        parties = [party for party in parties if not party.ended]
        for party in parties:
            party.stopped = True
            with contextlib.suppress(ProcessLookupError):
                party.process.terminate()
        deadline = time.monotonic() + _STOP_AFTER
        for party in parties:
            with contextlib.suppress(subprocess.TimeoutExpired):
                party.process.wait(max(0.0, deadline - time.monotonic()))
            # A party leads a session of its own: whatever it started goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(party.process.pid, signal.SIGKILL)
            party.process.wait()
            # Once only: the number of a closed descriptor may be somebody else's by now.
            party.ended = True
            os.close(party.ready)


def _last_line(log: Path) -> str:
    # Services write typed events and one-line errors only, so this line can be shown.
    try:
        lines = [line for line in log.read_text().splitlines() if line.startswith("sottovoce: ")]
    except OSError:
        lines = []
    return lines[-1] if lines else f"see {log}"

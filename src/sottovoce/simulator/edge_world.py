"""The parties on a request's way but the CVMs, and the operator's work for them, by a shared clock (`simulator.rotation`).

world = EdgeWorld(folder, clock, clock_file)
world.start("127.0.0.1:4000")       the address of whatever stands for the CVMs
world.make_keys(epoch, now)         issuer and gateway take them while they run
world.publish(epoch, now)           the directory of that epoch, ahead of its day
"""

import json
import secrets
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sottovoce.core.tokens import epoch_at
from sottovoce.edge import issuer
from sottovoce.edge.directories import sign_directory
from sottovoce.edge.logclient import LogClient
from sottovoce.edge.publishing import Mirror, Publisher
from sottovoce.simulator.clock import SharedClock
from sottovoce.simulator.configs import MACHINES, PARTIES, Change, Configs
from sottovoce.simulator.models import ModelFile
from sottovoce.simulator.operator import host_of
from sottovoce.simulator.processes import Parties, bind
from sottovoce.simulator.state import WorldState, write_secret
from sottovoce.simulator.toml import write_config

if TYPE_CHECKING:
    from sottovoce.tlog.entries import Host

__all__ = ["EdgeWorld"]

_SERVICES: Final = tuple(name for name in PARTIES if name not in MACHINES)
_NO_MODEL: Final = ModelFile(name="none", path=Path("none"), sha256="", bytes=0)
"""There is no machine to load one."""
_LOOK: Final = 0.3
"""Seconds between two looks of a relay at its mirror: some minutes of this world's."""


class EdgeWorld:
    """The parties in `folder`, which go by the clock in `clock_file`."""

    def __init__(self, folder: Path, clock: SharedClock, clock_file: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._clock = clock
        self._state = WorldState(folder, now=int(clock()))
        self._configs = Configs(folder, self._state, _NO_MODEL, directory_seconds=_LOOK)
        self._parties = Parties(folder / "logs", program=("sottovoce.simulator.clock", str(clock_file)))
        self._hosts: list[Host] = []

    @property
    def gateway_keys(self) -> Path:
        """The gateway's key folder."""
        return self._state.gateway_keys

    def start(self, machine: int) -> None:
        """Start every party and publish the directory of today; `machine` is the port of whatever stands for the CVMs.

        Raises:
            UnavailableError: a party did not start.
        """
        now = int(self._clock())
        sockets = {name: bind() for name in _SERVICES}
        ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        self._state.ports = ports | dict.fromkeys(MACHINES, machine)
        hosts = [name for name, role in MACHINES.items() if role == "orchestrator"]
        self._hosts = [host_of(name, MACHINES[name], self._state.chip(name)) for name in hosts]
        self._make(epoch_at(now))
        for name, sock in sockets.items():
            path = self.folder / "configs" / f"{name}.toml"
            write_config(path, self._configs.service(name, Change()))
            self._parties.start(name, PARTIES[name], path, sock)
        self._parties.wait_ready()
        self.publish(epoch_at(now))

    def stop(self) -> None:
        """Stop every party."""
        self._parties.stop()

    def enrol(self, home: Path) -> None:
        """Make `home` a device of this world, with an account at its issuer."""
        self._configs.environment().install(home)
        key = issuer.enrol(self.folder / "accounts.sqlite", f"device-{secrets.token_hex(8)}")
        write_secret(home / "account.key", key.encode())

    def make_keys(self, epoch: int) -> None:
        """What the directory of `epoch` will name is made by issuer and gateway, who read it while they run."""
        self._state.renew(int(self._clock()))
        self._make(epoch)
        self.read_keys()

    def read_keys(self) -> None:
        """Have issuer and gateway read their key folders."""
        for name in ("issuer", "gateway"):
            self._parties.signal(name, signal.SIGHUP)

    def publish(self, epoch: int) -> None:
        """The directory of `epoch`, into the log and onto the mirror.

        Raises:
            SottovoceError: as `edge.publishing.Publisher` says.
        """
        state = self._state
        client = LogClient(self._configs.url("log"), state.secret)
        for host in self._hosts:
            client.append(host.encode())
        publisher = Publisher(
            client,
            [Mirror(folder=self.folder / "mirror")],
            key=state.directory.verifier,
            policy=self._configs.environment().log_policy(),
        )
        publisher.publish(
            sign_directory(self._configs.directory(epoch, self._hosts), state.directory), int(self._clock())
        )

    def events(self) -> Counter[str]:
        """What the parties' logs say in the end: requests that the gateway could not open, and times that new keys were taken."""
        found: Counter[str] = Counter(unopened=0, keys_read=0)
        for name in ("issuer", "gateway"):
            for line in (self.folder / "logs" / f"{name}.log").read_text().splitlines():
                entry = json.loads(line)
                found["unopened"] += entry.get("unopened", 0)
                found["keys_read"] += (
                    entry["event"] in {"KeysRead", "SigningKeysRead"} and not entry["refused"]
                )
        return found

    def _make(self, epoch: int) -> None:
        for number in (epoch, epoch + 1):
            self._state.token_keys(number)
        self._state.ohttp_keys(epoch)

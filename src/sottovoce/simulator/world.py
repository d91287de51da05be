"""Every party on one machine: keys, configurations, releases, the log, and the processes.

    world = World(folder, model=describe(path))
    world.start()           # all parties serve, everything is published
    world.enrol(home)       # this device pins this world
    world.stop()

The folder holds the secrets of all parties at once, which is what makes it a simulation: in the world outside, nobody has
two of them. Started again, it goes on with the same keys, ports and log.
"""

import hashlib
import secrets
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import sottovoce
from sottovoce.attest.evidence import Endorsements
from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.core.tokens import epoch_at
from sottovoce.device.environment import Environment
from sottovoce.edge import issuer
from sottovoce.edge.directories import sign_directory
from sottovoce.edge.logclient import LogClient
from sottovoce.edge.publishing import Mirror, Publisher
from sottovoce.simulator import launcher
from sottovoce.simulator.configs import (
    MACHINES,
    PARTIES,
    PURPOSE,
    Change,
    Configs,
    encode_settings,
)
from sottovoce.simulator.emulator import Launch, dump
from sottovoce.simulator.measure import measure, measure_code
from sottovoce.simulator.models import ModelFile
from sottovoce.simulator.operator import Published, host_of, release_of
from sottovoce.simulator.processes import Parties, bind
from sottovoce.simulator.state import WorldState, write_secret
from sottovoce.simulator.toml import write_config
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.features import prompts
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.artifacts import File, Tree
from sottovoce.tlog.entries import Directory, Host, Release

__all__ = ["MACHINES", "PARTIES", "Change", "World", "dump_emulated"]

_RELEASE_LEFT: Final = 7 * 86400
"""Seconds; a release is entered anew when less of its life is left."""
_PROCESSES, _EMULATED = 180.0, 1500.0
"""Seconds that parties may take until they serve."""
_FIRST: Final = (
    "log",
    "witness-1",
    "witness-2",
    "predictor-1",
    "guard-1",
    "orchestrator-1",
    "orchestrator-2",
)
"""What others wait for: the log, and the model, which takes longest."""


class World:
    """The parties in `folder`; `model` is the predictor's. A report takes its security processors `report_delay` seconds.

    Of the relays in `flights` directories say that they do not stream, but for those of days that were published before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: ModelFile,
        progress: Callable[[str], object] = lambda _: None,
        now: Callable[[], float] = time.time,
        report_delay: float = 0.0,
        flights: Collection[str] = (),
    ) -> None:
        """Open the world in `folder`, or begin one.

        Raises:
            ConfigError: a file of it is damaged.
            UsageError: one of `flights` is no relay.
        """
        self.folder = folder
        self.model = model
        self.progress = progress
        self._now = now
        self._parties = Parties(folder / "logs")
        self._state = WorldState(folder, now=int(now()))
        self._configs = Configs(folder, self._state, model, report_delay=report_delay, flights=flights)
        self._published: dict[str, Release] = {}

    def url(self, party: str) -> str:
        """Where `party` listens."""
        return self._configs.url(party)

    def port(self, party: str) -> int:
        """Its port on loopback."""
        return self._state.ports[party]

    @property
    def orchestrators(self) -> tuple[str, ...]:
        """The machines that a device draws from."""
        return tuple(name for name, role in self._configs.machines.items() if role == "orchestrator")

    @property
    def pids(self) -> Mapping[str, int]:
        """Party → process id, while it runs."""
        return self._parties.pids

    def settings_document(self, role: str, *, processors: int | None = None) -> bytes:
        """The measured settings of the CVMs of `role`, which an image for this world has in it; on this machine or on one with so many processors."""
        return encode_settings(self._configs.settings(role, processors=processors))

    def boot_image(
        self, name: str, folder: Path, *, programs: Path | None = None, traffic: Path | None = None
    ) -> None:
        """From the next start on the machine `name` boots the image in `folder`, in an emulator; others of its role are left out.

        What goes over its connections is written into a folder of its name in `traffic`, if that is given.
        """
        self._configs.images[name] = folder
        self._configs.programs = str(programs or "")
        self._configs.traffic = str(traffic.absolute()) if traffic else ""

    def _names(self) -> list[str]:
        """The parties that are started."""
        return [name for name in PARTIES if name not in MACHINES or name in self._configs.machines]

    # Publishing.

    def _measure(self) -> dict[str, Published]:
        """What each role's CVM is measured as when it is started as published."""
        code, pinned = measure_code(), {self.model.name: bytes.fromhex(self.model.digest(PURPOSE))}
        booted = {MACHINES[name]: folder for name, folder in self._configs.images.items()}
        published = {}
        for role in sorted(set(MACHINES.values())):
            artifacts = pinned if role == "predictor" else {}
            listed = [entry.listed() for entry in self._artifacts()] if role == "predictor" else []
            digest = (
                Launch.read(booted[role]).measurement()
                if role in booted
                else measure(settings=self.settings_document(role), artifacts=artifacts, code=code).digest
            )
            published[role] = Published(role=role, measurement=digest, artifacts=tuple(listed))
        return published

    def _artifacts(self) -> list[ArtifactEntry]:
        """What a predictor starts with: its weights, by their digest alone, and its prompts, which everybody may read."""
        model, files = self.model, prompts.prompt_files()
        for data in files.values():
            write_secret(self.folder / "mirror" / f"sha256-{hashlib.sha256(data).hexdigest()}", data)
        tree = Tree.of(
            File(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in files.items()
        )
        return [
            ArtifactEntry(
                name=model.name, purpose=PURPOSE, digest=model.digest(PURPOSE), size=model.bytes, tree=None
            ),
            ArtifactEntry.of(tree, name=prompts.NAME, purpose=prompts.PURPOSE, public=True),
        ]

    def _releases(self, measured: Mapping[str, Published], now: int) -> dict[str, Release]:
        """The role's release as it was entered, or a new one where it is another or will soon be too old."""
        releases = {}
        for role, published in measured.items():
            path = self.folder / "releases" / f"{role}.json"
            release = None
            with suppress(OSError, DecodeError):
                release = Release.parse(path.read_bytes())
            if (
                release is None
                or release.measurements != (published.measurement.hex(),)
                or release.expires - now < _RELEASE_LEFT
            ):
                release = release_of(published, version=sottovoce.__version__, now=now)
            releases[role] = release
        return releases

    def _directory(self, epoch: int) -> Directory:
        """The epoch's directory: the one that was published, as there is one an epoch."""
        path = self.folder / "directories" / f"{epoch}.json"
        with suppress(OSError, DecodeError):
            return Directory.parse(path.read_bytes())
        directory = self._configs.directory(epoch, list(self._hosts().values()))
        write_secret(path, directory.encode())
        return directory

    def _hosts(self) -> dict[str, Host]:
        return {
            name: host_of(name, role, self._state.chip(name)) for name, role in self._configs.machines.items()
        }

    def _publish(self, now: int) -> None:
        """Enter everything, then prove everything under one tree head, and put it where it is served."""
        client = LogClient(self.url("log"), self._state.secret, self._state.publishers)
        releases = self._releases(self._measure(), now)
        # Tomorrow's is there ahead of its day, as its keys are.
        directories = [self._directory(epoch) for epoch in (epoch_at(now), epoch_at(now) + 1)]
        hosts = self._hosts()
        entries: list[bytes] = [entry.encode() for entry in self._artifacts()]
        entries += [entry.encode() for entry in releases.values()]
        entries += [entry.encode() for entry in hosts.values()]
        entries += [directory.encode() for directory in directories]
        for entry in entries:
            client.append(entry)
        for role, release in releases.items():
            write_secret(self.folder / "releases" / f"{role}.json", release.encode())
        for name, host in hosts.items():
            vendor = self._state.vendor
            papers = Endorsements(vcek=self._state.chip(name).vcek, ask=vendor.ask, crl=vendor.crl)
            launcher.write_bundle(
                self.folder / "bundles" / name,
                Bundle(
                    endorsements=papers,
                    release=client.prove(releases[host.role].encode()),
                    host=client.prove(host.encode()),
                ),
            )
        publisher = Publisher(
            client,
            [Mirror(folder=self.folder / "mirror")],
            key=self._state.directory.verifier,
            policy=self.environment().log_policy(),
        )
        for directory in directories:
            # The operator of the attack lab is one who changes the day's directory.
            publisher.publish(sign_directory(directory, self._state.directory), now, unsafe_replace=True)
        self._published = releases

    # Processes.

    def start(self) -> None:
        """Start every party; all serve and everything is published when this returns.

        Raises:
            ConfigError: a port is taken, or a file of the world is damaged.
            UnavailableError: a party did not start.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        now = int(self._now())
        sockets = {name: bind(self._state.ports.get(name, 0)) for name in self._names()}
        self._state.ports |= {name: sock.getsockname()[1] for name, sock in sockets.items()}
        for name in self._configs.machines:
            self._state.chip(name)
            # A machine waits for its papers; those of the last time are not to be taken for them.
            (self.folder / "bundles" / name / "bundle.cbor").unlink(missing_ok=True)
        self._state.renew(now)
        self._state.save()
        self.progress("every process")
        for name in [one for one in dict.fromkeys((*_FIRST, *PARTIES)) if one in sockets]:
            self._launch(name, Change(), sockets[name])
        self._parties.wait_ready(["log", "witness-1", "witness-2"])
        self.progress("publishing what the CVMs run")
        self._publish(now)
        self.progress("the CVMs load")
        self._wait_ready()

    def _wait_ready(self, names: list[str] | None = None) -> None:
        # Under emulation a predictor takes minutes to read its prompts.
        self._parties.wait_ready(names, timeout=_EMULATED if self._configs.images else _PROCESSES)

    def _launch(self, name: str, change: Change, sock: socket.socket) -> None:
        configs = self._configs
        config = configs.machine(name, change) if name in MACHINES else configs.service(name, change)
        path = self.folder / "configs" / f"{name}.toml"
        write_config(path, config)
        self._parties.start(name, PARTIES[name], path, sock)

    def stop(self) -> None:
        """Stop every party. Never raises."""
        self._parties.stop()

    def dead(self) -> list[str]:
        """The parties that ended by themselves."""
        return self._parties.dead()

    def stop_one(self, name: str) -> None:
        """Stop one party."""
        self._parties.stop_one(name)

    def restart(self, name: str, change: Change | None = None, *, wait: bool = True) -> None:
        """Start a stopped or running party again, on its port; with `change`, if one is given.

        An orchestrator serves from the moment when it has its back ends. One that they will refuse is not to be waited for.

        Raises:
            UnavailableError: it did not start.
        """
        if name in self._parties.pids:
            self._parties.stop_one(name)
        self._launch(name, change or Change(), bind(self._state.ports[name]))
        if wait:
            self._wait_ready([name])

    def reload(self, name: str) -> None:
        """Have issuer or gateway read its key folder again, without a pause."""
        self._parties.signal(name, signal.SIGHUP)

    def renew(self) -> bool:
        """What time asks for: the epoch's keys and directory, fresh proofs, releases. Whether parties were restarted.

        Raises:
            UnavailableError: the log does not answer, or a party did not start again.
        """
        now = int(self._now())
        if self._state.renew(now):
            # Before the directory names them.
            for name in ("issuer", "gateway"):
                self.reload(name)
        self._state.save()
        before = self._published
        self._publish(now)
        changed = self._published != before
        if changed:
            # They show the proofs that they were started with for some minutes more.
            for name in sorted(self._configs.machines, key=lambda name: MACHINES[name] == "orchestrator"):
                self.restart(name)
        return changed

    # The device.

    def environment(self) -> Environment:
        """What a device of this world pins."""
        return self._configs.environment()

    def enrol(self, home: Path) -> None:
        """Make `home` a device of this world, with an account at its issuer.

        Raises:
            DiskError: it cannot be written.
        """
        new = self.environment().install(home)
        if new or not (home / "account.key").exists():
            account = f"device-{secrets.token_hex(8)}"
            write_secret(
                home / "account.key", issuer.enrol(self.folder / "accounts.sqlite", account).encode()
            )


def dump_emulated(folder: Path, name: str, path: Path) -> None:
    """Write all memory of the machine `name` of the world in `folder`, which boots an image, to `path`.

    Raises:
        UnavailableError: it does not run.
    """
    try:
        place = Path((folder / "bundles" / name / launcher.PLACE).read_text())
    except OSError:
        raise UnavailableError(
            f"{name} is no emulated machine that runs",
            party="emulator",
            hint="`sottovoce image boot` starts one",
        ) from None
    dump(place, path.absolute())

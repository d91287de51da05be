"""A running world, the attacker's place in it, and a device that is the genuine client.

    with Lab(world, folder) as lab:
        lab.prepare(attacks)        # what the operator enters in the log beforehand
        lab.show(trial)             # forged evidence, to a device that asks for something

The operator's router is told to look for each host at a listener of the attacker's. What the attacker does there is a script:
pass everything on to the genuine CVM, or be one himself. A third orchestrator is listed for which there is no genuine CVM, so
that a device draws two of three.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sottovoce.attacks.attack import Attack, Outcome, Trial
from sottovoce.attacks.between import Between, Impostor, Passing, Script, Spoil, evidence_of
from sottovoce.attacks.stage import ORCHESTRATOR, Stage, Target
from sottovoce.attacks.workshop import NO_WORKSHOP, Workshop
from sottovoce.attest.evidence import Evidence, Logged
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.core.errors import SottovoceError, UnavailableError
from sottovoce.core.tokens import epoch_at
from sottovoce.device.chats import Chat, Message
from sottovoce.device.client import Client
from sottovoce.device.environment import Environment
from sottovoce.device.reports import Report, ReportStore
from sottovoce.device.settings import SettingsStore
from sottovoce.edge.logclient import LogClient
from sottovoce.simulator.configs import MACHINES, Change
from sottovoce.simulator.operator import host_of
from sottovoce.simulator.processes import Parties, bind
from sottovoce.simulator.state import WorldState, write_secret
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.entries import Directory, Host, Release
from sottovoce.tlog.note import Note, SigningKey
from sottovoce.tlog.tiles import WIDTH, read_tile, tile_path

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["CONTROL", "THIRD", "Lab"]

THIRD: Final = "orchestrator-3"
_CHAT: Final = Chat(
    title="plans",
    messages=tuple(
        Message(
            id=str(number),
            time=datetime(2026, 6, 1, 12, number),  # noqa: DTZ001 - exports name no zone
            sender=sender,
            text=text,
            kind="text",
            line=number,
        )
        for number, (sender, text) in enumerate(
            (
                ("Mira", "The eagle lands at noon on Friday, at gate 14. Tell nobody."),
                ("Jon", "Who brings the red suitcase? I can not, I am in Lisbon until Thursday."),
                ("Mira", "Decided: Jon flies on Thursday evening, and I bring the suitcase to gate 14."),
            ),
            start=1,
        )
    ),
)
"""What the device asks for a summary of: the canary of every attack."""
_DRAWS: Final = 60
"""A device draws two of three: that it draws the same one each of these times has a probability below 1e-10."""
_ASKED: Final = 150
"""Requests of one device; then another one goes on, as an account's tokens a day are limited."""
_TOKENS: Final = 4

CONTROL: Final = Trial(
    tries="evidence in which nothing is changed, signed with the same keys",
    stopped_by=frozenset(),
    forge=lambda stage, target: stage.evidence(target),
)
"""Must be accepted: so that whatever is refused elsewhere is refused for what was changed."""


class Lab:
    """Attacks `world`, which runs; `folder` is for the devices' state. Images are built in `workshop`."""

    def __init__(self, world: "World", folder: Path, *, now: float, workshop: Workshop = NO_WORKSHOP) -> None:
        self.world = world
        self.workshop = workshop
        self._folder = folder
        self._now = int(now)
        self._state = WorldState(world.folder, now=self._now)
        self._log = LogClient(world.url("log"), self._state.secret, self._state.publishers)
        self._proofs: dict[bytes, Logged] = {}
        self._earlier: dict[str, bytes] = {}
        self._open: list[Generator[bytes, None, None]] = []
        self._devices = self._asked = 0
        self._between = {name: Between(name) for name in (*world.orchestrators, THIRD)}
        self._chips = {name: self._state.chip(name) for name in MACHINES}
        self._chips[THIRD] = self._state.vendor.make_chip(now=self._now)
        gpus = self._state.gpu_vendor
        self._gpus = (gpus.make_device(now=self._now), gpus.make_device(now=self._now))
        roles = {**MACHINES, THIRD: ORCHESTRATOR}
        self._hosts = {name: host_of(name, role, self._chips[name]) for name, role in roles.items()}
        self._releases = {
            role: Release.parse((world.folder / "releases" / f"{role}.json").read_bytes())
            for role in set(MACHINES.values())
        }
        self.home = self._device()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_connections()
        for between in self._between.values():
            between.close()

    # Before the attacks.

    def prepare(self, attacks: Iterable[Attack]) -> None:
        """Enter what the attacks need in the log, list the third machine, take the router, and show everybody the new log.

        Raises:
            UnavailableError: a party does not answer, or did not start again.
        """
        stage = self.stage(self.world.orchestrators[0])
        for entry in (self._hosts[THIRD].encode(), *(e for attack in attacks for e in attack.entries(stage))):
            self._log.append(entry)
        self._list(self._hosts[THIRD])
        self.world.renew()
        hosts = {name: between.address for name, between in self._between.items()}
        self.world.restart("router", Change(hosts=hosts))
        # Their papers must be of the same tree head as the directory.
        self.restore(self.world.orchestrators)

    def _list(self, host: Host) -> None:
        path = self.world.folder / "directories" / f"{epoch_at(self._now)}.json"
        directory = Directory.parse(path.read_bytes())
        write_secret(path, replace(directory, hosts=(*directory.hosts, host)).encode())

    def restore(self, machines: Iterable[str]) -> None:
        """Start these machines again as they were published."""
        for name in machines:
            self.world.restart(name)

    # What an attacker has.

    def stage(self, machine: str) -> Stage:
        """The world's keys, for a device that was sent to `machine`."""
        return Stage(
            now=self._now,
            machine=machine,
            vendor=self._state.vendor,
            chips=self._chips,
            hosts=self._hosts,
            releases=self._releases,
            prove=self._prove,
            leaves=self._leaves,
            log_key=self._state.log,
            witnesses=tuple(self._state.witnesses.values()),
            gpus=self._gpus,
            gpu_manifests=self._state.gpu_manifests,
            earlier=lambda: self._record_once(machine),
            concurrent=lambda: self._record(machine),
            workshop=self.workshop,
        )

    @property
    def directory_key(self) -> SigningKey:
        """The operator's, which signs directories."""
        return self._state.directory

    def _prove(self, entry: bytes) -> Logged:
        if entry not in self._proofs:
            self._proofs[entry] = self._log.prove(entry)
        return self._proofs[entry]

    def _leaves(self) -> list[bytes]:
        """From the log's own files, as whoever runs it has them."""
        folder = self.world.folder / "log"
        size = Checkpoint.parse(Note.parse((folder / "checkpoint").read_bytes()).text).size
        leaves: list[bytes] = []
        while len(leaves) < size:
            path = tile_path(0, len(leaves) // WIDTH, min(WIDTH, size - len(leaves)))
            leaves += read_tile((folder / path).read_bytes())
        return leaves

    def _record_once(self, machine: str) -> bytes:
        if machine not in self._earlier:
            recording = evidence_of(self.world.port(machine))
            self._earlier[machine] = next(recording)
            recording.close()
        return self._earlier[machine]

    def _record(self, machine: str) -> bytes:
        recording = evidence_of(self.world.port(machine))
        self._open.append(recording)
        return next(recording)

    def _close_connections(self) -> None:
        for recording in self._open:
            recording.close()
        self._open.clear()

    # Attacks.

    def show(self, trial: Trial) -> Outcome:
        """The genuine client asks for something, and is shown what the trial forges.

        Raises:
            UnavailableError: the device never drew what the trial needs, or asked without being shown anything.
        """
        for _ in range(_DRAWS if trial.undrawn else 1):
            shown: list[str] = []
            before = self._reports() if trial.undrawn else {}

            def forge(machine: str, target: Target, shown: list[str] = shown) -> bytes:
                stage = self.stage(machine)
                shown.append(stage.another())
                evidence = trial.forge(stage, target)
                return evidence.encode() if isinstance(evidence, Evidence) else evidence

            impostor = Impostor(forge, lambda machine: trial.server(self.stage(machine)))
            with self.playing(impostor, third=not trial.beside):
                stopped = self.ask()
            self._close_connections()
            if impostor.fault is not None:
                raise impostor.fault
            if not impostor.shown:
                raise UnavailableError("the device was shown nothing", party=ORCHESTRATOR)
            if not trial.undrawn or not set(shown) & set(self._new_report(before).candidates):
                return Outcome(stopped_by=stopped, read=impostor.read)
        raise UnavailableError("the device drew the same machine each time", party=ORCHESTRATOR)

    def spoil(self, spoil: Spoil) -> Outcome:
        """The genuine client asks a genuine CVM, and gets of each answer what `spoil` leaves."""
        with self.playing(Passing(self.world.port, spoil), third=False):
            return Outcome(stopped_by=self.ask())

    def change(self, machines: Iterable[str], change: Callable[[], object]) -> Outcome:
        """The genuine client asks after `change` has started other CVMs; `machines` are put right again."""
        try:
            change()
            with self.passing():
                return Outcome(stopped_by=self.ask())
        finally:
            self.restore(machines)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """The attacker passes everything on."""
        with self.playing(Passing(self.world.port), third=False):
            yield

    @contextmanager
    def playing(self, script: Script, *, third: bool) -> Iterator[None]:
        """`script` is played in the place of each orchestrator; of the third only if `third`."""
        with ExitStack() as stack:
            for name, between in self._between.items():
                between.play(script if third or name != THIRD else None)
                stack.callback(between.play, None)
            yield

    @contextmanager
    def second_gateway(self) -> Iterator[int]:
        """Another gateway with the same configuration, and so the same stores; gives its port."""
        gateways = Parties(self._folder / "logs")
        listener = bind()
        port: int = listener.getsockname()[1]
        try:
            gateways.start("gateway-2", "gateway", self.world.folder / "configs" / "gateway.toml", listener)
            gateways.wait_ready()
            yield port
        finally:
            gateways.stop()

    # The device.

    def ask_anew(self, environment: Environment) -> frozenset[str]:
        """A new device that pins `environment` asks for a summary: what it refuses for, or nothing."""
        with self.another_device() as home:
            environment.install(home)
            return self.ask()

    @contextmanager
    def another_device(self) -> Iterator[Path]:
        """A new device asks in the place of the one so far; gives its folder."""
        before = self.home, self._asked
        self.home, self._asked = self._device(), 0
        try:
            yield self.home
        finally:
            self.home, self._asked = before

    def ask(self) -> frozenset[str]:
        """The genuine client asks for a summary: what it refuses for, or nothing."""
        if self._asked == _ASKED:
            self.home, self._asked = self._device(), 0
        self._asked += 1
        try:
            asyncio.run(_ask(self.home))
        except VerificationRefused as refused:
            return frozenset(check.id for check in refused.verdict.causes)
        except SottovoceError as error:
            return frozenset({error.code})
        return frozenset()

    def _reports(self) -> dict[str, Report]:
        return {report.id: report for report in ReportStore(self.home).list()}

    def _new_report(self, before: dict[str, Report]) -> Report:
        """What the device has kept of what it asked for since `before`."""
        (new,) = (report for name, report in self._reports().items() if name not in before)
        return new

    def _device(self) -> Path:
        """A new device that has opted in. Its tokens come when it asks."""
        self._devices += 1
        home = self._folder / f"device-{self._devices}"
        self.world.enrol(home)
        SettingsStore(home).enable(now=self._now)
        return home


async def _ask(home: Path) -> None:
    async with Client(home) as client:
        if client.stock()[0].ready < _TOKENS:
            await client.refill_wallet(only_if_due=False)
        async with aclosing(client.summarize(_CHAT, count=len(_CHAT.messages))) as events:
            async for _ in events:
                pass

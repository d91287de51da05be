"""Directories and keys change while devices keep asking; requests that failed are counted (docs/directory.md).

    python scripts/rotation.py --rotations 2

Issuer, gateway, router, two relays, mirror, log and two witnesses are the real programs, each a process of its own. They and the devices go
by one clock that runs faster than the world's (`simulator.clock`); the operator makes keys, has issuer and gateway read them, and publishes the
next day's directory, with the operator's own code. Behind the router stands an echo: nothing that a CVM does depends on these keys.

Each device is the device zone's code: it keeps its directory, refills its wallet, opens a session through a relay, leaves it open for a while, so
that sessions straddle each moment at which something changes, asks in it, and closes it. Its clock is a little wrong.
"""

import asyncio
import contextlib
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sottovoce.core.errors import SottovoceError
from sottovoce.core.link import END_OF_TURN, LinkReader, link_messages
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, authorization_value, epoch_at
from sottovoce.device.directory import VerifiedDirectory, draw_candidates
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.environment import Environment
from sottovoce.device.issuance import refill
from sottovoce.device.ohttp_client import CandidatesRefusedError, OhttpClient
from sottovoce.device.schedule import Schedule
from sottovoce.device.transport import GatewayKeyError, Network, RelayClient
from sottovoce.device.wallet import Wallet
from sottovoce.edge.gatewaykeys import OHTTP_KEPT
from sottovoce.simulator.clock import SharedClock
from sottovoce.simulator.edge_world import EdgeWorld

__all__ = ["SHORT", "Counts", "Pace", "run"]

_DEVICES: Final = 16
_PAUSE: Final = (0.5, 3.0)
"""Seconds of the world's clock between two requests of one device."""
_HELD: Final = (0.0, 500.0)
"""Seconds of the shared clock for which a session is left open; it may last 600."""
_CLOCK_ERROR: Final = 45.0
"""Seconds by which a device's clock differs, at most. With the request's date, which is rounded, it stays within the gateway's 300."""
_LOOK: Final = 0.4
"""Seconds between two looks of a device at what is due."""
_TICK, _WOUND = 0.1, 0.2
"""Seconds of the world's clock between two windings of the shared one, and for which it is wound."""
_SLOW: Final = 0.25
"""Seconds after which a request, a refresh or a refill that is under way stops the shared clock: outside, none takes minutes of the day either."""
_AFTER: Final = OHTTP_KEPT + 600
"""Seconds after the last grace at which a run ends: the last old key is gone."""
_TEXT: Final = b"a request of the length of a short draft, in which nothing is secret. ".ljust(512, b".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a run takes.

    Attributes:
        before, ahead: when it begins, and when it publishes, in seconds before the first change of day.
        around, between: the clock's speeds around the changes of day, and between two.
        batch: tokens an epoch and refill of each device; more than the usual 32, where it asks a hundred times a day.
    """

    before: int = 2 * 3600
    ahead: int = 90 * 60
    around: float = 150.0
    between: float = 400.0
    batch: int = 96


SHORT: Final = Pace(before=1500, ahead=1200, around=250.0, batch=32)
"""For a test."""


@dataclass(kw_only=True)
class Counts:
    """What happened. Waits are in seconds of the world's clock, without the time that a session was left open."""

    devices: int
    rotations: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """By code."""
    across: int = 0
    """Requests that were under way while a day began, a grace ended, or keys were read."""
    with_old_directory: int = 0
    """Requests answered after their directory's day, in its grace."""
    refills: int = 0
    tokens: int = 0
    failed_beside: int = 0
    """Refreshes and refills that failed."""
    planned_fetches: int = 0
    extra_fetches: int = 0
    """Fetches of a directory because the kept one was refused."""
    most_extra_fetches: int = 0
    """Of one device and one rotation."""
    first_refresh: int = 0
    last_refresh: int = 0
    """Seconds after the beginning of its day at which the first and the last device came for a directory, by the clock."""
    refresh_from: int = 0
    refresh_until: int = 0
    """The same by the devices' own clocks, and however seldom they look: when the first one asked for it, and when one last looked and
    stayed with the directory of the day before."""
    unopened: int = 0
    """Requests that the gateway could not open."""
    keys_read: int = 0
    """Times that issuer or gateway took new keys."""
    longest_wait: float = 0.0
    """Around the changes of day: from an hour before to when the last old key goes."""
    longest_wait_between: float = 0.0
    median_wait: float = 0.0
    median_wait_between: float = 0.0

    def add_failure(self, code: str) -> None:
        """Count one failure."""
        self.failures[code] = self.failures.get(code, 0) + 1


class _Echo:
    """A stand-in for the CVMs: answers each message of a turn with itself."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = LinkReader()
        with contextlib.suppress(OSError, SottovoceError):
            while data := await reader.read(65536):
                for message in link.feed(data):
                    writer.write(link_messages(message) if message else END_OF_TURN)
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


class _Device:
    """One device, and what it saw."""

    def __init__(self, run: "_Run", number: int, network: Network) -> None:
        self._run = run
        self._random = random.Random(number)  # noqa: S311 - when it asks
        self._error = self._random.uniform(-_CLOCK_ERROR, _CLOCK_ERROR)
        self._network = network
        self._home = run.world.folder / f"device-{number}"
        run.world.enrol(self._home)
        self._environment = Environment.load(self._home / "environment.json")
        self._source = DirectorySource(self._environment, network, self._home)
        # All around the world, as nobody fetches tokens in his night (decision record 18).
        zone = self._random.randint(-11, 12) * 3600
        self._wallet = Wallet(
            self._home / "wallet.sqlite",
            schedule=Schedule(batch=run.pace.batch, age=self._environment.token_age),
            zone=lambda _: zone,
        )
        self._lock = asyncio.Lock()
        self.waits_since = math.inf
        """Monotonic seconds at which it began to wait for an answer; infinite while it does not."""
        self.looks_since = math.inf
        """The same for what it does beside."""
        self.extra: Counter[int] = Counter()
        """Extra fetches by the epoch in which they were."""
        self.came: dict[int, float] = {}
        """When it first fetched the directory of an epoch as planned, unix seconds."""
        self.asked: dict[int, int] = {}
        """When it asked for that, by its own clock."""
        self.stayed: dict[int, int] = {}
        """When it last looked and stayed with the directory of an epoch, by its own clock."""

    def close(self) -> None:
        self._wallet.close()

    def _now(self) -> float:
        return self._run.clock() + self._error

    async def _directory(self, *, fresh: bool = False) -> tuple[VerifiedDirectory, bool]:
        async with self._lock:
            looked = int(self._now())
            directory, fetched = await self._source.get(looked, fresh=fresh)
        counts, now = self._run.counts, self._run.clock()
        if fresh:
            counts.extra_fetches += 1
            # Those of the evening before are of the same rotation.
            self.extra[epoch_at(int(now) + EPOCH_SECONDS // 2)] += 1
        elif fetched:
            counts.planned_fetches += 1
            self.came.setdefault(directory.directory.epoch, now)
            self.asked.setdefault(directory.directory.epoch, looked)
        else:
            self.stayed[directory.directory.epoch] = looked
        return directory, fetched

    async def look(self) -> None:
        """What an application does beside the user: the directory's refresh and the wallet's refill, where they are due."""
        now = int(self._now())
        directory, _ = await self._directory()
        if not self._wallet.due(now):
            return
        count = await refill(
            self._wallet,
            environment=self._environment,
            network=self._network,
            directory=directory,
            account=self._home / "account.key",
            now=now,
        )
        self._run.counts.tokens += count
        self._run.counts.refills += 1

    async def keep(self) -> None:
        """Look again and again."""
        while not self._run.ends.is_set():
            self.looks_since = time.monotonic()
            try:
                await self.look()
            except SottovoceError as error:
                self._run.counts.failed_beside += 1
                self._run.counts.add_failure(f"beside: {error.code}")
            self.looks_since = math.inf
            await asyncio.sleep(_LOOK)

    async def ask(self) -> None:
        """One request after the other."""
        while not self._run.ends.is_set():
            await asyncio.sleep(self._random.uniform(*_PAUSE))
            self._run.counts.sent += 1
            began, since = self._run.clock(), time.monotonic()
            try:
                held, epoch = await self._request()
            except SottovoceError as error:
                self._run.counts.failed += 1
                self._run.counts.add_failure(error.code)
            else:
                self._run.answered(began, time.monotonic() - since - held, epoch)
            self.waits_since = math.inf

    async def _request(self) -> tuple[float, int]:
        """A whole request, tried again once as `device.client` does (decision record 12); how long it was held, and the directory's epoch."""
        self.waits_since = time.monotonic()
        directory, fetched = await self._directory()
        try:
            client, session = await self._open(directory)
        except (GatewayKeyError, CandidatesRefusedError):
            if fetched:
                raise
            directory, _ = await self._directory(fresh=True)
            client, session = await self._open(directory)
        self.waits_since, left_open = math.inf, time.monotonic()
        until = self._run.clock() + self._random.uniform(*_HELD)
        while self._run.clock() < until:  # noqa: ASYNC110 - a clock tells nobody
            await asyncio.sleep(_TICK)
        held = time.monotonic() - left_open
        self.waits_since = time.monotonic()
        answer = b"".join([piece async for piece in client.turn(session, _TEXT)])
        if answer != _TEXT:
            raise _AnswerError("another answer than the echo's")
        await client.close(session)
        return held, directory.directory.epoch

    async def _open(self, directory: VerifiedDirectory) -> tuple[OhttpClient, str]:
        token = self._wallet.take(int(self._now()))
        relays = [relay.url for relay in directory.directory.relays]
        client = OhttpClient(RelayClient(self._network, relays), directory.ohttp_config, clock=self._now)
        session, _ = await client.open_session(
            _TEXT, authorization_value(token), draw_candidates(directory.hosts("orchestrator"))
        )
        return client, session


class _AnswerError(SottovoceError):
    """The answer is not that of the echo."""

    code = "service.answer"


class _Run:
    """A run over changes of day, at these unix seconds."""

    def __init__(
        self, world: EdgeWorld, clock: SharedClock, pace: Pace, *, days: Sequence[int], devices: int
    ) -> None:
        self.world = world
        self.clock = clock
        self.counts = Counts(devices=devices, rotations=len(days))
        self.pace = pace
        self._devices: Sequence[_Device] = ()
        self.ends = asyncio.Event()
        self._days = days
        self._waits: dict[bool, list[float]] = {True: [], False: []}
        self._read: list[float] = []

    def answered(self, began: float, wait: float, epoch: int) -> None:
        """A request has its answer."""
        now = self.clock()
        around = any(day - 3600 <= now <= day + GRACE + OHTTP_KEPT for day in self._days)
        self._waits[around].append(wait)
        moments = [at for day in self._days for at in (day, day + GRACE)] + self._read
        self.counts.answered += 1
        self.counts.across += any(began < at <= now for at in moments)
        self.counts.with_old_directory += now >= (epoch + 1) * EPOCH_SECONDS

    def rotate(self, epoch: int) -> None:
        """The operator's work for the directory of `epoch`."""
        self.world.make_keys(epoch)
        self._read.append(self.clock())
        self.world.publish(epoch)

    async def play(self, devices: list[_Device], spoil: Callable[[EdgeWorld, int], None] | None) -> None:
        for one in devices:
            await one.look()  # the first tokens
        self._devices = devices
        tasks = [asyncio.ensure_future(work) for one in devices for work in (one.keep(), one.ask())]
        try:
            for day in self._days:
                epoch = epoch_at(day)
                # The first one has little time ahead of it, the others most of a day.
                ahead = self.pace.ahead if day == self._days[0] else EPOCH_SECONDS - 8 * 3600
                await self._until(day - ahead)
                await asyncio.to_thread(self.rotate, epoch)
                await self._until(day)
                if spoil is not None:
                    spoil(self.world, epoch)
                await self._until(day + GRACE + _AFTER)
        finally:
            self.ends.set()
            self.clock.run(self.pace.around)  # or sessions that are open would wait for ever
            await asyncio.gather(*tasks)

    async def _until(self, moment: float) -> None:
        """Wind the clock up until it shows `moment`."""
        pace = self.pace
        while (left := moment - self.clock()) > 0:
            near = any(day - 2 * 3600 <= self.clock() <= day + GRACE + _AFTER for day in self._days)
            speed = pace.around if near else pace.between
            since = min(min(one.waits_since, one.looks_since) for one in self._devices)
            slow = time.monotonic() - since > _SLOW
            self.clock.run(speed, 0.0 if slow else min(_WOUND, left / speed))
            await asyncio.sleep(_TICK)

    def finish(self, devices: list[_Device], events: Mapping[str, int]) -> None:
        """Put the counts together."""
        counts = self.counts
        begun = [(one, day, day // EPOCH_SECONDS) for one in devices for day in self._days]
        came = [one.came[epoch] - day for one, day, epoch in begun if epoch in one.came]
        asked = [one.asked[epoch] - day for one, day, epoch in begun if epoch in one.asked]
        stayed = [one.stayed[epoch - 1] - day for one, day, epoch in begun if epoch - 1 in one.stayed]
        counts.most_extra_fetches = max((max(one.extra.values(), default=0) for one in devices), default=0)
        if came:
            counts.first_refresh, counts.last_refresh = round(min(came)), round(max(came))
            counts.refresh_from, counts.refresh_until = min(asked), max(stayed)
        counts.longest_wait, counts.median_wait = _longest_and_median(self._waits[True])
        counts.longest_wait_between, counts.median_wait_between = _longest_and_median(self._waits[False])
        counts.unopened = events["unopened"]
        counts.keys_read = events["keys_read"]


def _longest_and_median(waits: list[float]) -> tuple[float, float]:
    ordered = sorted(waits)
    return (round(ordered[-1], 3), round(ordered[len(ordered) // 2], 3)) if ordered else (0.0, 0.0)


def run(
    rotations: int,
    *,
    devices: int = _DEVICES,
    pace: Pace | None = None,
    spoil: Callable[[EdgeWorld, int], None] | None = None,
) -> Counts:
    """Go over so many changes of day. `spoil` gets the world and the new epoch as each begins: a test does its own damage there.

    Raises:
        UnavailableError: a party did not start.
        ConfigError: the operator's tool refused a directory.
    """
    pace, today = pace or Pace(), epoch_at(int(time.time()))
    days = [(today + number) * EPOCH_SECONDS for number in range(1, rotations + 1)]
    with tempfile.TemporaryDirectory(prefix="sottovoce-rotation-") as folder:
        clock = SharedClock.create(Path(folder) / "clock", days[0] - pace.before)
        world = EdgeWorld(Path(folder) / "world", clock, Path(folder) / "clock")

        async def play() -> Counts:
            async with _Echo().running() as echo, Network() as network:
                try:
                    await asyncio.to_thread(world.start, echo)
                    work = _Run(world, clock, pace, days=days, devices=devices)
                    there = [_Device(work, number, network) for number in range(devices)]
                    try:
                        await work.play(there, spoil)
                    finally:
                        for one in there:
                            one.close()
                finally:
                    await asyncio.to_thread(world.stop)
            work.finish(there, world.events())
            return work.counts

        return asyncio.run(play())

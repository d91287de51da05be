"""One population played through: what the operator's logs then hold, and what really happened."""

import heapq
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.limits import LIMITS
from sottovoce.device.directory import draw_candidates
from sottovoce.device.ohttp_client import coarse_date
from sottovoce.device.schedule import Schedule
from sottovoce.device.session import Request
from sottovoce.simulator.population.answers import answer_class, rewrite_seconds, summary_seconds
from sottovoce.simulator.population.people import Person, Settings, people
from sottovoce.simulator.population.wallets import Naive, Scheduled, SimulatedWallet
from sottovoce.tlog.entries import Host

__all__ = ["FEATURES", "PROMPT", "Behaviour", "Draws", "Logs", "hosts", "play"]

Integers = NDArray[np.int64]
Behaviour = Literal["ours", "prompt", "naive"]
"""`ours`: the device as it is. `prompt`: its wallet as it was before decision record 18. `naive`: everything wrong."""

PROMPT: Final = Schedule(batch=16, interval=(3 * 3600, 9 * 3600), missed=(0, 0), night=(0, 0))
"""A missed refill is made up for at once."""
FEATURES: Final = ("request size", "answer size", "date", "pace", "candidates")
"""What the gateway sees of a session beside its time, in the order of `Logs.sent`."""
_STEP: Final = 32
"""Lengths of texts are multiples of this many bytes: each length is framed once."""
_GIVES_UP: Final = 0.3
_TRIES: Final = 3
_PATIENCE: Final = 300.0
"""Seconds, the mean, after which a user comes back to a wallet that has tokens again."""


class Draws:
    """A seeded source of random numbers, quicker than `random.Random.randint`; for simulations only."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random  # noqa: S311 - a simulation must repeat

    def randint(self, a: int, b: int, /) -> int:
        """A number from `a` to `b`, both included."""
        return a + int(self._random() * (b - a + 1))

    def below(self, bound: int) -> int:
        """A number below `bound`, as `secrets.randbelow`."""
        return int(self._random() * bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What an operator has who joins the logs of issuer, gateway and hosts; and the truth, for the count at the end.

    Attributes:
        region: each account's region.
        refills: unix seconds of each account's batches, in order (issuer).
        users: the truth: which account each session belongs to; sessions are ordered by account and time.
        times: unix seconds at which each session's token was spent (gateway).
        sent: one column a feature of `FEATURES`: small numbers, equal where the bytes or times look equal.
        wishes: how many sessions the users wanted.
        moved: how many of them the wallet moved to a later time, or refused in the end.
        refused: how many were refused in the end.
    """

    settings: Settings
    region: Integers
    refills: list[Integers]
    users: Integers
    times: Integers
    sent: Integers
    wishes: int
    moved: int
    refused: int


def hosts(count: int) -> tuple[Host, ...]:
    """A host list as the directory has it."""
    return tuple(
        Host(
            id=f"host-{n:03}", role="orchestrator", platform="simulated", product="", hardware_id=f"{n:0128x}"
        )
        for n in range(count)
    )


def play(settings: Settings, behaviour: Behaviour) -> Logs:
    """Play the population; the same settings give the same people, whatever their wallets do."""
    rng = np.random.default_rng(settings.seed)
    crowd = people(settings, rng)
    draws = Draws(settings.seed)
    sender = _Sender(
        behaviour=behaviour, listed=hosts(settings.hosts), draws=draws, rng=rng, cvm=rng.spawn(1)[0]
    )
    refills, rows, moved, refused = [], [], 0, 0
    for number, person in enumerate(crowd):
        wallet = _wallet(behaviour, person.zone, draws)
        # A device's first refill is at some time of its first day, as people do not all join at midnight.
        wallet.run(person.off, settings.born + draws.randint(0, 12 * 3600), settings.end)
        spent, late, lost = _spend(wallet, person, settings, draws)
        moved, refused = moved + late, refused + lost
        refills.append(np.asarray(wallet.refills, dtype=np.int64))
        rows.append(sender.sessions(number, person, spent))
    table = np.concatenate(rows)
    return Logs(
        settings=settings,
        region=np.asarray([person.region for person in crowd], dtype=np.int64),
        refills=refills,
        users=table[:, 0],
        times=table[:, 1],
        sent=table[:, 2:],
        wishes=sum(sum(time >= settings.start for time in person.wishes) for person in crowd),
        moved=moved,
        refused=refused,
    )


def _wallet(behaviour: Behaviour, zone: int, draws: Draws) -> SimulatedWallet:
    if behaviour == "naive":
        return Naive(batch=Schedule().batch)
    schedule = Schedule() if behaviour == "ours" else PROMPT
    return Scheduled(schedule=schedule, zone=zone, draw=draws, chance=draws)


def _spend(
    wallet: SimulatedWallet, person: Person, settings: Settings, draws: Draws
) -> tuple[list[int], int, int]:
    """When tokens were spent; how many wishes had to wait, or were refused; how many were refused."""
    queue = [(time, 0, 0 if time < settings.start else 1) for time in person.wishes]
    spent, moved, refused = [], 0, 0
    while queue:
        now, tries, counts = heapq.heappop(queue)
        taken = wallet.take(now)
        if taken.success:
            if counts:
                spent.append(now)
            continue
        moved += counts if tries == 0 else 0
        back = _comes_back(taken.ready_at, now, tries, draws)
        if back is None or back >= settings.end:
            refused += counts
        else:
            heapq.heappush(queue, (back, tries + 1, counts))
    return spent, moved, refused


def _comes_back(ready_at: int | None, now: int, tries: int, draws: Draws) -> int | None:
    if tries >= _TRIES or draws.randint(1, 1000) <= _GIVES_UP * 1000:
        return None
    soon = draws.randint(1, int(2 * _PATIENCE))
    return (now + 3600 if ready_at is None else ready_at) + soon


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sender:
    """Turns the times of one person's sessions into what the gateway sees of them."""

    behaviour: Behaviour
    listed: tuple[Host, ...]
    draws: Draws
    rng: np.random.Generator
    cvm: np.random.Generator
    """For what chance does in the CVM."""

    def sessions(self, number: int, person: Person, spent: list[int]) -> Integers:
        """One row a session: account, time, and the features."""
        rows = np.empty((len(spent), 2 + len(FEATURES)), dtype=np.int64)
        rows[:, 0], rows[:, 1] = number, spent
        bodies, answers = self._sizes(person, len(spent))
        rows[:, 2], rows[:, 3] = bodies, answers
        rows[:, 4] = self._dates(person, spent)
        rows[:, 5] = np.floor(4 * np.log2(self.rng.lognormal(np.log(person.pace), 0.3, len(spent))))
        rows[:, 6] = self._candidates(len(spent))
        return rows

    def _sizes(self, person: Person, count: int) -> tuple[list[int], list[int]]:
        """What shows of the lengths of requests and answers: of rewrites, or of summaries that grow with what there is to say."""
        rewrites = self.rng.random(count) < person.rewrites
        texts = self.rng.lognormal(np.log(person.messages), 0.8, count).clip(1, LIMITS.messages)
        drafts = self.rng.lognormal(np.log(120), 0.6, count)
        bodies = _stepped(np.where(rewrites, drafts, texts * person.message_bytes), LIMITS.request)
        suggestions = self.rng.lognormal(np.log(700), 0.3, count)
        if self.behaviour == "naive":
            return bodies, _stepped(np.where(rewrites, suggestions, 500 + 60 * np.sqrt(texts)), LIMITS.answer)
        seconds = np.where(
            rewrites,
            rewrite_seconds(drafts, self.cvm, written=person.written),
            summary_seconds(texts.astype(np.int64), self.cvm, written=person.written),
        )
        return [_request_class(length) for length in bodies], [answer_class(taken) for taken in seconds]

    def _dates(self, person: Person, spent: list[int]) -> list[int]:
        """How far the date that a device sends is from the gateway's: minutes, or a naive device's seconds."""
        trips = self.rng.lognormal(np.log(person.pace / 2), 0.3, len(spent)) / 1000
        if self.behaviour == "naive":
            return [int(time + person.skew) - time for time in spent]
        return [
            (coarse_date(time + person.skew) - coarse_date(time + trip)) // 60
            for time, trip in zip(spent, trips, strict=True)
        ]

    def _candidates(self, count: int) -> list[int]:
        """The pair in its order, as one number; a naive device draws once for good."""
        pairs = [draw_candidates(self.listed, rng=self.draws.below) for _ in range(max(count, 1))]
        if self.behaviour == "naive":
            pairs = pairs[:1] * len(pairs)
        ones = (
            (int(one.removeprefix("host-")), int(two.removeprefix("host-"))) for one, two in pairs[:count]
        )
        return [one * len(self.listed) + two for one, two in ones]


def _stepped(lengths: NDArray[np.float64], most: int) -> list[int]:
    return [int(length) // _STEP * _STEP for length in lengths.clip(_STEP, most)]


@lru_cache(maxsize=16_384)
def _request_class(length: int) -> int:
    """All that shows of a request: the device's own framing."""
    return Request("/v1/summaries", bytes(length)).size_class

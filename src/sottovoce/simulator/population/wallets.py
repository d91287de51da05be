"""Wallets in simulated time: the device's own schedule over a list instead of a file, and one that does it wrong.

`Scheduled` takes every decision by `device.schedule.Schedule`, the code that the real wallet runs; a test plays both side by
side. Signatures are left out, as no decision rests on them.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Protocol

from sottovoce.core.tokens import EPOCH_SECONDS, epoch_at
from sottovoce.device.schedule import Draw, Plan, Schedule

__all__ = ["Naive", "Scheduled", "SimulatedWallet", "Taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of a wish for a token: it is here, or may be here from `ready_at` on, as `WalletEmpty` says."""

    success: bool
    ready_at: int | None = None


class SimulatedWallet(Protocol):
    """What the simulation asks of a wallet."""

    refills: list[int]
    """Unix seconds at which the issuer signed a batch."""

    def run(self, off: list[tuple[int, int]], since: int, until: int) -> None:
        """Do what is done without the user, from `since` to `until`; the device is away in `off`."""

    def take(self, now: int) -> Taken:
        """Spend a token; times do not go back."""


@dataclass(slots=True, kw_only=True)
class Scheduled:
    """The device's wallet. `failures` is the share of refills that do not finish."""

    schedule: Schedule
    draw: Draw
    zone: int
    chance: Draw
    failures: float = 0.005
    refills: list[int] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    _ready: dict[int, list[int]] = field(default_factory=dict)
    _batches: list[tuple[int, int, list[int]]] = field(default_factory=list)
    _spent: dict[int, int] = field(default_factory=dict)

    def run(self, off: list[tuple[int, int]], since: int, until: int) -> None:
        """All refills first: spending cannot change them."""
        starts = [pair[0] for pair in off]
        self.plan = Plan(time=max(self.plan.time, since), covered=self.plan.covered, firm=self.plan.firm)
        while self.plan.time < until:
            now = self.plan.time
            at = bisect_right(starts, now) - 1
            if at >= 0 and now < off[at][1]:
                now = off[at][1]
            if now >= until:
                break
            self.plan = self.schedule.look(self.plan, now, self.zone, self.draw)
            if self.schedule.is_due(self.plan, now):
                self.refill(now)
        for ready in self._ready.values():
            ready.sort()

    def refill(self, now: int) -> None:
        """One refill, as `Wallet.begin_batch` and `Wallet.finish_batch` make it."""
        self.plan = self.schedule.begun(self.plan, now, self.draw)
        self.refills.append(now)
        if self.chance.randint(1, 10_000) <= self.failures * 10_000:
            return
        for epoch in self.schedule.epochs(now):
            ready = [self.schedule.ready(epoch, now, self.draw) for _ in range(self.schedule.batch)]
            self._ready.setdefault(epoch, []).extend(ready)
            self._batches.append((epoch, now, ready))
        self.plan = self.schedule.refilled(self.schedule.epochs(now)[-1], now, self.zone, self.draw)

    def take(self, now: int) -> Taken:
        """One of those that may be spent; which one, no observer can see, and it changes nothing later."""
        today = epoch_at(now)
        spent = self._spent.get(today, 0)
        if bisect_right(self._ready.get(today, []), now) > spent:
            self._spent[today] = spent + 1
            return Taken(success=True)
        return Taken(success=False, ready_at=self._ready_at(now))

    def stock(self, now: int) -> int:
        """Tokens that may be spent now."""
        today = epoch_at(now)
        return bisect_right(self._ready.get(today, []), now) - self._spent.get(today, 0)

    def _ready_at(self, now: int) -> int | None:
        later = [
            ready
            for epoch, issued, batch in self._batches
            if issued <= now < (epoch + 1) * EPOCH_SECONDS
            for ready in batch
            if now < ready < (epoch + 1) * EPOCH_SECONDS
        ]
        return min(later, default=None)


@dataclass(slots=True, kw_only=True)
class Naive:
    """Fetches a batch when it is empty, and spends at once. It is here to show that the measure can see."""

    batch: int
    refills: list[int] = field(default_factory=list)
    _epoch: int = -1
    _left: int = 0

    def run(self, off: list[tuple[int, int]], since: int, until: int) -> None:
        """Nothing is done ahead."""

    def take(self, now: int) -> Taken:
        """Always succeeds; the issuer may see it."""
        if self._epoch != epoch_at(now) or self._left == 0:
            self._epoch, self._left = epoch_at(now), self.batch
            self.refills.append(now)
        self._left -= 1
        return Taken(success=True)

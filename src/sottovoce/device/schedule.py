"""When tokens are fetched, and from when on they may be spent (protocol section 4). No clock and no randomness inside.

What is decided here may depend on the clock, on chance, and on what the issuer has seen already: its own answers, and when
this device last came to it. It never depends on what was spent.

    refilled ─▶ planned ── passed while the device is there ─▶ due
                   └────── passed while it was away ─▶ planned anew, once; at once if there is no batch of today

Two things keep the times from telling when a person is there (decision record 18). A missed refill is not made up for at once:
that would tell the issuer the minute in which a device comes back, and then its user looks at what there is to
summarise. And no device fetches during the night of its time zone: else one that is switched off at night would show by fetching
never then, and show its owner's hours with it.
"""

from dataclasses import dataclass, replace
from typing import Final, Protocol

from sottovoce.core.errors import UsageError
from sottovoce.core.tokens import EPOCH_SECONDS, epoch_at

__all__ = ["NEVER", "Draw", "Plan", "Schedule"]

_DAY: Final = 86_400
_MOST: Final = 256
NEVER: Final = -1
"""The epoch that is covered where no batch came yet."""


class Draw(Protocol):
    """A source of random numbers; `random.Random` and `secrets.SystemRandom` are such."""

    def randint(self, a: int, b: int, /) -> int:
        """A number drawn uniformly from `a` to `b`, both included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a wallet remembers of its refills.

    Attributes:
        time: unix seconds of the next refill; 0 where none was ever made.
        covered: the last epoch of which a whole batch came, spent or not; `NEVER` before the first.
        firm: whether it stays as it is when it is missed: it was planned anew once already, or a refill failed.
    """

    time: int = 0
    covered: int = NEVER
    firm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Ranges in seconds, both ends included.

    Attributes:
        batch: tokens fetched per epoch and refill; every device has the same.
        interval: from one refill to the next.
        retry: from a refill that did not finish to the next.
        missed: from the return of a device that was away at its refill's time, or the end of the night, to that refill.
        night: seconds after midnight by the device's own clock, from and to, in which no refill is planned; equal for none.
        slack: how late a refill counts as missed; below, the device was only busy.
        age: from a token's issuance to its first use.
    """

    batch: int = 64
    interval: tuple[int, int] = (3 * 3600, 9 * 3600)
    retry: tuple[int, int] = (300, 900)
    missed: tuple[int, int] = (0, 6 * 3600)
    night: tuple[int, int] = (20 * 3600, 11 * 3600)
    slack: int = 300
    age: tuple[int, int] = (600, 7200)

    def __post_init__(self) -> None:
        ranges = (self.interval, self.retry, self.missed, self.age, (0, self.slack))
        in_order = all(0 <= low <= high for low, high in ranges)
        if not 1 <= self.batch <= _MOST or not in_order or not all(0 <= at < _DAY for at in self.night):
            raise UsageError("a schedule's numbers are out of order")

    @staticmethod
    def epochs(now: int) -> tuple[int, int]:
        """The epochs of which a refill at `now` brings a batch each: today's and tomorrow's."""
        return epoch_at(now), epoch_at(now) + 1

    def begun(self, plan: Plan, now: int, draw: Draw) -> Plan:
        """The plan while a refill is under way; it stands if that refill never finishes."""
        return Plan(time=now + draw.randint(*self.retry), covered=plan.covered, firm=True)

    def refilled(self, covered: int, now: int, zone: int, draw: Draw) -> Plan:
        """The plan after a refill that brought batches up to epoch `covered`; `zone` is seconds east of UTC."""
        return self._planned(now, self.interval, Plan(covered=covered), zone, draw)

    def look(self, plan: Plan, now: int, zone: int, draw: Draw) -> Plan:
        """The plan as it stands at `now`: another one where the device was away at its time."""
        if plan.firm or now - plan.time <= self.slack or plan.covered < epoch_at(now):
            return plan
        missed = Plan(covered=plan.covered, firm=True)
        return self._planned(now, self.missed, missed, zone, draw)

    def is_due(self, plan: Plan, now: int) -> bool:
        """Whether it is time for a refill."""
        # A plan beyond the longest range was made by a clock that has been set back since.
        longest = max(self.interval[1], self.retry[1], self.missed[1]) + self._night + self.missed[1]
        return not 0 < plan.time - now <= longest

    @property
    def _night(self) -> int:
        return (self.night[1] - self.night[0]) % _DAY

    def _planned(self, now: int, ahead: tuple[int, int], plan: Plan, zone: int, draw: Draw) -> Plan:
        """`plan` for some time `ahead`, after the night if it would be in it; no later than the last batch's day ends."""
        time = now + draw.randint(*ahead)
        into = (time + zone - self.night[0]) % _DAY
        if into < self._night:
            time += self._night - into + draw.randint(*self.missed)
        over = (plan.covered + 1) * EPOCH_SECONDS
        return replace(plan, time=min(time, over) if over > now else time)

    def ready(self, epoch: int, now: int, draw: Draw) -> int:
        """Unix seconds from which a token of `epoch`, issued at `now`, may be spent; may be after its day."""
        day = epoch * EPOCH_SECONDS
        # Whatever is drawn, it has rested when its day begins.
        return day if now + self.age[1] <= day else max(now + draw.randint(*self.age), day)

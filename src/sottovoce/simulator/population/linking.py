"""Linking issuance to use: which account does this session belong to? The observer holds issuer's and gateway's logs.

The attack is a likelihood ratio. The observer plays a population of their own (another seed; how people live and how wallets work
is public), and counts there how often a session stands in each relation to its own account's issuance log, and to the log
of another account of the same region:

    joint    time since that account's last batch, to its next one, and whether it had tokens at all, together
    habit    how often that account fetched around this hour of the day, on all days
    region   how often people of its region ask at this hour
    amount   for a pile of sessions: how many batches an account has had that asks so often

The ratio of the counts is the evidence for "own"; its logarithms are added over the relations, and over all sessions of
a pile. The pile is a gift: nothing in the protocol tells which sessions belong together. An intersection attack is the
special case in which only impossible accounts are struck off.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.simulator.population.play import Integers, Logs
from sottovoce.simulator.population.statistics import Estimate, clustered_mean, proportion

__all__ = ["Linker", "Linking", "link"]

Floats = NDArray[np.float32]

_SHORT: Final = (0, 1, 2, 5, 15, 60, 180, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 9000)
_LONG: Final = (10800, 14400, 18000, 21600, 25200, 28800, 32400, 37800, 43200, 64800, 86400, 172800)
_EDGES: Final = np.asarray(_SHORT + _LONG)
"""Seconds; the classes of a gap. Fine where a wallet that fetches for use would show."""
_GAPS: Final = len(_EDGES) + 1
_FAR: Final = 200_000
_CLASS: Final = np.searchsorted(_EDGES, np.arange(_FAR + 1), "right").astype(np.int16)
_NONE: Final = 1 << 40
_HABITS: Final = np.asarray([-3, -2, -1.5, -1, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1, 1.5, 2, 3])
_IMPOSTORS: Final = 4
_PILE: Final = 100
"""Sessions of one device that are looked at, at most."""
_STOPS: Final = (1, 2, 4, 7, 14, 28, 56)
"""Days after which a growing pile is tried."""
_FEWEST: Final = 0.5
"""Added to each count, so that nothing seen once is certain."""


class _Index:
    """An issuer's log, made ready for questions about (account, time)."""

    def __init__(self, logs: Logs) -> None:
        self.start = logs.settings.born
        self.counts = np.asarray([len(times) for times in logs.refills], dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.counts)])
        flat = np.concatenate(logs.refills) if logs.refills else np.zeros(0, dtype=np.int64)
        self.owners = np.repeat(np.arange(len(logs.refills)), self.counts)
        self.flat = flat
        self.keys = self.owners * _NONE + flat
        by_hour = np.zeros((len(logs.refills), 24))
        np.add.at(by_hour, (self.owners, flat % EPOCH_SECONDS // 3600), 1.0)
        smooth = 0.5 * by_hour + 0.25 * (np.roll(by_hour, 1, axis=1) + np.roll(by_hour, -1, axis=1))
        level = smooth.mean(axis=1, keepdims=True) + 1e-9
        self.habit = np.searchsorted(_HABITS, np.log2((smooth + 0.2 * level) / (1.2 * level)), "right")

    def gaps(self, accounts: Integers, times: Integers) -> tuple[Integers, Integers]:
        """Seconds since the last batch and to the next one; `_NONE` where there is none."""
        at = np.searchsorted(self.keys, accounts * _NONE + times, "right")
        last, following = at - 1, at
        has_last, has_next = last >= self.first[accounts], following < self.first[accounts + 1]
        before = np.where(has_last, times - self.flat[np.maximum(last, 0)], _NONE)
        after = np.where(has_next, self.flat[np.minimum(following, len(self.flat) - 1)] - times, _NONE)
        return before, after


def _joint(before: Integers, after: Integers, times: Integers | np.int64) -> Integers:
    classes = _CLASS[np.minimum(before, _FAR)].astype(np.int64), _CLASS[np.minimum(after, _FAR)]
    since_midnight = times % EPOCH_SECONDS
    stocked = np.where(before <= since_midnight, 2, np.where(before <= since_midnight + EPOCH_SECONDS, 1, 0))
    cells: Integers = (classes[0] * _GAPS + classes[1]) * 3 + stocked
    return cells


def _ratio(own: Integers, other: Integers, size: int) -> Floats:
    """Logarithm of how much more often a class was counted for the own account than for another."""
    counts = [np.bincount(values, minlength=size) + _FEWEST for values in (own, other)]
    own_share, other_share = (count / count.sum() for count in counts)
    seen = np.bincount(own, minlength=size) + np.bincount(other, minlength=size) > 0
    return np.where(seen, np.log(own_share / other_share), 0.0).astype(np.float32)


def _amount(sessions: Integers, batches: Integers) -> Integers:
    classes = [
        np.minimum(np.floor(2 * np.log2(values + 1)), 23).astype(np.int64) for values in (sessions, batches)
    ]
    cells: Integers = classes[0] * 24 + classes[1]
    return cells


def _impostors(logs: Logs, users: Integers, rng: np.random.Generator) -> Integers:
    """Another account of the same region for each of `users`."""
    chosen = np.empty_like(users)
    for region in np.unique(logs.region):
        pool = np.flatnonzero(logs.region == region)
        place = np.full(len(logs.region), -1)
        place[pool] = np.arange(len(pool))
        mine = logs.region[users] == region
        shift = rng.integers(1, max(len(pool), 2), mine.sum())
        chosen[mine] = pool[(place[users[mine]] + shift) % len(pool)]
    return chosen


def _some(logs: Logs, most: int, rng: np.random.Generator) -> Integers:
    """Sessions to look at: `most` of each account at most, ordered by account."""
    shuffled = rng.permutation(len(logs.users))
    order = shuffled[np.argsort(logs.users[shuffled], kind="stable")]
    users = logs.users[order]
    rank = np.arange(len(users)) - np.searchsorted(users, users, "left")
    return np.sort(order[rank < most])


class Linker:
    """What the observer has learnt from a population of their own."""

    def __init__(self, logs: Logs, rng: np.random.Generator) -> None:
        index = _Index(logs)
        chosen = _some(logs, _PILE, rng)
        users, times = logs.users[chosen], logs.times[chosen]
        cells = _GAPS * _GAPS * 3
        others = [_impostors(logs, users, rng) for _ in range(_IMPOSTORS)]
        self.joint = _ratio(
            _joint(*index.gaps(users, times), times),
            np.concatenate([_joint(*index.gaps(other, times), times) for other in others]),
            cells,
        )
        hours = times % EPOCH_SECONDS // 3600
        self.habit = _ratio(
            index.habit[users, hours],
            np.concatenate([index.habit[other, hours] for other in others]),
            len(_HABITS) + 1,
        )
        self.region = _regional(logs.region[users], hours, int(logs.region.max()) + 1)
        accounts, sessions = np.unique(users, return_counts=True)
        swapped = [_impostors(logs, accounts, rng) for _ in range(_IMPOSTORS)]
        self.amount = _ratio(
            _amount(sessions, index.counts[accounts]),
            np.concatenate([_amount(sessions, index.counts[other]) for other in swapped]),
            24 * 24,
        )


def _regional(regions: Integers, hours: Integers, count: int) -> Floats:
    table = np.full((count, 24), _FEWEST)
    np.add.at(table, (regions, hours), 1.0)
    overall = table.sum(axis=0) / table.sum()
    ratio: Floats = np.log(table / table.sum(axis=1, keepdims=True) / overall).astype(np.float32)
    return ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """Advantages. Naming: how much more often than 1/N the right account of all N is named. Two accounts: twice the gain over ½."""

    one_named: Estimate
    one_named_by_region: Estimate
    one_of_two: Estimate
    suspected: Estimate
    """How much more often a session looks like the account's own where it is, than where it is another's of the region."""
    pile_named: Estimate
    pile_of_two: Estimate
    by_days: dict[int, Estimate]
    """Naming with the piles of the first days only."""
    gaps: dict[str, list[tuple[float, float]]]
    """Share of sessions by seconds since the last batch: of the own account, of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """One number a device: the share of right answers between two accounts, of single sessions and of its pile, and the suspicion."""

    one: NDArray[np.float64]
    pile: NDArray[np.float64]
    suspected: NDArray[np.float64]
    gaps: dict[str, list[tuple[float, float]]]


def link(
    logs: Logs,
    linker: Linker,
    rng: np.random.Generator,
    *,
    named: int,
    piles: int,
    more: Iterable[Logs] = (),
) -> Linking:
    """Attack `logs`: `named` single sessions of different accounts, `piles` whole piles, and every session between two.

    `more` are populations of the same size, in which every session is tried between two as well: the devices of all are counted
    together, as the interval of one population is about as wide as what there is to see.
    """
    index = _Index(logs)
    compared = [_between_two(logs, index, linker, rng)]
    compared += [_between_two(another, _Index(another), linker, rng) for another in more]
    one, by_region = _name_one(logs, index, linker, rng, named)
    by_days = _name_piles(logs, index, linker, rng, piles)
    return Linking(
        one_named=one,
        one_named_by_region=by_region,
        one_of_two=clustered_mean(np.concatenate([each.one for each in compared])).scaled(2, -1),
        suspected=clustered_mean(np.concatenate([each.suspected for each in compared])),
        pile_named=by_days[logs.settings.days],
        pile_of_two=clustered_mean(np.concatenate([each.pile for each in compared])).scaled(2, -1),
        by_days=by_days,
        gaps=compared[0].gaps,
    )


def _between_two(logs: Logs, index: _Index, linker: Linker, rng: np.random.Generator) -> _Compared:
    chosen = _some(logs, _PILE, rng)
    users, times = logs.users[chosen], logs.times[chosen]
    hours = times % EPOCH_SECONDS // 3600
    accounts, first, sessions = np.unique(users, return_index=True, return_counts=True)

    def scores(candidates: Integers) -> tuple[Floats, Floats, Integers]:
        before, after = index.gaps(candidates, times)
        each = linker.joint[_joint(before, after, times)] + linker.habit[index.habit[candidates, hours]]
        pile = (
            np.add.reduceat(each, first) + linker.amount[_amount(sessions, index.counts[candidates[first]])]
        )
        return each, pile, before

    own, own_pile, own_gap = scores(users)
    wins, pile_wins = np.zeros(len(users)), np.zeros(len(accounts))
    looks = (own > 0).astype(np.float64)
    for _ in range(_IMPOSTORS):
        other, other_pile, other_gap = scores(np.repeat(_impostors(logs, accounts, rng), sessions))
        wins += _wins(own, other)
        looks -= (other > 0) / _IMPOSTORS
        pile_wins += _wins(own_pile, other_pile)
    return _Compared(
        one=np.add.reduceat(wins, first) / sessions / _IMPOSTORS,
        pile=pile_wins / _IMPOSTORS,
        suspected=np.add.reduceat(looks, first) / sessions,
        gaps={"own account": _shares(own_gap), "another account": _shares(other_gap)},
    )


def _wins(own: Floats, other: Floats) -> NDArray[np.float64]:
    wins: NDArray[np.float64] = (own > other) + 0.5 * (own == other)
    return wins


def _shares(gaps: Integers) -> list[tuple[float, float]]:
    edges = np.asarray([0, 1, 10, 60, 300, 600, 1200, 2400, 3600, 7200, 14400, 28800, 57600, 115200])
    counts = np.histogram(gaps, edges)[0] / len(gaps)
    return [(float(edge), float(share)) for edge, share in zip(edges[1:], counts, strict=True)]


def _name_one(
    logs: Logs, index: _Index, linker: Linker, rng: np.random.Generator, count: int
) -> tuple[Estimate, Estimate]:
    chosen = _some(logs, 1, rng)
    chosen = rng.permutation(chosen)[:count]
    hits = regional = 0
    for at, vector in _sweep(logs, index, linker, chosen):
        region = linker.region[logs.region, logs.times[at] % EPOCH_SECONDS // 3600]
        hits += _is_first(vector, int(logs.users[at]), rng)
        regional += _is_first(region, int(logs.users[at]), rng)
    guess = -1 / logs.settings.devices
    return tuple(proportion(found, len(chosen)).scaled(1, guess) for found in (hits, regional))  # type: ignore[return-value]


def _name_piles(
    logs: Logs, index: _Index, linker: Linker, rng: np.random.Generator, count: int
) -> dict[int, Estimate]:
    """Name each pile's account, as the pile grows day by day."""
    accounts = rng.permutation(np.unique(logs.users))[:count]
    mine = _some(logs, _PILE, rng)
    mine = mine[np.isin(logs.users[mine], accounts)]
    piles = _Piles(logs, index, linker, accounts, rng)
    for at, vector in _sweep(logs, index, linker, mine):
        piles.conclude(int(logs.times[at]))
        piles.add(at, vector)
    piles.conclude(logs.settings.end)
    return piles.found


class _Piles:
    """Piles of sessions that grow, and who is named by them after some days."""

    def __init__(
        self, logs: Logs, index: _Index, linker: Linker, accounts: Integers, rng: np.random.Generator
    ) -> None:
        self._logs, self._index, self._linker, self._rng = logs, index, linker, rng
        self._accounts = accounts
        self._place = {int(account): number for number, account in enumerate(accounts)}
        self._totals = np.zeros((len(accounts), len(logs.region)), dtype=np.float32)
        self._sizes = np.zeros(len(accounts), dtype=np.int64)
        whole = logs.settings.days
        self._stops = sorted({day for day in _STOPS if day < whole} | {whole})
        self.found: dict[int, Estimate] = {}

    def add(self, at: int, scores: Floats) -> None:
        """One session more in its pile."""
        number = self._place[int(self._logs.users[at])]
        self._totals[number] += scores
        self._sizes[number] += 1

    def conclude(self, now: int) -> None:
        """Count who is named by what was seen, once for each stop that is over at `now`."""
        settings = self._logs.settings
        while self._stops and settings.start + self._stops[0] * EPOCH_SECONDS <= now:
            day = self._stops.pop(0)
            hits = sum(self._is_named(number, last=not self._stops) for number in range(len(self._accounts)))
            self.found[day] = proportion(hits, len(self._accounts)).scaled(1, -1 / settings.devices)

    def _is_named(self, number: int, *, last: bool) -> bool:
        scores = self._totals[number]
        if last:
            sizes = np.full(len(self._index.counts), self._sizes[number])
            scores = scores + self._linker.amount[_amount(sizes, self._index.counts)]
        return _is_first(scores, int(self._accounts[number]), self._rng)


def _is_first(scores: Floats, account: int, rng: np.random.Generator) -> bool:
    """Whether the observer names `account`; among equals they draw."""
    best = np.flatnonzero(scores == scores.max())
    return bool(best[rng.integers(len(best))] == account)


def _sweep(logs: Logs, index: _Index, linker: Linker, chosen: Integers) -> Iterator[tuple[int, Floats]]:
    """For each chosen session, in the order of time: the scores of all accounts."""
    order = np.argsort(index.flat, kind="stable")
    events, owners = index.flat[order], index.owners[order]
    following = np.full(len(index.flat) + 1, _NONE)
    following[:-1] = np.where(
        np.arange(1, len(index.flat) + 1) < index.first[index.owners + 1],
        np.append(index.flat[1:], _NONE),
        _NONE,
    )
    following = following[:-1][order]
    last = np.full(len(logs.region), -_NONE)
    has_first = index.counts > 0
    upcoming = np.where(has_first, index.flat[np.minimum(index.first[:-1], len(index.flat) - 1)], _NONE)
    by_hour = [linker.habit[index.habit[:, hour]] + linker.region[logs.region, hour] for hour in range(24)]
    at_event = 0
    for at in chosen[np.argsort(logs.times[chosen], kind="stable")]:
        now = logs.times[at]
        until = int(np.searchsorted(events, now, "right"))
        # Numpy keeps the last of several values for one account, and events are in order.
        last[owners[at_event:until]] = events[at_event:until]
        upcoming[owners[at_event:until]] = following[at_event:until]
        at_event = until
        cells = _joint(np.minimum(now - last, _NONE), np.minimum(upcoming - now, _NONE), now)
        yield int(at), linker.joint[cells] + by_hour[now % EPOCH_SECONDS // 3600]

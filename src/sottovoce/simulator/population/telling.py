"""Telling users apart by what they send: sizes, date, pace, candidates.

The observer is given, as a gift, a labelled history: every session of every user in the first half of the days. Then one session
of the second half is shown, and its sender is named: by the product of the shares that each feature's value has in each user's
history, mixed with its share in the whole population. What a feature is worth beside the others the observer learns from a population of their own: the
exponents in that product. Without them many values that say nothing (candidates) drown the few that do.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.simulator.population.play import FEATURES, Integers, Logs
from sottovoce.simulator.population.statistics import Estimate, clustered_mean, proportion

__all__ = ["Telling", "tell"]

Shares = NDArray[np.float32]
Scores = NDArray[np.float64]
Exponents = NDArray[np.float64]

_MIXED: Final = 4.0
"""So many sessions of the whole population count like one's own history; chosen once, on another seed."""
_VALUES: Final = 400
"""A feature with more values is cut into so many classes of equal weight."""
_IMPOSTORS: Final = 8
_EXPONENTS: Final = np.linspace(0, 1.5, 31)
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Advantages: naming one of all, and between two, with all features and with each alone."""

    named: Estimate
    of_two: Estimate
    by_feature: dict[str, Estimate]
    values: dict[str, int]
    """How many values of each feature were seen."""
    exponents: dict[str, float]
    """What each feature is worth beside the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Sessions to be told apart, one a user, with what is known of everybody."""

    tables: list[Shares]
    """A feature each: logarithm of P(value | user), one row a value."""
    seen: list[Integers]
    """A feature each: the value of each session."""
    users: Integers
    """The truth."""
    others: list[Integers]
    """Impostors for each session."""
    accounts: int

    def score(self, accounts: Integers, exponents: Exponents) -> Scores:
        """How well each session suits the account that is named beside it."""
        parts = [table[value, accounts] for table, value in zip(self.tables, self.seen, strict=True)]
        total: Scores = np.tensordot(exponents, np.stack(parts), axes=1)
        return total

    def leads(self, exponents: Exponents) -> Scores:
        """By how much each session suits its sender better than its impostors, one row a set of impostors."""
        own = self.score(self.users, exponents)
        return np.stack([own - self.score(other, exponents) for other in self.others])


def tell(logs: Logs, learnt: Logs, rng: np.random.Generator, *, named: int) -> Telling:
    """Learn from the first half of the days, and name senders in the second; `learnt` is the observer's own population."""
    exponents = _learn(_task(learnt, rng))
    task = _task(logs, rng)
    alone = np.eye(len(FEATURES))
    return Telling(
        named=_named(task, exponents, rng, named),
        of_two=_of_two(task, exponents),
        by_feature={name: _of_two(task, only) for name, only in zip(FEATURES, alone, strict=True)},
        values={name: len(np.unique(logs.sent[:, number])) for number, name in enumerate(FEATURES)},
        exponents=dict(zip(FEATURES, exponents.tolist(), strict=True)),
    )


def _task(logs: Logs, rng: np.random.Generator) -> _Task:
    half = logs.settings.start + logs.settings.days // 2 * EPOCH_SECONDS
    early, late = np.flatnonzero(logs.times < half), np.flatnonzero(logs.times >= half)
    # One session a user, so that trials are independent.
    late = rng.permutation(late)
    _, once = np.unique(logs.users[late], return_index=True)
    shown = late[once]
    accounts = len(logs.region)
    tables, seen = [], []
    for number in range(len(FEATURES)):
        column, count = _classes(logs.sent[:, number])
        tables.append(_shares(logs.users[early], column[early], accounts, count))
        seen.append(column[shown])
    users = logs.users[shown]
    others = [rng.integers(0, accounts, len(shown)) for _ in range(_IMPOSTORS)]
    others = [np.where(other == users, (other + 1) % accounts, other) for other in others]
    return _Task(tables=tables, seen=seen, users=users, others=others, accounts=accounts)


def _learn(task: _Task) -> Exponents:
    """The exponents with which senders are likeliest, found one after the other: a logistic regression on few values."""
    each = np.stack([task.leads(only) for only in np.eye(len(FEATURES))])
    found: Exponents = np.ones(len(FEATURES))
    for _ in range(_ROUNDS):
        for number in range(len(FEATURES)):
            found[number] = 0
            rest = np.tensordot(found, each, axes=1)
            likely = [-np.logaddexp(0, -(rest + one * each[number])).sum() for one in _EXPONENTS]
            found[number] = _EXPONENTS[int(np.argmax(likely))]
    return found


def _classes(column: Integers) -> tuple[Integers, int]:
    values, numbers = np.unique(column, return_inverse=True)
    if len(values) > _VALUES:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _VALUES)))
        numbers = np.searchsorted(edges, column)
        return numbers.astype(np.int64), len(edges) + 1
    return numbers.astype(np.int64), len(values)


def _shares(users: Integers, column: Integers, accounts: int, values: int) -> Shares:
    """Logarithm of P(value | user), one row a value."""
    counts = np.zeros((values, accounts), dtype=np.float32)
    np.add.at(counts, (column, users), 1.0)
    overall = (counts.sum(axis=1, keepdims=True) + 0.5) / (counts.sum() + 0.5 * values)
    mixed: Shares = (counts + _MIXED * overall) / (counts.sum(axis=0, keepdims=True) + _MIXED)
    return np.log(mixed)


def _of_two(task: _Task, exponents: Exponents) -> Estimate:
    leads = task.leads(exponents)
    return clustered_mean(((leads > 0) + 0.5 * (leads == 0)).mean(axis=0)).scaled(2, -1)


def _named(task: _Task, exponents: Exponents, rng: np.random.Generator, count: int) -> Estimate:
    chosen = rng.permutation(len(task.users))[:count]
    hits = 0
    for at in chosen:
        parts = [table[value[at]] for table, value in zip(task.tables, task.seen, strict=True)]
        scores = np.tensordot(exponents, np.stack(parts), axes=1)
        best = np.flatnonzero(scores == scores.max())
        hits += int(best[rng.integers(len(best))] == task.users[at])
    return proportion(hits, len(chosen)).scaled(1, -1 / task.accounts)

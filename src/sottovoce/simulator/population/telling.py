"""Telling users apart by what they send: sizes, date, pace, candidates.

The observer is given, as a gift, a labelled history: every session of every user in the first half of the days. Then one session
of the second half is shown, and its sender is named: by the product of the shares that each feature's value has in each user's
history, mixed with its share in the whole population.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.simulator.population.play import FEATURES, Integers, Logs
from sottovoce.simulator.population.statistics import Estimate, clustered_mean, proportion

__all__ = ["Telling", "tell"]

_MIXED: Final = 4.0
"""So many sessions of the whole population count like one's own history; chosen once, on another seed."""
_VALUES: Final = 400
"""A feature with more values is cut into so many classes of equal weight."""
_IMPOSTORS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Advantages: naming one of all, and between two, with all features and with each alone."""

    named: Estimate
    of_two: Estimate
    by_feature: dict[str, Estimate]
    values: dict[str, int]
    """How many values of each feature were seen."""


def tell(logs: Logs, rng: np.random.Generator, *, named: int) -> Telling:
    """Learn from the first half of the days, and name senders in the second."""
    half = logs.settings.start + logs.settings.days // 2 * EPOCH_SECONDS
    early, late = np.flatnonzero(logs.times < half), np.flatnonzero(logs.times >= half)
    # One session a user, so that trials are independent.
    late = rng.permutation(late)
    _, once = np.unique(logs.users[late], return_index=True)
    shown = late[once]
    tables, columns, values = [], [], {}
    for number, name in enumerate(FEATURES):
        column, count = _classes(logs.sent[:, number])
        values[name] = len(np.unique(logs.sent[:, number]))
        columns.append(column)
        tables.append(_shares(logs.users[early], column[early], len(logs.region), count))
    users = logs.users[shown]
    others = [rng.integers(0, len(logs.region), len(shown)) for _ in range(_IMPOSTORS)]
    others = [np.where(other == users, (other + 1) % len(logs.region), other) for other in others]
    seen = [column[shown] for column in columns]
    by_feature = {
        name: _of_two([table], [value], users, others)
        for name, table, value in zip(FEATURES, tables, seen, strict=True)
    }
    return Telling(
        named=_named(tables, seen, users, rng, named),
        of_two=_of_two(tables, seen, users, others),
        by_feature=by_feature,
        values=values,
    )


def _classes(column: Integers) -> tuple[Integers, int]:
    values, numbers = np.unique(column, return_inverse=True)
    if len(values) > _VALUES:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _VALUES)))
        numbers = np.searchsorted(edges, column)
        return numbers.astype(np.int64), len(edges) + 1
    return numbers.astype(np.int64), len(values)


def _shares(users: Integers, column: Integers, accounts: int, values: int) -> NDArray[np.float32]:
    """Logarithm of P(value | user), one row a value."""
    counts = np.zeros((values, accounts), dtype=np.float32)
    np.add.at(counts, (column, users), 1.0)
    overall = (counts.sum(axis=1, keepdims=True) + 0.5) / (counts.sum() + 0.5 * values)
    mixed: NDArray[np.float32] = (counts + _MIXED * overall) / (counts.sum(axis=0, keepdims=True) + _MIXED)
    return np.log(mixed)


def _of_two(
    tables: list[NDArray[np.float32]], seen: list[Integers], users: Integers, others: list[Integers]
) -> Estimate:
    def score(accounts: Integers) -> NDArray[np.float32]:
        parts = [table[value, accounts] for table, value in zip(tables, seen, strict=True)]
        total: NDArray[np.float32] = np.sum(parts, axis=0)
        return total

    own = score(users)
    wins = np.zeros(len(users))
    for other in others:
        impostor = score(other)
        wins += (own > impostor) + 0.5 * (own == impostor)
    return clustered_mean(wins / len(others)).scaled(2, -1)


def _named(
    tables: list[NDArray[np.float32]],
    seen: list[Integers],
    users: Integers,
    rng: np.random.Generator,
    count: int,
) -> Estimate:
    hits, accounts = 0, tables[0].shape[1]
    chosen = rng.permutation(len(users))[:count]
    for at in chosen:
        scores = np.sum([table[value[at]] for table, value in zip(tables, seen, strict=True)], axis=0)
        best = np.flatnonzero(scores == scores.max())
        hits += int(best[rng.integers(len(best))] == users[at])
    return proportion(hits, len(chosen)).scaled(1, -1 / accounts)

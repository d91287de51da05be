import math
import random

import numpy as np
import pytest

from sottovoce.simulator.population.statistics import clustered_mean, log_evidence, proportion


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # By the definition: 1-(1-x)^(1/n) at the ends; the others from the tables in Clopper and Pearson's paper's method.
    [(0, 10, 0.0, 0.308498), (10, 10, 0.691502, 1.0), (5, 10, 0.187086, 0.812914), (1, 100, 0.000253, 0.054459), (99, 100, 0.945541, 0.999747)],
)  # fmt: skip
def test_exact_intervals(hits: int, trials: int, low: float, high: float) -> None:
    found = proportion(hits, trials)
    assert found.value == hits / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-6)


def test_intervals_of_many_trials_are_near_the_normal_ones() -> None:
    found = proportion(30_000, 100_000)
    half = 1.959964 * math.sqrt(0.3 * 0.7 / 100_000)
    assert found.high - 0.3 == pytest.approx(half, rel=0.01)
    assert 0.3 - found.low == pytest.approx(half, rel=0.01)


def test_the_ends_are_where_the_tails_are() -> None:
    found = proportion(3, 20)
    below = sum(math.comb(20, k) * found.high**k * (1 - found.high) ** (20 - k) for k in range(4))
    above = sum(math.comb(20, k) * found.low**k * (1 - found.low) ** (20 - k) for k in range(3, 21))
    assert (below, above) == pytest.approx((0.025, 0.025))


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_no_such_proportion(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="proportion"):
        proportion(hits, trials)


def test_means_over_devices() -> None:
    found = clustered_mean(np.asarray([0.0, 1.0] * 50))
    assert found.value == 0.5
    assert found.high - 0.5 == pytest.approx(1.959964 * math.sqrt(0.25 * 100 / 99 / 100))
    assert found.scaled(2, -1).value == 0
    with pytest.raises(ValueError, match="two"):
        clustered_mean([1.0])


def test_evidence_is_what_a_bettor_wins() -> None:
    assert log_evidence(5, 10, 0.5) == -math.inf
    # All hits: the product of (k + ½)/(k + 1) over ½.
    wanted = sum(math.log((k + 0.5) / (k + 1) / 0.5) for k in range(12))
    assert log_evidence(12, 12, 0.5) == pytest.approx(wanted)


def test_fair_trials_hardly_ever_look_unfair() -> None:
    """Ville's inequality: however often one looks, 1 in 20 at most."""
    draw = random.Random(1)  # noqa: S311 - the test must repeat
    alarms = 0
    for _ in range(200):
        hits = 0
        for trial in range(1, 200):
            hits += draw.random() < 0.5
            if log_evidence(hits, trial, 0.5) >= math.log(20):
                alarms += 1
                break
    assert alarms <= 10

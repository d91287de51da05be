"""Estimates with intervals, each by a named method; and a test that may be looked at after every report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "clustered_mean", "log_evidence", "proportion"]

_TAIL: Final = 0.025
"""Intervals hold with 95 %: this much is left out at each end."""
_NORMAL: Final = 1.959964
_STEPS: Final = 60
_NEGLIGIBLE: Final = 1e-16


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, from `trials` trials."""

    value: float
    low: float
    high: float
    trials: int

    def scaled(self, factor: float, shift: float) -> "Estimate":
        """The estimate of `factor`·x + `shift`; `factor` is positive."""
        value, low, high = (factor * x + shift for x in (self.value, self.low, self.high))
        return Estimate(value=value, low=low, high=high, trials=self.trials)


def proportion(hits: int, trials: int) -> Estimate:
    """The share of hits in independent trials, with the exact interval of Clopper and Pearson (1934)."""
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError("no such proportion")
    low = 0.0 if hits == 0 else _root(lambda p: 1 - _cdf(hits - 1, trials, p) - _TAIL)
    high = 1.0 if hits == trials else _root(lambda p: _TAIL - _cdf(hits, trials, p))
    return Estimate(value=hits / trials, low=low, high=high, trials=trials)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _cdf(hits: int, trials: int, p: float) -> float:
    """P(X ≤ hits) of the binomial distribution."""
    if not 0 < p < 1:
        return 1.0 if p <= 0 else 0.0
    if hits < trials * p:
        return _tail(hits, trials, p)
    # The other end is the short one.
    return 1.0 - (_tail(trials - hits - 1, trials, 1 - p) if hits < trials else 0.0)


def _tail(hits: int, trials: int, p: float) -> float:
    """P(X ≤ hits) below the mean, where terms fall quickly."""
    whole = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    term = math.exp(whole + hits * math.log(p) + (trials - hits) * math.log1p(-p))
    total = 0.0
    for k in range(hits, -1, -1):
        total += term
        if term < total * _NEGLIGIBLE:
            break
        term *= k * (1 - p) / ((trials - k + 1) * p)
    return total


def clustered_mean(means: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """The mean of one number a device, with the normal interval; devices are independent, their sessions need not be."""
    values = np.asarray(means, dtype=np.float64)
    if len(values) < 2:  # noqa: PLR2004 - no spread of one
        raise ValueError("a mean of fewer than two has no interval")
    middle = float(values.mean())
    half = _NORMAL * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(value=middle, low=middle - half, high=middle + half, trials=len(values))


def log_evidence(hits: int, trials: int, fair: float) -> float:
    """Natural logarithm of the evidence that hits are more likely than `fair`: a mixture of bets (Beta(½, ½)) against it.

    While hits have probability `fair`, its exponential is a martingale that starts at 1, so it ever reaches k with
    probability 1/k at most (Ville's inequality): an auditor may look after every report.
    """
    if hits <= fair * trials:
        return -math.inf
    mixture = (
        math.lgamma(hits + 0.5)
        + math.lgamma(trials - hits + 0.5)
        - math.lgamma(trials + 1)
        - math.log(math.pi)
    )
    return mixture - hits * math.log(fair) - (trials - hits) * math.log1p(-fair)

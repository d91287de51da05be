"""The made-up people: where they live, when their phones are on, when they ask for something, and how much.

Every number here is an assumption, chosen to be harder on the wallet than ordinary use: days of sudden need, phones that
are off every night, absences of days, people who look at what they missed as soon as their phone is back.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.errors import UsageError
from sottovoce.core.tokens import EPOCH_SECONDS

__all__ = ["WARM_UP", "Person", "Settings", "people"]

Times = NDArray[np.int64]

WARM_UP: Final = 2
"""Days that are played first, so that no wallet is new; the observer's attacks look at the days after."""
_FIRST_DAY: Final = 20_000
_HOUR: Final = 3600
_REGIONS: Final = ((-6.0, 0.25), (-3.0, 0.15), (1.0, 0.25), (5.5, 0.20), (8.0, 0.15))
"""Hours from UTC, share of the population. The issuer sees an account's region: the device talks to it directly."""
_BY_HOUR: Final = (2, 1, 0.5, 0.3, 0.3, 0.5, 2, 5, 7, 6, 5, 5, 6, 6, 5, 5, 6, 7, 8, 9, 9, 8, 6, 4)
"""How often people ask, by the hour of their own day."""
_MEDIAN_A_DAY: Final = 2.0
_MOST_A_DAY: Final = 40.0
_SUDDEN: Final = 0.005
"""Share of days with a sudden need: 20 to 120 requests within three hours."""
_OFF_AT_NIGHT: Final = 0.15
_OUTAGES: Final = 0.6
"""A day: tunnels, flights, empty batteries; half of them shorter than 25 minutes."""
_LONGEST_OUTAGE: Final = 30 * _HOUR
_ABSENCES: Final = 0.0015
"""A day: the phone is off for one to three days."""
_UNWRITTEN: Final = (3, 4), 0.5
"""Regions, and the share of their people, of a language in which the model makes no headline and no suggestion (Hindi, Indonesian)."""
_LOOKS_AT_ONCE: Final = 0.5
"""Share of wishes during an outage that come true within minutes of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is played.

    Attributes:
        devices: active devices, each an account.
        days: days that are observed.
        hosts: machines that can serve.
        seed: the same seed gives the same population.
    """

    devices: int = 10_000
    days: int = 14
    hosts: int = 20
    seed: int = 1

    def __post_init__(self) -> None:
        if self.devices < 50 or not 2 <= self.days <= 366 or not 2 <= self.hosts <= 1000:  # noqa: PLR2004 - bounds
            raise UsageError("at least 50 devices, 2 to 366 days, and 2 to 1000 hosts")

    @property
    def start(self) -> int:
        """Unix seconds at which the observed days begin, a midnight (UTC)."""
        return (_FIRST_DAY + WARM_UP) * EPOCH_SECONDS

    @property
    def born(self) -> int:
        """Unix seconds at which the warm-up begins."""
        return _FIRST_DAY * EPOCH_SECONDS

    @property
    def end(self) -> int:
        """Unix seconds at which everything ends."""
        return self.start + self.days * EPOCH_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person with one device.

    Attributes:
        region: number of the region.
        zone: seconds east of UTC, as the device's clock says.
        off: (from, to) in unix seconds, in order and apart, when the device is off or has no network.
        wishes: unix seconds at which something is asked for, in order; the device is on then.
        messages, message_bytes: medians of what this person summarises.
        rewrites: share of requests that are drafts to rewrite.
        written: whether it is in a language in which the model writes.
        skew: seconds that the device's clock is ahead.
        pace: median milliseconds between the gateway's answer and the device's second trip: its network and processor.
    """

    region: int
    zone: int
    off: list[tuple[int, int]]
    wishes: list[int]
    messages: float
    message_bytes: float
    rewrites: float
    written: bool
    skew: float
    pace: float


def people(settings: Settings, rng: np.random.Generator) -> list[Person]:
    """The whole population."""
    languages = rng.spawn(1)[0]
    return [_person(settings, rng, languages) for _ in range(settings.devices)]


def _person(settings: Settings, rng: np.random.Generator, languages: np.random.Generator) -> Person:
    region = int(rng.choice(len(_REGIONS), p=[share for _, share in _REGIONS]))
    midnight = (rng.normal(0, 1.5) - _REGIONS[region][0]) * _HOUR
    """Seconds after UTC's midnight at which this person's day begins."""
    off = _off(settings, rng, midnight)
    return Person(
        region=region,
        zone=int(_REGIONS[region][0] * _HOUR),
        off=off,
        wishes=_when_on(_wishes(settings, rng, midnight), off, settings, rng),
        messages=float(rng.lognormal(np.log(25), 0.7)),
        message_bytes=float(rng.lognormal(np.log(170), 0.25)),
        rewrites=float(rng.beta(2, 5)),
        written=not (languages.random() < _UNWRITTEN[1] and region in _UNWRITTEN[0]),
        # Nearly all clocks follow network time; a few are set by hand.
        skew=float(rng.normal(0, 0.3) if rng.random() < 0.98 else np.clip(rng.normal(0, 60), -280, 280)),  # noqa: PLR2004
        pace=float(rng.lognormal(np.log(80), 0.5)),
    )


def _off(settings: Settings, rng: np.random.Generator, midnight: float) -> list[tuple[int, int]]:
    days = settings.days + WARM_UP
    parts = []
    count = rng.poisson(_OUTAGES * days)
    lengths = np.minimum(rng.lognormal(np.log(25 * 60), 1.2, count), _LONGEST_OUTAGE)
    parts.append((rng.uniform(0, days * EPOCH_SECONDS, count), lengths))
    count = rng.poisson(_ABSENCES * days)
    parts.append((rng.uniform(0, days * EPOCH_SECONDS, count), rng.uniform(1, 3, count) * EPOCH_SECONDS))
    if rng.random() < _OFF_AT_NIGHT:
        asleep = (
            midnight - _HOUR + np.arange(-1, days + 1) * EPOCH_SECONDS + rng.normal(0, 0.5 * _HOUR, days + 2)
        )
        parts.append((asleep, 8 * _HOUR + rng.normal(0, 0.5 * _HOUR, days + 2)))
    begin = np.concatenate([part[0] for part in parts]) + settings.born
    end = begin + np.concatenate([part[1] for part in parts])
    return _merged(begin.astype(np.int64), end.astype(np.int64))


def _merged(begin: Times, end: Times) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for at in np.argsort(begin):
        since, until = int(begin[at]), int(end[at])
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(until, merged[-1][1]))
        else:
            merged.append((since, until))
    return merged


def _wishes(settings: Settings, rng: np.random.Generator, midnight: float) -> Times:
    days = settings.days + WARM_UP
    rate = min(float(rng.lognormal(np.log(_MEDIAN_A_DAY), 0.8)), _MOST_A_DAY)
    count = rng.poisson(rate * days)
    weights = np.asarray(_BY_HOUR) / sum(_BY_HOUR)
    hours = rng.choice(24, count, p=weights) + rng.random(count)
    times = [rng.integers(-1, days + 1, count) * EPOCH_SECONDS + midnight + hours * _HOUR]
    for day in np.flatnonzero(rng.random(days) < _SUDDEN):
        since = day * EPOCH_SECONDS + midnight + rng.uniform(8, 19) * _HOUR
        times.append(since + rng.uniform(0, 3 * _HOUR, rng.integers(20, 121)))
    return np.sort(np.concatenate(times).astype(np.int64) + settings.born)


def _when_on(
    times: Times, off: list[tuple[int, int]], settings: Settings, rng: np.random.Generator
) -> list[int]:
    """The wishes, of which those during an outage are given up or come true soon after its end."""
    since, until = (np.asarray([pair[i] for pair in off], dtype=np.int64) for i in (0, 1))
    at = np.searchsorted(since, times, "right") - 1
    hidden = (at >= 0) & (times < until[at]) if len(off) else np.zeros(len(times), dtype=bool)
    kept = [times[~hidden]]
    back = until[at[hidden & (rng.random(len(times)) < _LOOKS_AT_ONCE)]] if hidden.any() else times[:0]
    moved = back + rng.exponential(600, len(back)).astype(np.int64)
    if len(off):
        at = np.searchsorted(since, moved, "right") - 1
        moved = moved[moved >= until[at]]
    kept.append(moved)
    whole = np.sort(np.concatenate(kept))
    return [int(time) for time in whole if settings.born + EPOCH_SECONDS <= time < settings.end]

"""The whole study: three behaviours of one population, every attack on each, and whether the bounds hold."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Any, Final, Literal

import numpy as np

from sottovoce.simulator.population.linking import Linker, Linking, link
from sottovoce.simulator.population.people import WARM_UP, Settings
from sottovoce.simulator.population.play import Behaviour, play
from sottovoce.simulator.population.statistics import Estimate, proportion
from sottovoce.simulator.population.steering import Draw, Operator, Steering, steer
from sottovoce.simulator.population.telling import Telling, tell

__all__ = ["BEHAVIOURS", "BOUND", "Row", "SteeringRow", "Study", "study"]

BOUND: Final = 0.01
BEHAVIOURS: Final[tuple[Behaviour, ...]] = ("ours", "prompt", "naive")
_ANOTHER_SEED: Final = 1_000_000
"""The observer's own population is made from another seed."""
_MORE: Final = 3
"""Populations beside the first, in which accounts are told apart two by two, and devices are steered."""
_NEXT_SEED: Final = 2_000_000
_BESIDE: Final = 2000
"""With so many devices, a process for each behaviour is worth its start."""
_LEARNT: Final = 3000
_NAMED: Final = 4000
_PILES: Final = 1000
_WISHES: Final = 20_000
_AUDITS: Final = 40
_SHARES: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Verdict = Literal["holds", "not shown", "exceeded", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure, for each behaviour; `bound` where one is promised."""

    id: str
    title: str
    estimator: str
    estimates: Mapping[Behaviour, Estimate]
    bound: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What the interval of `ours` says of the bound."""
        if self.bound is None:
            return ""
        ours = self.estimates["ours"]
        if ours.high <= self.bound:
            return "holds"
        return "exceeded" if ours.low > self.bound else "not shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringRow:
    """One operator against one way to draw hosts."""

    hosts: int
    draw: Draw
    steering: Steering


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    """One behaviour, attacked."""

    sessions: int
    refills: int
    wishes: int
    moved: int
    refused: int
    linking: Linking
    telling: Telling


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steered:
    rows: tuple[SteeringRow, ...]
    noticed: dict[int, list[tuple[float, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Everything that was measured."""

    settings: Settings
    sessions: int
    refills_a_day: float
    refused: Mapping[Behaviour, float]
    rows: tuple[Row, ...]
    by_feature: Mapping[Behaviour, Mapping[str, Estimate]]
    steering: tuple[SteeringRow, ...]
    by_days: Mapping[Behaviour, Mapping[int, Estimate]]
    gaps: Mapping[Behaviour, Mapping[str, list[tuple[float, float]]]]
    noticed: Mapping[int, list[tuple[float, int]]]
    """By number of hosts: share of requests that are steered, reports until the auditor's alarm."""

    @property
    def holds(self) -> bool:
        """Whether every promised bound is shown to hold."""
        return all(row.verdict in ("", "holds") for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """A document for programs."""
        document = asdict(self)
        for row, described in zip(self.rows, document["rows"], strict=True):
            described["verdict"] = row.verdict
        return {
            "format": "sottovoce-simulation",
            "version": 1,
            "population": "simulated",
            "holds": self.holds,
            **document,
        }


def study(settings: Settings, tell_progress: Callable[[str], None]) -> Study:
    """Play and attack; `tell_progress` gets a line now and then."""
    played, steered = _all(settings, tell_progress)
    ours = played["ours"]
    return Study(
        settings=settings,
        sessions=ours.sessions,
        refills_a_day=ours.refills / settings.devices / (settings.days + WARM_UP),
        refused={name: one.refused / one.wishes for name, one in played.items()},
        rows=tuple(_rows(settings, played)),
        by_feature={name: one.telling.by_feature for name, one in played.items()},
        steering=steered.rows,
        by_days={name: one.linking.by_days for name, one in played.items()},
        gaps={name: one.linking.gaps for name, one in played.items()},
        noticed=steered.noticed,
    )


def _all(
    settings: Settings, tell_progress: Callable[[str], None]
) -> tuple[dict[Behaviour, _Played], _Steered]:
    """Each behaviour and the steering, in processes of their own where there is much to do; the result is the same."""
    if settings.devices < _BESIDE:
        played = {}
        for behaviour in BEHAVIOURS:
            tell_progress(f"{behaviour}: played and attacked")
            played[behaviour] = _attacked(settings, behaviour)
        return played, _steered(settings)
    with ProcessPoolExecutor(max_workers=len(BEHAVIOURS) + 1, mp_context=get_context("spawn")) as pool:
        tell_progress(
            f"{', '.join(BEHAVIOURS)}: each is played and attacked; an operator steers, an auditor counts"
        )
        jobs = {behaviour: pool.submit(_attacked, settings, behaviour) for behaviour in BEHAVIOURS}
        steered = pool.submit(_steered, settings)
        for behaviour, job in jobs.items():
            job.result()
            tell_progress(f"{behaviour}: done")
        return {behaviour: job.result() for behaviour, job in jobs.items()}, steered.result()


def _attacked(settings: Settings, behaviour: Behaviour) -> _Played:
    logs = play(settings, behaviour)
    own = replace(settings, devices=min(settings.devices, _LEARNT), seed=settings.seed + _ANOTHER_SEED)
    more = (
        play(replace(settings, seed=settings.seed + number * _NEXT_SEED), behaviour)
        for number in range(1, _MORE + 1)
    )
    rng = np.random.default_rng(settings.seed)
    learnt = play(own, behaviour)
    linker = Linker(learnt, rng)
    return _Played(
        sessions=len(logs.times),
        refills=sum(len(times) for times in logs.refills),
        wishes=logs.wishes,
        moved=logs.moved,
        refused=logs.refused,
        linking=link(logs, linker, rng, named=_NAMED, piles=_PILES, more=more),
        telling=tell(logs, learnt, rng, named=_NAMED),
    )


_EXACT: Final = "Clopper-Pearson"
_CLUSTERED: Final = "mean over devices, normal"
_POOLED: Final = f"mean over devices of {1 + _MORE} populations, normal"


def _rows(settings: Settings, played: Mapping[Behaviour, _Played]) -> list[Row]:
    def of(get: Callable[[_Played], Estimate]) -> dict[Behaviour, Estimate]:
        return {name: get(one) for name, one in played.items()}

    n, days = settings.devices, settings.days
    aim = 2 / settings.hosts
    return [
        Row(
            id="link-one",
            title=f"link one session to its account, of {n:,}",
            estimator=f"share named less 1/{n}; {_EXACT}",
            estimates=of(lambda one: one.linking.one_named),
            bound=BOUND,
        ),
        Row(
            id="link-one-region",
            title="  the same, without the issuer's times: by region and hour",
            estimator=f"share named less 1/{n}; {_EXACT}",
            estimates=of(lambda one: one.linking.one_named_by_region),
        ),
        Row(
            id="link-one-of-two",
            title="link one session: which of two accounts of a region",
            estimator=f"twice the share right, less 1; {_POOLED}",
            estimates=of(lambda one: one.linking.one_of_two),
            bound=BOUND,
        ),
        Row(
            id="link-pile",
            title=f"link all sessions of {days} days, given as one pile, of {n:,}",
            estimator=f"share named less 1/{n}; {_EXACT}",
            estimates=of(lambda one: one.linking.pile_named),
            bound=BOUND,
        ),
        Row(
            id="link-pile-of-two",
            title="  the same pile: which of two accounts of a region",
            estimator=f"twice the share right, less 1; {_POOLED}",
            estimates=of(lambda one: one.linking.pile_of_two),
        ),
        Row(
            id="moved",
            title="sessions that an empty wallet moved or refused (see the docs: a ceiling)",
            estimator=f"share; {_EXACT}",
            estimates=of(lambda one: proportion(one.moved, one.wishes)),
        ),
        Row(
            id="tell-one",
            title=f"name the sender of one session, of {n:,}, whose habits are known",
            estimator=f"share named less 1/{n}; {_EXACT}",
            estimates=of(lambda one: one.telling.named),
            bound=BOUND,
        ),
        Row(
            id="tell-of-two",
            title="  the same: which of two senders",
            estimator=f"twice the share right, less 1; {_CLUSTERED}",
            estimates=of(lambda one: one.telling.of_two),
        ),
        Row(
            id="aim",
            title=f"steer one user, and no other of the region, to a host of {settings.hosts}",
            estimator=f"2/hosts times how much more often own sessions are suspected; {_POOLED}",
            estimates=of(lambda one: one.linking.suspected.scaled(aim, 0)),
            bound=BOUND,
        ),
    ]


def _steered(settings: Settings) -> _Steered:
    counts = sorted({4, settings.hosts})
    return _Steered(
        rows=tuple(_steering(settings)),
        noticed={count: _noticed(count, settings.seed) for count in counts},
    )


def _steering(settings: Settings) -> list[SteeringRow]:
    operators: tuple[Operator, ...] = ("honest", "prefers", "refuses", "delays")
    cases: list[tuple[int, Operator, Draw]] = [
        (count, operator, "ours") for count in sorted({4, settings.hosts, 100}) for operator in operators
    ]
    cases += [(settings.hosts, "prefers", "operator"), (settings.hosts, "refuses", "again")]
    return [
        SteeringRow(
            hosts=count,
            draw=draw,
            steering=steer(
                operator,
                count,
                seed=settings.seed,
                wishes=_WISHES * max(1, count // 20),
                audits=_AUDITS,
                draw=draw,
            ),
        )
        for count, operator, draw in cases
    ]


def _noticed(count: int, seed: int) -> list[tuple[float, int]]:
    points = []
    for share in _SHARES:
        found = steer("prefers", count, seed=seed, wishes=_WISHES * 5, audits=20, share=share).noticed
        if found is not None:
            points.append((share, found))
    return points

"""Steering a user to a host: what an operator gains who prefers, refuses or delays, and how soon an auditor of reports notices.

The device draws two of n hosts; the operator serves one of them or refuses. A user whose request was refused asks again by
hand, up to `PATIENCE` times, and each request is drawn anew; within one request a device does not draw again.

Exact, for a chosen host among n:

    honest      1/n       each of the two serves as often as the other
    prefers     2/n       the chosen host serves whenever it was drawn: a gain of 1/n, and no more can be had without a refusal
    refuses     1 - (1 - 2/n)^(1+r)   after r refusals that a user puts up with

The auditor has pooled reports and two questions: does a host serve more than half of the sessions for which it was drawn?
are more than one request in a hundred refused? Both are tests by betting (`statistics.log_evidence`): looked at after every
report, a false alarm is as rare as one in a thousand, over all hosts together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sottovoce.device.directory import draw_candidates
from sottovoce.simulator.population.play import Draws, hosts
from sottovoce.simulator.population.statistics import Estimate, log_evidence, proportion
from sottovoce.tlog.entries import Host

__all__ = ["PATIENCE", "Draw", "Operator", "Steering", "auditor", "exact", "steer"]

Operator = Literal["honest", "prefers", "refuses", "delays"]
Draw = Literal["ours", "operator", "again"]
"""`ours`: the device draws. Broken ones: the operator names the pair; the device draws again when it is refused."""

PATIENCE: Final = 2
"""Refusals that a user puts up with."""
_DRAWN_AGAIN: Final = 10
"""The broken device draws so often within one request."""
_ALARM: Final = math.log(1000)
_REFUSED: Final = 0.01
"""Requests that may be refused by accident."""
_MOST_REPORTS: Final = 5000
_DELAYED: Final = 0.5
"""Share of delayed requests that users break off and make again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What one operator gets with one chosen host.

    Attributes:
        reached: share of users' wishes that the chosen host served.
        gain: `reached` less 1/n.
        exact: the gain by formula, or None where the model has no simple one.
        refused: share of requests that were refused or broken off.
        noticed: reports, pooled from all users, until the auditor's alarm, the median of all audits; None if most gave none.
        noticed_late: the same, of the slowest twentieth.
    """

    operator: Operator
    reached: Estimate
    gain: Estimate
    exact: float | None
    refused: Estimate
    noticed: int | None
    noticed_late: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    candidates: tuple[str, ...]
    served: str | None


def exact(operator: Operator, hosts: int) -> float | None:
    """The gain over 1/n."""
    share = 1 / hosts
    refusing = 1 - (1 - min(1.0, 2 * share)) ** (1 + PATIENCE) - share
    return {"honest": 0.0, "prefers": min(1.0, 2 * share) - share, "refuses": refusing}.get(operator)


def steer(
    operator: Operator,
    count: int,
    *,
    seed: int,
    wishes: int,
    audits: int,
    draw: Draw = "ours",
    share: float = 1.0,
) -> Steering:
    """Play `wishes` wishes against `operator`, who does it with a `share` of requests and is honest otherwise."""
    draws = Draws(seed)
    pool = hosts(count)
    reached = 0
    reports: list[_Report] = []
    for _ in range(wishes):
        made = _wish(operator, pool, draws, draw, share)
        reports += made
        reached += made[-1].served == pool[0].id
    alarms = _audits(reports, pool, audits)
    refused = sum(report.served is None for report in reports)
    met = proportion(reached, wishes)
    return Steering(
        operator=operator,
        reached=met,
        gain=met.scaled(1, -1 / count),
        exact=exact(operator, count) if draw == "ours" and share == 1.0 else None,
        refused=proportion(refused, len(reports)),
        noticed=_place(alarms, 0.5),
        noticed_late=_place(alarms, 0.95),
    )


def _wish(
    operator: Operator, pool: tuple[Host, ...], draws: Draws, draw: Draw, share: float
) -> list[_Report]:
    """The reports of one wish: refused ones, and the last."""
    reports = []
    for _ in range(1 + PATIENCE):
        steers = operator != "honest" and draws.below(1000) < share * 1000
        reports.append(_request(operator if steers else "honest", pool, draws, draw))
        if reports[-1].served is not None:
            break
    return reports


def _request(operator: Operator, pool: tuple[Host, ...], draws: Draws, draw: Draw) -> _Report:
    chosen = pool[0].id
    for _ in range(_DRAWN_AGAIN if draw == "again" else 1):
        if draw == "operator":
            pair: tuple[str, ...] = (chosen, pool[1 + draws.below(len(pool) - 1)].id)
        else:
            pair = draw_candidates(pool, rng=draws.below)
        if chosen in pair and operator != "honest":
            return _Report(candidates=pair, served=chosen)
        broken_off = operator == "delays" and draws.below(1000) < _DELAYED * 1000
        if operator == "refuses" or broken_off:
            continue
        return _Report(candidates=pair, served=pair[draws.below(len(pair))])
    return _Report(candidates=pair, served=None)


def auditor(reports: Sequence[tuple[tuple[str, ...], str | None]], count: int) -> int | None:
    """After how many reports (candidates, host that served or None) the auditor raises the alarm; None for never."""
    return _alarm([_Report(candidates=pair, served=served) for pair, served in reports], count)


def _alarm(reports: list[_Report], count: int) -> int | None:
    """Evidence of 1000 times as many tests as there are makes all of them together wrong once in a thousand."""
    wanted = _ALARM + math.log(count + 1)
    drawn: dict[str, int] = {}
    served: dict[str, int] = {}
    refused = 0
    for number, report in enumerate(reports, start=1):
        if report.served is None:
            refused += 1
            if log_evidence(refused, number, _REFUSED) >= wanted:
                return number
            continue
        for host in report.candidates:
            drawn[host] = drawn.get(host, 0) + 1
        served[report.served] = served.get(report.served, 0) + 1
        if log_evidence(served[report.served], drawn[report.served], 0.5) >= wanted:
            return number
    return None


def _audits(reports: list[_Report], pool: tuple[Host, ...], audits: int) -> list[int | None]:
    """The alarms of audits that each begin somewhere else."""
    size = max(1, min(_MOST_REPORTS, len(reports) // audits))
    return [_alarm(reports[at * size : (at + 1) * size], len(pool)) for at in range(len(reports) // size)]


def _place(alarms: list[int | None], share: float) -> int | None:
    ordered = sorted(alarms, key=lambda alarm: math.inf if alarm is None else alarm)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

"""The study's plots, as SVG."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sottovoce.simulator.population.play import Behaviour
from sottovoce.simulator.population.study import BOUND, Study
from sottovoce.simulator.svg import Line, plot

__all__ = ["NAMES", "write_plots"]

NAMES: Final[dict[Behaviour, str]] = {"ours": "ours", "prompt": "ours before", "naive": "naive"}
_FLOOR: Final = 1e-4
"""Axes are logarithmic: what is below, or negative, is drawn here."""


def write_plots(study: Study, folder: Path) -> list[Path]:
    """Write every plot into `folder`, which is made; returns their paths.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in (
        ("linking.svg", _linking(study)),
        ("gaps.svg", _gaps(study)),
        ("noticed.svg", _noticed(study)),
    ):
        path = folder / name
        path.write_text(document)
        written.append(path)
    return written


def _points(pairs: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, max(y, _FLOOR)) for x, y in pairs]


def _linking(study: Study) -> str:
    lines = []
    for behaviour, by_days in study.by_days.items():
        name = NAMES[behaviour]
        lines.append(Line(name, _points((day, found.value) for day, found in by_days.items())))
        if behaviour == "ours":
            lines.append(
                Line(
                    "ours, upper end",
                    _points((day, found.high) for day, found in by_days.items()),
                    dashed=True,
                )
            )
    lines.append(Line("bound", [(1, BOUND), (study.settings.days, BOUND)], dashed=True))
    title = f"Naming the account of a pile of sessions, of {study.settings.devices:,} (simulated)"
    return plot(title, "days of sessions in the pile", "advantage over guessing", lines)


def _gaps(study: Study) -> str:
    lines = [
        Line(
            f"{NAMES[behaviour]}: {whose}",
            _points(study.gaps[behaviour][whose]),
            dashed=whose != "own account",
        )
        for behaviour in study.gaps
        if behaviour != "prompt"
        for whose in study.gaps[behaviour]
    ]
    return plot(
        "Time since the last batch, when a token is spent (simulated)",
        "seconds, up to",
        "share of sessions",
        lines,
    )


def _noticed(study: Study) -> str:
    lines = [Line(f"{hosts} hosts", points) for hosts, points in study.noticed.items() if points]
    return plot(
        "An operator prefers one host: when an auditor notices (simulated)",
        "share of requests that are steered",
        "pooled reports until the alarm, median",
        lines,
    )

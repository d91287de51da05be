"""`sottovoce simulate`: what an operator with all logs could link, tell apart and steer, measured on a simulated population."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.output import output
from sottovoce.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sottovoce.simulator.population.statistics import Estimate
    from sottovoce.simulator.population.study import Study

__all__ = ["simulate"]

_PROMISED_FOR: Final = 10_000
_SIMULATED: Final = (
    "SIMULATED POPULATION: made-up people, in simulated time, without a network. What decides is the project's own code: "
    "the wallet's schedule, the draw of hosts, the framing, the classes of answers."
)
_BEHAVIOURS: Final = (
    "ours: the device as it is. before: its wallet until decision record 18. naive: fetches when empty, spends at once, "
    "pads nothing, draws once for good; it is there to show that the measure can see."
)


@click.command()
@click.option(
    "--devices",
    type=click.IntRange(50, 100_000),
    default=_PROMISED_FOR,
    show_default=True,
    help="Active devices.",
)
@click.option(
    "--days", type=click.IntRange(2, 366), default=14, show_default=True, help="Days that are observed."
)
@click.option(
    "--hosts", type=click.IntRange(2, 1000), default=20, show_default=True, help="Machines that can serve."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same run."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write plots (SVG) into this folder."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def simulate(*, devices: int, days: int, hosts: int, seed: int, out: Path | None, as_json: bool) -> None:
    """Play a SIMULATED population of devices and an operator who joins all logs; print what the operator gains over guessing.

    Takes some minutes with 10,000 devices. The exit code is 1 if, with 10,000 devices or more, a promised bound is not shown to
    hold. Method and limits: docs/unlinkability.md.
    """
    try:
        from sottovoce.simulator.population.plots import write_plots
        from sottovoce.simulator.population.study import study
    except ImportError:
        raise ConfigError("this command needs numpy", hint="pip install 'sottovoce[simulate]'") from None
    from sottovoce.simulator.population.people import Settings

    click.echo(_SIMULATED, err=True)
    settings = Settings(devices=devices, days=days, hosts=hosts, seed=seed)
    found = study(settings, lambda line: click.echo(f"  … {line}", err=True))
    written = []
    if out is not None:
        try:
            written = write_plots(found, out)
        except OSError:
            raise ConfigError("the plots cannot be written", hint=f"looked for {out}") from None
    with output():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            for line in (*_table(found), *(f"written: {path}" for path in written)):
                click.echo(line)
    if devices >= _PROMISED_FOR and not found.holds:
        raise click.exceptions.Exit(1)


def _table(found: "Study") -> "Iterator[str]":
    settings = found.settings
    yield _SIMULATED
    yield (
        f"{settings.devices:,} devices, {settings.days} days, {found.sessions:,} sessions, "
        f"{found.refills_a_day:.1f} refills a device and day, seed {settings.seed}. {_BEHAVIOURS}"
    )
    yield ""
    yield f"{'advantage over guessing [95 % interval]':<68} {'ours':<27} {'before':<27} {'naive':<27} bound"
    for row in found.rows:
        cells = " ".join(f"{_cell(row.estimates[name]):<27}" for name in ("ours", "prompt", "naive"))
        bound = f"{row.bound:g}: {row.verdict}" if row.bound is not None else "-"
        yield f"{row.title:<68} {cells} {bound}"
        yield f"    {row.estimator}"
    yield ""
    yield "Which of two senders, by one feature alone (no bound):"
    for feature, own in found.by_feature["ours"].items():
        yield f"  {feature:<16} {_cell(own):<27} naive {_cell(found.by_feature['naive'][feature])}"
    yield ""
    yield f"{'An operator steers to one host':<32} {'hosts':>5} {'gain over 1/hosts':<27} {'exact':>7} {'refused':>8}  reports until noticed (median, 95 %)"
    for one in found.steering:
        steering = one.steering
        who = (
            steering.operator
            + {"ours": "", "operator": ", operator names both", "again": ", device draws again"}[one.draw]
        )
        exact = "-" if steering.exact is None else f"{steering.exact:.4f}"
        noticed = f"{steering.noticed or 'never'}, {steering.noticed_late or 'never'}"
        yield f"{who:<32} {one.hosts:>5} {_cell(steering.gain):<27} {exact:>7} {steering.refused.value:>8.1%}  {noticed}"
    yield ""
    if settings.devices >= _PROMISED_FOR:
        yield "Every promised bound holds." if found.holds else "NOT every promised bound is shown to hold."
    else:
        yield f"Bounds are promised for {_PROMISED_FOR:,} active devices; with fewer, this is an illustration."


def _cell(estimate: "Estimate") -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"

"""`sottovoce attack`: attacks on a whole world of parties, each of which must be stopped for the reason named."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from sottovoce.attacks.attack import Attack, Result
    from sottovoce.attacks.lab import Lab

__all__ = ["attack"]

_STOPPED, _NOT_STOPPED, _ELSEWHERE = "stopped", "NOT STOPPED", "not run here"
_SHOWN: Final = 5
"""Single outcomes that are told one by one, where several went wrong."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Every attack.")
@click.option("--list", "listed", is_flag=True, help="Only say which attacks there are.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="With --list: as a table for the documentation.")
def attack(*, names: tuple[str, ...], every: bool, listed: bool, as_json: bool, markdown: bool) -> None:
    """Start a world of parties, attack it with the keys that each attack assumes, and stop it again.

    The device is the unmodified client. One line an attack: row of the threat list, name, who could do it, what was tried, what
    stopped it, outcome. The exit code is 0 only if each was stopped for the reason named, and for no other.
    """
    from sottovoce.attacks import NAMES, find

    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise click.BadParameter("there is no such attack; --list shows them", param_hint="NAME")
    if bool(names) == every and not listed:
        raise click.UsageError("name the attacks, or take --all; --list shows them")
    if markdown and not listed:
        raise click.UsageError("--markdown goes with --list")
    attacks = [find(name) for name in (names or NAMES)]
    if listed:
        _list(attacks, as_json=as_json, markdown=markdown)
    elif not _run(attacks, as_json=as_json):
        raise click.exceptions.Exit(1)


def _list(attacks: "list[Attack]", *, as_json: bool, markdown: bool) -> None:
    if as_json:
        click.echo(json.dumps([_described(one) for one in attacks], indent=2))
    elif markdown:
        click.echo("| row | attack | who | what is tried | what stops it | things tried |")
        click.echo("|---|---|---|---|---|---|")
        for one in attacks:
            stops = ", ".join(f"`{check}`" if " " not in check else check for check in one.stopped_by)
            count = _count(one) if one.runs else one.tested
            click.echo(f"| {one.row} | `{one.name}` | {one.who} | {one.tries} | {stops} | {count} |")
    else:
        for one in attacks:
            click.echo(f"{one.row:<3} {one.name:<24} {one.tries}{'' if one.runs else ' (not run here)'}")


def _count(one: "Attack") -> str:
    """How many things are tried: known beforehand for forgeries only."""
    return str(len(one.trials)) if one.live is None else "see its module"


def _described(one: "Attack") -> dict[str, Any]:
    return {
        "row": one.row,
        "attack": one.name,
        "who": one.who,
        "tries": one.tries,
        "stopped_by": list(one.stopped_by),
        "runs_here": one.runs,
        "tested": one.tested,
    }


def _run(attacks: "list[Attack]", *, as_json: bool) -> bool:
    """Run them; whether each was stopped for the reason named."""
    document: list[dict[str, Any]] = []
    tell = _silent if as_json else click.echo
    if not as_json:
        click.echo(
            "SIMULATED HARDWARE, in a world that is started for this and stopped at the end.", err=True
        )
    with _lab(attacks) as lab:
        for one in attacks:
            results = list(one.run(lab)) if one.runs else []
            document.append(_row(one, results))
            for line in _lines(one, results, document[-1]["outcome"]):
                tell(line)
    good = all(row["outcome"] != _NOT_STOPPED for row in document)
    if as_json:
        click.echo(
            json.dumps(
                {"format": "sottovoce-attacks", "version": 1, "good": good, "attacks": document}, indent=2
            )
        )
    else:
        counts = {
            text: sum(row["outcome"] == text for row in document)
            for text in (_STOPPED, _NOT_STOPPED, _ELSEWHERE)
        }
        click.echo(", ".join(f"{count} {text}" for text, count in counts.items() if count))
    return good


def _silent(_: str) -> None:
    """Tell nothing."""


def _row(one: "Attack", results: "list[Result]") -> dict[str, Any]:
    if not one.runs:
        outcome = _ELSEWHERE
    else:
        # An attack of which nothing was tried has not been stopped.
        outcome = _STOPPED if results and all(result.is_stopped for result in results) else _NOT_STOPPED
    return {**_described(one), "outcome": outcome, "trials": [result.to_json() for result in results]}


def _lines(one: "Attack", results: "list[Result]", outcome: str) -> Iterator[str]:
    stopped = sorted({check for result in results for check in result.outcome.stopped_by})
    count = f" ({sum(result.is_stopped for result in results)} of {len(results)})" if results else ""
    what = ", ".join(stopped) if one.runs else one.tested
    yield " | ".join((one.row, one.name, one.who, one.tries, what or "nothing", f"{outcome}{count}"))
    for result in [result for result in results if not result.is_stopped][:_SHOWN]:
        found = ", ".join(sorted(result.outcome.stopped_by)) or "nothing"
        wanted = ", ".join(sorted(result.wanted))
        yield f"    {result.tries}: stopped by {found}, wanted {wanted}; {result.outcome.read} bytes read"


@contextmanager
def _lab(attacks: "list[Attack]") -> "Iterator[Lab]":
    """A world under attack, in which evidence that nothing is wrong with is believed.

    Raises:
        VerificationError: it is not believed, so no refusal would mean anything.
    """
    from sottovoce.attacks.lab import CONTROL, Lab
    from sottovoce.cli.parties import open_world
    from sottovoce.core.errors import VerificationError

    with (
        tempfile.TemporaryDirectory(prefix="sottovoce-attack-", ignore_cleanup_errors=True) as name,
        open_world(Path(name) / "world", small=True) as world,
    ):
        world.start()
        with Lab(world, Path(name), now=time.time()) as lab:
            lab.prepare(attacks)
            control = lab.show(CONTROL)
            if not control.read:
                raise VerificationError(
                    "the control was refused", check=", ".join(sorted(control.stopped_by)) or "none"
                )
            click.echo(
                f"Control: {CONTROL.tries}: believed, {control.read} bytes of the request read. What is refused below is refused "
                "for what was changed.",
                err=True,
            )
            yield lab

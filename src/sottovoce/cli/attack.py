"""`sottovoce attack`: attacks on a whole world of parties, each of which must be stopped for the reason named."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from sottovoce.attacks.attack import Attack, Result
    from sottovoce.attacks.lab import Lab
    from sottovoce.attacks.workshop import Workshop

__all__ = ["attack"]

_STOPPED, _NOT_STOPPED, _ELSEWHERE = "stopped", "NOT STOPPED", "not run here"
_SHOWN: Final = 5
"""Single outcomes that are told one by one, where several went wrong."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Every attack.")
@click.option("--list", "listed", is_flag=True, help="Only say which attacks there are.")
@click.option(
    "--boot",
    is_flag=True,
    help="Boot images in an emulator too, with what the host has changed: minutes more.",
)
@click.option(
    "--programs",
    type=click.Path(path_type=Path, file_okay=False),
    help="For --boot: where the emulator's programs are, as for `image boot`.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="With --list: as a table for the documentation.")
def attack(
    *,
    names: tuple[str, ...],
    every: bool,
    listed: bool,
    boot: bool,
    programs: Path | None,
    as_json: bool,
    markdown: bool,
) -> None:
    """Start a world of parties, attack it with the keys that each attack assumes, and stop it again.

    The device is the unmodified client. One line an attack: row of the threat list, name, who could do it, what was tried, what
    stopped it, outcome. The exit code is 0 only if each was stopped for the reason named, and for no other.

    Attacks on images need Debian's packages, which are fetched the first time (50 MB). What cannot be done here says so.
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
    elif not _run(attacks, _workshop(attacks, programs, boot=boot), as_json=as_json):
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


def _workshop(attacks: "list[Attack]", programs: Path | None, *, boot: bool) -> "Workshop":
    """What images are built of and booted with, as far as these attacks need any."""
    from dataclasses import replace

    from sottovoce.attacks.workshop import Workshop
    from sottovoce.cli.model import default_folder
    from sottovoce.core.errors import SottovoceError
    from sottovoce.image.lock import Lock
    from sottovoce.simulator.programs import provided

    cache = default_folder().parent
    needed = boot or any(one.needs_image for one in attacks)
    workshop = Workshop.here(cache / "packages", ask=False)
    if needed and workshop.has_lock and workshop.missing:
        click.echo("Debian's packages for an image are fetched, once (50 MB).", err=True)
        workshop = Workshop.here(cache / "packages", ask=True)
    if not boot or workshop.missing:
        return workshop
    lock = workshop.project / "deploy/emulator.lock"
    try:
        found = provided(programs, lambda: Lock.parse(lock.read_bytes()), cache)
    except (SottovoceError, OSError) as error:
        return replace(workshop, unbooted=str(error))
    return replace(workshop, programs=found, unbooted="")


def _run(attacks: "list[Attack]", workshop: "Workshop", *, as_json: bool) -> bool:
    """Run them; whether each was stopped for the reason named."""
    document: list[dict[str, Any]] = []
    tell = _silent if as_json else click.echo
    if not as_json:
        click.echo(
            "SIMULATED HARDWARE, in a world that is started for this and stopped at the end.", err=True
        )
    with _lab(attacks, workshop) as lab:
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
        unrun = sum(bool(trial["not_run"]) for row in document for trial in row["trials"])
        if unrun:
            click.echo(f"Of those that were run, {unrun} things tried were not: see above.")
    return good


def _silent(_: str) -> None:
    """Tell nothing."""


def _row(one: "Attack", results: "list[Result]") -> dict[str, Any]:
    if not one.runs:
        outcome = _ELSEWHERE
    else:
        # An attack of which nothing was tried has not been stopped.
        tried = [result for result in results if not result.not_run]
        outcome = _STOPPED if tried and all(result.is_stopped for result in tried) else _NOT_STOPPED
    return {**_described(one), "outcome": outcome, "trials": [result.to_json() for result in results]}


def _lines(one: "Attack", results: "list[Result]", outcome: str) -> Iterator[str]:
    stopped = sorted({check for result in results for check in result.outcome.stopped_by})
    tried = [result for result in results if not result.not_run]
    left = f"; {len(results) - len(tried)} not run here" if len(tried) < len(results) else ""
    count = f" ({sum(result.is_stopped for result in tried)} of {len(tried)}{left})" if results else ""
    what = ", ".join(stopped) if one.runs else one.tested
    yield " | ".join((one.row, one.name, one.who, one.tries, what or "nothing", f"{outcome}{count}"))
    said = Counter(
        f"{', '.join(sorted(result.outcome.stopped_by))}: {result.outcome.says}"
        for result in tried
        if result.is_stopped and result.outcome.says
    )
    unrun = Counter(f"not run here: {result.not_run}" for result in results if result.not_run)
    for words, times in (*said.items(), *unrun.items()):
        yield f"    {words}{f' ({times})' if times > 1 else ''}"
    for result in [result for result in tried if not result.is_stopped][:_SHOWN]:
        found = ", ".join(sorted(result.outcome.stopped_by)) or "nothing"
        wanted = ", ".join(sorted(result.wanted))
        says = f" ({result.outcome.says})" if result.outcome.says else ""
        reason = f" ({result.reason})" if result.reason else ""
        yield f"    {result.tries}: stopped by {found}{says}, wanted {wanted}{reason}; {result.outcome.read} bytes read"


@contextmanager
def _lab(attacks: "list[Attack]", workshop: "Workshop") -> "Iterator[Lab]":
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
        with Lab(world, Path(name), now=time.time(), workshop=workshop) as lab:
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

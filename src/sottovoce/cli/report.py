"""`sottovoce report`: what was sent to what, and what was verified."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.device.reports import Report, ReportStore

__all__ = ["report"]

_SHORT: int = 8
"""Digits of an id that a table shows; `show` takes as few as four."""
_STYLES = {"pass": "green", "fail": "bold red"}


@click.group()
def report() -> None:
    """What was sent, to what, and what was verified."""


@report.command("list")
@click.pass_obj
def list_(context: Context) -> None:
    """One line a session, oldest first."""
    from rich.table import Table

    reports = _store(context).list()
    if not reports:
        click.echo("There are no reports yet.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "time", "what", "messages", "bytes", "outcome", "relay", "environment"):
        table.add_column(heading, overflow="fold")
    for one in reports:
        table.add_row(
            one.id[:_SHORT],
            _moment(one.time),
            one.feature,
            str(one.message_count),
            str(one.size_class),
            one.outcome,
            one.relay or "-",
            _environment(one),
        )
    _console().print(table)


@report.command()
@click.argument("report_id", metavar="ID")
@click.pass_obj
def show(context: Context, report_id: str) -> None:
    """Everything about one session; the first digits of its ID are enough."""
    from rich.table import Table
    from rich.text import Text

    from sottovoce.attest.verdict import gained, printable

    one = _store(context).get(report_id)
    out = _console()
    if one.simulated:
        out.print(
            "SIMULATED HARDWARE: this session proves nothing about a real machine.", style="black on yellow"
        )
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, value in _facts(one):
        facts.add_row(name, Text(value))
    out.print(facts)
    if not one.verdict:
        out.print("Nothing was verified: the session did not get that far, so nothing was sent.")
        return
    checks = Table(box=None, pad_edge=False)
    for heading in ("rule", "", "check", "found", "wanted", "from"):
        checks.add_column(heading, overflow="fold")
    for line in one.verdict:
        status = Text(line.status, style=_STYLES.get(line.status, "yellow"))
        titles = f"{line.title} [{line.id}]"
        texts = (Text(printable(text)) for text in (titles, line.found, line.wanted, line.source))
        checks.add_row(Text(line.section), status, *texts)
    out.print(checks)
    for line in one.verdict:
        if gain := gained(line.status, line.risk):
            out.print(Text(printable(f"{line.id}: {gain}"), style=_STYLES.get(line.status, "yellow")))


@report.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--id", "report_id", default=None, help="Only this report.")
@click.pass_obj
def export(context: Context, file: Path, report_id: str | None) -> None:
    """Write the reports to FILE ("-" for standard output) as one document that anyone can verify offline.

    Message ids are left out.
    """
    from sottovoce.core.errors import UsageError
    from sottovoce.device.files import write_private

    data = _store(context).export(report_id)
    if str(file) == "-":
        sys.stdout.buffer.write(data + b"\n")
        return
    if file.exists():
        raise UsageError(
            "there is a file of that name already", hint=f"looked at {file}; choose another name"
        )
    write_private(file, data)
    click.echo(f"Written: {file} ({len(data)} bytes)")


@report.command()
@click.argument("report_id", metavar="ID")
@click.pass_obj
def delete(context: Context, report_id: str) -> None:
    """Forget one report for good."""
    _store(context).delete(report_id)
    click.echo("The report is gone.")


def _store(context: Context) -> "ReportStore":
    from sottovoce.device.reports import ReportStore

    return ReportStore(context.home)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _facts(one: "Report") -> tuple[tuple[str, str], ...]:
    return (
        ("id", one.id),
        ("time", _moment(one.time)),
        ("what", one.feature),
        ("outcome", one.outcome),
        ("environment", _environment(one)),
        ("relay", one.relay or "-"),
        ("sent", f"{one.message_count} messages, {one.size_class} bytes with padding"),
        ("messages", ", ".join(one.messages) or "-"),
        ("candidates", ", ".join(one.candidates) or "-"),
        ("log indexes", f"release {_index(one.release_index)}, host {_index(one.host_index)}"),
        ("evidence", f"{len(one.evidence) * 3 // 4} bytes; `report export` has it in full"),
    )


def _index(value: int | None) -> str:
    return "-" if value is None else str(value)


def _environment(one: "Report") -> str:
    return (
        f"{one.environment} (simulated)"
        if one.simulated and "simulated" not in one.environment
        else one.environment
    )


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

"""`sottovoce log monitor`."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sottovoce.cli.judging import GOOD, NOT_GOOD
from sottovoce.cli.logfiles import FILE, at_url, environment_of, pinned, read_file, write_file
from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from sottovoce.thirdparty.findings import Use
    from sottovoce.thirdparty.monitor import Monitor, Report

__all__ = ["monitor"]

_EXPORT_LIMIT: Final = 256 * 1024 * 1024
"""A device's export holds the evidence of every session."""


@click.command()
@at_url
@pinned
@click.option("--folder", type=FILE, default=None, help="The monitor's memory.  [default: HOME/monitor]")
@click.option(
    "--artifacts",
    default=None,
    metavar="URL",
    help="Where public artifacts are, by their SHA-256.  [default: the environment's first mirror]",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="URL",
    help="Another place that shows this log: a mirror, or WITNESS/HASH, HASH being the SHA-256 of the log's origin; more than one.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=FILE,
    help="A tree head that somebody else was shown; more than one.",
)
@click.option(
    "--reports", type=FILE, default=None, help="A device's exported reports: releases that are in use."
)
@click.option("--page", type=FILE, default=None, help="Write the report as an HTML page too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Each report as one line of JSON (docs/monitor.schema.json)."
)
@click.option("--follow", is_flag=True, help="Look again and again, until interrupted.")
@click.option(
    "--every",
    type=click.IntRange(min=1, max=86_400),
    default=300,
    show_default=True,
    help="Seconds between two looks.",
)
@click.pass_obj
def monitor(
    context: Context,
    /,
    *,
    url: str,
    environment: Path | None,
    folder: Path | None,
    artifacts: str | None,
    **more: Any,
) -> None:
    """Follow the log and its witnesses, check every entry and public artifact, and keep what was seen.

    With --follow the exit code is that of all looks together, when it is interrupted.
    """
    from sottovoce.thirdparty.monitor import Monitor

    known = environment_of(context, environment)
    watcher = Monitor(folder or context.home / "monitor", known.log_policy())
    store = artifacts or next(iter(known.mirrors), None)
    found = asyncio.run(_watch(watcher, url, artifacts=store, **more))
    sys.exit(NOT_GOOD if found else GOOD)


async def _watch(
    watcher: "Monitor",
    url: str,
    *,
    artifacts: str | None,
    sources: tuple[str, ...],
    checkpoints: tuple[Path, ...],
    reports: Path | None,
    page: Path | None,
    as_json: bool,
    follow: bool,
    every: int,
) -> bool:
    from contextlib import AsyncExitStack

    from sottovoce.core.errors import UnavailableError
    from sottovoce.thirdparty.logreader import LogReader
    from sottovoce.tlog.note import Note

    found, uses = False, _uses(reports) if reports else []
    notes = [Note.parse(read_file(path)) for path in checkpoints]
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(LogReader(url))
        others = [await stack.enter_async_context(LogReader(source)) for source in sources]
        store = await stack.enter_async_context(LogReader(artifacts, party="mirror")) if artifacts else None
        try:
            while True:
                try:
                    report = await watcher.round(
                        reader,
                        now=int(time.time()),
                        others=others,
                        brought=notes,
                        artifacts=store,
                        uses=uses,
                    )
                except UnavailableError as error:
                    if not follow:
                        raise
                    click.echo(f"sottovoce: {error} [{error.code}]", err=True)
                else:
                    found = found or bool(report.findings)
                    _show(report, page, as_json=as_json)
                if not follow:
                    return found
                await asyncio.sleep(every)
        except asyncio.CancelledError:
            # Interrupted: what was kept is whole at any moment.
            return found


def _uses(path: Path) -> "list[Use]":
    import base64
    import binascii

    from sottovoce.attest.evidence import Evidence
    from sottovoce.core.errors import ConfigError, SottovoceError
    from sottovoce.device.reports import decode_export
    from sottovoce.thirdparty.findings import Use

    uses = []
    try:
        for report in decode_export(read_file(path, _EXPORT_LIMIT)):
            if report.evidence:
                evidence = Evidence.decode(base64.b64decode(report.evidence))
                shown = [evidence.release, *(backend.release for backend in evidence.backends)]
                uses += [Use(release=one.entry, time=report.time) for one in shown]
    except (SottovoceError, binascii.Error):
        raise ConfigError("these are not exported reports", hint="`sottovoce report export`") from None
    return uses


def _show(report: "Report", page: Path | None, *, as_json: bool) -> None:
    from sottovoce.attest.verdict import printable
    from sottovoce.thirdparty.monitor_page import render

    if page is not None:
        write_file(page, render(report).encode())
    with output():
        if as_json:
            click.echo(json.dumps(report.to_json()))
            return
        new = f", {report.new} of them new" if report.new else ""
        click.echo(printable(f"{report.origin}: {report.size} entries{new}; {len(report.findings)} findings"))
        for finding in report.findings:
            click.echo(printable(f"  {finding.code}: {finding.text}"))

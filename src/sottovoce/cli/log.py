"""`sottovoce log`: what the log holds, proofs, releases and their two keys, and a monitor; exit codes as `sottovoce verify` has them."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sottovoce.cli.judging import GOOD, NOT_GOOD, Judging
from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from sottovoce.core.errors import SottovoceError
    from sottovoce.device.environment import Environment
    from sottovoce.thirdparty.findings import Use
    from sottovoce.thirdparty.logreader import LogReader
    from sottovoce.thirdparty.monitor import Monitor, Report
    from sottovoce.tlog.note import SigningKey
    from sottovoce.tlog.policy import LogPolicy

__all__ = ["log"]

_LIMIT: Final = 16 * 1024 * 1024
_EXPORT_LIMIT: Final = 256 * 1024 * 1024
"""A device's export holds the evidence of every session."""
_FILE = click.Path(path_type=Path, readable=False)
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_CODES: Final = (
    "Exit codes: 0 nothing found, 1 something found or a proof refused, 2 unusable input, 3 wrong use."
)
_SHOWN: Final = 100


class _Log(Judging):
    def is_verdict(self, error: "SottovoceError") -> bool:
        """A proof that does not verify is the log's doing."""
        from sottovoce.core.errors import CryptoError

        return isinstance(error, CryptoError)


@click.group(cls=_Log, epilog=_CODES)
def log() -> None:
    """Look into the public log, prove and publish entries, or watch it as a monitor."""


def _url(command: _F) -> _F:
    return click.option("--log", "url", required=True, metavar="URL", help="Where the log's files are.")(
        command
    )


def _pins(command: _F) -> _F:
    return click.option(
        "--environment",
        type=_FILE,
        default=None,
        help="Whom to believe: the log's key and its witnesses.  [default: HOME/environment.json]",
    )(command)


def _policy(context: Context, environment: Path | None) -> "LogPolicy":
    return _environment(context, environment).log_policy()


def _environment(context: Context, environment: Path | None) -> "Environment":
    from sottovoce.device.environment import FILE, Environment

    return Environment.load(environment or context.home / FILE)


def _read(path: Path, limit: int = _LIMIT) -> bytes:
    from sottovoce.core.errors import ConfigError

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError):
        raise ConfigError("the file cannot be read", hint=f"looked for {path}") from None
    if not data or len(data) > limit:
        raise ConfigError("the file is empty or too long", hint=f"looked at {path}")
    return data


def _write(path: Path, data: bytes) -> None:
    from sottovoce.thirdparty.files import write_whole

    write_whole(path, data)


def _with(url: str, work: "Callable[[LogReader], Awaitable[_T]]") -> _T:
    from sottovoce.thirdparty.logreader import LogReader

    async def run() -> _T:
        async with LogReader(url) as reader:
            return await work(reader)

    return asyncio.run(run())


# What the log holds.


@log.command()
@_url
@_pins
@click.option("--from", "start", type=click.IntRange(min=0), default=None, help="First entry to show.")
@click.option(
    "--count",
    type=click.IntRange(min=0, max=10_000),
    default=10,
    show_default=True,
    help="How many entries to show.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show(
    context: Context,
    /,
    *,
    url: str,
    environment: Path | None,
    start: int | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the newest tree head with its witnesses, and entries; the last ones, if --from does not say.

    Entries are shown only if all of the log's gives the signed tree head.
    """
    policy, now = _policy(context, environment), int(time.time())

    async def work(reader: "LogReader") -> dict[str, Any]:
        return await _look(reader, policy, now, start=start, count=count)

    shown = _with(url, work)
    with output():
        click.echo(json.dumps(shown, indent=2) if as_json else _shown_text(shown))
    if shown["fault"]:
        sys.exit(NOT_GOOD)


async def _look(
    reader: "LogReader", policy: "LogPolicy", now: int, *, start: int | None, count: int
) -> dict[str, Any]:
    from sottovoce.core.errors import PeerError
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog import merkle
    from sottovoce.tlog.history import NotListedError

    note = await reader.checkpoint()
    head, fault = signed_head(note, policy), ""
    try:
        policy.verify_checkpoint(note, now=now)
    except PeerError as error:
        fault = str(error)
    first = max(0, head.size - count) if start is None else start
    leaves = await reader.leaves(head.size)
    if merkle.tree_head(leaves) != head.root:
        raise NotListedError("the log's files do not give its signed tree head")
    last = min(head.size, first + count)
    entries = await reader.entries(first, last) if first < last else []
    if [merkle.leaf_hash(entry) for entry in entries] != leaves[first:last]:
        raise NotListedError("the log's entries are not those of its signed tree head")
    return {
        "log": head.origin,
        "size": head.size,
        "root": head.root.hex(),
        "fault": fault,
        "witnesses": [{"name": key.name, "cosigned": note.cosigned_at(key)} for key in policy.witnesses],
        "entries": [
            {"index": first + number, "leaf": merkle.leaf_hash(entry).hex(), "entry": _entry(entry)}
            for number, entry in enumerate(entries)
        ],
    }


def _entry(entry: bytes) -> Any:
    from sottovoce.core import canonical
    from sottovoce.core.errors import DecodeError

    try:
        return canonical.decode(entry, limit=_LIMIT)
    except DecodeError:
        return None


def _shown_text(shown: dict[str, Any]) -> str:
    from sottovoce.attest.verdict import printable

    lines = [f"{shown['log']}: {shown['size']} entries, root {shown['root']}"]
    for witness in shown["witnesses"]:
        when = "has not cosigned it" if witness["cosigned"] is None else f"cosigned at {witness['cosigned']}"
        lines.append(f"  {witness['name']} {when}")
    if shown["fault"]:
        lines.append(f"  NOT ACCEPTED: {shown['fault']}")
    for item in shown["entries"]:
        text = "not canonical JSON" if item["entry"] is None else json.dumps(item["entry"])
        lines.append(f"{item['index']:>8}  {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}")
    return "\n".join(map(printable, lines))


@log.command()
@click.argument("entry", type=_FILE)
@_url
@_pins
@click.option("--out", required=True, type=_FILE, help="Where to write the proof.")
@click.pass_obj
def prove(context: Context, /, entry: Path, *, url: str, environment: Path | None, out: Path) -> None:
    """Make a proof (C2SP tlog-proof) that ENTRY is in the log, from the log's public files, and verify it."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog import merkle
    from sottovoce.tlog.proof import encode_proof, verify_proof

    policy, data, now = _policy(context, environment), _read(entry), int(time.time())

    async def work(reader: "LogReader") -> bytes:
        note = await reader.checkpoint()
        leaves = await reader.leaves(signed_head(note, policy).size)
        leaf = merkle.leaf_hash(data)
        if leaf not in leaves:
            raise ConfigError("the log has no such entry")
        index = leaves.index(leaf)
        return encode_proof(index=index, path=merkle.inclusion_proof(leaves, index), checkpoint=note)

    proof = _with(url, work)
    logged = verify_proof(proof, data, policy, now=now)
    _write(out, proof)
    click.echo(f"entry {logged.index} of {logged.checkpoint.size}, seen by {policy.quorum} witnesses or more")


@log.command()
@click.argument("entry", type=_FILE)
@_pins
@click.option("--proof", required=True, type=_FILE, help="The proof (C2SP tlog-proof).")
@click.option("--any-age", is_flag=True, help="Also if witnesses saw the log more than a day ago.")
@click.pass_obj
def check(context: Context, /, entry: Path, *, environment: Path | None, proof: Path, any_age: bool) -> None:
    """Check a proof that ENTRY is in the log, without a network."""
    from sottovoce.tlog.proof import verify_proof

    policy = _policy(context, environment)
    now = None if any_age else int(time.time())
    logged = verify_proof(_read(proof), _read(entry), policy, now=now)
    click.echo(f"entry {logged.index} of {logged.checkpoint.size}, seen by {policy.quorum} witnesses or more")


# Publishing.


@log.command()
@click.argument("name")
@click.option("--out", required=True, type=_FILE, help="File for the private key; it must not be there yet.")
def keygen(name: str, out: Path) -> None:
    """Make the key of one person who publishes releases; prints its public half.

    The key's name is publisher.NAME. Two people make one each, on machines of their own.
    """
    import os

    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.tlog.note import SigningKey

    try:
        key = SigningKey.generate(f"publisher.{name}")
        public = str(key.verifier)
    except DecodeError as error:
        raise click.BadParameter(str(error)) from None
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key.secret() + "\n")
    except OSError:
        raise ConfigError("the key cannot be written", hint="a file that is there is not replaced") from None
    click.echo(public)


def _key(path: Path) -> "SigningKey":
    """A private key from a file that nobody else may read."""
    import stat

    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.tlog.note import SigningKey

    data = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError("others may read this key", hint=f"chmod 600 {path}")
    try:
        return SigningKey.parse(data.decode())
    except (DecodeError, UnicodeDecodeError):
        raise ConfigError("this is not a signing key", hint="`sottovoce log keygen` makes one") from None


@log.command()
@click.argument("entry", type=_FILE)
@click.option("--key", required=True, type=_FILE, help="Your own key, of mode 0600.")
@click.option("--out", required=True, type=_FILE, help="Where to write the signature.")
def sign(entry: Path, *, key: Path, out: Path) -> None:
    """Sign the release ENTRY with your key, after you have looked at it. One of two signatures that a release needs."""
    from sottovoce.tlog.entries import Release
    from sottovoce.tlog.publication import sign_release

    data = _read(entry)
    release = Release.parse(data)
    _write(out, sign_release(data, _key(key)).line().encode())
    measured = ", ".join(f"{one[:16]}…" for one in release.measurements)
    click.echo(f"signed: {release.role} {release.version}, measurement {measured}")


@log.command()
@click.argument("entry", type=_FILE)
@click.option(
    "--signature", "signatures", multiple=True, type=_FILE, help="A signature; two people give one each."
)
@_url
@click.option("--secret", required=True, type=_FILE, help="The operator's secret for appending.")
def publish(entry: Path, *, signatures: tuple[Path, ...], url: str, secret: Path) -> None:
    """Enter ENTRY in the log. A release needs the signatures of two people; other kinds need none."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.tlog.entries import KINDS, kind_of
    from sottovoce.tlog.note import Note
    from sottovoce.tlog.publication import combine, is_release

    data = _read(entry)
    if kind_of(data) not in KINDS:
        raise ConfigError("the entry is of an unknown kind")
    path, body = "entries", data
    if is_release(data):
        lines = b"".join(map(_read, signatures))
        path, body = "releases", combine(data, Note.parse(b"x\n\n" + lines).signatures if lines else ())
    elif signatures:
        raise click.UsageError("only a release is signed by two people")
    word = _read(secret).decode("ascii", "replace").strip()
    index = _with(url, lambda reader: reader.submit(path, body, word))
    click.echo(f"entry {index}")


@log.command()
@click.argument("path", type=_FILE)
@click.option("--name", required=True, help="The artifact's name.")
@click.option("--purpose", required=True, help="What it is for, such as inference or prompts.")
@click.option("--private", is_flag=True, help="Only its digest, without the names of its files.")
@click.option("--out", type=_FILE, default=None, help="Where to write the log entry.")
def artifact(path: Path, *, name: str, purpose: str, private: bool, out: Path | None) -> None:
    """Make the log entry of the file or folder PATH; prints its digest (docs/artifacts.md)."""
    from sottovoce.thirdparty.artifacts import read_tree
    from sottovoce.tlog.entries import ArtifactEntry

    entry = ArtifactEntry.of(read_tree(path), name=name, purpose=purpose, public=not private)
    if out is not None:
        _write(out, entry.encode())
    click.echo(entry.digest)


# Gossip.


@log.command()
@click.option("--out", required=True, type=_FILE, help="Where to write the tree head.")
@click.pass_obj
def export(context: Context, /, *, out: Path) -> None:
    """Write the tree head that this device holds, for another device or a monitor to compare."""
    from sottovoce.device.gossip import exported

    _write(out, exported(context.home / "directory.json"))


@log.command()
@click.argument("checkpoint", type=_FILE)
@_url
@_pins
@click.pass_obj
def compare(context: Context, /, checkpoint: Path, *, url: str, environment: Path | None) -> None:
    """Compare another device's tree head (CHECKPOINT) with the last one of this device; 1 if the log is forked."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.device.directory import load_last_seen
    from sottovoce.device.gossip import compare as compare_heads
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog.note import Note

    other = signed_head(Note.parse(_read(checkpoint)), _policy(context, environment))
    last = load_last_seen(context.home / "last-directory.json")
    if last is None:
        raise ConfigError("this device has seen no tree head yet")
    size = max(other.size, last.checkpoint.size)
    same = other.size == last.checkpoint.size
    leaves: list[bytes] = [] if same else _with(url, lambda reader: reader.leaves(size))
    click.echo(compare_heads(other, last, leaves))


# The monitor.


@log.command()
@_url
@_pins
@click.option("--folder", type=_FILE, default=None, help="The monitor's memory.  [default: HOME/monitor]")
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
    help="Another place that shows this log; more than one.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=_FILE,
    help="A tree head that somebody else was shown; more than one.",
)
@click.option(
    "--reports", type=_FILE, default=None, help="A device's exported reports: releases that are in use."
)
@click.option("--page", type=_FILE, default=None, help="Write the report as an HTML page too.")
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

    pinned = _environment(context, environment)
    watcher = Monitor(folder or context.home / "monitor", pinned.log_policy())
    store = artifacts or next(iter(pinned.mirrors), None)
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
    notes = [Note.parse(_read(path)) for path in checkpoints]
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
        for report in decode_export(_read(path, _EXPORT_LIMIT)):
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
        _write(page, render(report).encode())
    with output():
        if as_json:
            click.echo(json.dumps(report.to_json()))
            return
        new = f", {report.new} of them new" if report.new else ""
        click.echo(printable(f"{report.origin}: {report.size} entries{new}; {len(report.findings)} findings"))
        for finding in report.findings:
            click.echo(printable(f"  {finding.code}: {finding.text}"))

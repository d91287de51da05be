"""`sottovoce directory`: the operator's work for the next day's directory. Each step is another person's, or can be."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sottovoce.cli.directoryinput import (
    FILE,
    FOLDER,
    LIMIT,
    at_epoch,
    changes_in,
    opened,
    pins_of,
    public_keys,
    read_file,
    signed_in,
    unverified,
    write_public,
)
from sottovoce.cli.directorykeys import keys
from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sottovoce.device.environment import Environment
    from sottovoce.edge.directorycheck import Fault
    from sottovoce.edge.logclient import LogClient
    from sottovoce.edge.publishing import Publisher
    from sottovoce.tlog.entries import Directory

__all__ = ["directory"]

_ENVIRONMENT = click.option(
    "--environment",
    type=FILE,
    default=None,
    help="What devices pin: the directory's key, the log, its witnesses.  [default: HOME/environment.json]",
)
_CURRENT = click.option(
    "--current",
    type=FILE,
    default=None,
    help="The signed directory of the day before.",
)
_FIRST = click.option(
    "--first", is_flag=True, help="There is no directory of a day before: this is the first one of all."
)
_LOG = click.option("--log", "log_url", required=True, metavar="URL", help="Where the log is.")
_GATEWAYS = click.option(
    "--gateway",
    "gateways",
    multiple=True,
    required=True,
    metavar="URL",
    help="Each gateway that is asked for its keys.",
)
_ISSUER = click.option(
    "--issuer", required=True, metavar="URL", help="The issuer that is asked for its keys."
)
_MIRROR = click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    required=True,
    type=FOLDER,
    help="The folder of each mirror. All in one command: devices compare them.",
)
_GAP = click.option(
    "--gap", is_flag=True, help="Days are missing since the directory before: there was none on them."
)


@click.group()
def directory() -> None:
    """Prepare, sign, check and publish the directory of the next day; make the keys that it names.

    docs/directory.md has the order of a day. Every step may be given again.
    """


directory.add_command(keys)


@directory.command()
@at_epoch
@_CURRENT
@_FIRST
@click.option(
    "--keys",
    "key_files",
    type=FILE,
    multiple=True,
    required=True,
    help="Public keys: the gateway's, and the issuer's of the day after.",
)
@click.option(
    "--changes",
    type=FILE,
    default=None,
    help="What becomes different: TOML, or JSON where its name ends so.",
)
@_GAP
@_ENVIRONMENT
@click.option("--out", required=True, type=FILE, help="Gets the unsigned document.")
@click.pass_obj
def prepare(
    context: Context,
    /,
    *,
    epoch: int,
    current: Path | None,
    first: bool,
    key_files: tuple[Path, ...],
    changes: Path | None,
    gap: bool,
    environment: Path | None,
    out: Path,
) -> None:
    """Put the next directory together, out of the one before and the parties' public keys."""
    from sottovoce.edge.directories import Changes, Plan, next_directory

    _require_one(current, first=first)
    before = signed_in(current, pins_of(context, environment)) if current else None
    plan = Plan(
        epoch=epoch,
        current=before,
        changes=changes_in(changes) if changes else Changes(),
        keys=[public_keys(path) for path in key_files],
    )
    prepared = next_directory(plan)
    _show_changes(before, prepared)
    _refuse(_document_faults(prepared, before, gap=gap))
    write_public(out, prepared.encode())
    click.echo(f"Prepared: {out}. Next: `sottovoce directory sign`, where the directory's key is.")


@directory.command()
@click.argument("document", type=FILE)
@click.option("--key", "key_file", required=True, type=FILE, help="The directory's signing key.")
@_CURRENT
@_FIRST
@click.option("--yes", is_flag=True, help="Do not ask. The differences are shown all the same.")
@_GAP
@click.option("--out", required=True, type=FILE, help="Gets the signed directory.")
def sign(
    document: Path, *, key_file: Path, current: Path | None, first: bool, yes: bool, gap: bool, out: Path
) -> None:
    """Show what is different in DOCUMENT, and sign it. Needs no network."""
    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.edge.directories import open_directory, sign_directory
    from sottovoce.tlog.entries import Directory
    from sottovoce.tlog.note import ED25519, SigningKey

    _require_one(current, first=first)
    if out.resolve() in {path.resolve() for path in (key_file, document, current) if path}:
        raise ConfigError("the signed directory would replace what it is made from", hint="another --out")
    try:
        key = SigningKey.parse(read_file(key_file).decode())
        prepared = Directory.parse(read_file(document))
    except (DecodeError, UnicodeDecodeError):
        raise ConfigError("the key or the document is malformed", hint=f"{key_file}, {document}") from None
    if key.kind != ED25519:
        raise ConfigError("the directory is signed with a note key", hint=f"looked at {key_file}")
    before = open_directory(read_file(current), key.verifier) if current else None
    _show_changes(before, prepared)
    _refuse(_document_faults(prepared, before, gap=gap))
    if not yes:
        click.confirm("Sign it?", abort=True)
    write_public(out, sign_directory(prepared, key))
    click.echo(f"Signed: {out}")


@directory.command()
@click.argument("note", type=FILE)
@_CURRENT
@_FIRST
@_ENVIRONMENT
@_LOG
@_GATEWAYS
@_ISSUER
@_GAP
@click.pass_obj
def check(
    context: Context,
    /,
    *,
    note: Path,
    current: Path | None,
    first: bool,
    environment: Path | None,
    log_url: str,
    gateways: tuple[str, ...],
    issuer: str,
    gap: bool,
) -> None:
    """Whether NOTE would lock devices out, beside its predecessor, the log, the gateways and the issuer. Exit code 20 if so."""
    from sottovoce.edge.logclient import LogClient

    _require_one(current, first=first)
    pins = pins_of(context, environment)
    signed = signed_in(note, pins)
    before = signed_in(current, pins) if current else None
    _refuse(
        _all_faults(signed, before, pins, LogClient(log_url, ""), gateways=gateways, issuer=issuer, gap=gap)
    )
    click.echo(f"Nothing is wrong with the directory of epoch {signed.epoch}.")


@directory.command()
@click.argument("note", type=FILE)
@_MIRROR
@_ENVIRONMENT
@_LOG
@click.option("--secret", required=True, type=FILE, help="The operator's secret at the log.")
@_GATEWAYS
@_ISSUER
@_GAP
@_FIRST
@click.pass_obj
def publish(
    context: Context,
    /,
    *,
    note: Path,
    mirrors: tuple[Path, ...],
    environment: Path | None,
    log_url: str,
    secret: Path,
    gateways: tuple[str, ...],
    issuer: str,
    gap: bool,
    first: bool,
) -> None:
    """Check NOTE as `check` does, enter it in the log, and put it on all mirrors. After a crash, give the same command again."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.edge.logclient import LogClient

    pins, data = pins_of(context, environment), read_file(note)
    signed = opened(data, pins)
    log = LogClient(log_url, read_file(secret).decode(errors="replace").strip())
    publisher = _publisher(log, mirrors, pins)
    earlier = {epoch: one for epoch, one in publisher.notes().items() if epoch < signed.epoch}
    if not earlier and not first:
        raise ConfigError(
            "no mirror has a directory of a day before", hint="--first, if this is the first one of all"
        )
    before = opened(earlier[max(earlier)], pins) if earlier else None
    _refuse(_all_faults(signed, before, pins, log, gateways=gateways, issuer=issuer, gap=gap))
    publisher.publish(data, int(time.time()))
    for folder in mirrors:
        click.echo(f"The directory of epoch {signed.epoch} is at {folder}.")


@directory.command()
@_MIRROR
@_ENVIRONMENT
@_LOG
@click.pass_obj
def refresh(
    context: Context, /, *, mirrors: tuple[Path, ...], environment: Path | None, log_url: str
) -> None:
    """Fresh proofs for what is published: devices take none that is older than a day. To be run every few hours."""
    from sottovoce.edge.logclient import LogClient

    publisher = _publisher(LogClient(log_url, ""), mirrors, pins_of(context, environment))
    epochs = publisher.refresh(int(time.time()))
    for folder in mirrors:
        click.echo(f"Fresh proofs at {folder} for epochs {', '.join(map(str, epochs)) or 'none'}.")


@directory.command()
@click.argument("document", type=FILE)
@_CURRENT
@click.option("--json", "as_json", is_flag=True, help="The document itself.")
def show(document: Path, *, current: Path | None, as_json: bool) -> None:
    """What stands in a directory, signed or not; or what is different from the one before. No signature is looked at."""
    shown, before = unverified(document), unverified(current) if current else None
    with output():
        if as_json:
            click.echo(shown.encode().decode())
        else:
            _show_changes(before, shown)


def _require_one(current: Path | None, *, first: bool) -> None:
    """Without the directory before, nobody checks that this one follows it: that there is none has to be said."""
    from sottovoce.core.errors import ConfigError

    if (current is None) != first:
        raise ConfigError(
            "which directory comes before this one?",
            hint="--current FILE names it, --first says that there is none: one of the two",
        )


def _show_changes(before: "Directory | None", after: "Directory") -> None:
    import hashlib

    from sottovoce.attest.verdict import printable
    from sottovoce.edge.differences import differences

    for line in differences(before, after):
        click.echo(printable(line))
    click.echo(f"SHA-256 of the document: {hashlib.sha256(after.encode()).hexdigest()}")


def _document_faults(new: "Directory", before: "Directory | None", *, gap: bool) -> "list[Fault]":
    from sottovoce.edge.directorycheck import document_faults

    return document_faults(new, before, gap=gap)


def _all_faults(
    new: "Directory",
    before: "Directory | None",
    pins: "Environment",
    log: "LogClient",
    *,
    gateways: "Sequence[str]",
    issuer: str,
    gap: bool,
) -> "list[Fault]":
    from sottovoce.core.errors import UnavailableError
    from sottovoce.edge.directorycheck import surrounding_faults
    from sottovoce.edge.plainhttp import ask

    def get(url: str, path: str, party: str) -> bytes:
        status, body = ask(url, path, party=party, limit=LIMIT)
        if status != 200:  # noqa: PLR2004 - RFC 9110 section 15.3.1
            raise UnavailableError(
                f"the {party} does not show its keys", party=party, hint=f"it answered {status}"
            )
        return body

    return [
        *_document_faults(new, before, gap=gap),
        *surrounding_faults(
            new,
            before,
            policy=pins.log_policy(),
            entries=log.entries(pins.log_policy()),
            now=int(time.time()),
            gateways={url: get(url, "/ohttp-keys", "gateway") for url in gateways},
            issuer=get(issuer, "/.well-known/private-token-issuer-directory", "issuer"),
        ),
    ]


def _refuse(faults: "Sequence[Fault]") -> None:
    from sottovoce.attest.verdict import printable
    from sottovoce.edge.directorycheck import DirectoryFaultyError

    for fault in faults:
        click.echo(printable(f"{fault.code}: {fault.text}"), err=True)
    if faults:
        sys.stdout.flush()
        raise DirectoryFaultyError(
            "the directory would lock devices out", hint="each line above says what is wrong"
        )


def _publisher(log: "LogClient", folders: "Sequence[Path]", pins: "Environment") -> "Publisher":
    from sottovoce.edge.publishing import Mirror, Publisher

    mirrors = [Mirror(folder=folder) for folder in folders]
    return Publisher(log, mirrors, key=pins.directory_verifier(), policy=pins.log_policy())

"""`sottovoce directory`: the operator's work for the next day's directory. Each step is another person's, or can be."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sottovoce.device.environment import Environment
    from sottovoce.edge.directories import Changes
    from sottovoce.edge.directorycheck import Fault
    from sottovoce.edge.keyfolder import PublicKeys
    from sottovoce.edge.logclient import LogClient
    from sottovoce.edge.publishing import Publisher
    from sottovoce.tlog.entries import Directory

__all__ = ["directory"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_LIMIT: Final = 2 * 1024 * 1024
_ENVIRONMENT = click.option(
    "--environment",
    type=_FILE,
    default=None,
    help="What devices pin: the directory's key, the log, its witnesses.  [default: HOME/environment.json]",
)
_CURRENT = click.option(
    "--current",
    type=_FILE,
    default=None,
    help="The signed directory of the day before. None for the first one.",
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
    "--mirror", "mirrors", multiple=True, required=True, type=_FOLDER, help="A mirror's folder; one or more."
)
_EPOCH = click.option(
    "--epoch", required=True, type=click.IntRange(0, 9_999_999), help="The UTC day's number since 1970."
)


_GAP = click.option(
    "--gap", is_flag=True, help="Days are missing since the directory before: there was none on them."
)


@click.group()
def directory() -> None:
    """Prepare, sign, check and publish the directory of the next day; make the keys that it names.

    docs/directory.md has the order of a day. Every step may be given again.
    """


@directory.group()
def keys() -> None:
    """Make one day's keys, where they are kept, and write down what is public of them."""


@keys.command("issuer")
@click.argument("folder", type=_FOLDER)
@_EPOCH
@click.option("--type-5", is_flag=True, help="A key for tokens of type 5 as well.")
@click.option(
    "--out", required=True, type=_FILE, help="Gets the public keys, for `prepare` and the gateways."
)
def issuer_keys(folder: Path, epoch: int, *, type_5: bool, out: Path) -> None:
    """Make the issuer's keys of one day in FOLDER, if they are not there."""
    from sottovoce.edge.issuerkeys import forget_issuer_keys, make_issuer_keys

    public = make_issuer_keys(folder, epoch, type_5=type_5)
    _write(out, public.encode())
    gone = forget_issuer_keys(folder, int(time.time()), made=epoch)
    click.echo(f"The issuer's keys of epoch {epoch} are in {folder}; {gone} old ones were deleted.")


@keys.command("gateway")
@click.argument("folder", type=_FOLDER)
@_EPOCH
@click.option(
    "--issuer", "issuers", type=_FILE, multiple=True, help="The issuer's public keys, to check tokens with."
)
@click.option(
    "--issuer-folder",
    type=_FOLDER,
    default=None,
    help="Where its secret keys of type 5 are, if there are any.",
)
@click.option("--out", required=True, type=_FILE, help="Gets the public keys, for `prepare`.")
def gateway_keys(
    folder: Path, epoch: int, *, issuers: tuple[Path, ...], issuer_folder: Path | None, out: Path
) -> None:
    """Make a gateway's OHTTP keys of one day in FOLDER, if they are not there, and lay the issuer's beside them."""
    from sottovoce.edge.gatewaykeys import forget_gateway_keys, lay_token_keys, make_gateway_keys

    for one in issuers:
        lay_token_keys(folder, _public(one), secrets=issuer_folder)
    _write(out, make_gateway_keys(folder, epoch).encode())
    gone = forget_gateway_keys(folder, int(time.time()), made=epoch)
    click.echo(f"The gateway's keys of epoch {epoch} are in {folder}; {gone} old ones were deleted.")


@keys.command("signing")
@click.argument("name")
@click.option("--out", required=True, type=_FILE, help="Gets the secret key; it must not exist.")
def signing_key(name: str, *, out: Path) -> None:
    """Make the key that signs directories, once, and print the public key, which devices pin. NAME is the key's."""
    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.edge.files import write_whole
    from sottovoce.tlog.note import SigningKey

    if out.exists():
        raise ConfigError("there is a key already", hint=f"it is not overwritten: {out}")
    try:
        key = SigningKey.generate(name)
        public = str(SigningKey.parse(key.secret()).verifier)
    except DecodeError:
        raise ConfigError("a key cannot have this name", hint="like directory.example.org") from None
    write_whole(out, key.secret().encode())
    click.echo(public)


@directory.command()
@_EPOCH
@_CURRENT
@click.option(
    "--keys",
    "key_files",
    type=_FILE,
    multiple=True,
    required=True,
    help="Public keys: the gateway's, and the issuer's of the day after.",
)
@click.option(
    "--changes",
    type=_FILE,
    default=None,
    help="What becomes different: TOML, or JSON where its name ends so.",
)
@_GAP
@_ENVIRONMENT
@click.option("--out", required=True, type=_FILE, help="Gets the unsigned document.")
@click.pass_obj
def prepare(
    context: Context,
    /,
    *,
    epoch: int,
    current: Path | None,
    key_files: tuple[Path, ...],
    changes: Path | None,
    gap: bool,
    environment: Path | None,
    out: Path,
) -> None:
    """Put the next directory together, out of the one before and the parties' public keys."""
    from sottovoce.edge.directories import Changes, Plan, next_directory

    before = _signed(current, _pins(context, environment)) if current else None
    plan = Plan(
        epoch=epoch,
        current=before,
        changes=_changes(changes) if changes else Changes(),
        keys=[_public(path) for path in key_files],
    )
    prepared = next_directory(plan)
    _show_changes(before, prepared)
    _refuse(_document_faults(prepared, before, gap=gap))
    _write(out, prepared.encode())
    click.echo(f"Prepared: {out}. Next: `sottovoce directory sign`, where the directory's key is.")


@directory.command()
@click.argument("document", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE, help="The directory's signing key.")
@_CURRENT
@click.option("--yes", is_flag=True, help="Do not ask. The differences are shown all the same.")
@_GAP
@click.option("--out", required=True, type=_FILE, help="Gets the signed directory.")
def sign(document: Path, *, key_file: Path, current: Path | None, yes: bool, gap: bool, out: Path) -> None:
    """Show what is different in DOCUMENT, and sign it. Needs no network."""
    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.edge.directories import open_directory, sign_directory
    from sottovoce.tlog.entries import Directory
    from sottovoce.tlog.note import ED25519, SigningKey

    if out.resolve() in {path.resolve() for path in (key_file, document, current) if path}:
        raise ConfigError("the signed directory would replace what it is made from", hint="another --out")
    try:
        key = SigningKey.parse(_read(key_file).decode())
        prepared = Directory.parse(_read(document))
    except (DecodeError, UnicodeDecodeError):
        raise ConfigError("the key or the document is malformed", hint=f"{key_file}, {document}") from None
    if key.kind != ED25519:
        raise ConfigError("the directory is signed with a note key", hint=f"looked at {key_file}")
    before = open_directory(_read(current), key.verifier) if current else None
    _show_changes(before, prepared)
    _refuse(_document_faults(prepared, before, gap=gap))
    if not yes:
        click.confirm("Sign it?", abort=True)
    _write(out, sign_directory(prepared, key))
    click.echo(f"Signed: {out}")


@directory.command()
@click.argument("note", type=_FILE)
@_CURRENT
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
    environment: Path | None,
    log_url: str,
    gateways: tuple[str, ...],
    issuer: str,
    gap: bool,
) -> None:
    """Whether NOTE would lock devices out, beside its predecessor, the log, the gateways and the issuer. Exit code 20 if so."""
    from sottovoce.edge.logclient import LogClient

    pins = _pins(context, environment)
    signed = _signed(note, pins)
    before = _signed(current, pins) if current else None
    _refuse(
        _all_faults(signed, before, pins, LogClient(log_url, ""), gateways=gateways, issuer=issuer, gap=gap)
    )
    click.echo(f"Nothing is wrong with the directory of epoch {signed.epoch}.")


@directory.command()
@click.argument("note", type=_FILE)
@_MIRROR
@_ENVIRONMENT
@_LOG
@click.option("--secret", required=True, type=_FILE, help="The operator's secret at the log.")
@_GATEWAYS
@_ISSUER
@_GAP
@click.option("--first", is_flag=True, help="There is no directory of the day before.")
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
    """Check NOTE as `check` does, enter it in the log, and put it on the mirrors. After a crash, give the same command again."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.edge.logclient import LogClient
    from sottovoce.edge.publishing import Mirror, SecondDirectoryError

    pins, data = _pins(context, environment), _read(note)
    signed = _signed(note, pins)
    log = LogClient(log_url, _read(secret).decode(errors="replace").strip())
    for folder in mirrors:
        if Mirror(folder=folder).notes().get(signed.epoch) not in {None, data}:
            raise SecondDirectoryError(
                "this epoch has another directory already", hint=f"looked at {folder}; nothing was published"
            )
    earlier = {epoch: one for epoch, one in Mirror(folder=mirrors[0]).notes().items() if epoch < signed.epoch}
    if not earlier and not first:
        raise ConfigError(
            "the mirror has no directory of a day before", hint="--first, if this is the first one of all"
        )
    before = _open(earlier[max(earlier)], pins) if earlier else None
    _refuse(_all_faults(signed, before, pins, log, gateways=gateways, issuer=issuer, gap=gap))
    now = int(time.time())
    for folder in mirrors:
        _publisher(log, folder, pins).publish(data, now)
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

    pins = _pins(context, environment)
    for folder in mirrors:
        epochs = _publisher(LogClient(log_url, ""), folder, pins).refresh(int(time.time()))
        click.echo(f"Fresh proofs at {folder} for epochs {', '.join(map(str, epochs)) or 'none'}.")


@directory.command()
@click.argument("document", type=_FILE)
@_CURRENT
@click.option("--json", "as_json", is_flag=True, help="The document itself.")
def show(document: Path, *, current: Path | None, as_json: bool) -> None:
    """What stands in a directory, signed or not; or what is different from the one before. No signature is looked at."""
    shown, before = _unverified(document), _unverified(current) if current else None
    with output():
        if as_json:
            click.echo(shown.encode().decode())
        else:
            _show_changes(before, shown)


def _pins(context: Context, environment: Path | None) -> "Environment":
    from sottovoce.device.environment import FILE, Environment

    return Environment.load(environment or context.home / FILE)


def _read(path: Path) -> bytes:
    from sottovoce.core.errors import ConfigError

    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError:
        raise ConfigError("the file cannot be read", hint=f"looked for {path}") from None
    if not data or len(data) > _LIMIT:
        raise ConfigError("the file is empty or too long", hint=f"looked at {path}")
    return data


def _write(path: Path, data: bytes) -> None:
    from sottovoce.edge.files import write_whole

    write_whole(path, data, mode=0o644)


def _public(path: Path) -> "PublicKeys":
    from sottovoce.edge.keyfolder import PublicKeys

    return PublicKeys.parse(_read(path))


def _changes(path: Path) -> "Changes":
    import msgspec

    from sottovoce.core.errors import ConfigError
    from sottovoce.edge.directories import Changes

    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(_read(path), type=Changes)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the file of changes is wrong: {error}", hint=f"looked at {path}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ConfigError("the file of changes is neither TOML nor JSON", hint=f"looked at {path}") from None


def _open(data: bytes, pins: "Environment") -> "Directory":
    from sottovoce.edge.directories import open_directory

    return open_directory(data, pins.directory_verifier())


def _signed(path: Path, pins: "Environment") -> "Directory":
    return _open(_read(path), pins)


def _unverified(path: Path) -> "Directory":
    from sottovoce.core.errors import ConfigError, PeerError
    from sottovoce.tlog.entries import Directory
    from sottovoce.tlog.note import Note

    data = _read(path)
    try:
        entry = (
            data
            if data.startswith(b"{") and b"\n" not in data
            else Note.parse(data).text.rstrip("\n").encode()
        )
        return Directory.parse(entry)
    except PeerError as error:
        raise ConfigError(f"this is no directory: {error}", hint=f"looked at {path}") from None


def _show_changes(before: "Directory | None", after: "Directory") -> None:
    import hashlib

    from sottovoce.attest.verdict import printable
    from sottovoce.edge.directories import differences

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
        status, body = ask(url, path, party=party, limit=_LIMIT)
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
            entries=log.entries(),
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


def _publisher(log: "LogClient", folder: Path, pins: "Environment") -> "Publisher":
    from sottovoce.edge.publishing import Mirror, Publisher

    return Publisher(log, Mirror(folder=folder), key=pins.directory_verifier(), policy=pins.log_policy())

"""`sottovoce log keygen | sign | publish | artifact`: what is entered in the log, and by whom."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sottovoce.cli.logfiles import FILE, at_url, read_file, with_reader, write_file

if TYPE_CHECKING:
    from sottovoce.tlog.note import SigningKey

__all__ = ["artifact", "keygen", "publish", "sign"]


@click.command()
@click.argument("name")
@click.option("--out", required=True, type=FILE, help="File for the private key; it must not be there yet.")
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

    data = read_file(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError("others may read this key", hint=f"chmod 600 {path}")
    try:
        return SigningKey.parse(data.decode())
    except (DecodeError, UnicodeDecodeError):
        raise ConfigError("this is not a signing key", hint="`sottovoce log keygen` makes one") from None


@click.command()
@click.argument("entry", type=FILE)
@click.option("--key", required=True, type=FILE, help="Your own key, of mode 0600.")
@click.option("--out", required=True, type=FILE, help="Where to write the signature.")
def sign(entry: Path, *, key: Path, out: Path) -> None:
    """Sign the release ENTRY with your key, after you have looked at it. One of two signatures that a release needs."""
    from sottovoce.tlog.entries import Release
    from sottovoce.tlog.publication import sign_release

    data = read_file(entry)
    release = Release.parse(data)
    write_file(out, sign_release(data, _key(key)).line().encode())
    measured = ", ".join(f"{one[:16]}…" for one in release.measurements)
    click.echo(f"signed: {release.role} {release.version}, measurement {measured}")


@click.command()
@click.argument("entry", type=FILE)
@click.option(
    "--signature", "signatures", multiple=True, type=FILE, help="A signature; two people give one each."
)
@at_url
@click.option("--secret", required=True, type=FILE, help="The operator's secret for appending.")
def publish(entry: Path, *, signatures: tuple[Path, ...], url: str, secret: Path) -> None:
    """Enter ENTRY in the log. A release needs the signatures of two people; other kinds need none."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.tlog.members import KINDS, kind_of
    from sottovoce.tlog.note import Note
    from sottovoce.tlog.publication import combine, is_release

    data = read_file(entry)
    if kind_of(data) not in KINDS:
        raise ConfigError("the entry is of an unknown kind")
    path, body = "entries", data
    if is_release(data):
        lines = b"".join(map(read_file, signatures))
        path, body = "releases", combine(data, Note.parse(b"x\n\n" + lines).signatures if lines else ())
    elif signatures:
        raise click.UsageError("only a release is signed by two people")
    word = read_file(secret).decode("ascii", "replace").strip()
    index = with_reader(url, lambda reader: reader.submit(path, body, word))
    click.echo(f"entry {index}")


@click.command()
@click.argument("path", type=FILE)
@click.option("--name", required=True, help="The artifact's name.")
@click.option("--purpose", required=True, help="What it is for, such as inference or prompts.")
@click.option("--private", is_flag=True, help="Only its digest, without the names of its files.")
@click.option("--out", type=FILE, default=None, help="Where to write the log entry.")
def artifact(path: Path, *, name: str, purpose: str, private: bool, out: Path | None) -> None:
    """Make the log entry of the file or folder PATH; prints its digest (docs/artifacts.md)."""
    from sottovoce.thirdparty.artifacts import read_tree
    from sottovoce.tlog.artifactentries import ArtifactEntry

    entry = ArtifactEntry.of(read_tree(path), name=name, purpose=purpose, public=not private)
    if out is not None:
        write_file(out, entry.encode())
    click.echo(entry.digest)


# Gossip.

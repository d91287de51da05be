"""What the commands of `sottovoce directory` share: options, and reading and writing of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from sottovoce.device.environment import Environment
    from sottovoce.edge.directories import Changes
    from sottovoce.edge.keyfolder import PublicKeys
    from sottovoce.tlog.entries import Directory

__all__ = [
    "FILE",
    "FOLDER",
    "LIMIT",
    "at_epoch",
    "changes_in",
    "opened",
    "pins_of",
    "public_keys",
    "read_file",
    "signed_in",
    "unverified",
    "write_public",
]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
LIMIT: Final = 2 * 1024 * 1024
"""Bytes of a file or an answer that is read; a directory is much shorter."""
at_epoch = click.option(
    "--epoch", required=True, type=click.IntRange(0, 9_999_999), help="The UTC day's number since 1970."
)


def pins_of(context: Context, environment: Path | None) -> "Environment":
    """What devices pin, in the file of the option or the device's.

    Raises:
        ConfigError: it cannot be read.
    """
    from sottovoce.device import environment as files

    return files.Environment.load(environment or context.home / files.FILE)


def read_file(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        ConfigError: it cannot be read, is empty, or too long.
    """
    from sottovoce.core.errors import ConfigError

    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError:
        raise ConfigError("the file cannot be read", hint=f"looked for {path}") from None
    if not data or len(data) > LIMIT:
        raise ConfigError("the file is empty or too long", hint=f"looked at {path}")
    return data


def write_public(path: Path, data: bytes) -> None:
    """Write what anybody may read, whole or not at all; raises StorageError."""
    from sottovoce.edge.files import write_whole

    write_whole(path, data, mode=0o644)


def public_keys(path: Path) -> "PublicKeys":
    """One party's public keys; raises ConfigError."""
    from sottovoce.edge.keyfolder import PublicKeys

    return PublicKeys.parse(read_file(path))


def changes_in(path: Path) -> "Changes":
    """What becomes different with the next directory.

    Raises:
        ConfigError: the file cannot be read, or says what there is not.
    """
    import msgspec

    from sottovoce.core.errors import ConfigError
    from sottovoce.edge.directories import Changes

    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(read_file(path), type=Changes)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the file of changes is wrong: {error}", hint=f"looked at {path}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ConfigError("the file of changes is neither TOML nor JSON", hint=f"looked at {path}") from None


def opened(data: bytes, pins: "Environment") -> "Directory":
    """The directory in a note that the pinned key has signed; raises ConfigError."""
    from sottovoce.edge.directories import open_directory

    return open_directory(data, pins.directory_verifier())


def signed_in(path: Path, pins: "Environment") -> "Directory":
    """The directory in a file, as `opened`."""
    return opened(read_file(path), pins)


def unverified(path: Path) -> "Directory":
    """The directory in a file, whether it is signed or not.

    Raises:
        ConfigError: there is none in it.
    """
    from sottovoce.core.errors import ConfigError, PeerError
    from sottovoce.tlog.entries import Directory
    from sottovoce.tlog.note import Note

    data = read_file(path)
    try:
        entry = (
            data
            if data.startswith(b"{") and b"\n" not in data
            else Note.parse(data).text.rstrip("\n").encode()
        )
        return Directory.parse(entry)
    except PeerError as error:
        raise ConfigError(f"this is no directory: {error}", hint=f"looked at {path}") from None

"""Files that are either whole or not there, also when the machine stops at any moment."""

import fcntl
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sottovoce.core.errors import ConfigError, SottovoceError

__all__ = ["FolderBusyError", "StorageError", "locked", "make_new", "write_new", "write_whole"]


class StorageError(SottovoceError):
    """A file could not be written durably."""

    code = "disk"


class FolderBusyError(StorageError):
    """Another process is at work in the folder. Nothing was changed; to be tried again."""

    code = "disk.busy"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one at work in `folder`, of those that ask; it ends with the process, however that ends, and leaves no file.

    Raises:
        FolderBusyError: another one is.
        ConfigError: the folder is not there, or its file system has no locks.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise ConfigError("a folder cannot be read", hint=f"looked for {folder}") from None
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusyError(
                "another command is at work in a folder", hint=f"try again: {folder}"
            ) from None
        except OSError:
            raise ConfigError("a folder cannot be locked", hint=f"is it on this machine? {folder}") from None
        yield
    finally:
        os.close(held)


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` to `path` durably: first beside it, synced, then in its place.

    Raises:
        StorageError: the disk is full or the file cannot be written. What was there before is there still.
    """
    staged = path.with_name(path.name + ".new")
    try:
        _write(staged, data, os.O_TRUNC, mode)
        staged.replace(path)
        _sync(path.parent)
    except OSError:
        raise StorageError("a file cannot be written", hint=f"is the disk full? {path}") from None


def write_new(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which must not be there, as `make_new`; only its owner may read it."""
    make_new(path, lambda staged: _write(staged, data, os.O_EXCL, 0o600))


def make_new(path: Path, make: Callable[[Path], object]) -> None:
    """Have `make` write a synced file beside `path`, then give it that name, which nothing may have: also not since a moment ago.

    Raises:
        ConfigError: there is something of this name; or as `make`.
        StorageError: the file cannot be written.
    """
    # A name of its own: of two commands at once each names what it has written itself, or fails.
    staged = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        for left in path.parent.glob(f"{glob.escape(path.name)}.*new"):
            left.unlink()  # of a run that was cut off
        make(staged)
        os.link(staged, path)
        staged.unlink()
        _sync(path.parent)
    except FileExistsError:
        raise ConfigError("there is a file already", hint=f"it is not overwritten: {path}") from None
    except OSError:
        raise StorageError(
            "a file cannot be written", hint=f"is there room, and can it have hard links? {path}"
        ) from None
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


def _write(path: Path, data: bytes, flag: int, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flag, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

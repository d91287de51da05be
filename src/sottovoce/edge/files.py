"""Files that are either whole or not there, also when the machine stops at any moment."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sottovoce.core.errors import ConfigError, SottovoceError

__all__ = ["FolderBusyError", "StorageError", "locked", "put_in_place", "write_whole"]


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
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(staged, path)
    except OSError:
        raise StorageError("a file cannot be written", hint=f"is the disk full? {path}") from None


def put_in_place(staged: Path, path: Path) -> None:
    """Give the synced file `staged` its name, durably; raises OSError."""
    staged.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

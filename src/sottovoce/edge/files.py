"""Files that are either whole or not there, also when the machine stops at any moment."""

import os
from pathlib import Path

from sottovoce.core.errors import SottovoceError

__all__ = ["StorageError", "put_in_place", "write_whole"]


class StorageError(SottovoceError):
    """A file could not be written durably."""

    code = "disk"


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

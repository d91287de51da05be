"""Files that are either whole or not there, also when the machine stops at any moment."""

import os
from pathlib import Path

from sottovoce.core.errors import SottovoceError

__all__ = ["StorageError", "write_whole"]


class StorageError(SottovoceError):
    """A file could not be written durably."""

    code = "disk"


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` durably: first beside it, synced, then in its place, and the folder synced.

    Raises:
        StorageError: the disk is full or the file cannot be written. What was there before is there still, unless only
            the last step failed: then `data` is in its place, and a power cut could undo that.
    """
    staged = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        raise StorageError("a file cannot be written", hint="is the disk full?") from None

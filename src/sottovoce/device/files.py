"""State files of the device: private directories, atomic writes, one writer at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sottovoce.core.errors import SottovoceError

__all__ = ["DiskError", "exclusive", "private_directory", "write_private"]

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class DiskError(SottovoceError):
    """The disk is full, or a file cannot be written. What was there before is unchanged."""

    code = "disk"


def private_directory(path: Path) -> None:
    """Make sure that `path` is a directory that only its owner can enter (mode 0700).

    Raises:
        DiskError: it cannot be made, or belongs to somebody else.
    """
    try:
        path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(_DIRECTORY_MODE)
    except OSError:
        raise DiskError("the state directory cannot be used", hint=f"looked at {path}") from None


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory`, so that two commands cannot lose each other's change.

    Raises:
        DiskError: the directory cannot be opened.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise DiskError("the state directory cannot be used", hint=f"looked at {directory}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` with mode 0600, all of it or nothing.

    Raises:
        DiskError: the disk is full or the file cannot be written; the old file is as it was.
    """
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        _write(part, data)
        part.replace(path)
        _sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise DiskError(
            "the file cannot be written", hint=f"wanted to write {path}; is the disk full?"
        ) from None


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _FILE_MODE)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    # Without this a crash could bring the old file back after the caller was told that it is replaced.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""An artifact on the disk: its files, read once, without following a link (docs/artifacts.md)."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sottovoce.core.errors import ConfigError
from sottovoce.tlog.artifacts import MAX_DEPTH, MAX_FILES, ArtifactFormError, ArtifactLimitError, File, Tree

__all__ = ["read_tree"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read_tree(path: Path) -> Tree:
    """The files of the artifact at `path`: a file, or a folder.

    Raises:
        ArtifactFormError: a link, a device, a pipe, an empty folder, or a name that is not allowed.
        ArtifactLimitError: too many files, or too large.
        ConfigError: it cannot be read, or changed while it was read.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise _unreadable(error) from None
    try:
        return Tree.of(_limited(_walk(descriptor, "")))
    except OSError as error:
        raise _unreadable(error) from None
    finally:
        os.close(descriptor)


def _unreadable(error: OSError) -> Exception:
    # O_NOFOLLOW: ELOOP is what a link gives, ENXIO what a socket gives.
    if error.errno in {errno.ELOOP, errno.ENXIO}:
        return ArtifactFormError("an artifact holds a link or a special file")
    return ConfigError("the artifact cannot be read")


def _limited(files: Iterator[File]) -> Iterator[File]:
    for count, file in enumerate(files):
        if count == MAX_FILES:
            raise ArtifactLimitError("an artifact has too many files, or too many bytes")
        yield file


def _walk(descriptor: int, path: str) -> Iterator[File]:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        yield _file(descriptor, path)
        return
    if not stat.S_ISDIR(mode):
        raise ArtifactFormError("an artifact holds a link or a special file")
    if path.count("/") >= MAX_DEPTH:
        raise ArtifactLimitError("an artifact has folders nested too deeply")
    names = sorted(os.listdir(descriptor))
    if not names:
        raise ArtifactFormError("an artifact holds an empty folder")
    for name in names:
        below = os.open(name, _OPEN, dir_fd=descriptor)
        try:
            yield from _walk(below, f"{path}/{name}" if path else name)
        finally:
            os.close(below)


def _file(descriptor: int, path: str) -> File:
    size = os.fstat(descriptor).st_size
    with os.fdopen(os.dup(descriptor), "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        read = file.tell()
    if read != size:
        raise ConfigError("a file of the artifact changed while it was read")
    return File(path=path, size=size, sha256=digest.hexdigest())

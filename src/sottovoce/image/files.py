"""Files of an image, as values: paths without a leading "/", what stands there, and the archive that the kernel unpacks.

An archive has the form that the kernel's documentation calls newc (Documentation/driver-api/early-userspace/buffer-format.rst). The same files give the same bytes: names are sorted,
inodes are counted, and owner and time are 0.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sottovoce.core.errors import DecodeError, UsageError

__all__ = [
    "File",
    "Files",
    "archive",
    "device",
    "directory",
    "link",
    "program",
    "read_archive",
    "regular",
    "write",
]

_LONGEST: Final = 4096
_END: Final = "TRAILER!!!"
_MAGIC: Final = b"070701"
_HEAD: Final = len(_MAGIC) + 13 * 8
_HEX: Final = re.compile(rb"[0-9A-Fa-f]+")
_LARGEST: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class File:
    """What stands at a path: `mode` with its kind; the content, or a link's target; for a device its numbers."""

    mode: int
    content: bytes = field(default=b"", repr=False)
    numbers: tuple[int, int] = (0, 0)


Files = Mapping[str, File]


def regular(content: bytes) -> File:
    """A file that all may read."""
    return File(stat.S_IFREG | 0o444, content)


def program(content: bytes) -> File:
    """A file that all may run."""
    return File(stat.S_IFREG | 0o555, content)


def directory(mode: int = 0o755) -> File:
    """A directory."""
    return File(stat.S_IFDIR | mode)


def link(target: str) -> File:
    """A symbolic link."""
    return File(stat.S_IFLNK | 0o777, target.encode())


def device(major: int, minor: int) -> File:
    """A character device that only root may use."""
    return File(stat.S_IFCHR | 0o600, b"", (major, minor))


def archive(files: Files) -> bytes:
    """The files as one archive; directories that they need are there too.

    Raises:
        UsageError: a path is not one of an image, stands below something that is no directory, or a file is 4 GiB or more.
    """
    whole = _with_parents(files)
    parts = [_entry(number, path, whole[path]) for number, path in enumerate(sorted(whole), 1)]
    return b"".join([*parts, _entry(0, _END, File(0))])


def read_archive(data: bytes) -> dict[str, File]:
    """The files of an archive, to compare it with another one. Whoever made it may be anybody.

    Raises:
        DecodeError: it is none, has a path or a link that an image's has not, a path twice, or something behind its end.
    """
    found: dict[str, File] = {}
    at = 0
    while True:
        head = data[at : at + _HEAD]
        if len(head) != _HEAD or not head.startswith(_MAGIC) or not _HEX.fullmatch(head[len(_MAGIC) :]):
            raise DecodeError("this is no archive of an image")
        numbers = [int(head[n : n + 8], 16) for n in range(len(_MAGIC), _HEAD, 8)]
        mode, size, major, minor, length = numbers[1], numbers[6], numbers[9], numbers[10], numbers[11]
        begin = at + _HEAD
        name = data[begin : begin + length].rstrip(b"\0").decode("utf-8", "replace")
        begin += length + -(_HEAD + length) % 4
        content = data[begin : begin + size]
        if len(content) != size:
            raise DecodeError("the archive of an image is cut off")
        at = begin + size + -size % 4
        if name == _END:
            if at < len(data):
                raise DecodeError("something follows the archive of an image")
            return found
        if not _is_path(name) or name in found or (stat.S_ISLNK(mode) and not _is_target(content)):
            raise DecodeError("the archive of an image has a path that is none")
        found[name] = File(mode, content, (major, minor))


def write(files: Files, place: Path) -> None:
    """Write regular files and links below the folder `place`, which somebody trusts to be empty, and nothing elsewhere.

    Raises:
        UsageError: a path is not one of an image, or stands below something that is no directory.
        OSError: it cannot be written.
    """
    place.mkdir(parents=True, exist_ok=True)
    # What is above a path is a directory, and no link: nothing is written through one.
    for path, file in sorted(_with_parents(files).items()):
        there = place / path
        if stat.S_ISDIR(file.mode):
            there.mkdir(exist_ok=True)
        elif stat.S_ISLNK(file.mode):
            there.symlink_to(file.content.decode())
        else:
            there.write_bytes(file.content)
            there.chmod(stat.S_IMODE(file.mode))


def _with_parents(files: Files) -> dict[str, File]:
    found = dict(files)
    for path in files:
        if not _is_path(path):
            raise UsageError("a file of the image has a path that is none")
        steps = path.split("/")
        for end in range(1, len(steps)):
            above = found.setdefault("/".join(steps[:end]), directory())
            if not stat.S_ISDIR(above.mode):
                raise UsageError("a file of the image stands below something that is no directory")
    return found


def _is_path(path: str) -> bool:
    steps = path.split("/")
    return path.isprintable() and len(path) <= _LONGEST and not any(step in ("", ".", "..") for step in steps)


def _is_target(content: bytes) -> bool:
    text = content.decode("utf-8", "replace")
    return bool(text) and text.isprintable() and text.encode() == content


def _entry(inode: int, path: str, file: File) -> bytes:
    name = path.encode() + b"\0"
    if len(file.content) > _LARGEST:
        raise UsageError("a file of the image is too large for an archive", hint="put it into a volume")
    fields = (inode, file.mode, 0, 0, 1, 0, len(file.content), 0, 0, *file.numbers, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % one for one in fields) + name
    return _padded(head) + _padded(file.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

"""Debian's binary packages, unpacked: none of their scripts is run.

A package is an ar archive with `debian-binary`, `control.tar.*` and `data.tar.*` (deb(5)).
"""

import io
import lzma
import stat
import tarfile
from typing import Final

from sottovoce.core.errors import DecodeError
from sottovoce.image.files import File, directory, link

__all__ = ["PackageError", "unpack"]

_MAGIC: Final = b"!<arch>\n"
_HEAD: Final = 60
_LARGEST: Final = 2 * 1024 * 1024 * 1024
"""Bytes of one package's files, unpacked."""


class PackageError(DecodeError):
    """A file that is no Debian package, or holds what an image cannot."""

    code = "peer.decode.package"


def unpack(data: bytes) -> dict[str, File]:
    """The files of a package, by their paths.

    Raises:
        PackageError: it is none, is compressed in another way than Debian does, or holds a device or a path that leads out of it.
    """
    members = _members(data)
    if members.get("debian-binary", b"")[:2] != b"2.":
        raise PackageError("this is no Debian package")
    packed = members.get("data.tar.xz")
    if packed is None:
        raise PackageError("the package's files are not compressed with xz")
    try:
        with tarfile.open(fileobj=io.BytesIO(_opened(packed)), mode="r:") as archive:
            return _files(archive)
    except (tarfile.TarError, UnicodeError, ValueError):
        raise PackageError("the package's files cannot be read") from None


def _members(data: bytes) -> dict[str, bytes]:
    if not data.startswith(_MAGIC):
        raise PackageError("this is no Debian package")
    found: dict[str, bytes] = {}
    at = len(_MAGIC)
    while at < len(data):
        head = data[at : at + _HEAD]
        size = head[48:58].rstrip(b" ")
        if len(head) != _HEAD or head[58:] != b"`\n" or not size.isdigit():
            raise PackageError("the package is damaged")
        begin, end = at + _HEAD, at + _HEAD + int(size)
        if end > len(data):
            raise PackageError("the package is cut off")
        found[head[:16].decode("ascii", "replace").rstrip(" /")] = data[begin:end]
        at = end + end % 2
    return found


def _opened(packed: bytes) -> bytes:
    opener = lzma.LZMADecompressor(memlimit=_LARGEST)
    try:
        opened = opener.decompress(packed, _LARGEST)
    except lzma.LZMAError:
        raise PackageError("the package's files cannot be read") from None
    if not opener.eof:
        raise PackageError("the package is cut off, or larger than an image may be")
    return opened


def _files(archive: tarfile.TarFile) -> dict[str, File]:
    found: dict[str, File] = {}
    for member in archive:
        path = member.name.removeprefix("./").rstrip("/")
        if path in ("", "."):
            continue
        if any(step in ("", ".", "..") for step in path.split("/")):
            raise PackageError("a file of the package has a path that leads out of it")
        if member.isdir():
            found[path] = directory(member.mode & 0o777)
        elif member.issym():
            found[path] = link(member.linkname)
        elif member.islnk():
            same = found.get(member.linkname.removeprefix("./"))
            if same is None:
                raise PackageError("a file of the package is a link to one that is not there")
            found[path] = same
        elif member.isreg():
            content = archive.extractfile(member)
            found[path] = File(stat.S_IFREG | member.mode & 0o777, content.read() if content else b"")
        else:
            raise PackageError("the package holds a device")
    return found

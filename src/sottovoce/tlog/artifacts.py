"""The digest of an artifact (protocol section 10, docs/artifacts.md): over its name, structure, purpose and contents.

    file     = SHA-256("sottovoce/1 artifact file" ‖ 0x00 ‖ u64 length ‖ SHA-256 of the content)
    folder   = SHA-256("sottovoce/1 artifact folder" ‖ 0x00 ‖ u32 number of members ‖ each member)
    member   = u8 kind (1 file, 2 folder) ‖ u16 length of the name ‖ name ‖ digest of the file or folder
    artifact = SHA-256("sottovoce/1 artifact" ‖ 0x00 ‖ u16 length ‖ purpose ‖ u16 length ‖ name ‖ u8 kind ‖ digest)

Members stand in the order of their names' bytes (UTF-8). Every part has a length before it and every hash a label of its own, so
that no two artifacts give the same bytes to hash. Nothing but files and folders is in it: no links, no owners, times or modes.
"""

import hashlib
import re
import struct
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError, LimitError

__all__ = [
    "MAX_DEPTH",
    "MAX_FILES",
    "NAME",
    "ArtifactFormError",
    "ArtifactLimitError",
    "File",
    "Tree",
    "artifact_digest",
    "check_name",
]

_FILE, _FOLDER = 1, 2
_FILE_LABEL: Final = b"sottovoce/1 artifact file\x00"
_FOLDER_LABEL: Final = b"sottovoce/1 artifact folder\x00"
_ARTIFACT_LABEL: Final = b"sottovoce/1 artifact\x00"
_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""The name of an artifact as a whole, and a purpose: plain ASCII, as they stand in log entries and settings."""
MAX_FILES: Final = 256
"""Files of one artifact: with their names they still fit in a log entry (65,535 bytes)."""
_MAX_NAME: Final = 255
"""Bytes; what file systems take."""
MAX_DEPTH: Final = 8
_MAX_BYTES: Final = 1 << 40


class ArtifactFormError(DecodeError):
    """An artifact that has no digest: a name that is not allowed, a link, two members of one name."""

    code = "peer.decode.artifact"


class ArtifactLimitError(LimitError):
    """An artifact that is larger than the limits allow."""

    code = "peer.limit.artifact"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file: its path in the artifact, its length, and the SHA-256 of its content, hex.

    `path` is empty where the artifact is this one file; else names with "/" between them.
    """

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256) or self.size < 0:
            raise ArtifactFormError("a file of the artifact has a malformed digest or length")
        names = self.path.split("/") if self.path else []
        if len(names) > MAX_DEPTH:
            raise ArtifactLimitError("an artifact has folders nested too deeply")
        for name in names:
            check_name(name)

    def digest(self) -> bytes:
        """32 bytes."""
        content = bytes.fromhex(self.sha256)
        return hashlib.sha256(_FILE_LABEL + _U64.pack(self.size) + content).digest()


def check_name(name: str) -> None:
    """Check the name of a file or folder inside an artifact.

    Raises:
        ArtifactFormError: empty, a dot, with a separator, a control or invisible character, or not in normal form C.
        ArtifactLimitError: longer than 255 bytes.
    """
    if name in {"", ".", ".."} or "/" in name or "\\" in name or name != name.strip():
        raise ArtifactFormError("an artifact has a file name that is not allowed")
    # Controls, formats (among them those that change the direction of writing), surrogates, private use, and what this version of
    # Unicode has not assigned, as its normal form may still change.
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise ArtifactFormError("an artifact has a file name with an invisible or unassigned character")
    if unicodedata.normalize("NFC", name) != name:
        raise ArtifactFormError("an artifact has a file name that is not in normal form C")
    if len(name.encode()) > _MAX_NAME:
        raise ArtifactLimitError("an artifact has a file name that is too long")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of an artifact, in the order of their paths' bytes. It is one file, or a folder without empty folders."""

    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if not self.files:
            raise ArtifactFormError("an artifact without files")
        if len(self.files) > MAX_FILES or self.size > _MAX_BYTES:
            raise ArtifactLimitError("an artifact has too many files, or too many bytes")
        paths = [file.path for file in self.files]
        if "" in paths and len(paths) > 1:
            raise ArtifactFormError("an artifact is one file or a folder, not both")
        if paths != sorted(set(paths), key=str.encode):
            raise ArtifactFormError("the files of an artifact are not in order, or one stands there twice")
        _members(self.files)

    @classmethod
    def of(cls, files: Iterable[File]) -> "Tree":
        """The tree of `files`, which may stand in any order.

        Raises:
            ArtifactFormError, ArtifactLimitError: they are no artifact.
        """
        return cls(files=tuple(sorted(files, key=lambda file: file.path.encode())))

    @property
    def size(self) -> int:
        """Length of all files together."""
        return sum(file.size for file in self.files)

    def digest(self, *, name: str, purpose: str) -> str:
        """The artifact's digest, hex: of this tree under this name and for this purpose.

        Raises:
            ArtifactFormError: a name or purpose outside the grammar.
        """
        if not (NAME.fullmatch(name) and NAME.fullmatch(purpose)):
            raise ArtifactFormError("an artifact has a name or purpose that is not allowed")
        first = self.files[0]
        kind, digest = (_FOLDER, _folder(self.files)) if first.path else (_FILE, first.digest())
        named = _named(purpose) + _named(name) + bytes([kind]) + digest
        return hashlib.sha256(_ARTIFACT_LABEL + named).hexdigest()


def artifact_digest(*, name: str, purpose: str, sha256: str, size: int) -> str:
    """The digest of an artifact that is one file: `size` bytes with this SHA-256, hex.

    Raises:
        ArtifactFormError, ArtifactLimitError: it is no artifact.
    """
    return Tree(files=(File(path="", size=size, sha256=sha256),)).digest(name=name, purpose=purpose)


def _named(name: str) -> bytes:
    data = name.encode()
    return _U16.pack(len(data)) + data


def _members(files: Iterable[File]) -> dict[str, list[File] | File]:
    """What a folder holds, by name: a file, or the files of a folder with paths from there.

    Raises:
        ArtifactFormError: two members whose names a file system may take for one, or a file that is also a folder.
    """
    found: dict[str, list[File] | File] = {}
    for file in files:
        name, below, rest = file.path.partition("/")
        if not below:
            if name in found:
                raise ArtifactFormError("an artifact has a file and a folder of one name")
            found[name] = file
            continue
        folder = found.setdefault(name, [])
        if isinstance(folder, File):
            raise ArtifactFormError("an artifact has a file and a folder of one name")
        folder.append(File(path=rest, size=file.size, sha256=file.sha256))
    if len({unicodedata.normalize("NFC", name.casefold()) for name in found}) != len(found):
        raise ArtifactFormError("an artifact has two names that differ in upper and lower case only")
    for member in found.values():
        if not isinstance(member, File):
            _members(member)
    return found


def _folder(files: Iterable[File]) -> bytes:
    members = _members(files)
    data = _FOLDER_LABEL + _U32.pack(len(members))
    for name in sorted(members, key=str.encode):
        member = members[name]
        if isinstance(member, File):
            data += bytes([_FILE]) + _named(name) + member.digest()
        else:
            data += bytes([_FOLDER]) + _named(name) + _folder(member)
    return hashlib.sha256(data).digest()

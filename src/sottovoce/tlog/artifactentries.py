"""Artifacts in the log: as an entry of their own, and in a release's list (protocol section 10)."""

import re
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError
from sottovoce.tlog.artifacts import MAX_FILES, NAME, File, Tree
from sottovoce.tlog.members import SHA256, Members, open_entry

__all__ = ["Artifact", "ArtifactEntry"]

_VISIBILITY: Final = re.compile(r"public|private")
_PATH: Final = re.compile(r"[^\x00-\x1f]{0,2048}")
"""A path in an artifact; what is allowed in it, `tlog.artifacts` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What a release starts with, such as model weights: by its digest over name, structure, purpose and contents."""

    name: str
    purpose: str
    digest: str
    bytes: int

    @classmethod
    def read(cls, value: Any) -> "Artifact":
        """What a release has in its list.

        Raises:
            DecodeError: malformed.
        """
        reader = Members(value, "artifact")
        artifact = cls(
            name=reader.text("name", NAME),
            purpose=reader.text("purpose", NAME),
            digest=reader.text("digest", SHA256),
            bytes=reader.integer("bytes"),
        )
        reader.end()
        return artifact

    def members(self) -> dict[str, str | int]:
        """The members as they stand in a release."""
        return {"name": self.name, "purpose": self.purpose, "digest": self.digest, "bytes": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactEntry:
    """The log's own entry of an artifact: with its files where it is public, by its digest alone where it is private.

    Attributes:
        digest: as `tlog.artifacts` defines it, hex.
        size: length of all files together.
        tree: its files; None where it is private.
    """

    name: str
    purpose: str
    digest: str
    size: int
    tree: Tree | None

    def __post_init__(self) -> None:
        if self.tree is not None and (self.digest, self.size) != (
            self.tree.digest(name=self.name, purpose=self.purpose),
            self.tree.size,
        ):
            raise DecodeError("the artifact's files do not give its digest or length")

    @classmethod
    def of(cls, tree: Tree, *, name: str, purpose: str, public: bool) -> "ArtifactEntry":
        """The entry of an artifact with these files."""
        digest = tree.digest(name=name, purpose=purpose)
        shown = tree if public else None
        return cls(name=name, purpose=purpose, digest=digest, size=tree.size, tree=shown)

    @classmethod
    def parse(cls, data: bytes) -> "ArtifactEntry":
        """Parse a log entry.

        Raises:
            EntryKindError: an entry of another kind.
            DecodeError: malformed, or with files that do not give its digest.
        """
        reader = open_entry(data, "artifact")
        public = reader.text("visibility", _VISIBILITY) == "public"
        files = tuple(map(_file, reader.items("files", MAX_FILES)))
        if bool(files) != public:
            raise DecodeError("a public artifact names its files, a private one none")
        entry = cls(
            name=reader.text("name", NAME),
            purpose=reader.text("purpose", NAME),
            digest=reader.text("digest", SHA256),
            size=reader.integer("bytes"),
            tree=Tree(files=files) if public else None,
        )
        reader.end()
        return entry

    def encode(self) -> bytes:
        """The log entry."""
        files = self.tree.files if self.tree else ()
        return canonical.encode(
            {
                "kind": "artifact",
                "name": self.name,
                "purpose": self.purpose,
                "digest": self.digest,
                "bytes": self.size,
                "visibility": "public" if self.tree else "private",
                "files": [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in files],
            }
        )

    def listed(self) -> Artifact:
        """The artifact as a release lists it."""
        return Artifact(name=self.name, purpose=self.purpose, digest=self.digest, bytes=self.size)


def _file(value: Any) -> File:
    reader = Members(value, "file")
    file = File(
        path=reader.text("path", _PATH),
        size=reader.integer("bytes"),
        sha256=reader.text("sha256", SHA256),
    )
    reader.end()
    return file

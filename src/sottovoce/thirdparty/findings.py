"""What a monitor has to say, and the rules for entries: sans-IO, one entry after the other in the order of the log."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.core.errors import DecodeError, PeerError
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.entries import Directory, Host, Release
from sottovoce.tlog.members import kind_of

__all__ = ["CODES", "Book", "Finding", "Use"]

CODES: Final = {
    "fork": "The log has signed two histories. Both tree heads are kept as proof.",
    "checkpoint-unproved": "A tree head that the log has signed for somebody is larger than what it shows here, and nobody has the files of it: nothing proves the two to be of one history.",
    "rolled-back": "The log shows an earlier tree head than one that it has shown before.",
    "checkpoint-invalid": "What is shown as tree head is malformed, of another log, or not signed by it.",
    "checkpoint-late": "The quorum of witnesses was reached too long ago: devices refuse this tree head, or soon will.",
    "quorum": "Fewer witnesses than devices ask for have cosigned the tree head.",
    "witness-late": "A witness has not cosigned the tree head, or too long ago.",
    "tile-missing": "A file of the log is not there.",
    "tile-mismatch": "A file of the log is not what the signed tree head stands for.",
    "entry-malformed": "An entry is not canonical JSON, or not what its kind asks for.",
    "entry-kind": "An entry is of a kind that there is not.",
    "directory-twice": "There are two directories for one epoch: devices could be told apart by the one that they get.",
    "directory-log": "A directory names another log than the one that it is in.",
    "artifact-unlogged": "A release starts with an artifact that has no entry of its own.",
    "artifact-missing": "A public artifact cannot be had.",
    "artifact-mismatch": "A public artifact is not what the log says.",
    "release-expired": "A release was used after it had expired.",
    "release-unlogged": "A release was used that is not in the log.",
    "source-unreachable": "Another source of tree heads does not answer.",
}
"""Stable code → what it means."""
_PARSERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "release": Release.parse,
    "directory": Directory.parse,
    "host": Host.parse,
    "artifact": ArtifactEntry.parse,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be.

    Attributes:
        code: one of `CODES`.
        text: what was found; numbers, names of keys and files, never a peer's free text.
        index: of the entry, where it is about one.
        size: of the tree head, where it is about one.
    """

    code: str
    text: str
    index: int | None = None
    size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {
            "code": self.code,
            "text": self.text,
            "meaning": CODES[self.code],
            "index": self.index,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """That a device was shown this release (its log entry), at this time (unix seconds): from a device's report."""

    release: bytes
    time: int


class Book:
    """What the entries say, in the order of the log."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.counts: Counter[str] = Counter()
        self.findings: list[Finding] = []
        """Of what is in the log: they never go away."""
        self.artifacts: dict[int, ArtifactEntry] = {}
        """Public ones, by index."""
        self._digests: set[str] = set()
        self._releases: dict[str, tuple[int, Release]] = {}
        self._directories: dict[int, int] = {}

    def add(self, index: int, entry: bytes) -> None:
        """Read entry number `index`."""
        try:
            kind = kind_of(entry)
        except DecodeError:
            self._find("entry-malformed", f"entry {index} is not canonical JSON with a kind", index)
            return
        parse = _PARSERS.get(kind)
        if parse is None:
            self._find("entry-kind", f"entry {index} is of an unknown kind", index)
            return
        self.counts[kind] += 1
        try:
            value = parse(entry)
        except PeerError as error:
            self._find("entry-malformed", f"entry {index}, of the kind {kind}: {error}", index)
            return
        if isinstance(value, Release):
            self._releases[hashlib.sha256(entry).hexdigest()] = index, value
        elif isinstance(value, Directory):
            self._directory(index, value)
        elif isinstance(value, ArtifactEntry):
            self._digests.add(value.digest)
            if value.tree is not None:
                self.artifacts[index] = value

    def _directory(self, index: int, directory: Directory) -> None:
        epoch = directory.epoch
        if epoch in self._directories:
            first = self._directories[epoch]
            self._find(
                "directory-twice", f"entries {first} and {index} are directories of epoch {epoch}", index
            )
        self._directories.setdefault(epoch, index)
        if directory.log_origin != self._origin:
            self._find("directory-log", f"entry {index} names another log", index)

    def _find(self, code: str, text: str, index: int) -> None:
        self.findings.append(Finding(code=code, text=text, index=index))

    def unlogged(self) -> Iterator[Finding]:
        """Artifacts of releases that have no entry, as of now: it may stand behind its release."""
        for index, release in self._releases.values():
            for artifact in release.artifacts:
                if artifact.digest not in self._digests:
                    text = f"entry {index} starts with {artifact.name} ({artifact.purpose}), which no entry describes"
                    yield Finding(code="artifact-unlogged", text=text, index=index)

    def used(self, uses: list[Use]) -> Iterator[Finding]:
        """Releases that devices were shown after they had expired, or that are not here."""
        said = set()
        for use in uses:
            digest = hashlib.sha256(use.release).hexdigest()
            known = self._releases.get(digest)
            if known is None:
                code, index = "release-unlogged", None
                text = f"the release with the digest {digest[:16]}… is not in the log"
            elif use.time >= known[1].expires:
                code, index = "release-expired", known[0]
                text = f"entry {index}, {known[1].role} {known[1].version}, was used after it had expired"
            else:
                continue
            if (code, digest) not in said:
                said.add((code, digest))
                yield Finding(code=code, text=text, index=index)

"""How earlier tree heads lead to the newest one: one file beside the directory, the same for every device.

    sottovoce/1 consistency
    <origin>
    <size>
    <root hash, base64>
    <empty line>
    old <size>                          for each earlier tree head that was published, the smallest first:
    <consistency proof, one base64 hash a line>

A device that asked for "the proof from size N" would tell when it was here last. So all get the proofs from all the heads that the
operator has published, and each takes the one that it needs.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sottovoce.core.errors import CryptoError, DecodeError
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.policy import OriginError

__all__ = [
    "MAX_HEADS",
    "ForkError",
    "History",
    "NotListedError",
    "TreeHead",
    "UnprovedForkError",
    "require_one_log",
]

_HEADER: Final = "sottovoce/1 consistency"
_OLD: Final = re.compile(r"old ([1-9][0-9]{0,18})")
_LIMIT: Final = 512 * 1024
MAX_HEADS: Final = 64
_MAX_PATH: Final = 64
_HEAD_LINES: Final = 4


class ForkError(CryptoError):
    """The log has signed two histories. The two tree heads are the proof of it; the text has their sizes."""

    code = "peer.crypto.fork"


class UnprovedForkError(ForkError):
    """The log has signed two histories, or the consistency file is wrong: nobody signs that, so the mirror alone could have spoilt it."""


class NotListedError(CryptoError):
    """The file has no proof from the one tree head to the other."""

    code = "peer.crypto.consistency"


class TreeHead(Protocol):
    """A checkpoint, verified or not."""

    @property
    def origin(self) -> str:
        """The log."""

    @property
    def size(self) -> int:
        """Its entries."""

    @property
    def root(self) -> bytes:
        """32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A tree head, and the consistency proofs that lead to it, by the size that they begin with. Nothing is verified yet."""

    head: Checkpoint
    paths: Mapping[int, tuple[bytes, ...]]

    def __post_init__(self) -> None:
        sizes = list(self.paths)
        if self.head.extensions or sizes != sorted(sizes) or len(sizes) > MAX_HEADS:
            raise DecodeError("the consistency file is not in its one form")
        if any(not 0 < size < self.head.size for size in sizes):
            raise DecodeError("the consistency file has a size outside the tree")

    @classmethod
    def of(cls, origin: str, leaves: Sequence[bytes], sizes: Iterable[int]) -> "History":
        """Of the log with these leaf hashes, from its heads of these sizes; the newest 64 of them."""
        head = Checkpoint(origin=origin, size=len(leaves), root=merkle.tree_head(leaves))
        known = sorted({size for size in sizes if 0 < size < len(leaves)})[-MAX_HEADS:]
        return cls(head=head, paths={size: tuple(merkle.consistency_proof(leaves, size)) for size in known})

    @classmethod
    def parse(cls, data: bytes) -> "History":
        """Parse the file.

        Raises:
            DecodeError: malformed, or longer than 512 KiB.
        """
        if len(data) > _LIMIT:
            raise DecodeError("the consistency file is longer than its limit")
        try:
            lines = data.decode().split("\n")
        except UnicodeDecodeError:
            raise DecodeError("the consistency file is not UTF-8") from None
        if len(lines) <= _HEAD_LINES or lines[0] != _HEADER or lines[_HEAD_LINES]:
            raise DecodeError("this is not a consistency file")
        head = Checkpoint.parse("".join(f"{line}\n" for line in lines[1:_HEAD_LINES]))
        history = cls(head=head, paths=_paths(lines[_HEAD_LINES + 1 :]))
        if history.encode() != data:
            raise DecodeError("the consistency file is not in its one form")
        return history

    def encode(self) -> bytes:
        """The file."""
        lines = [_HEADER, *self.head.encode().splitlines(), ""]
        for size, path in self.paths.items():
            lines += [f"old {size}", *(base64.b64encode(node).decode() for node in path)]
        return "".join(f"{line}\n" for line in lines).encode()

    def require(self, old: TreeHead, new: TreeHead) -> None:
        """Check that the log of `new` continues that of `old`.

        Raises:
            ForkError: they are of one size, and differ.
            UnprovedForkError: the proof in this file does not hold.
            NotListedError: this file says nothing about the two.
        """
        if old.size > new.size:
            old, new = new, old
        if (new.origin, new.size, new.root) != (self.head.origin, self.head.size, self.head.root):
            raise NotListedError("the consistency file is of another tree head")
        if old.origin != new.origin or old.size not in {0, new.size, *self.paths}:
            raise NotListedError("the consistency file has no proof from that tree head")
        try:
            require_one_log(old, new, self.paths.get(old.size, ()))
        except ForkError as error:
            if old.size == new.size:
                raise
            raise UnprovedForkError(f"{error}; or the mirror's consistency file is wrong") from None


def require_one_log(old: TreeHead, new: TreeHead, path: Sequence[bytes]) -> None:
    """Check that the log of `new`, which is not smaller, continues that of `old`, by this consistency proof.

    Raises:
        OriginError: they are of two logs, which says nothing about either.
        ForkError: it does not; the text says which sizes.
    """
    if old.origin != new.origin:
        raise OriginError("the two tree heads are of two logs")
    if old.size == new.size:
        if old.root != new.root:
            raise ForkError(f"the log is forked: it has signed two tree heads of size {old.size}")
        return
    if old.size == 0:
        return  # any tree continues the empty one
    try:
        merkle.verify_consistency(
            old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path
        )
    except merkle.ConsistencyError:
        raise ForkError(
            f"the log is forked: its tree head of size {new.size} does not continue the one of size {old.size}"
        ) from None


def _paths(lines: list[str]) -> dict[int, tuple[bytes, ...]]:
    found: dict[int, list[bytes]] = {}
    path: list[bytes] = []
    if not lines or lines.pop():
        raise DecodeError("the consistency file is cut short")
    for line in lines:
        old = _OLD.fullmatch(line)
        if old:
            path = found.setdefault(int(old[1]), [])
        elif not found or len(path) >= _MAX_PATH:
            raise DecodeError("the consistency file is malformed")
        else:
            path.append(_hash(line))
    return {size: tuple(nodes) for size, nodes in found.items()}


def _hash(line: str) -> bytes:
    try:
        value = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != merkle.HASH:
        raise DecodeError("a hash of the consistency file is malformed")
    return value

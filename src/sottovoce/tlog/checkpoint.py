"""Checkpoints (C2SP tlog-checkpoint): the text of a log's signed tree head.

<origin>
<tree size, decimal>
<root hash, base64>
<extension lines, if any>
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError
from sottovoce.tlog.merkle import EMPTY_ROOT, HASH

__all__ = ["Checkpoint"]

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES: Final = 3
_MAX_SIZE: Final = (1 << 63) - 1
"""The specification has no limit; no other implementation reads more than a signed 64-bit number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's name, its number of entries, and the tree head over them (32 bytes)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, *, empty_root: bool = True) -> "Checkpoint":
        """Parse a checkpoint's text.

        `empty_root=False` leaves out that an empty tree has the empty tree's root: a witness looks at other things first.

        Raises:
            DecodeError: malformed, or an empty tree with another root.
        """
        lines = text.split("\n")
        if len(lines) <= _LINES or lines.pop() or not all(lines) or not _SIZE.fullmatch(lines[1]):
            raise DecodeError("this is not a checkpoint")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except (binascii.Error, ValueError):
            raise DecodeError("the checkpoint's root is not base64") from None
        checkpoint = cls(origin=lines[0], size=int(lines[1]), root=root, extensions=tuple(lines[_LINES:]))
        if len(root) != HASH or checkpoint.size > _MAX_SIZE or checkpoint.encode() != text:
            raise DecodeError("the checkpoint is not in its one form")
        if empty_root and not checkpoint.rooted:
            raise DecodeError("the checkpoint of an empty log has another root")
        return checkpoint

    @property
    def rooted(self) -> bool:
        """Whether the root is the one that an empty tree has, if the tree is empty."""
        return self.size > 0 or self.root == EMPTY_ROOT

    def encode(self) -> str:
        """The text, newline included."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

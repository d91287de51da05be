"""Names of the directory's files, at a mirror and through a relay (protocol section 3).

    directory-<epoch>.note    the document and its signature
    directory-<epoch>.proof   its tlog-proof, under a tree head that is made anew every few hours
    directory.consistency     how earlier tree heads lead to the newest one; consistency-<size> to the one of that size

A document is asked for by its epoch, which every device knows from its clock. So the next one can be there long before its day begins, at all
mirrors, and no moment exists in which one way gives the old one and another way the new one.
"""

import re
from typing import Final

from sottovoce.core.errors import UsageError

__all__ = [
    "HISTORY",
    "file_epoch",
    "history_name",
    "history_size",
    "is_note",
    "is_public",
    "note_epoch",
    "note_name",
    "proof_name",
]

HISTORY: Final = "directory.consistency"
_NOTE: Final = re.compile(r"directory-(0|[1-9][0-9]{0,6})\.note")
_PUBLIC: Final = re.compile(r"directory-(0|[1-9][0-9]{0,6})\.(note|proof)")
_HISTORY: Final = re.compile(r"consistency-([1-9][0-9]{0,18})")


def note_name(epoch: int) -> str:
    """The signed document of `epoch`."""
    return f"directory-{epoch}.note"


def proof_name(epoch: int) -> str:
    """Its inclusion proof."""
    return f"directory-{epoch}.proof"


def history_name(size: int) -> str:
    """The consistency file that leads to the tree head of `size`."""
    return f"consistency-{size}"


def note_epoch(name: str) -> int | None:
    """The epoch whose document is called `name`; None if it is no document's name."""
    match = _NOTE.fullmatch(name)
    return int(match[1]) if match else None


def history_size(name: str) -> int | None:
    """The size of the tree head whose consistency file is called `name`; None if it is none."""
    match = _HISTORY.fullmatch(name)
    return int(match[1]) if match else None


def is_note(name: str) -> bool:
    """Whether `name` is a document's."""
    return note_epoch(name) is not None


def file_epoch(name: str) -> int:
    """The epoch of a document's or a proof's name (`is_public`).

    Raises:
        UsageError: it is neither.
    """
    match = _PUBLIC.fullmatch(name)
    if match is None:
        raise UsageError("not the name of a directory or of its proof")
    return int(match[1])


def is_public(name: str) -> bool:
    """Whether a relay gives the file called `name` to devices: documents and their proofs."""
    return _PUBLIC.fullmatch(name) is not None

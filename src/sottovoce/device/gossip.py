"""Gossip: what two devices were shown as tree head of the log, compared by a way that the operator does not carry.

One exports the tree head that it holds, the other one compares it with its own. Two of one size must be the same; a larger one must
continue the smaller, which the log's public files prove.
"""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import ConfigError, PeerError
from sottovoce.device.directory import LastSeen
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.history import ForkError, History, TreeHead
from sottovoce.tlog.note import Note
from sottovoce.tlog.policy import LogPolicy, OriginError
from sottovoce.tlog.proof import Proof

__all__ = ["compare", "exported", "signed_head"]

_LIMIT: Final = 4 * 1024 * 1024


class _Kept(msgspec.Struct, frozen=True):
    proof: str


def exported(kept: Path) -> bytes:
    """The tree head under which this device holds its directory: a signed note, with the witnesses' cosignatures.

    Raises:
        ConfigError: it holds none.
    """
    try:
        record = msgspec.json.decode(kept.read_bytes()[:_LIMIT], type=_Kept)
        return Proof.parse(base64.b64decode(record.proof, validate=True)).note.encode()
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error, PeerError):
        hint = "`sottovoce wallet refill` fetches one"
        raise ConfigError("this device holds no directory, and so no tree head", hint=hint) from None


def signed_head(note: Note, policy: LogPolicy) -> Checkpoint:
    """The tree head in `note`, if the pinned log has signed it; witnesses are not asked for: a fork is one without them too.

    Raises:
        DecodeError: it is none.
        OriginError, SignatureError: of another log, or not signed by it.
    """
    head = Checkpoint.parse(note.text)
    if head.origin != policy.origin or not note.signed_by(policy.log_key):
        raise OriginError("the tree head is of another log, or not signed by the pinned one")
    return head


def compare(other: Checkpoint, last: LastSeen, leaves: Sequence[bytes]) -> str:
    """What is proved of another device's tree head and this one's; `leaves` are the log's leaf hashes, as its files have them.

    Raises:
        OriginError: they are of two logs, which says nothing about either.
        ForkError: the log has signed two histories.
        ConfigError: the files given do not reach the larger tree head, so that nothing is proved.
    """
    seen = last.checkpoint
    if other.origin != seen.origin:
        raise OriginError("the two tree heads are of two logs")
    heads: list[TreeHead] = sorted((other, seen), key=lambda head: head.size)
    small, large = heads
    if small.size == large.size:
        if small.root != large.root:
            raise ForkError(f"the log is forked: it has signed two tree heads of size {small.size}")
        return f"both hold the same tree head, of size {small.size}"
    if merkle.tree_head(leaves[: large.size]) != large.root or len(leaves) < large.size:
        # Every log continues the empty tree head, so files that do are no proof.
        if small.size and merkle.tree_head(leaves[: small.size]) == small.root and len(leaves) >= large.size:
            raise ForkError(
                f"the log is forked: its files continue the tree head of size {small.size}, and not the one of size {large.size}"
            )
        raise ConfigError("the log's files do not give the larger tree head, so that nothing is proved")
    History.of(large.origin, leaves[: large.size], (small.size,)).require(small, large)
    return f"the tree head of size {large.size} continues the one of size {small.size}"

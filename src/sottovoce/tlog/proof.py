"""Offline proofs that an entry is in the log (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
extra <base64>                      optional; refused here, as nothing of ours uses it
index <decimal>
<inclusion proof, one base64 hash a line>
<empty line>
<checkpoint, signed and cosigned>
"""

import base64
import binascii
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError
from sottovoce.tlog.merkle import HASH, leaf_hash, verify_inclusion
from sottovoce.tlog.note import Note
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint

__all__ = ["LoggedEntry", "Proof", "encode_proof", "verify_proof"]

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MAX_PROOF: Final = 16 * 1024
_MAX_PATH: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """An entry that is proved to be in the log. Only `verify_proof` makes it."""

    entry: bytes
    index: int
    checkpoint: VerifiedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A parsed proof; nothing is verified yet."""

    index: int
    path: tuple[bytes, ...]
    note: Note

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        """Parse a tlog-proof.

        Raises:
            DecodeError: malformed, or with extra data.
        """
        if len(data) > _MAX_PROOF:
            raise DecodeError("the log proof is longer than its limit")
        head, found, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise DecodeError("this is not a log proof") from None
        index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if not found or lines[0] != _HEADER or index is None or len(lines) > _MAX_PATH + 2:
            raise DecodeError("this is not a log proof")
        return cls(index=int(index[1]), path=tuple(map(_hash, lines[2:])), note=_note(checkpoint))


# All the proofs of one session, and of the next ones, stand under the same few checkpoints; failures are not kept.
@functools.lru_cache(maxsize=32)
def _note(checkpoint: bytes) -> Note:
    return Note.parse(checkpoint)


def _hash(line: str) -> bytes:
    try:
        value = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != HASH or base64.b64encode(value).decode() != line:
        raise DecodeError("a hash of the log proof is malformed")
    return value


def encode_proof(*, index: int, path: Sequence[bytes], checkpoint: Note) -> bytes:
    """The proof as text."""
    lines = [_HEADER, f"index {index}", *(base64.b64encode(node).decode() for node in path), "", ""]
    return "\n".join(lines).encode() + checkpoint.encode()


def verify_proof(proof: bytes, entry: bytes, policy: LogPolicy, *, now: int | None) -> LoggedEntry:
    """The entry, if it is in the pinned log and a quorum of witnesses saw that log.

    `now` is unix seconds; None leaves out the checkpoint's age only.

    Raises:
        DecodeError: malformed.
        OriginError, SignatureError, QuorumError, CheckpointAgeError: see `LogPolicy.verify_checkpoint`.
        InclusionError: the entry is not in the tree.
    """
    parsed = Proof.parse(proof)
    checkpoint = policy.verify_checkpoint(parsed.note, now=now)
    verify_inclusion(
        leaf=leaf_hash(entry),
        index=parsed.index,
        size=checkpoint.size,
        path=parsed.path,
        root=checkpoint.root,
    )
    return LoggedEntry(entry=entry, index=parsed.index, checkpoint=checkpoint)

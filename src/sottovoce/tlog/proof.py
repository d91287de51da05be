"""Offline proofs that an entry is in the log (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
extra <base64>                      optional; read, and refused by `verify_proof`, as nothing of ours uses it
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
_EXTRA: Final = "extra "
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
    extra: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        """Parse a tlog-proof.

        Raises:
            DecodeError: malformed.
        """
        if len(data) > _MAX_PROOF:
            raise DecodeError("the log proof is longer than its limit")
        head, found, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise DecodeError("this is not a log proof") from None
        extra = _extra(lines.pop(1)) if len(lines) > 1 and lines[1].startswith(_EXTRA) else None
        index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if not found or lines[0] != _HEADER or index is None or len(lines) > _MAX_PATH + 2:
            raise DecodeError("this is not a log proof")
        path = tuple(map(_hash, lines[2:]))
        return cls(index=int(index[1]), path=path, note=_note(checkpoint), extra=extra)


# All the proofs of one session, and of the next ones, stand under the same few checkpoints; failures are not kept.
@functools.lru_cache(maxsize=32)
def _note(checkpoint: bytes) -> Note:
    return Note.parse(checkpoint)


def _base64(line: str) -> bytes:
    try:
        value = binascii.a2b_base64(line, strict_mode=True)
    except (binascii.Error, ValueError):
        value = b""
    if binascii.b2a_base64(value, newline=False).decode() != line:
        raise DecodeError("a line of the log proof is malformed")
    return value


def _extra(line: str) -> bytes:
    return _base64(line.removeprefix(_EXTRA))


def _hash(line: str) -> bytes:
    value = _base64(line)
    if len(value) != HASH:
        raise DecodeError("a hash of the log proof is malformed")
    return value


def encode_proof(*, index: int, path: Sequence[bytes], checkpoint: Note, extra: bytes | None = None) -> bytes:
    """The proof as text."""
    more = [] if extra is None else [_EXTRA + base64.b64encode(extra).decode()]
    lines = [_HEADER, *more, f"index {index}", *(base64.b64encode(node).decode() for node in path), "", ""]
    return "\n".join(lines).encode() + checkpoint.encode()


def verify_proof(proof: bytes, entry: bytes, policy: LogPolicy, *, now: int | None) -> LoggedEntry:
    """The entry, if it is in the pinned log and a quorum of witnesses saw that log.

    `now` is unix seconds; None leaves out the checkpoint's age only.

    Raises:
        DecodeError: malformed, or with extra data: it is not signed by anybody, so an operator could mark a device with it.
        OriginError, SignatureError, QuorumError, CheckpointAgeError: see `LogPolicy.verify_checkpoint`.
        InclusionError: the entry is not in the tree.
    """
    logged = _included(proof, entry, policy)
    if now is not None:
        policy.require_fresh(logged.checkpoint, now=now)
    return logged


# A device meets the same few hosts and releases again and again. Nothing in a proof changes with time but the age of its
# checkpoint, which is left to the caller; failures are not kept.
@functools.lru_cache(maxsize=64)
def _included(proof: bytes, entry: bytes, policy: LogPolicy) -> LoggedEntry:
    parsed = Proof.parse(proof)
    if parsed.extra is not None:
        raise DecodeError("the log proof has extra data, of which nothing here knows what it means")
    head = policy.verify_checkpoint(parsed.note, now=None)
    verify_inclusion(
        leaf=leaf_hash(entry), index=parsed.index, size=head.size, path=parsed.path, root=head.root
    )
    return LoggedEntry(entry=entry, index=parsed.index, checkpoint=head)

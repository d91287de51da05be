"""Whom a verifier believes about a log: its key, and how many of which witnesses."""

import functools
from dataclasses import dataclass

from sottovoce.core.errors import CryptoError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, ED25519, Note, VerifierKey

__all__ = ["CheckpointAgeError", "LogPolicy", "OriginError", "QuorumError", "VerifiedCheckpoint"]

_FUTURE: int = 300
"""Seconds by which a witness's clock may be ahead of ours."""


class OriginError(CryptoError):
    """The checkpoint is not of the pinned log, or the log's signature is missing."""

    code = "peer.crypto.log"


class QuorumError(CryptoError):
    """Fewer pinned witnesses than required have cosigned the checkpoint."""

    code = "peer.crypto.quorum"


class CheckpointAgeError(CryptoError):
    """The checkpoint is too old, or from the future."""

    code = "peer.crypto.checkpoint-age"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCheckpoint:
    """A checkpoint that a policy has accepted. Only `LogPolicy.verify_checkpoint` makes it.

    Attributes:
        time: when the quorum was reached: the quorum-th newest cosignature, unix seconds. One witness with a
            wrong clock can then make a checkpoint look no newer than the others say.
    """

    origin: str
    size: int
    root: bytes
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """The pinned log and witnesses. A policy without witnesses cannot be written down."""

    origin: str
    log_key: VerifierKey
    witnesses: tuple[VerifierKey, ...]
    quorum: int
    max_age: int = LIMITS.checkpoint_age

    def __post_init__(self) -> None:
        if not self.origin or self.log_key.kind != ED25519:
            raise UsageError("a log policy needs an origin and the log's note key")
        if any(key.kind != COSIGNATURE for key in self.witnesses):
            raise UsageError("a witness needs a cosignature key")
        if len({key.public for key in self.witnesses}) != len(self.witnesses):
            raise UsageError("a witness is listed twice")
        if not 1 <= self.quorum <= len(self.witnesses):
            raise UsageError("the quorum must be at least 1 and at most the number of witnesses")

    def signed_head(self, note: Note) -> Checkpoint:
        """The tree head in `note`, if the log signed it; no witness is asked for, and no age.

        Raises:
            DecodeError: not a checkpoint.
            OriginError: another log, or not signed by the pinned one.
            SignatureError: a signature of the log's key that does not verify.
        """
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != self.origin:
            raise OriginError("the checkpoint is of another log")
        if not note.signed_by(self.log_key):
            raise OriginError("the checkpoint is not signed by the pinned log")
        return checkpoint

    def verify_checkpoint(self, note: Note, *, now: int | None) -> VerifiedCheckpoint:
        """The checkpoint in `note`, if the log signed it and a quorum of witnesses saw it.

        `now` is unix seconds; None leaves out the age only (a CVM has no trusted clock; the device checks).

        Raises:
            DecodeError: not a checkpoint.
            OriginError: another log, or not signed by the pinned one.
            SignatureError: a signature of a pinned key that does not verify.
            QuorumError: too few witnesses.
            CheckpointAgeError: older than `max_age`, or from the future.
        """
        checkpoint = _verified(self, note)
        if now is not None:
            self.require_fresh(checkpoint, now=now)
        return checkpoint

    def require_fresh(self, checkpoint: VerifiedCheckpoint, *, now: int) -> None:
        """Check that the quorum was reached at most `max_age` seconds before `now`.

        Raises:
            CheckpointAgeError: older, or from the future.
        """
        if not now - self.max_age <= checkpoint.time <= now + _FUTURE:
            raise CheckpointAgeError("the checkpoint is too old, or from the future")


# All the proofs of one session, and of the next ones, stand under the same few checkpoints. Signatures do not change with
# time, so what was verified once for this policy stays verified; failures are not kept.
@functools.lru_cache(maxsize=32)
def _verified(policy: LogPolicy, note: Note) -> VerifiedCheckpoint:
    checkpoint = policy.signed_head(note)
    times = [time for key in policy.witnesses if (time := note.cosigned_at(key)) is not None]
    if len(times) < policy.quorum:
        raise QuorumError("too few pinned witnesses have cosigned the checkpoint")
    time = sorted(times, reverse=True)[policy.quorum - 1]
    return VerifiedCheckpoint(origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root, time=time)

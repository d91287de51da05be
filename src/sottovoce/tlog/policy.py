"""Whom a verifier believes about a log: its key, and how many of which witnesses."""

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
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != self.origin:
            raise OriginError("the checkpoint is of another log")
        if not note.signed_by(self.log_key):
            raise OriginError("the checkpoint is not signed by the pinned log")
        times = [time for key in self.witnesses if (time := note.cosigned_at(key)) is not None]
        if len(times) < self.quorum:
            raise QuorumError("too few pinned witnesses have cosigned the checkpoint")
        time = sorted(times, reverse=True)[self.quorum - 1]
        if now is not None and not now - self.max_age <= time <= now + _FUTURE:
            raise CheckpointAgeError("the checkpoint is too old, or from the future")
        return VerifiedCheckpoint(
            origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root, time=time
        )

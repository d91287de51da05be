"""A transparency log with two witnesses in memory, for tests and attacks."""

from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.proof import encode_proof

__all__ = ["MemoryLog"]


class MemoryLog:
    """Appends entries and proves them, cosigned by both witnesses."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.key = SigningKey.generate(origin)
        self.witnesses: tuple[SigningKey, ...] = tuple(
            SigningKey.generate(f"witness.example/{name}", COSIGNATURE) for name in ("one", "two")
        )
        self.leaves: list[bytes] = []

    def append(self, entry: bytes) -> int:
        """Append `entry`; returns its index."""
        self.leaves.append(merkle.leaf_hash(entry))
        return len(self.leaves) - 1

    def checkpoint(self, *, now: int) -> Note:
        """The signed and cosigned tree head."""
        head = Checkpoint(origin=self.origin, size=len(self.leaves), root=merkle.tree_head(self.leaves))
        note = sign_note(head.encode(), [self.key])
        cosignatures = (witness.cosign(note.text, time=now) for witness in self.witnesses)
        return Note(text=note.text, signatures=(*note.signatures, *cosignatures))

    def proof(self, index: int, *, now: int) -> bytes:
        """A tlog-proof of entry `index` under the newest checkpoint."""
        path = merkle.inclusion_proof(self.leaves, index)
        return encode_proof(index=index, path=path, checkpoint=self.checkpoint(now=now))

    def policy(self, *, quorum: int = 2) -> LogPolicy:
        """The policy that pins this log and its witnesses."""
        return LogPolicy(
            origin=self.origin,
            log_key=self.key.verifier,
            witnesses=tuple(witness.verifier for witness in self.witnesses),
            quorum=quorum,
        )

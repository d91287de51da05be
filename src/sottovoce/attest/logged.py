"""Steps 9, 10 and 12: what the evidence shows from the log, and whether it is all of one log."""

from collections.abc import Callable
from typing import TypeVar

from sottovoce.attest.evidence import Logged
from sottovoce.attest.verdict import Checklist, quietly
from sottovoce.core.errors import PeerError
from sottovoce.tlog.history import ForkError, History, NotListedError
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint
from sottovoce.tlog.proof import LoggedEntry, verify_proof

__all__ = ["LogSteps"]

_T = TypeVar("_T")
_NO_CLOCK = "left to the device, which has a clock"
_HOUR = 3600


class LogSteps:
    """Verifies the proofs of one piece of evidence, and keeps their checkpoints to compare them in the end."""

    def __init__(
        self,
        policy: LogPolicy,
        checks: Checklist,
        *,
        now: int | None,
        seen: VerifiedCheckpoint | None,
        history: History | None = None,
    ) -> None:
        self._policy = policy
        self._checks = checks
        self._now = now
        self._seen = seen
        self._history = history
        self._checkpoints: list[VerifiedCheckpoint] = []

    def entry(self, what: str, logged: Logged) -> LoggedEntry | None:
        """The lines for the proof of the `release` or the `host`; None if it is not in the log."""
        policy, add = self._policy, self._checks.add
        wanted = f"{policy.quorum} of {len(policy.witnesses)} pinned witnesses, {policy.origin}"
        try:
            entry = verify_proof(logged.proof, logged.entry, policy, now=None)
        except PeerError as error:
            add(f"{what}-log", ok=False, found=str(error), wanted=wanted)
            return None
        checkpoint = entry.checkpoint
        self._checkpoints.append(checkpoint)
        add(f"{what}-log", ok=True, found=f"entry {entry.index} of {checkpoint.size}", wanted=wanted)
        self._age(what, checkpoint)
        self._same_as_seen(what, checkpoint)
        return entry

    def backend(self, logged: Logged, parse: Callable[[bytes], _T]) -> _T:
        """A back end's entry, if it is in the log under a checkpoint that is fresh.

        Raises:
            PeerError: it is not, or it does not parse.
        """
        entry = verify_proof(logged.proof, logged.entry, self._policy, now=self._now)
        self._checkpoints.append(entry.checkpoint)
        return parse(entry.entry)

    def compare(self) -> None:
        """The line that all proofs are of one log: two heads of one size would be a fork."""
        known = [*self._checkpoints, *([self._seen] if self._seen else [])]
        forked = len({(head.size, head.root) for head in known}) != len({head.size for head in known})
        broken = {head.size for head in self._checkpoints if self._linked(head) is False}
        sizes = ", ".join(str(size) for size in sorted({head.size for head in known}))
        if known:
            self._checks.add(
                "log-fork",
                ok=not forked and not broken,
                found=f"two heads of one size among {sizes}"
                if forked
                else f"size {min(broken)} does not lead to the tree head seen"
                if broken
                else f"size {sizes}",
                wanted="one tree head a size",
            )

    def _age(self, what: str, checkpoint: VerifiedCheckpoint) -> None:
        if (now := self._now) is None:
            self._checks.skip(f"{what}-log-age", _NO_CLOCK)
            return

        def fresh() -> bool:
            self._policy.require_fresh(checkpoint, now=now)
            return True

        self._checks.add(
            f"{what}-log-age",
            ok=quietly(fresh) or False,
            found=f"{(now - checkpoint.time) / _HOUR:.1f} hours old",
            wanted=f"at most {self._policy.max_age // _HOUR} hours",
        )

    def _same_as_seen(self, what: str, checkpoint: VerifiedCheckpoint) -> None:
        if (seen := self._seen) is None:
            self._checks.skip(f"{what}-log-seen", "this verifier has seen no checkpoint before")
            return
        # The evidence brings no consistency proof: another size is proved by what came with the directory, or is refused.
        same = (seen.size, seen.root) == (checkpoint.size, checkpoint.root)
        linked = not same and self._linked(checkpoint) is True
        self._checks.add(
            f"{what}-log-seen",
            ok=same or linked,
            found=f"size {checkpoint.size}, proved to lead to size {seen.size}"
            if linked
            else f"size {checkpoint.size}",
            wanted=f"the tree head seen, of size {seen.size}",
        )

    def _linked(self, checkpoint: VerifiedCheckpoint) -> bool | None:
        """Whether the tree head seen continues this one, or is continued by it; None where nothing says so."""
        if self._seen is None or self._history is None:
            return None
        try:
            self._history.require(checkpoint, self._seen)
        except NotListedError:
            return None
        except ForkError:
            return False
        return True

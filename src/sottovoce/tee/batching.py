"""Which sessions share a hardware report (protocol section 5). No clock, no I/O.

    leaf ─▶ waiting ─▶ in the tree whose report is being made ─▶ answered with index, size, path and the report

A security processor makes one report at a time. Leaves that arrive while it is busy wait for it and then share one report;
while it is idle nothing waits, so a session alone has a report of its own at once.
"""

import itertools
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from sottovoce.attest.binding import report_data
from sottovoce.attest.evidence import Batch
from sottovoce.core.errors import ProtocolError, UsageError
from sottovoce.tee.attestation import Quote
from sottovoce.tlog.merkle import HASH, inclusion_proofs

__all__ = ["MAX_BATCH", "Batcher"]

MAX_BATCH: Final = 1 << 16
"""Leaves in one tree at most: what evidence can say. A path then has 16 hashes, 512 bytes."""
_Who = TypeVar("_Who", bound=Hashable)


class Batcher(Generic[_Who]):
    """Gathers leaves; the keys say whose they are."""

    def __init__(self, *, limit: int = MAX_BATCH) -> None:
        if not 1 <= limit <= MAX_BATCH:
            raise UsageError("a batch has 1 to 65,536 leaves")
        self._limit = limit
        self._waiting: dict[_Who, bytes] = {}
        self._tree: dict[_Who, bytes] | None = None
        self._paths: list[tuple[bytes, ...]] = []
        self._dropped: set[_Who] = set()

    @property
    def busy(self) -> bool:
        """Whether a report is being made."""
        return self._tree is not None

    @property
    def waiting(self) -> int:
        """Leaves that no report is being made for."""
        return len(self._waiting)

    def add(self, who: _Who, leaf: bytes) -> None:
        """A leaf, 32 bytes, for which `who` wants a quote.

        Raises:
            ProtocolError: it waits for one already, so that nobody can fill a tree alone.
        """
        if len(leaf) != HASH:
            raise UsageError("a leaf has 32 bytes")
        if who in self._waiting or who in (self._tree or ()):
            raise ProtocolError("one quote at a time")
        self._waiting[who] = leaf

    def drop(self, who: _Who) -> None:
        """Forget `who`. A leaf that is in a tree already stays in it, and is answered to nobody."""
        self._waiting.pop(who, None)
        if self._tree is not None:
            self._dropped.add(who)

    def take(self) -> bytes:
        """The report data, 64 bytes, of a tree over the leaves that wait, the first of them if there are too many.

        Raises:
            UsageError: a report is being made, or no leaf waits.
        """
        if self._tree is not None or not self._waiting:
            raise UsageError("there is nothing to ask the processor for")
        tree = dict(itertools.islice(self._waiting.items(), self._limit))
        for who in tree:
            del self._waiting[who]
        root, self._paths = inclusion_proofs(list(tree.values()))
        self._tree = tree
        return report_data(root)

    def settle(self, report: bytes) -> list[tuple[_Who, Quote]]:
        """The quotes of the tree whose report this is, without those of whoever was dropped meanwhile.

        Raises:
            UsageError: no report is being made.
        """
        tree, paths, dropped = self._end()
        return [
            (who, Quote(report=report, batch=Batch(index=index, size=len(tree), path=paths[index])))
            for index, who in enumerate(tree)
            if who not in dropped
        ]

    def fail(self) -> list[_Who]:
        """Everybody who waits for a quote, and waits no longer: the processor fails."""
        failed = list(self._waiting)
        self._waiting.clear()
        if self._tree is None:
            return failed
        tree, _, dropped = self._end()
        return [who for who in tree if who not in dropped] + failed

    def _end(self) -> tuple[dict[_Who, bytes], list[tuple[bytes, ...]], set[_Who]]:
        if self._tree is None:
            raise UsageError("no report is being made")
        ended = self._tree, self._paths, self._dropped
        self._tree, self._paths, self._dropped = None, [], set()
        return ended

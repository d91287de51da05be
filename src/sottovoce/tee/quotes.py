"""Quotes for the processes of a CVM, from one security processor (protocol section 5).

The window in which leaves are gathered is the time from the moment when the processor is idle and a leaf is there until its
report is asked for. It is one pass of the server's loop: what the kernel had ready together shares a report, and nothing is
waited for. `WINDOW` bounds it where a pass takes long. Time that a leaf spends while the processor makes the report of others is
no window: no processor could have begun sooner.

A processor that fails, or takes longer than `PATIENCE`, leaves nobody hanging: whoever waits is told that there is no quote.
"""

import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.tee.attestation import Quote
from sottovoce.tee.batching import MAX_BATCH, Batcher
from sottovoce.tee.collectors.base import Bundle

__all__ = ["PATIENCE", "WINDOW", "QuoteService", "Requests"]

WINDOW: Final = 0.010
"""Seconds for which leaves are gathered at most, while the processor is idle (protocol section 5)."""
PATIENCE: Final = 10.0
"""Seconds until a report that was asked for is given up."""
_Who = TypeVar("_Who", bound=Hashable)


class Requests(Protocol):
    """Somebody who is asked without waiting: `tee.reporter.Reporter`. Each method raises UnavailableError when it is gone."""

    def fileno(self) -> int:
        """Readable when an answer is there."""

    def send_report(self, report_data: bytes) -> None:
        """Ask for a report."""

    def send_papers(self) -> None:
        """Ask for the papers."""

    def receive(self) -> bytes | Bundle | None:
        """The answer."""


class QuoteService(Generic[_Who]):
    """Asks `reporter` for one thing at a time. `reply` gets each quote, or None; `papers` the host's papers when they are new.

    Attributes:
        reports: reports asked for.
    """

    def __init__(
        self,
        reporter: Requests,
        *,
        reply: Callable[[_Who, Quote | None], None],
        papers: Callable[[Bundle], None],
        limit: int = MAX_BATCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter = reporter
        self._reply = reply
        self._papers = papers
        self._clock = clock
        self._batcher: Batcher[_Who] = Batcher(limit=limit)
        self._wants_papers = False
        self._asked = False
        self._stuck = False
        self._deadline = 0.0
        self._since = 0.0
        self.reports = 0

    def fileno(self) -> int:
        """The descriptor that is readable when `receive` has something to do."""
        return self._reporter.fileno()

    @property
    def due(self) -> float | None:
        """The moment at which `expire` has something to do."""
        return self._deadline if self._asked and not self._stuck else None

    def ask(self, who: _Who, leaf: bytes) -> None:
        """A quote for `leaf`, 32 bytes, is wanted by `who`, which gets it by `reply`.

        Raises:
            ProtocolError: it waits for one already.
        """
        if not self._batcher.waiting:
            self._since = self._clock()
        self._batcher.add(who, leaf)
        if self._stuck:
            self._batcher.drop(who)
            self._reply(who, None)

    def drop(self, who: _Who) -> None:
        """Forget `who`: it has ended."""
        self._batcher.drop(who)

    def refresh(self) -> None:
        """Ask the host for its papers, as soon as the processor is idle."""
        self._wants_papers = True

    def start(self, *, hold: float = 0.0) -> None:
        """Ask the processor for what is wanted, if it is idle, and the oldest leaf has waited for `hold` seconds.

        Raises:
            UnavailableError: the process that asks is gone.
        """
        if self._asked:
            return
        if self._wants_papers:
            self._wants_papers = False
            self._begin()
            self._reporter.send_papers()
        elif self._batcher.waiting and self._clock() - self._since >= hold:
            self._begin()
            self.reports += 1
            self._reporter.send_report(self._batcher.take())

    def receive(self) -> None:
        """Take the processor's answer, and pass it on.

        Raises:
            UnavailableError: the process that asks is gone; nobody waits for it any more.
        """
        answer: bytes | Bundle | None = None
        try:
            answer = self._reporter.receive()
        except DecodeError:
            pass  # papers that make no sense: the old ones go on
        except UnavailableError:
            self._fail()
            raise
        self._asked = self._stuck = False
        self._since = self._clock()
        if isinstance(answer, Bundle):
            self._papers(answer)
        elif not self._batcher.busy:
            pass  # of a report that was given up, or of papers that there are not
        elif answer is None:
            self._fail()
        else:
            for who, quote in self._batcher.settle(answer):
                self._reply(who, quote)

    def expire(self) -> None:
        """Give up a report that takes too long. Until it comes after all, there are no quotes."""
        if (due := self.due) is not None and self._clock() >= due:
            self._stuck = True
            self._fail()

    def _begin(self) -> None:
        self._asked = True
        self._deadline = self._clock() + PATIENCE

    def _fail(self) -> None:
        for who in self._batcher.fail():
            self._reply(who, None)

import hashlib
from collections.abc import Callable

import pytest

from collector_kit import PAPERS
from sottovoce.attest.binding import batch_root, report_data
from sottovoce.core.errors import DecodeError, ProtocolError, UnavailableError
from sottovoce.tee.attestation import Quote
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.quotes import PATIENCE, WINDOW, QuoteService


class Processor:
    """Keeps what it is asked, and answers when a test says so."""

    answer: Callable[[], bytes | Bundle | None]

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def fileno(self) -> int:
        return 0

    def send_report(self, report_data: bytes) -> None:
        self.asked.append(report_data)

    def send_papers(self) -> None:
        self.asked.append(b"papers")

    def receive(self) -> bytes | Bundle | None:
        return self.answer()


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.processor = Processor()
        self.replies: dict[str, Quote | None] = {}
        self.papers: list[Bundle] = []
        self.service: QuoteService[str] = QuoteService(
            self.processor, reply=self.reply, papers=self.papers.append, clock=lambda: self.now
        )

    def reply(self, who: str, quote: Quote | None) -> None:
        assert who not in self.replies
        self.replies[who] = quote

    def ask(self, *names: str) -> None:
        for name in names:
            self.service.ask(name, leaf(name))

    def answers(self, answer: bytes | Bundle | None) -> None:
        self.processor.answer = lambda: answer
        self.service.receive()
        self.service.start()

    def proven(self, who: str) -> bool:
        quote = self.replies[who]
        assert quote is not None
        b = quote.batch
        root = batch_root(leaf(who), index=b.index, size=b.size, path=b.path)
        return report_data(root) == quote.report


def leaf(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_session_alone_has_a_report_at_once_and_of_its_own(bench: Bench) -> None:
    bench.ask("one")
    bench.service.start()
    assert bench.processor.asked == [report_data(leaf("one"))]
    bench.answers(bench.processor.asked[-1])
    assert bench.proven("one")
    assert len(bench.processor.asked) == bench.service.reports == 1


def test_many_while_the_processor_is_busy_are_one_report_more(bench: Bench) -> None:
    bench.ask("one")
    bench.service.start()
    names = [f"other {number}" for number in range(50)]
    for name in names:
        bench.ask(name)
        bench.service.start()
    assert len(bench.processor.asked) == 1
    bench.answers(bench.processor.asked[-1])
    assert len(bench.processor.asked) == 2
    assert set(bench.replies) == {"one"}
    bench.answers(bench.processor.asked[-1])
    assert len(bench.processor.asked) == bench.service.reports == 2
    assert all(map(bench.proven, names))


def test_what_one_pass_brings_shares_a_report_within_the_window(bench: Bench) -> None:
    bench.ask("one", "two")
    bench.service.start(hold=WINDOW)
    assert bench.processor.asked == []
    bench.now += WINDOW / 2
    bench.ask("three")
    bench.service.start(hold=WINDOW)
    assert bench.processor.asked == []
    bench.now += WINDOW * 0.6  # the pass takes long: the oldest has waited for the whole window
    bench.service.start(hold=WINDOW)
    assert len(bench.processor.asked) == 1
    bench.answers(bench.processor.asked[-1])
    assert all(map(bench.proven, ("one", "two", "three")))


def test_the_wait_for_a_busy_processor_is_no_window(bench: Bench) -> None:
    bench.ask("one")
    bench.service.start()
    bench.ask("two")
    bench.now += 5.0
    bench.processor.answer = lambda: bench.processor.asked[-1]
    bench.service.receive()
    bench.service.start(hold=WINDOW)
    assert len(bench.processor.asked) == 1
    bench.service.start()
    assert len(bench.processor.asked) == 2


def test_a_failure_is_told_to_all_and_the_next_report_may_succeed(bench: Bench) -> None:
    bench.ask("one")
    bench.service.start()
    bench.ask("two")
    bench.answers(None)
    assert bench.replies == {"one": None, "two": None}
    bench.ask("three")
    bench.service.start()
    bench.answers(bench.processor.asked[-1])
    assert bench.proven("three")


def test_a_processor_that_is_gone_leaves_nobody_hanging(bench: Bench) -> None:
    def gone() -> None:
        raise UnavailableError("gone", party="processor")

    bench.ask("one")
    bench.service.start()
    bench.ask("two")
    bench.processor.answer = gone
    with pytest.raises(UnavailableError):
        bench.service.receive()
    assert bench.replies == {"one": None, "two": None}


def test_a_processor_that_takes_too_long(bench: Bench) -> None:
    assert bench.service.due is None
    bench.ask("one")
    bench.service.start()
    assert bench.service.due == bench.now + PATIENCE
    bench.ask("two")
    bench.now += PATIENCE - 0.1
    bench.service.expire()
    assert bench.replies == {}
    bench.now += 0.2
    bench.service.expire()
    assert bench.replies == {"one": None, "two": None}
    assert bench.service.due is None
    bench.ask("three")  # nobody waits for a processor that is stuck
    assert bench.replies["three"] is None
    bench.service.start()
    assert len(bench.processor.asked) == 1
    bench.answers(b"the report of long ago")
    assert len(bench.replies) == 3
    bench.ask("four")
    bench.service.start()
    bench.answers(bench.processor.asked[-1])
    assert bench.proven("four")


def test_whoever_ends_gets_no_answer_and_costs_no_report(bench: Bench) -> None:
    bench.ask("one", "two")
    bench.service.start()
    bench.ask("three")
    bench.service.drop("one")
    bench.service.drop("three")
    bench.answers(bench.processor.asked[-1])
    assert set(bench.replies) == {"two"}
    assert len(bench.processor.asked) == 1


def test_nobody_has_two_leaves(bench: Bench) -> None:
    bench.ask("one")
    with pytest.raises(ProtocolError):
        bench.ask("one")


def test_papers_are_asked_for_between_two_reports(bench: Bench) -> None:
    bench.ask("one")
    bench.service.start()
    bench.service.refresh()
    bench.ask("two")
    bench.service.start()
    assert len(bench.processor.asked) == 1
    bench.answers(bench.processor.asked[-1])
    assert bench.processor.asked[1:] == [b"papers"]
    bench.answers(PAPERS)
    assert bench.papers == [PAPERS]
    bench.answers(bench.processor.asked[-1])
    assert bench.proven("two")
    assert bench.service.reports == 2


def test_without_new_papers_the_old_ones_go_on(bench: Bench) -> None:
    def nonsense() -> None:
        raise DecodeError("nonsense")

    for answer in (lambda: None, nonsense):
        bench.service.refresh()
        bench.service.start()
        bench.ask("x")
        bench.processor.answer = answer
        bench.service.receive()
        assert bench.papers == []
        bench.service.start()
        bench.answers(bench.processor.asked[-1])
        assert bench.proven("x")
        bench.replies.clear()
    assert bench.processor.asked.count(b"papers") == 2

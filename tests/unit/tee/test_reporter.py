import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector_kit import PAPERS, no_papers
from sottovoce.core.errors import UnavailableError
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.reporter import NAME, Reporter
from tee_kit import DEADLINE


class Collector:
    kind = "simulated-snp"

    def report(self, report_data: bytes) -> bytes:
        if report_data == b"0" * 64:
            raise UnavailableError("no", party="processor")
        if report_data == b"!" * 64:
            raise RuntimeError("a mistake of ours")
        if report_data == b"L" * 64:
            return bytes(20_000)
        if report_data == b"F" * 64:
            return ",".join(sorted(os.listdir("/proc/self/fd"))).encode()  # noqa: PTH208 - names only
        return b"report " + report_data

    def bundle(self) -> Bundle:
        return PAPERS


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    one = Reporter(Collector())
    yield one
    one.close()


def test_it_is_a_collector_itself(reporter: Reporter) -> None:
    assert reporter.kind == "simulated-snp"
    assert reporter.report(b"1" * 64) == b"report " + b"1" * 64
    assert reporter.bundle() == PAPERS
    assert Path(f"/proc/{reporter.pid}/comm").read_text().strip() == NAME


def test_it_can_be_asked_without_waiting(reporter: Reporter) -> None:
    assert select.select([reporter], [], [], 0)[0] == []
    reporter.send_report(b"1" * 64)
    assert select.select([reporter], [], [], DEADLINE)[0]
    assert reporter.receive() == b"report " + b"1" * 64
    reporter.send_papers()
    assert reporter.receive() == PAPERS


def test_a_failure_is_an_answer_and_the_next_may_succeed(reporter: Reporter) -> None:
    reporter.send_report(b"0" * 64)
    assert reporter.receive() is None
    with pytest.raises(UnavailableError):
        reporter.report(b"0" * 64)
    with pytest.raises(UnavailableError, match="no report"):
        reporter.report(b"L" * 64)  # longer than a packet to a session's process
    assert reporter.report(b"1" * 64)


def test_papers_that_there_are_not() -> None:
    class Without(Collector):
        def bundle(self) -> Bundle:
            return no_papers()

    one = Reporter(Without())
    with pytest.raises(UnavailableError, match="papers"):
        one.bundle()
    one.close()


@pytest.mark.parametrize("how", ["crash", "kill"])
def test_its_end_is_noticed(reporter: Reporter, how: str) -> None:
    if how == "kill":
        os.kill(reporter.pid, signal.SIGKILL)
    with pytest.raises(UnavailableError, match="gone"):
        reporter.report(b"!" * 64)
    with pytest.raises(UnavailableError, match="gone"):
        reporter.report(b"1" * 64)


def test_signals_that_reach_every_process_leave_it(reporter: Reporter) -> None:
    reporter.report(b"1" * 64)
    os.kill(reporter.pid, signal.SIGTERM)
    os.kill(reporter.pid, signal.SIGINT)
    assert reporter.report(b"1" * 64)


def test_it_holds_nothing_but_the_hardwares_interface() -> None:
    ours, theirs = socket.socketpair()
    with theirs, socket.socket():
        kept = ours.fileno()
        one = Reporter(Collector(), owned=[ours])
        assert ours.fileno() == -1
        # Standard streams, its own socket, the hardware's, and the folder that is being listed.
        descriptors = one.report(b"F" * 64).removeprefix(b"report ").split(b",")
        assert len(descriptors) <= 6
        assert str(kept).encode() in descriptors
        one.close()
        assert theirs.recv(1) == b""


def test_close_buries_it() -> None:
    one = Reporter(Collector())
    one.close()
    assert not Path(f"/proc/{one.pid}").exists()
    one.close()


def test_it_ends_with_its_parent() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"%d" % Reporter(Collector()).pid)
        os._exit(0)
    os.waitpid(pid, 0)
    child = int(os.read(read, 20))
    end = time.monotonic() + DEADLINE
    while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < end
    os.close(read)
    os.close(write)

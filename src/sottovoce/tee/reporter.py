"""The process that asks the hardware for reports, so that nobody else has to wait for it.

    to the process                         from it
    R report data (64 bytes)   a report    r report    or a single f: there is none
    B                          the papers  b bundle

Reading configfs or calling ioctl blocks until the security processor is done. Threads are out of the question in a process that
forks, so a process of its own does it: made before anything else, it holds nothing but the hardware's interface.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NoReturn

from sottovoce.core.errors import PeerError, UnavailableError
from sottovoce.tee.collectors.base import PROCESSOR, REPORT_DATA, Bundle, Collector
from sottovoce.tee.sandbox import die_with_parent, name_process

__all__ = ["NAME", "Reporter"]

NAME: Final = "sv-reporter"
"""The process's name, for lists of processes."""
_REPORT, _PAPERS = b"R", b"B"
_REPORTED, _BUNDLE, _FAILED = b"r", b"b", b"f"
_PACKET: Final = 96 * 1024
"""Bytes; the papers have 64 KiB at most."""
_MAX_REPORT: Final = 12 * 1024
"""Bytes; a quote with its path has to fit a packet of `tee.channel`. SNP reports have 1,184, TDX quotes about 5,000."""


class Reporter:
    """This side of the process. It is a collector itself, for those who may block; others send, and read when it is readable.

    One request at a time: the next may be sent when the last is answered.
    """

    def __init__(self, collector: Collector, *, owned: Iterable[socket.socket] = ()) -> None:
        """Fork. `owned` are the collector's sockets: the process keeps them, and they are closed here."""
        owned = tuple(owned)
        self.kind: Final = collector.kind
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid: Final = os.fork()
        if self.pid == 0:
            _run(collector, theirs, {theirs.fileno(), *(sock.fileno() for sock in owned)}, parent)
        theirs.close()
        for sock in owned:
            sock.close()
        self._sock = ours

    def fileno(self) -> int:
        """The descriptor that is readable when an answer is there."""
        return self._sock.fileno()

    def send_report(self, report_data: bytes) -> None:
        """Ask for a report over 64 bytes, without waiting.

        Raises:
            UnavailableError: the process is gone.
        """
        self._send(_REPORT + report_data)

    def send_papers(self) -> None:
        """Ask for the papers, without waiting.

        Raises:
            UnavailableError: the process is gone.
        """
        self._send(_PAPERS)

    def receive(self) -> bytes | Bundle | None:
        """The answer to the last request, blocking: a report, a bundle, or None when there is none.

        Raises:
            UnavailableError: the process is gone.
        """
        try:
            packet = self._sock.recv(_PACKET)
        except OSError:
            packet = b""
        kind, value = packet[:1], packet[1:]
        if not packet:
            raise UnavailableError("the process that asks for reports is gone", party=PROCESSOR)
        if kind == _BUNDLE:
            return Bundle.decode(value)
        return value if kind == _REPORTED else None

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes, blocking.

        Raises:
            UnavailableError: there is none.
        """
        self.send_report(report_data)
        answer = self.receive()
        if not isinstance(answer, bytes):
            raise UnavailableError("the security processor gives no report", party=PROCESSOR)
        return answer

    def bundle(self) -> Bundle:
        """The papers, blocking.

        Raises:
            UnavailableError: there are none.
        """
        self.send_papers()
        answer = self.receive()
        if not isinstance(answer, Bundle):
            raise UnavailableError("the host gives no papers", party=PROCESSOR)
        return answer

    def close(self) -> None:
        """End the process, and bury it."""
        self._sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _send(self, packet: bytes) -> None:
        try:
            self._sock.send(packet)
        except OSError:
            raise UnavailableError("the process that asks for reports is gone", party=PROCESSOR) from None


def _run(collector: Collector, sock: socket.socket, keep: set[int], parent: int) -> NoReturn:
    try:
        die_with_parent(parent)
        name_process(NAME)
        _only(keep)
        while request := sock.recv(1 + REPORT_DATA):
            sock.send(_answer(collector, request))
    except BaseException:  # noqa: BLE001, S110 - the parent sees that the channel is closed, and says so
        pass
    finally:
        os._exit(0)


def _only(keep: set[int]) -> None:
    # SIGTERM and Ctrl-C may reach every process at once, and the parent needs this one until it has ended its sessions.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for low, high in pairwise(sorted({2, *keep, 1 << 20})):
        os.closerange(low + 1, high)


def _answer(collector: Collector, request: bytes) -> bytes:
    try:
        if request == _PAPERS:
            return _BUNDLE + collector.bundle().encode()
        report = collector.report(request[1:])
    except (UnavailableError, PeerError):
        return _FAILED
    return _REPORTED + report if len(report) <= _MAX_REPORT else _FAILED

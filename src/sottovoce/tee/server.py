"""A CVM's first process: accepts connections, makes a process for each, and never reads one.

It has no event loop, no key of a session and no plaintext. It is single-threaded, so that fork is safe, and knows each
session's process by its channel: a channel that closes is a process that ended.

It waits for no hardware: a process of its own asks for reports (tee.reporter), and sessions share them (tee.quotes).
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sottovoce.core.errors import DecodeError, ProtocolError
from sottovoce.core.events import EventLog, decode_event
from sottovoce.core.limits import LIMITS
from sottovoce.tee import channel as packets
from sottovoce.tee.attestation import Attester, Quote
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.logfilter import Party, WorkerLost
from sottovoce.tee.quotes import WINDOW, QuoteService
from sottovoce.tee.reporter import Reporter
from sottovoce.tee.worker import Machine, run_process

__all__ = ["Server"]

_SETUP: Final = 30.0
"""Seconds until a process is ready for a session, at most."""
_SPARE_LIFE: Final = 45.0
"""Seconds after which a spare process is replaced, so that its back ends do not give it up first."""
_INCOMPLETE_LIFE: Final = 1.0
"""Seconds after which a spare process without all its back ends is replaced."""
_GRACE: Final = 5.0
"""Seconds beyond a session's own limit until its process is killed."""
_BREATH: Final = 5.0
"""Seconds for which a session that begins has the machine to itself before the next spare process is made."""
_RESPAWN: Final = 0.5
"""Seconds between two spare processes when the one before came to nothing."""
_BUNDLE_LIFE: Final = 300.0
"""Seconds after which the host is asked for its papers again: log proofs age."""
_EVENTS: Final = 200
"""Events that one process may log."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Process:
    pid: int
    sock: socket.socket
    deadline: float
    ready: bool = False
    complete: bool = False
    serving: bool = False
    retiring: bool = False
    has_slot: bool = False
    place: int = 0
    """Where it waits for a turn, as it was told."""
    events: int = 0
    connection: socket.socket | None = None
    """Handed over, and not yet taken."""


class Server:
    """Serves one role on `listener` until SIGTERM. `ready` is called once, when sessions can be served."""

    def __init__(
        self,
        machine: Machine,
        *,
        reporter: Reporter,
        listener: socket.socket,
        log: EventLog,
        ready: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._reporter = reporter
        self._quotes: QuoteService[_Process] = QuoteService(
            reporter, reply=self._answer_quote, papers=self._take_papers
        )
        self._listener = listener
        self._log = log
        self._ready: Callable[[], None] | None = ready
        self._party = Party(machine.settings.role)
        # Only an orchestrator's processes take long to make; others are made when somebody connects.
        self._spares = max(1, machine.settings.spares) if machine.role.backends else 0
        self._life = LIMITS.session_total if machine.role.backends else LIMITS.peer_total
        self._processes: set[_Process] = set()
        self._pending: deque[socket.socket] = deque()
        self._slots: deque[_Process] = deque()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._not_before = 0.0
        self._spares_due = 0.0
        self._bundle_due = time.monotonic() + _BUNDLE_LIFE

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then every session ends at once, and so does the reporter.

        Raises:
            UnavailableError: the reporter ended. A CVM that cannot prove what it is has nothing left to do.
        """
        wake, woken = socket.socketpair()
        wake.settimeout(0)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, None)
        self._selector.register(self._quotes, selectors.EVENT_READ, self._quotes)
        self._listener.settimeout(0)
        gc.freeze()  # what is here now is shared with every process made later
        if not self._spares:
            self._say_ready()
        try:
            while not self._stopping:
                self._make_processes()
                self._listen_if_possible()
                for key, _ in self._selector.select(self._patience()):
                    self._handle(key.data, woken)
                    self._quotes.start(hold=WINDOW)
                self._quotes.start()
                self._expire()
        finally:
            self._end_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _handle(self, what: object, woken: socket.socket) -> None:
        if isinstance(what, _Process):
            self._packet(what)
        elif what is self._quotes:
            self._quotes.receive()
        elif what is self._listener:
            self._accept()
        else:
            woken.recv(64)

    # Connections.

    @property
    def _serving(self) -> int:
        return sum(process.serving for process in self._processes) + len(self._pending)

    def _listen_if_possible(self) -> None:
        """Beyond the limit of sessions, connections wait in the kernel's queue."""
        registered = self._listener in self._selector.get_map()
        if (self._serving < self._machine.settings.sessions) is registered:
            return
        if registered:
            self._selector.unregister(self._listener)
        else:
            self._selector.register(self._listener, selectors.EVENT_READ, self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._pending.append(connection)
            self._hand_over()

    def _hand_over(self) -> None:
        """Give waiting connections to processes that are ready, those with all back ends first."""
        while self._pending:
            idle = [p for p in self._processes if p.ready and not p.serving]
            if not idle:
                return
            best = max(idle, key=lambda p: (p.complete, p.deadline))
            best.connection = self._pending.popleft()
            try:
                socket.send_fds(best.sock, [packets.CONNECTION], [best.connection.fileno()])
            except OSError:
                self._end(best)
                continue
            best.serving = True
            self._spares_due = max(self._spares_due, time.monotonic() + _BREATH)
            best.deadline = time.monotonic() + self._life + _GRACE

    # Processes.

    def _make_processes(self) -> None:
        now = time.monotonic()
        idle = [p for p in self._processes if not p.serving and not p.retiring]
        wanted = len(self._pending) + (self._spares if now >= self._spares_due else 0)
        while len(idle) < wanted and now >= self._not_before:
            idle.append(self._fork())

    def _fork(self) -> _Process:
        self._refresh()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            run_process(self._machine, theirs, parent)
        theirs.close()
        ours.settimeout(0)
        process = _Process(pid=pid, sock=ours, deadline=time.monotonic() + _SETUP)
        self._processes.add(process)
        self._selector.register(ours, selectors.EVENT_READ, process)
        return process

    def _refresh(self) -> None:
        """Ask the host for fresh papers now and then; without an answer the old ones go on."""
        now = time.monotonic()
        if now < self._bundle_due:
            return
        self._bundle_due = now + _BUNDLE_LIFE
        self._quotes.refresh()

    def _take_papers(self, bundle: Bundle) -> None:
        attester = Attester(self._machine.settings, kind=self._reporter.kind, bundle=bundle)
        self._machine = replace(self._machine, attester=attester)

    def _packet(self, process: _Process) -> None:
        try:
            packet = process.sock.recv(packets.PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        kind, value = packet[:1], packet[1:]
        if kind == packets.READY and not process.ready:
            self._process_ready(process, complete=value == b"\1")
        elif kind == packets.TAKEN and process.connection is not None:
            process.connection.close()
            process.connection = None
        elif kind == packets.QUOTE and len(value) == packets.LEAF:
            self._ask_quote(process, value)
        elif kind == packets.SLOT and not process.has_slot and process not in self._slots:
            self._slots.append(process)
            self._grant()
        elif kind == packets.FREE:
            self._free(process)
        elif kind == packets.EVENT and process.events < _EVENTS:
            process.events += 1
            with contextlib.suppress(DecodeError):
                self._log.emit(decode_event(value))
        else:
            self._end(process)

    def _process_ready(self, process: _Process, *, complete: bool) -> None:
        process.ready, process.complete = True, complete
        now = time.monotonic()
        process.deadline = now + (_SPARE_LIFE if complete else _INCOMPLETE_LIFE)
        if complete:
            self._say_ready()
        else:
            self._not_before = now + _INCOMPLETE_LIFE
        for old in [p for p in self._processes if p.retiring and not p.serving]:
            self._end(old)
        self._hand_over()

    def _ask_quote(self, process: _Process, leaf: bytes) -> None:
        try:
            self._quotes.ask(process, leaf)
        except ProtocolError:
            self._end(process)

    def _answer_quote(self, process: _Process, quote: Quote | None) -> None:
        self._reply(process, b"q" + (quote.encode() if quote is not None else b""))

    def _reply(self, process: _Process, packet: bytes) -> None:
        try:
            process.sock.send(packet)
        except OSError:
            process.deadline = 0.0  # it is dead, or does not listen: it is ended in this pass, and not here, in the middle of a queue

    # Turns to compute.

    def _grant(self) -> None:
        busy = sum(process.has_slot for process in self._processes)
        while self._slots and busy < self._machine.settings.slots:
            process = self._slots.popleft()
            process.has_slot, process.place = True, 0
            busy += 1
            self._reply(process, packets.granted())
        for place, process in enumerate(self._slots, start=1):
            if process.place != place:
                process.place = place
                self._reply(process, packets.waits(place))

    def _free(self, process: _Process) -> None:
        process.has_slot = False
        self._slots = deque(waiting for waiting in self._slots if waiting is not process)
        self._grant()

    # Ends.

    def _expire(self) -> None:
        self._quotes.expire()
        now = time.monotonic()
        for process in [p for p in self._processes if p.deadline <= now]:
            if process.ready and not process.serving and process.deadline:
                # It goes on until the one that takes its place is ready.
                process.retiring, process.deadline = True, now + _SPARE_LIFE
            else:
                self._end(process)

    def _end(self, process: _Process) -> None:
        """Kill it if it has not ended yet, and bury it."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        self._selector.unregister(process.sock)
        process.sock.close()
        if process.connection is not None:
            self._pending.appendleft(
                process.connection
            )  # nobody has read from it yet: another process takes it
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        _, status = os.waitpid(process.pid, 0)
        self._spares_due = 0.0
        self._quotes.drop(process)
        self._report_loss(process, status)
        self._free(process)

    def _end_all(self) -> None:
        self._listener.close()
        for connection in self._pending:
            connection.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for process in self._processes:
            os.waitpid(process.pid, 0)
            process.sock.close()
            if process.connection is not None:
                process.connection.close()
        self._processes.clear()
        self._reporter.close()
        self._selector.close()
        signal.set_wakeup_fd(-1)

    def _report_loss(self, process: _Process, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if process.retiring:
            return
        if not process.serving:
            self._not_before = time.monotonic() + _RESPAWN
        if code:
            self._log.emit(WorkerLost(role=self._party, signal=max(0, -code), status=max(0, code)))

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [process.deadline for process in self._processes]
        moments += [due for due in (self._not_before, self._spares_due) if due > now]
        moments += [due for due in (self._quotes.due,) if due is not None]
        return max(0.0, min(moments) - now) if moments else 60.0

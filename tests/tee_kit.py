"""CVMs for tests: real servers in forked processes on loopback, over an in-memory world of evidence."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.verify import VerifiedSession, verify_session
from sottovoce.core.events import EventLog
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import LinkReader, encode_turn
from sottovoce.core.tls import ClientConnection, ClientHandshake, Closed, Data
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import NOW, EvidenceWorld, settings_of
from sottovoce.tee import conversation, worker
from sottovoce.tee.attestation import Attester
from sottovoce.tee.collectors.base import Bundle, Collector
from sottovoce.tee.http import ASGIApp, ClientExchange, Head
from sottovoce.tee.rehearsal import rehearse
from sottovoce.tee.reporter import NAME, Reporter
from sottovoce.tee.roles import Session
from sottovoce.tee.sandbox import die_with_parent
from sottovoce.tee.server import Server
from sottovoce.tee.settings import Settings
from sottovoce.tee.worker import Machine

BACKENDS = ("predictor", "guard")
DEADLINE = 100.0
"""Seconds after which something that has not come is given up. It proves nothing: a CVM of the kit ends no session for its age before."""


class KitCollector:
    """A chip of the world, without a machine around it."""

    kind = "simulated-snp"

    def __init__(
        self, world: EvidenceWorld, role: str, *, measurement: bytes | None = None, delay: float = 0.0
    ) -> None:
        self._world = world
        self._role = role
        self._processor = SimulatedProcessor(
            world.chips[role], measurement or world.measurements[role], delay=delay
        )

    def report(self, report_data: bytes) -> bytes:
        return self._processor.report(report_data)

    def bundle(self) -> Bundle:
        world, role = self._world, self._role
        return Bundle(
            endorsements=Endorsements(
                vcek=world.chips[role].vcek, ask=world.vendor.ask, crl=world.vendor.crl
            ),
            release=world.prove(world.releases[role].encode()),
            host=world.prove(world.hosts[role].encode()),
        )


def attester_of(world: EvidenceWorld, role: str) -> Attester:
    return Attester(
        settings_of(world, role), kind=KitCollector.kind, bundle=KitCollector(world, role).bundle()
    )


@dataclass
class KitRole:
    """A role whose application is given."""

    name: str
    make: Callable[[Session], ASGIApp]
    backends: tuple[str, ...] = ()

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        pass

    def app(self, session: Session) -> ASGIApp:
        return self.make(session)


@dataclass
class Cvm:
    pid: int
    address: tuple[str, int]
    log: int
    _lines: bytes = b""
    _ended: bool = field(default=False)

    def events(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for `count` events called `name`."""
        end = time.monotonic() + DEADLINE
        while True:
            found = [e for line in self._lines.splitlines() if (e := json.loads(line))["event"] == name]
            if len(found) >= count:
                return found
            readable, _, _ = select.select([self.log], [], [], max(0, end - time.monotonic()))
            assert readable, f"no {name} in {self._lines!r}"
            self._lines += os.read(self.log, 65536)

    def processes(self) -> list[int]:
        """The session processes, also dead ones that nobody has buried."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if _name_of(pid) != NAME]

    @property
    def reporter(self) -> int:
        """The process that asks for reports."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        (pid,) = [int(pid) for pid in children.read_text().split() if _name_of(int(pid)) == NAME]
        return pid

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def stop(self) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGTERM)
            self.wait()

    def wait(self) -> None:
        """Wait for its end."""
        self._ended = True
        end = time.monotonic() + DEADLINE
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < end, "it did not stop"
            # It waits for somebody to read its log, where that is full.
            if select.select([self.log], [], [], 0.001)[0]:
                self._lines += os.read(self.log, 65536)
        os.close(self.log)


def _without_haste() -> None:
    """No idle session is ended, and no slow handshake: what ends in a test has another reason, however long the test waits for it."""
    patient = replace(LIMITS, session_idle=LIMITS.session_total)
    conversation.LIMITS = worker.LIMITS = patient  # type: ignore[attr-defined]
    conversation._HANDSHAKE = LIMITS.session_total  # type: ignore[misc]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def start_cvm(
    world: EvidenceWorld,
    role: KitRole,
    *,
    wiring: Mapping[str, tuple[str, int]] | None = None,
    measurement: bytes | None = None,
    patience: float | None = None,
    listener: socket.socket | None = None,
    lock_memory: bool = True,
    delay: float = 0.0,
    collector: Collector | None = None,
    **changes: Any,
) -> Cvm:
    """Fork a CVM; returns when it serves."""
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=64)
    read, write = os.pipe()
    ready_read, ready_write = os.pipe()
    settings = settings_of(world, role.name, **changes)
    collector = collector or KitCollector(world, role.name, measurement=measurement, delay=delay)
    bundle = collector.bundle()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(parent)
            keep = {0, 1, 2, listener.fileno(), write, ready_write}
            for descriptor in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - keep:
                with contextlib.suppress(OSError):
                    os.close(descriptor)  # a test's connection must not stay open here
            reporter = Reporter(collector)
            if patience is not None:
                worker._PATIENCE = patience  # type: ignore[misc]
            _without_haste()
            machine = Machine(
                role=role,
                settings=settings,
                attester=Attester(settings, kind=collector.kind, bundle=bundle),
                wiring=wiring or {},
                lock_memory=lock_memory,
            )
            log = EventLog(lambda line: os.write(write, line.encode()))

            def ready() -> None:
                with contextlib.suppress(OSError):
                    os.write(ready_write, b"1")

            rehearse(machine, reporter, log)
            Server(machine, reporter=reporter, listener=listener, log=log, ready=ready).run()
        except BaseException:  # noqa: BLE001 - a test's process: say it and end
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write)
    os.close(ready_write)
    address = listener.getsockname()
    listener.close()
    cvm = Cvm(pid, address, read)
    try:
        if patience is None:
            assert select.select([ready_read], [], [], DEADLINE)[0], "it did not start"
    finally:
        os.close(ready_read)
    return cvm


class Link:
    """The router's side of a connection: turns of bytes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=DEADLINE)
        self._reader = LinkReader()
        self._turns: list[bytes] = []
        self._turn = b""
        self.messages: list[tuple[float, bytes]] = []

    def turn(self, data: bytes) -> bytes:
        self.sock.sendall(encode_turn(data))
        return self.answer()

    def answer(self) -> bytes:
        while not self._turns:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            for message in self._reader.feed(data):
                self.messages.append((time.monotonic(), message))
                self._turn += message
                if not message:
                    self._turns.append(self._turn)
                    self._turn = b""
        return self._turns.pop(0)

    def is_closed(self) -> bool:
        """Whether the other side closes it, within DEADLINE of its last word."""
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass  # closed in a hurry
        return True


class Device:
    """The device's side of a session."""

    def __init__(self, world: EvidenceWorld, address: tuple[str, int], **policy: Any) -> None:
        self.world = world
        self.link = Link(address)
        self.handshake = ClientHandshake()
        offer = self.handshake.receive(self.link.turn(self.handshake.first_flight()))
        assert offer is not None
        self.offer = offer
        self.policy = policy
        self.tls: ClientConnection | None = None

    def verify(self) -> VerifiedSession:
        return verify_session(
            self.offer.evidence,
            policy=self.world.policy(**self.policy),
            connection=self.world.connection(self.offer.exporter, self.offer.spki, now=NOW),
        )

    def accept(self, verified: Any | None = None, *, own_evidence: bytes = b"") -> ClientConnection:
        self.tls = self.offer.accept(verified or self.verify(), own_evidence=own_evidence)
        return self.tls

    def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request; its whole answer, and the frames' bytes in `self.plaintext`."""
        tls = self.tls or self.accept()
        exchange = ClientExchange("test")
        tls.send(exchange.request(method, target, body))
        self.plaintext = b""
        status, content = 0, b""
        for event in tls.receive(self.link.turn(tls.outgoing())):
            if isinstance(event, Closed):
                break
            assert isinstance(event, Data)
            self.plaintext += event.data
            for piece in exchange.feed(event.data):
                if isinstance(piece, Head):
                    status = piece.status
                else:
                    content += piece.data
        return status, content

    def close(self) -> None:
        self.link.sock.close()


@dataclass(frozen=True)
class Proof:
    """Stands for a verification where a test is about something else."""

    exporter: bytes
    spki: bytes


async def respond(send: Any, status: int, body: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def stream(send: Any, pieces: list[bytes], pause: float = 0.0) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def stopping(*cvms: Cvm) -> Iterator[None]:
    try:
        yield
    finally:
        for cvm in cvms:
            cvm.stop()

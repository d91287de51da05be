import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from sottovoce.attest.evidence import Batch, Evidence
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.core.errors import UnavailableError
from sottovoce.core.frames import FRAME, size_class, stream_class
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import encode_turn
from sottovoce.core.tls import ALPN, ClientHandshake, Data
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee import quotes, worker
from sottovoce.tee import server as tee_server
from sottovoce.tee.http import ClientExchange, Piece
from sottovoce.tee.logfilter import Party, Started
from sottovoce.tee.server import Server
from tee_kit import (
    BACKENDS,
    DEADLINE,
    Cvm,
    Device,
    KitCollector,
    KitRole,
    Link,
    Proof,
    respond,
    start_cvm,
    stopping,
    stream,
)

pytestmark = pytest.mark.timeout(300)
_TLS_RECORD = 22  # header 5, content type 1, tag 16


def tries() -> str:
    """What the sandbox must not let a session's process do."""
    attempts: dict[str, Callable[[], Any]] = {
        "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
        "socket": socket.socket,
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - it must fail
        "kill": lambda: os.kill(os.getppid(), 0),
        "stat": Path("/").stat,
        "unlink": Path("/nothing").unlink,
        "pipe": os.pipe,
        "memfd": lambda: os.memfd_create("x"),
    }
    done = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            continue
        except OSError as error:
            done.append(f"{name} {error.errno}")
        else:
            done.append(name)
    return ",".join(done)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    path = scope["path"]
    if path == "/stream":
        await stream(send, [b"piece"] * 3, 0.01)
    elif path == "/long":
        await stream(send, [b"x" * 1000] * 100)
    elif path == "/tries":
        await respond(send, 200, tries().encode())
    elif path == "/die":
        os._exit(7)
    elif path == "/wait":
        await receive()
    elif path == "/raise":
        raise ValueError("content of a user")
    else:
        await respond(send, 200, message["body"])


@pytest.fixture(scope="module")
def world() -> EvidenceWorld:
    return EvidenceWorld()


@pytest.fixture(scope="module")
def alone(world: EvidenceWorld) -> Iterator[Cvm]:
    """An orchestrator that needs no back ends."""
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo))
    with stopping(cvm):
        yield cvm


def device(world: EvidenceWorld, cvm: Cvm) -> Device:
    return Device(world, cvm.address, require_backends=())


def settle(cvm: Cvm, sessions: int = 0) -> None:
    end = time.monotonic() + DEADLINE
    while len(cvm.processes()) != sessions:
        assert time.monotonic() < end, "processes are left over"
        os.sched_yield()


def test_a_session(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    assert one.request("POST", "/v1/x", b"question") == (200, b"question")
    assert len(one.plaintext) == 4096
    assert one.request("POST", "/v1/x", b"y" * 5000) == (200, b"y" * 5000)
    assert len(one.plaintext) == size_class(len(one.plaintext))
    one.close()
    settle(alone)


def test_a_streamed_answer_leaves_in_equal_messages_up_to_its_class(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    one.accept()
    one.link.messages.clear()
    assert one.request("GET", "/stream") == (200, b"piece" * 3)
    tickets, *frames = [len(message) for _, message in one.link.messages if message]
    assert set(frames) == {FRAME + _TLS_RECORD}
    assert tickets < FRAME
    assert len(one.plaintext) == stream_class(0)
    one.close()


def test_an_answer_has_a_strict_maximum(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    with pytest.raises(EOFError):
        one.request("GET", "/long")
    one.close()


def test_the_handshake_byte_by_byte(world: EvidenceWorld, alone: Cvm) -> None:
    link, handshake = Link(alone.address), ClientHandshake()
    link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in encode_turn(handshake.first_flight()):
        link.sock.send(bytes([byte]))
    assert handshake.receive(link.answer()) is not None
    link.sock.close()


def test_evidence_of_one_session_does_not_verify_in_another(world: EvidenceWorld, alone: Cvm) -> None:
    one, other = device(world, alone), device(world, alone)
    one.offer.__dict__["evidence"] = other.offer.evidence
    with pytest.raises(VerificationRefused) as refused:
        one.verify()
    assert [check.id for check in refused.value.verdict.failed] == ["binding"]
    one.close()
    other.close()


def test_a_downgrade_is_refused(alone: Cvm) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([ALPN])
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    link = Link(alone.address)
    link.sock.sendall(encode_turn(client.bio_read(65536)))
    assert link.is_closed()
    link.sock.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, encode_turn(b"x" * 5000)])
def test_garbage_ends_that_connection_only(world: EvidenceWorld, alone: Cvm, garbage: bytes) -> None:
    link = Link(alone.address)
    link.sock.sendall(garbage)
    assert link.is_closed()
    link.sock.close()
    one = device(world, alone)
    assert one.request("POST", "/", b"still here") == (200, b"still here")
    one.close()


def test_a_cut_handshake_leaves_nothing(world: EvidenceWorld, alone: Cvm) -> None:
    link = Link(alone.address)
    link.sock.sendall(encode_turn(ClientHandshake().first_flight())[:700])
    link.sock.close()
    one = device(world, alone)
    one.close()
    settle(alone)


def test_a_device_that_claims_to_be_a_cvm_is_refused(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    one.accept(own_evidence=b"evidence")
    with pytest.raises(EOFError):
        one.request("GET", "/")
    one.close()


def test_the_sandbox_holds_while_it_serves(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    assert one.request("GET", "/tries") == (200, b"")
    assert one.request("POST", "/", b"goes on") == (200, b"goes on")
    one.close()


def test_a_crash_disturbs_nobody(world: EvidenceWorld, alone: Cvm) -> None:
    one, other = device(world, alone), device(world, alone)
    with pytest.raises(EOFError):
        one.request("GET", "/die")
    assert other.request("POST", "/", b"fine") == (200, b"fine")
    assert alone.events("WorkerLost")[-1]["status"] == 7
    one.close()
    other.close()


def test_an_application_error_tells_nothing(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    assert one.request("GET", "/raise") == (500, b'{"code": "error"}')
    one.close()


def test_a_device_that_leaves_ends_the_work_for_it(world: EvidenceWorld, alone: Cvm) -> None:
    one = device(world, alone)
    tls = one.accept()
    tls.send(ClientExchange("test").request("GET", "/wait", b""))
    one.link.sock.sendall(encode_turn(tls.outgoing()))
    one.close()
    settle(alone)


def test_descriptors_and_processes_do_not_add_up(world: EvidenceWorld, alone: Cvm) -> None:
    settle(alone)
    before = alone.open_files()
    for _ in range(5):
        one = device(world, alone)
        one.request("POST", "/", b"x")
        one.close()
    settle(alone)
    assert alone.open_files() == before


def test_beyond_the_limit_sessions_wait(world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo), sessions=1)
    with stopping(cvm):
        one = device(world, cvm)
        waiting, handshake = Link(cvm.address), ClientHandshake()
        waiting.sock.sendall(encode_turn(handshake.first_flight()))
        assert one.request("POST", "/", b"x") == (200, b"x")
        assert len(cvm.processes()) == 1
        one.close()
        assert handshake.receive(waiting.answer()) is not None
        waiting.sock.close()


def test_sessions_take_turns_to_compute(world: EvidenceWorld) -> None:
    def make(session: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/free":
                await respond(send, 200, b"done")
                return

            async def told(_place: int) -> None:
                session.log.emit(Started(role=Party.OTHER, warm_ms=0))

            async with session.slot(told):
                session.log.emit(Started(role=Party.OTHER, warm_ms=0))
                if scope["path"] == "/hold":
                    await receive()  # until the device leaves
                await respond(send, 200, b"done")

        return app

    cvm = start_cvm(world, KitRole("orchestrator", make), slots=1)
    with stopping(cvm):
        holder, waiter = device(world, cvm), device(world, cvm)
        # After the rehearsal's: the holder has its turn, and then the waiter hears that it waits.
        for one, path, events in ((holder, "/hold", 2), (waiter, "/", 3)):
            tls = one.accept()
            tls.send(ClientExchange("test").request("GET", path, b""))
            one.link.sock.sendall(encode_turn(tls.outgoing()))
            cvm.events("Started", events)
        third = device(world, cvm)
        assert third.request("GET", "/free") == (200, b"done")  # longer than the waiter would take
        third.close()
        assert len(cvm.events("Started", 3)) == 3
        holder.close()
        assert len(cvm.events("Started", 4)) == 4
        assert len(waiter.link.answer()) > 4096
        waiter.close()


WAITING = 64


def answer_of(one: Device, exchange: ClientExchange) -> Any:
    # To its last word, and not to the end of its padding, which may take as long again as it has waited.
    assert one.tls is not None
    body = b""
    while not body.endswith(b"]]"):
        for message in one.link._reader.feed(one.link.sock.recv(65536)):
            for event in one.tls.receive(message) if message else ():
                assert isinstance(event, Data)
                body += b"".join(p.data for p in exchange.feed(event.data) if isinstance(p, Piece))
    return json.loads(body)


@pytest.mark.timeout(600)
def test_many_sessions_wait_in_the_order_of_asking_and_know_their_place() -> None:
    # From a small process: forked from one that had run the whole suite, one of the many did not come up, twice, for a reason that is not found yet.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{__file__}::{_many_sessions.__name__}",
    ]
    done = subprocess.run(
        [*command[:-1], "-o", "python_functions=_many_sessions", command[-1]],
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.timeout(600)
def _many_sessions(world: EvidenceWorld) -> None:
    def make(session: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            places: list[int] = []

            async def told(place: int) -> None:
                if not places:
                    session.log.emit(Started(role=Party.OTHER, warm_ms=place))
                places.append(place)

            async with session.slot(told):
                turn = time.monotonic_ns()
                if scope["path"] == "/hold":
                    session.log.emit(Started(role=Party.OTHER, warm_ms=0))
                    await receive()  # until the device leaves
            await respond(send, 200, json.dumps([turn, places]).encode())

        return app

    def begin(path: str) -> tuple[Device, ClientExchange]:
        try:
            one, exchange = device(world, cvm), ClientExchange("test")
        except TimeoutError:
            opened = len(cvm.events("SessionOpened", 0))
            raise AssertionError(
                f"no answer; opened {opened}, processes {len(cvm.processes())}, log {cvm._lines[-600:]!r}"
            ) from None
        ends.callback(one.close)
        tls = one.accept()
        tls.send(exchange.request("GET", path, b""))
        one.link.sock.sendall(encode_turn(tls.outgoing()))
        return one, exchange

    # A slow cadence: the frames of so many sessions must leave a small machine time to open the next.
    cvm = start_cvm(world, KitRole("orchestrator", make), slots=1, sessions=WAITING + 2, cadence_ms=1000)
    with stopping(cvm), contextlib.ExitStack() as ends:
        holder, _ = begin("/hold")
        cvm.events("Started")
        waiters = [begin("/") for _ in range(WAITING)]
        cvm.events("Started", 1 + WAITING)
        gone, _ = waiters.pop(WAITING // 2)
        gone.close()  # who leaves lets the others move up
        cvm.events("SessionClosed")
        holder.close()
        answers = [answer_of(*waiter) for waiter in waiters]
    for _, places in answers:
        assert places == sorted(places, reverse=True)
        assert places[-1] == 1
    assert len({places[0] for _, places in answers}) == WAITING - 1
    by_place = sorted(answers, key=lambda answer: answer[1][0])
    assert [turn for turn, _ in by_place] == sorted(turn for turn, _ in answers)


def test_sigterm_ends_every_session_at_once(world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo))
    one = device(world, cvm)
    tls = one.accept()
    tls.send(ClientExchange("test").request("GET", "/wait", b""))
    one.link.sock.sendall(encode_turn(tls.outgoing()))
    cvm.events("SessionOpened")
    (process,) = cvm.processes()
    os.kill(process, signal.SIGSTOP)  # nothing that asks it, or waits for it, comes to an end
    began = time.monotonic()
    cvm.stop()
    assert time.monotonic() - began < LIMITS.session_idle / 2
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises((EOFError, ConnectionError)):
        one.request("POST", "/", b"x")
    one.close()


def test_a_killed_parent_takes_its_sessions_along(world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo))
    one = device(world, cvm)
    os.kill(cvm.pid, signal.SIGKILL)
    cvm.stop()
    with pytest.raises((EOFError, ConnectionError)):
        one.request("POST", "/", b"x")
    one.close()


def test_the_parent_never_holds_content(world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo))
    canary = os.urandom(16).hex().encode()  # made after the fork
    with stopping(cvm):
        one = device(world, cvm)
        assert one.request("POST", "/", canary * 10) == (200, canary * 10)
        assert not holds(cvm.pid, canary)
        one.close()


def holds(pid: int, needle: bytes) -> bool:
    """Whether the writable memory of a process of ours holds `needle`."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            where, mode, *_, name = [*line.split(), "", ""][:7]
            if "w" in mode and not name.startswith("[v"):
                start, end = (int(number, 16) for number in where.split("-"))
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
    return False


# One report for many sessions.


def flight(cvm: Cvm) -> tuple[Link, ClientHandshake]:
    """A session that has begun, and waits for its evidence."""
    link, handshake = Link(cvm.address), ClientHandshake()
    link.sock.sendall(encode_turn(handshake.first_flight()))
    return link, handshake


def evidence(world: EvidenceWorld, link: Link, handshake: ClientHandshake, **policy: Any) -> Evidence:
    offer = handshake.receive(link.answer())
    assert offer is not None
    connection = world.connection(offer.exporter, offer.spki)
    return verify_session(offer.evidence, policy=world.policy(**policy), connection=connection).evidence


def test_a_session_alone_has_a_report_of_its_own(world: EvidenceWorld, alone: Cvm) -> None:
    link, handshake = flight(alone)
    assert evidence(world, link, handshake, require_backends=()).batch == Batch(index=0, size=1, path=())
    link.sock.close()


class Held(KitCollector):
    """Makes one report, for the rehearsal; each of the next ones when a file called `go` is there. It says in another file how many it made."""

    def __init__(self, world: EvidenceWorld, role: str, folder: Path) -> None:
        super().__init__(world, role)
        folder.mkdir()
        self.go = folder / "go"
        self._file = folder / "made"
        self._file.touch()

    @property
    def made(self) -> int:
        return self._file.stat().st_size

    def report(self, report_data: bytes) -> bytes:
        while self.made and not self.go.exists():
            time.sleep(0.001)
        with self._file.open("ab") as file:
            file.write(b".")
        return super().report(report_data)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server says each time when it was asked for a quote, and nobody gives up a report that is held."""
    ask = Server._ask_quote

    def asked(server: Server, *process_and_leaf: Any) -> None:
        ask(server, *process_and_leaf)
        server._log.emit(Started(role=Party.OTHER, warm_ms=0))

    monkeypatch.setattr(Server, "_ask_quote", asked)
    for module, name in ((quotes, "PATIENCE"), (worker, "_CONNECT"), (tee_server, "_SETUP")):
        monkeypatch.setattr(module, name, DEADLINE)


@pytest.mark.usefixtures("told")
def test_sessions_that_begin_together_share_few_reports(world: EvidenceWorld, tmp_path: Path) -> None:
    held = Held(world, "orchestrator", tmp_path / "held")
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo), collector=held)
    with stopping(cvm):
        sessions = [flight(cvm) for _ in range(8)]
        cvm.events("Started", 8)
        held.go.touch()
        shown = [evidence(world, *session, require_backends=()) for session in sessions]
        reports = {one.platform.report for one in shown}
        # The first that came, and all others, who came while its report was being made.
        assert len(reports) <= 2
        for report in reports:
            batches = [one.batch for one in shown if one.platform.report == report]
            assert {batch.size for batch in batches} == {len(batches)}
            assert sorted(batch.index for batch in batches) == list(range(len(batches)))
        for link, _ in sessions:
            link.sock.close()


@pytest.mark.usefixtures("told")
def test_the_server_does_not_wait_for_its_processor(world: EvidenceWorld, tmp_path: Path) -> None:
    held = Held(world, "orchestrator", tmp_path / "held")
    held.go.touch()
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo), collector=held)
    with stopping(cvm):
        one = device(world, cvm)
        one.accept()
        held.go.unlink()
        waiting = flight(cvm)
        cvm.events("Started", 2)
        for _ in range(3):
            assert one.request("POST", "/", b"x") == (200, b"x")
        assert not select.select([waiting[0].sock], [], [], 0)[0]
        held.go.touch()
        assert evidence(world, *waiting, require_backends=())
        waiting[0].sock.close()
        one.close()


class Failing(KitCollector):
    """Makes one report, for the rehearsal, and then none until a file is there."""

    def __init__(self, world: EvidenceWorld, healed: Path) -> None:
        super().__init__(world, "orchestrator")
        self._healed = healed
        self._made = 0

    def report(self, report_data: bytes) -> bytes:
        self._made += 1
        if self._made > 1 and not self._healed.exists():
            raise UnavailableError("broken", party="processor")
        return super().report(report_data)


def test_a_processor_that_fails_ends_the_sessions_that_wait_and_no_other(
    world: EvidenceWorld, tmp_path: Path
) -> None:
    healed = tmp_path / "healed"
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo), collector=Failing(world, healed))
    with stopping(cvm):
        for link, _ in [flight(cvm) for _ in range(3)]:
            assert link.is_closed()
            link.sock.close()
        assert cvm.events("SessionClosed", 3)[0]["code"] == "unavailable"
        healed.touch()
        one = device(world, cvm)
        healed.unlink()
        link, _ = flight(cvm)
        assert link.is_closed()
        link.sock.close()
        assert one.request("POST", "/", b"goes on") == (200, b"goes on")
        one.close()


@pytest.mark.usefixtures("told")
def test_a_session_that_leaves_while_it_waits_disturbs_nobody(world: EvidenceWorld, tmp_path: Path) -> None:
    held = Held(world, "orchestrator", tmp_path / "held")
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo), collector=held)
    with stopping(cvm):
        sessions = [flight(cvm) for _ in range(4)]
        cvm.events("Started", 4)
        for link, _ in sessions[::2]:
            link.sock.close()
        held.go.touch()
        for link, handshake in sessions[1::2]:
            assert evidence(world, link, handshake, require_backends=())
            link.sock.close()
        settle(cvm)


def test_a_cvm_that_can_prove_nothing_any_more_ends(world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("orchestrator", lambda _: echo))
    one = device(world, cvm)
    os.kill(cvm.reporter, signal.SIGKILL)
    assert one.link.is_closed()
    one.close()
    cvm.wait()


# Mutual attestation.


def app_asking(role: str) -> Any:
    def make(session: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = (await receive())["body"]
            async with session.backend(role).request("POST", "/stream", body) as answer:
                got = await answer.read()
            async with session.backend(role).request("POST", "/", body) as answer:
                got += await answer.read()
            await respond(send, answer.status, got)

        return app

    return make


@pytest.fixture(scope="module")
def backends(world: EvidenceWorld) -> Iterator[dict[str, Cvm]]:
    cvms = {role: start_cvm(world, KitRole(role, lambda _: echo)) for role in BACKENDS}
    with stopping(*cvms.values()):
        yield cvms


def wiring(backends: dict[str, Cvm], **other: Cvm) -> dict[str, tuple[str, int]]:
    return {role: cvm.address for role, cvm in (backends | other).items()}


def test_orchestrator_and_back_ends(world: EvidenceWorld, backends: dict[str, Cvm]) -> None:
    role = KitRole("orchestrator", app_asking("predictor"), BACKENDS)
    cvm = start_cvm(world, role, wiring=wiring(backends))
    with stopping(cvm):
        one = Device(world, cvm.address)
        verified = one.verify()
        assert {backend.role for backend in verified.evidence.backends} == set(BACKENDS)
        assert one.request("POST", "/", b"question") == (200, b"piece" * 3 + b"question")
        one.close()
        assert cvm.events("SessionClosed")[0]["code"] == "closed"


@pytest.mark.usefixtures("told")
def test_both_legs_share_reports(world: EvidenceWorld, tmp_path: Path) -> None:
    machines = {role: Held(world, role, tmp_path / role) for role in ("orchestrator", *BACKENDS)}
    machines["guard"].go.touch()
    cvms = {
        role: start_cvm(world, KitRole(role, lambda _: echo), collector=machines[role]) for role in BACKENDS
    }
    role = KitRole("orchestrator", app_asking("predictor"), BACKENDS)
    front = start_cvm(
        world, role, wiring=wiring(cvms), spares=4, patience=5.0, collector=machines["orchestrator"]
    )
    with stopping(front, *cvms.values()):
        # All four come to the predictor first; then it to each of them, and they to it.
        for cvm, name in ((cvms["predictor"], "predictor"), (front, "orchestrator")):
            cvm.events("Started", 4)
            machines[name].go.touch()
        for cvm in cvms.values():
            cvm.events("SessionOpened", 4)
        made = {role: machine.made for role, machine in machines.items()}
    # One each for the rehearsal. Then the first that came has one, and all others the next.
    assert made["predictor"] <= 1 + 2
    # It goes on with one for each at most: how the four then come to the guard is chance.
    assert made["orchestrator"] <= 1 + 2 + 4


def test_a_device_cannot_talk_to_a_back_end(world: EvidenceWorld, backends: dict[str, Cvm]) -> None:
    one = Device(world, backends["guard"].address, role="guard", require_backends=())
    one.accept(Proof(one.offer.exporter, one.offer.spki))
    with pytest.raises(EOFError):
        one.request("POST", "/", b"x")
    one.close()


@pytest.mark.parametrize("claimed", ["guard", "predictor"])
def test_a_back_end_serves_no_other_back_end(
    world: EvidenceWorld, backends: dict[str, Cvm], claimed: str
) -> None:
    one = Device(world, backends["guard"].address, role="guard", require_backends=())
    own = world.evidence(one.offer.exporter, one.offer.spki, role=claimed, from_client=True).encode()
    one.accept(Proof(one.offer.exporter, one.offer.spki), own_evidence=own)
    with pytest.raises(EOFError):
        one.request("POST", "/", b"x")
    one.close()


def test_the_servers_own_evidence_sent_back_is_refused(
    world: EvidenceWorld, backends: dict[str, Cvm]
) -> None:
    one = Device(world, backends["guard"].address, role="guard", require_backends=())
    one.accept(Proof(one.offer.exporter, one.offer.spki), own_evidence=one.offer.evidence)
    with pytest.raises(EOFError):
        one.request("POST", "/", b"x")
    one.close()


def test_an_orchestrator_with_evidence_is_served(world: EvidenceWorld, backends: dict[str, Cvm]) -> None:
    one = Device(world, backends["guard"].address, role="guard", require_backends=())
    own = world.evidence(one.offer.exporter, one.offer.spki, from_client=True).encode()
    one.accept(Proof(one.offer.exporter, one.offer.spki), own_evidence=own)
    assert one.request("POST", "/", b"x") == (200, b"x")
    one.close()


def test_a_changed_back_end_is_named_to_the_device(world: EvidenceWorld, backends: dict[str, Cvm]) -> None:
    changed = start_cvm(world, KitRole("guard", lambda _: echo), measurement=b"\xee" * 48)
    role = KitRole("orchestrator", app_asking("predictor"), BACKENDS)
    cvm = start_cvm(world, role, wiring=wiring(backends, guard=changed), patience=0.0)
    with stopping(cvm, changed):
        one = Device(world, cvm.address)
        with pytest.raises(VerificationRefused) as refused:
            one.verify()
        assert [check.id for check in refused.value.verdict.failed] == ["backend-guard"]
        # A device that went on all the same would be served nothing.
        one.accept(Proof(one.offer.exporter, one.offer.spki))
        assert one.request("POST", "/", b"x") == (503, b'{"code": "unavailable"}')
        one.close()
        assert cvm.events("BackendLost")[0] == {
            "event": "BackendLost",
            "party": "guard",
            "code": "verification",
        }


def test_a_back_end_that_is_late_is_waited_for(world: EvidenceWorld, backends: dict[str, Cvm]) -> None:
    late = socket.socket()
    late.bind(("127.0.0.1", 0))
    role = KitRole("orchestrator", app_asking("predictor"), BACKENDS)
    where = wiring(backends) | {"guard": late.getsockname()}
    cvm = start_cvm(world, role, wiring=where, patience=0.0)
    cvm.events("BackendLost", 1)
    late.listen()
    guard = start_cvm(world, KitRole("guard", lambda _: echo), listener=late)
    with stopping(cvm, guard):
        end = time.monotonic() + DEADLINE
        while missing := failed_checks(world, cvm):
            assert missing == ["backend-guard"]
            assert time.monotonic() < end


def failed_checks(world: EvidenceWorld, cvm: Cvm) -> list[str]:
    one = Device(world, cvm.address)
    try:
        one.verify()
    except VerificationRefused as refused:
        return [check.id for check in refused.verdict.failed]
    finally:
        one.close()
    return []

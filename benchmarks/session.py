"""What an attested session costs: CPU time of both ends, and what a device waits for.

The CVMs are real forked servers with their sandboxes; evidence, chips and log are those of the in-memory world, so
nothing else of the system is in the numbers. Roles answer at once: there is no model here.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sottovoce.attest.binding import session_leaf
from sottovoce.attest.verify import verify_session
from sottovoce.core.tls import AttestationWanted, ClientHandshake, ServerConnection
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee.attestation import quote
from sottovoce.tee.sandbox import swap_is_on
from tee_kit import (
    BACKENDS,
    Cvm,
    Device,
    KitCollector,
    KitRole,
    attester_of,
    respond,
    start_cvm,
    stopping,
)

RUNS = 60
REAL_RUNS = 30
TICKS = 100
"""Clock ticks a second in /proc (`getconf CLK_TCK`)."""


def cpu_ms(act: Callable[[], Any], runs: int = RUNS) -> float:
    """Median CPU time of `act`, milliseconds."""
    act()
    times = []
    for _ in range(runs):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return 1000 * median(times)


def handshake(evidence: bytes) -> None:
    """One handshake, both ends."""
    server, client = ServerConnection(), ClientHandshake()
    (wanted,) = server.receive(client.first_flight())
    assert isinstance(wanted, AttestationWanted)
    server.attest(evidence)
    offer = client.receive(server.outgoing())
    assert offer is not None
    server.receive(offer.accept(wanted).outgoing())


def opening(world: EvidenceWorld) -> Callable[[], None]:
    """One attested session, both ends: handshake, report, evidence, verification."""
    attester, collector = attester_of(world, "orchestrator"), KitCollector(world, "orchestrator")
    backends = tuple(world.backend(role) for role in BACKENDS)
    policy = world.policy()

    def run() -> None:
        server, client = ServerConnection(), ClientHandshake()
        (wanted,) = server.receive(client.first_flight())
        assert isinstance(wanted, AttestationWanted)
        quoted = quote(collector, session_leaf(wanted.exporter, wanted.spki))
        server.attest(attester.evidence(quoted, backends=backends))
        offer = client.receive(server.outgoing())
        assert offer is not None
        connection = world.connection(offer.exporter, offer.spki)
        verified = verify_session(offer.evidence, policy=policy, connection=connection)
        server.receive(offer.accept(verified).outgoing())

    return run


def cpu_of(cvm: Cvm) -> float:
    """CPU seconds of a CVM, with those of its session processes that have ended."""
    fields = Path(f"/proc/{cvm.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def settle(cvm: Cvm, processes: int) -> None:
    """Wait until the processes of the sessions before have ended."""
    while len(cvm.processes()) > processes:
        time.sleep(0.001)


async def echo(_: Any, receive: Any, send: Any) -> None:
    """A role that has nothing to do."""
    await respond(send, 200, (await receive())["body"])


def real_sessions(world: EvidenceWorld, cvms: list[Cvm], spares: int, **policy: Any) -> dict[str, float]:
    """Wall and CPU time of whole sessions with one request each, over TCP."""
    waits, totals = [], []
    front = cvms[0]
    before = [cpu_of(cvm) for cvm in cvms]
    own = time.process_time()
    for _ in range(REAL_RUNS):
        time.sleep(0.1)  # spare processes are made meanwhile, as between the sessions of real users
        began = time.perf_counter()
        device = Device(world, front.address, **policy)
        waits.append(time.perf_counter() - began)
        device.accept()
        device.request("POST", "/", b"x" * 600)
        totals.append(time.perf_counter() - began)
        device.close()
    settle(front, spares)
    own = time.process_time() - own
    spent = sum(map(cpu_of, cvms)) - sum(before)
    return {
        "evidence_ms": 1000 * median(waits),
        "answer_ms": 1000 * median(totals),
        "cpu_device_ms": 1000 * own / REAL_RUNS,
        "cpu_on_path_ms": median(event["cpu_ms"] for event in front.events("SessionClosed", REAL_RUNS)),
        "cpu_cvm_ms": 1000 * spent / REAL_RUNS,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    world = EvidenceWorld()
    evidence = world.evidence(bytes(32), b"spki").encode()
    connection, policy = world.connection(bytes(32), b"spki"), world.policy()
    result: dict[str, Any] = {
        "evidence_bytes": len(evidence),
        "handshake_cpu_ms": cpu_ms(lambda: handshake(evidence)),
        "verify_cpu_ms": cpu_ms(lambda: verify_session(evidence, policy=policy, connection=connection)),
        "open_cpu_ms": cpu_ms(opening(world)),
    }
    alone = start_cvm(world, KitRole("orchestrator", lambda _: echo), lock_memory=swap_is_on())
    with stopping(alone):
        result["one_cvm"] = real_sessions(world, [alone], 0, require_backends=())
    backends = {
        role: start_cvm(world, KitRole(role, lambda _: echo), lock_memory=swap_is_on()) for role in BACKENDS
    }
    wiring = {role: cvm.address for role, cvm in backends.items()}
    front = start_cvm(
        world, KitRole("orchestrator", lambda _: echo, BACKENDS), wiring=wiring, lock_memory=swap_is_on()
    )
    with stopping(front, *backends.values()):
        result["three_cvms"] = real_sessions(world, [front, *backends.values()], 2)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"TLS handshake with {result['evidence_bytes']} B evidence, CPU, both ends {result['handshake_cpu_ms']:6.2f} ms"
    )
    print(
        f"verification of evidence, CPU                        {result['verify_cpu_ms']:6.2f} ms   (bound 5)"
    )
    print(
        f"attested session open, CPU, both ends                {result['open_cpu_ms']:6.2f} ms   (bound 20)"
    )
    for name, title in (
        ("one_cvm", "process made on demand"),
        ("three_cvms", "with mutual attestation of three CVMs"),
    ):
        row = result[name]
        print(title)
        print(f"  connect → evidence, wall                           {row['evidence_ms']:6.2f} ms")
        print(f"  connect → first answer, wall                       {row['answer_ms']:6.2f} ms")
        print(f"  CPU a session, device                              {row['cpu_device_ms']:6.2f} ms")
        print(f"  CPU a session, its process, from its connection on {row['cpu_on_path_ms']:6.2f} ms")
        print(f"  CPU a session, CVMs, making of processes included   {row['cpu_cvm_ms']:6.2f} ms")


if __name__ == "__main__":
    main()

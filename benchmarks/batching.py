"""Many sessions on one slow security processor: how many a second it serves, and what a session waits for its quote.

The processor is the simulated one, in a process of its own, with at least 10 ms a report, one at a time. Sessions arrive at
random (a Poisson process, the same for every run), whether the ones before are served or not: a session's time runs from the
moment at which it was to arrive, so a service that falls behind is not spared. Leaves, reports and signatures are real, and every
session's proof is verified afterwards against the report that it was given.

Two levels: the service that gathers leaves (`tee.quotes`) alone, and whole sessions at a real CVM, where making a process for
each is what two cores can do least of.
"""

import argparse
import concurrent.futures
import contextlib
import gc
import json
import math
import os
import random
import select
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from benchmarks.svg import Line, plot

from sottovoce.attest.binding import batch_root, report_data, session_leaf
from sottovoce.attest.certificates import Certificate
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.snp.signatures import verify_report
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee.attestation import Quote
from sottovoce.tee.batching import MAX_BATCH
from sottovoce.tee.quotes import QuoteService
from sottovoce.tee.reporter import Reporter
from sottovoce.tee.sandbox import swap_is_on
from tee_kit import Device, KitCollector, KitRole, respond, start_cvm, stopping

DELAY = 0.010
SECONDS = 5.0
LONE = 100
RATES = (10, 30, 100, 300, 1000, 2000)
ALONE_RATES = (10, 30, 70, 100, 130)
"""Without sharing: one report each, so it ends at 100 a second."""
SERVER_RATES = (5, 10, 20, 40)
SPKI = b"a server's public key"
PLOT = Path("build/batching.svg")


@dataclass
class Run:
    """One load, as it was served."""

    waits: list[float] = field(default_factory=list)
    quotes: list[tuple[bytes, Quote]] = field(default_factory=list)
    reports: int = 0
    seconds: float = 0.0

    def row(self, rate: float, lone_ms: float) -> dict[str, float]:
        waits = sorted(1000 * wait for wait in self.waits)
        return {
            "offered": rate,
            "served": len(waits) / self.seconds,
            "sessions": len(waits),
            "reports": self.reports,
            "mean_batch": len(waits) / self.reports,
            **{f"p{q}_ms": quantile(waits, q) for q in (50, 95, 99)},
            **{f"added_p{q}_ms": max(0.0, quantile(waits, q) - lone_ms) for q in (50, 95, 99)},
        }


def quantile(values: list[float], percent: int) -> float:
    """Of sorted values, by nearest rank."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


def arrivals(rate: float, seconds: float) -> list[float]:
    """Moments of a Poisson process."""
    draw = random.Random(rate)  # noqa: S311 - a load, the same in every run
    moments, now = [], 0.0
    while (now := now + draw.expovariate(rate)) < seconds:
        moments.append(now)
    return moments


def serve(reporter: Reporter, moments: list[float], *, limit: int = MAX_BATCH) -> Run:
    """The service under a load: `moments` in seconds from its start."""
    run, leaves = Run(), [session_leaf(os.urandom(32), SPKI) for _ in moments]
    ends: dict[int, float] = {}

    def reply(who: int, quote: Quote | None) -> None:
        assert quote is not None
        encoded = quote.encode()  # what a session's process would be sent
        ends[who] = time.perf_counter()
        run.quotes.append((leaves[who], Quote.decode(encoded)))

    service: QuoteService[int] = QuoteService(reporter, reply=reply, papers=lambda _: None, limit=limit)
    gc.collect()
    began, number = time.perf_counter(), 0
    while len(ends) < len(moments):
        now = time.perf_counter() - began
        while number < len(moments) and moments[number] <= now:
            service.ask(number, leaves[number])
            number += 1
        service.start()
        left = max(0.0, moments[number] - (time.perf_counter() - began)) if number < len(moments) else 1.0
        if select.select([service], [], [], left)[0]:
            service.receive()
    run.seconds = max(ends.values()) - began
    run.waits = [ends[who] - began - moment for who, moment in enumerate(moments)]
    run.reports = service.reports
    return run


def check(world: EvidenceWorld, quotes: list[tuple[bytes, Quote]]) -> int:
    """Verify each session's proof, and each report's signature once. The number of reports."""
    vcek = Certificate.parse(world.chips["orchestrator"].vcek)
    known: dict[bytes, bytes] = {}
    for leaf, quote in quotes:
        if quote.report not in known:
            parsed = Report.parse(quote.report)
            verify_report(parsed, vcek)
            known[quote.report] = parsed.report_data
        b = quote.batch
        root = batch_root(leaf, index=b.index, size=b.size, path=b.path)
        assert report_data(root) == known[quote.report]
    return len(known)


def level_service(world: EvidenceWorld, result: dict[str, Any]) -> None:
    """The service alone."""
    reporter = Reporter(KitCollector(world, "orchestrator", delay=DELAY))
    lone = serve(reporter, [0.02 + 0.03 * number for number in range(LONE)])
    assert check(world, lone.quotes) == lone.reports == LONE
    lone_ms = quantile(sorted(1000 * wait for wait in lone.waits), 50)
    result["lone_ms"] = lone_ms
    for name, rates, limit in (("shared", RATES, MAX_BATCH), ("alone", ALONE_RATES, 1)):
        result[name] = []
        for rate in rates:
            run = serve(reporter, arrivals(rate, max(SECONDS, 100 / rate)), limit=limit)
            assert check(world, run.quotes) == run.reports
            result[name].append(run.row(rate, lone_ms))
    reporter.close()


async def nothing(_: Any, receive: Any, send: Any) -> None:
    """A role that has nothing to do."""
    await respond(send, 200, (await receive())["body"])


def drain(log: int) -> None:
    """Read a log to its end."""
    with contextlib.suppress(OSError):
        while os.read(log, 65536):
            pass


def level_server(world: EvidenceWorld, result: dict[str, Any]) -> None:
    """Whole sessions at a CVM: handshake, a process of its own, evidence, every check of the device."""
    cvm = start_cvm(
        world, KitRole("orchestrator", lambda _: nothing), delay=DELAY, sessions=256, lock_memory=swap_is_on()
    )

    def session() -> tuple[float, bytes]:
        device = Device(world, cvm.address, require_backends=())
        ended = time.perf_counter()
        verified = device.verify()
        device.close()
        return ended, verified.evidence.platform.report

    # A log that nobody reads would stop the CVM when its pipe is full.
    threading.Thread(target=drain, args=(cvm.log,), daemon=True).start()
    with stopping(cvm), concurrent.futures.ThreadPoolExecutor(64) as pool:
        lone = Run()
        for _ in range(20):
            began = time.perf_counter()
            lone.waits.append(session()[0] - began)
            time.sleep(0.05)
        lone_ms = quantile(sorted(1000 * wait for wait in lone.waits), 50)
        result["server_lone_ms"] = lone_ms
        result["server"] = []
        for rate in SERVER_RATES:
            moments, run = arrivals(rate, SECONDS), Run()
            began = time.perf_counter()
            waiting = []
            for moment in moments:
                time.sleep(max(0.0, moment - (time.perf_counter() - began)))
                waiting.append(pool.submit(session))
            done = [future.result() for future in waiting]
            run.waits = [ended - began - moment for (ended, _), moment in zip(done, moments, strict=True)]
            run.seconds = max(ended for ended, _ in done) - began
            run.reports = len({report for _, report in done})
            result["server"].append(run.row(rate, lone_ms))


def table(title: str, rows: list[dict[str, float]]) -> None:
    print(f"\n{title}")
    print("  offered/s  served/s  sessions  reports  sessions a report  added p50 ms  p95 ms  p99 ms")
    for r in rows:
        print(
            f"  {r['offered']:9.0f}  {r['served']:8.1f}  {r['sessions']:8.0f}  {r['reports']:7.0f}"
            f"  {r['mean_batch']:17.2f}  {r['added_p50_ms']:12.1f}  {r['added_p95_ms']:6.1f}  {r['added_p99_ms']:6.1f}"
        )


def bars(rows: list[dict[str, float]]) -> None:
    """p95 of the whole wait, as text."""
    print("\nwait for a quote, p50 (#) and p95 (-), one mark a millisecond; shared reports")
    for r in rows:
        p50, p95 = round(r["p50_ms"]), round(r["p95_ms"])
        print(f"  {r['offered']:5.0f}/s {'#' * p50}{'-' * (p95 - p50)} {r['p50_ms']:.1f} / {r['p95_ms']:.1f}")


def show(result: dict[str, Any]) -> None:
    """Print tables and plot."""
    print(f"one processor, {1000 * DELAY:.0f} ms a report, one at a time; {os.cpu_count()} cores")
    print(f"a session alone waits for its quote            {result['lone_ms']:6.1f} ms")
    table("sessions share reports", result["shared"])
    table("one report a session", result["alone"])
    bars(result["shared"])
    print(f"\na CVM, connection → evidence, a session alone  {result['server_lone_ms']:6.1f} ms")
    table("whole sessions at a CVM (processes, handshakes, both ends on these cores)", result["server"])
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(picture(result))
    print(f"\nwritten: {PLOT}")


def picture(result: dict[str, Any]) -> str:
    lines = [
        Line(f"shared, p{q}", [(r["offered"], r[f"p{q}_ms"]) for r in result["shared"]]) for q in (50, 95, 99)
    ]
    lines.append(Line("one each, p95", [(r["offered"], r["p95_ms"]) for r in result["alone"]], dashed=True))
    title = f"Wait for a quote, one processor at {1000 * DELAY:.0f} ms a report"
    return plot(title, "sessions offered a second", "milliseconds", lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    world, result = EvidenceWorld(), dict[str, Any]()
    level_service(world, result)
    level_server(world, result)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

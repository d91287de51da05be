"""What privacy costs the model: sessions of attested CVMs against llama.cpp's own server with the same weights, in one run.

private: orchestrator, predictor and guard as forked servers with their sandboxes, a process a session, over an in-memory world of evidence; a device's TLS, frames and
         cadence. Sessions are open, and their prompts not known, before the clock starts.
direct:  llama.cpp's server, with as many slots as there are sessions and no cache of prompts. It puts all sessions' tokens into one batch, which a process a session cannot.
         Where it is not here, only the private numbers are printed. SOTTOVOCE_TEST_LLAMA_SERVER names its program (docs/engines.md).

served:  the same CVMs with that very server as their engine (docs/engines.md): batches again, and what is then not promised any more.

They take turns, so that noise hits all. Tokens a second are all sessions' tokens by the time from the first question to the last word. First words are also compared with the
prefill alone, which the same engine does in this process; and memory is what a session's process has to itself when it has answered.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sottovoce.cli.model import default_folder
from sottovoce.core.link import LinkReader, encode_turn
from sottovoce.core.tls import Data
from sottovoce.simulator.models import DEFAULT, SMALL
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee.engines import Engine, Sampling, Turn
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.engines.remote import RemoteEngine
from sottovoce.tee.features.prompts import PROMPTS
from sottovoce.tee.guard import GuardRole
from sottovoce.tee.http import ClientExchange, Piece
from sottovoce.tee.orchestrator import OrchestratorRole
from sottovoce.tee.predictor import PredictorRole
from sottovoce.tee.sandbox import swap_is_on
from tee_kit import Cvm, Device, start_cvm, stopping

CONCURRENT: Final = (1, 4, 16)
BOUNDS: Final = {1: 0.95, 4: 0.90, 16: 0.90}
FIRST_BOUND, FORK_BOUND_MS, MEMORY_BOUND_MB = 1.10, 30.0, 40.0
TOKENS: Final = 48
CADENCE: Final = 40
"""Milliseconds, of every CVM, as settings have it."""
ROUNDS: Final = {1: 5, 4: 2, 16: 1}
QUESTION: Final = (
    "Explain to a beginner, in many words, how a program reads a file of dates, sorts them, and prints those of one month. Speak of the loop, the list, the "
    "function that compares two dates, what happens at a line that is no date, and of how one would test it. "
)
SYSTEM: Final = "You explain programming."  # without one, the server adds one from the model's template
SERVED: Final = "it"
SERVER: Final = "SOTTOVOCE_TEST_LLAMA_SERVER"


@dataclass(slots=True, kw_only=True)
class Said:
    """One answer: seconds until its first word and its last, and tokens of the answer and of the prompt."""

    first: float = 0.0
    last: float = 0.0
    tokens: int = 0
    prompt: int = 0


def question(number: int) -> str:
    """One session's prompt: no two begin alike."""
    return f"{number}. {QUESTION * 3}"


def document(number: int, model: str) -> dict[str, Any]:
    """As OpenAI's interface has it."""
    return {
        "model": model,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(number)}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def read(events: Iterator[bytes], began: float) -> Said:
    """The answer in server-sent events, as they come."""
    said, rest = Said(), b""
    for data in events:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk["error"]
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                said.last = time.perf_counter() - began
                said.first = said.first or said.last
            if chunk.get("usage"):
                said.tokens, said.prompt = (
                    chunk["usage"]["completion_tokens"],
                    chunk["usage"]["prompt_tokens"],
                )
    assert said.tokens == TOKENS, "the answer is not whole, or the model had no more to say"
    return said


# Private.


class Session:
    """An open session."""

    def __init__(self, world: EvidenceWorld, front: Cvm) -> None:
        self._device = Device(world, front.address)
        self._device.accept()

    def ask(self, body: bytes) -> Said:
        """Ask, and read to the last word."""
        device, exchange, link = self._device, ClientExchange("bench"), LinkReader()
        assert device.tls is not None
        device.tls.send(exchange.request("POST", "/v1/chat/completions", body))
        began = time.perf_counter()
        device.link.sock.sendall(encode_turn(device.tls.outgoing()))

        def events() -> Iterator[bytes]:
            while not exchange.complete:
                for message in link.feed(device.link.sock.recv(65536)):
                    for event in device.tls.receive(message) if message and device.tls else ():
                        assert isinstance(event, Data)
                        yield from (p.data for p in exchange.feed(event.data) if isinstance(p, Piece))

        return read(events(), began)

    def close(self) -> None:
        """Leave."""
        self._device.close()


@contextlib.contextmanager
def cvms(engine: Engine, sessions: int, *, slots: int = 1) -> Iterator[tuple[EvidenceWorld, Cvm, Cvm]]:
    """The world, the orchestrator and the predictor, in which `slots` sessions compute at once."""
    world = EvidenceWorld()
    lock = swap_is_on()
    predictor = start_cvm(world, PredictorRole(engine), lock_memory=lock, cadence_ms=CADENCE, slots=slots)  # type: ignore[arg-type]  # any role will do
    guard = start_cvm(world, GuardRole(), lock_memory=lock, cadence_ms=CADENCE)  # type: ignore[arg-type]
    wiring = {"predictor": predictor.address, "guard": guard.address}
    front = start_cvm(
        world,
        OrchestratorRole(),  # type: ignore[arg-type]
        wiring=wiring,
        lock_memory=lock,
        cadence_ms=CADENCE,
        spares=min(4, sessions),
    )
    with stopping(front, predictor, guard):
        yield world, front, predictor


def together(asks: Sequence[Any]) -> list[Said]:
    """All at once."""
    gate = threading.Barrier(len(asks))

    def run(ask: Any) -> Said:
        gate.wait()
        said: Said = ask()
        return said

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(run, asks))


def rate(said: Sequence[Said]) -> float:
    """Tokens a second of all."""
    return sum(one.tokens for one in said) / max(one.last for one in said)


def own_megabytes(predictor: Cvm) -> float:
    """What the session process that computes has to itself, at most, megabytes."""
    found = [0.0]
    for pid in predictor.processes():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
    return max(found)


def note(memory: list[float], predictor: Cvm) -> None:
    """Remember what a session's process has to itself."""
    memory.append(own_megabytes(predictor))


# Direct.


@contextlib.contextmanager
def server(program: str, model: Path, threads: int, slots: int) -> Iterator[int]:
    """llama.cpp's server: its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "--model", str(model), "--alias", SERVED, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--threads", str(threads), "--parallel", str(slots), "--ctx-size", str(1024 * slots)]
    command += ["--no-cache-prompt", "--cache-ram", "0", "--ctx-checkpoints", "0", "--no-slots"]
    command += ["--log-disable", "--no-ui", "--offline", "--threads-http", str(32 * slots)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
    )
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # as an engine it may leave none
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(url + "/health", timeout=5).close()  # noqa: S310 - our own
                break
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def ask_server(url: str, body: bytes) -> Said:
    """Ask, and read to the last word."""
    request = urllib.request.Request(  # noqa: S310 - our own
        url + "/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        return read(iter(lambda: answer.read1(65536), b""), began)


# The run.


def prefill(engine: LlamaEngine, number: int) -> float:
    """Seconds until the first token of the same engine, in this process."""
    began = time.perf_counter()
    for _ in engine.generate(
        [Turn(role="system", text=SYSTEM), Turn(role="user", text=question(number))], Sampling(max_tokens=1)
    ):
        break
    return time.perf_counter() - began


Way = Callable[[Sequence[int]], list[Said]]
"""Asks these questions, one a session, all at once."""


def through(front: Cvm, world: EvidenceWorld, model: str, answered: Callable[[], object]) -> Way:
    """Sessions of attested CVMs; `answered` is called while they are still open."""

    def ask(numbers: Sequence[int]) -> list[Said]:
        sessions = [Session(world, front) for _ in numbers]
        bodies = [json.dumps(document(number, model)).encode() for number in numbers]
        said = together(
            [functools.partial(one.ask, body) for one, body in zip(sessions, bodies, strict=True)]
        )
        answered()
        for one in sessions:
            one.close()
        return said

    return ask


def directly(url: str) -> Way:
    """The server itself."""

    def ask(numbers: Sequence[int]) -> list[Said]:
        bodies = [json.dumps(document(number, SERVED)).encode() for number in numbers]
        return together([functools.partial(ask_server, url, body) for body in bodies])

    return ask


def measure(engine: LlamaEngine, path: Path, program: str, threads: int) -> dict[str, Any]:
    """Every number: of each way the medians of tokens a second and of seconds to the first word, and of their ratios to the direct way."""
    result: dict[str, Any] = {"model": engine.name, "threads": threads, "tokens": TOKENS}
    numbers = iter(range(1, 10_000))
    for many in CONCURRENT:
        memory: list[float] = []
        with contextlib.ExitStack() as stack:
            world, front, predictor = stack.enter_context(cvms(engine, many))
            seen = functools.partial(note, memory, predictor)
            ways = {"private": through(front, world, engine.name, seen)}
            if program:
                port = stack.enter_context(server(program, path, threads, many))
                ways["direct"] = directly(f"http://127.0.0.1:{port}")
                remote = RemoteEngine(
                    kind="llama-server", name=SERVED, prompts=PROMPTS, address=("127.0.0.1", port)
                )
                remote.warm()
                world, front, _ = stack.enter_context(cvms(remote, many, slots=many))
                ways["served"] = through(front, world, SERVED, lambda: None)
            rounds: list[dict[str, list[Said]]] = []
            alone: list[float] = []
            for _ in range(ROUNDS[many] + 1):
                questions = [next(numbers) for _ in range(many)]  # the same for all
                rounds.append({name: ask(questions) for name, ask in ways.items()})
                alone.append(prefill(engine, next(numbers)))
        del rounds[0], alone[0]  # to warm up
        result["prompt"] = {name: said[0].prompt for name, said in rounds[0].items()}
        result[str(many)] = {
            "rate": {name: median(rate(one[name]) for one in rounds) for name in ways},
            "first": {name: median(first(one[name]) for one in rounds) for name in ways},
        }
        if "direct" in ways:
            result[str(many)]["ratio"] = {
                name: median(rate(one[name]) / rate(one["direct"]) for one in rounds) for name in ways
            }
            result[str(many)]["first ratio"] = {
                name: median(first(one[name]) / first(one["direct"]) for one in rounds) for name in ways
            }
        if many == 1:
            result["megabytes"], result["prefill"] = max(memory), median(alone)
            result["more than the prefill, ms"] = 1000 * median(
                first(one["private"]) - prefilled for one, prefilled in zip(rounds, alone, strict=True)
            )
    return result


def first(said: Sequence[Said]) -> float:
    """Seconds to the first word of the session in the middle."""
    return median(one.first for one in said)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    prompts = ", ".join(f"{count} {name}" for name, count in result["prompt"].items())
    print(
        f"{result['model']}, {result['threads']} threads, answers of {result['tokens']} tokens, prompts of: {prompts}"
    )
    print(f"{'':>8}{'tokens/s':>20}{'ratio':>8}{'wanted':>8}{'first word, ms':>17}{'ratio':>8}{'wanted':>8}")
    for many in CONCURRENT:
        row = result[str(many)]
        for name, found in row["rate"].items():
            line = f"{many:3} at once {name:8}{found:8.1f}"
            compared = "ratio" in row and name != "direct"
            line += f"{row['ratio'][name]:8.2f}{BOUNDS[many]:8.2f}" if compared else " " * 16
            line += f"{1000 * row['first'][name]:17.0f}"
            if compared:
                line += f"{row['first ratio'][name]:8.2f}" + (f"{FIRST_BOUND:8.2f}" if many == 1 else "")
            print(line)
    print(
        f"first word beyond the prefill of {1000 * result['prefill']:.0f} ms: {result['more than the prefill, ms']:.0f} ms"
        f" (wanted {FORK_BOUND_MS:.0f})"
    )
    print(f"memory of a session's own: {result['megabytes']:.0f} MB (wanted {MEMORY_BOUND_MB:.0f})")


def main() -> None:
    """Run it with the default model, or the small one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="with the small model")
    arguments = parser.parse_args()
    packaged = SMALL if arguments.small else DEFAULT
    path = default_folder() / packaged.file
    program = os.environ.get(SERVER, "")
    if not program:
        print(f"llama.cpp's server is not here ({SERVER}): nothing to compare with")
    threads = os.cpu_count() or 1
    fd = os.open(path, os.O_RDONLY)
    engine = LlamaEngine(fd, name=packaged.name, threads=threads, prompts=PROMPTS)
    prefill(engine, 0)
    result = measure(engine, path, program, threads)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

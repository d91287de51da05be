"""An engine that dies, hangs or talks nonsense in the middle of an answer: the device is told, nothing is left, and the next session is served."""

import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest

from residue import in_memory, reads_memory
from sottovoce.core.link import encode_turn
from sottovoce.core.tls import Data
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee import predictor
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.guard import GuardRole
from sottovoce.tee.http import ClientExchange, Piece
from sottovoce.tee.orchestrator import OrchestratorRole
from sottovoce.tee.predictor import PredictorRole
from tee_kit import DEADLINE, Cvm, Device, start_cvm, stopping

pytestmark = pytest.mark.timeout(500)

KILLS: Final = 100
CANARY: Final = "quokkadinner"
HANGS: Final = 600
"""Seconds: longer than any test may take."""
WORDS: Final = f"talks about the {CANARY} on Saturday and who brings the cake and what it costs".split()


class UnsafeSlowEngineForTests:
    """Says its sentence slowly; or hangs, at once or after as many words as a message asks for, or never stops. There is no model in it."""

    name = "slow"

    def count(self, turns: Sequence[Turn]) -> int:
        return len(turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        yield opening
        if "nonsense" in turns[-1].text:
            while True:
                yield "\ufffd\x00<|im_end|>{]" * 20
        hang = re.search(r"hang(\d+)", turns[-1].text)
        for word in WORDS[: int(hang[1])] if hang else WORDS:
            time.sleep(0.04)
            yield f" {word}"
        if hang:
            time.sleep(HANGS)
        yield "."


@pytest.fixture(scope="module")
def cvms() -> Iterator[tuple[EvidenceWorld, Cvm, Cvm, Cvm]]:
    world = EvidenceWorld()
    front, back, guard = start(world)
    with stopping(front, back, guard):
        yield world, front, back, guard


def start(world: EvidenceWorld) -> tuple[Cvm, Cvm, Cvm]:
    back = start_cvm(world, PredictorRole(UnsafeSlowEngineForTests()))  # type: ignore[arg-type]  # any role will do
    guard = start_cvm(world, GuardRole())  # type: ignore[arg-type]
    wiring = {"predictor": back.address, "guard": guard.address}
    return start_cvm(world, OrchestratorRole(), wiring=wiring), back, guard  # type: ignore[arg-type]


def ask(world: EvidenceWorld, cvm: Cvm, word: str = "cake") -> tuple[Device, ClientExchange]:
    """A summary is asked for; the answer is not read yet."""
    device, exchange = Device(world, cvm.address), ClientExchange("test")
    texts = [f"Decided: the {CANARY} is on Saturday at 7", f"Who brings the {word} and what does it cost?"]
    messages = [{"id": str(at), "sender": "Ana", "text": text} for at, text in enumerate(texts)]
    tls = device.accept()
    tls.send(
        exchange.request("POST", "/v1/summaries", json.dumps({"chats": [{"messages": messages}]}).encode())
    )
    device.link.sock.sendall(encode_turn(tls.outgoing()))
    return device, exchange


def events(device: Device, exchange: ClientExchange) -> list[dict[str, Any]]:
    """The whole answer."""
    assert device.tls is not None
    found = [one for one in device.tls.receive(device.link.answer()) if isinstance(one, Data)]
    pieces = [piece for one in found for piece in exchange.feed(one.data) if isinstance(piece, Piece)]
    device.close()
    return [json.loads(line) for line in b"".join(piece.data for piece in pieces).splitlines()]


def headline(found: Sequence[dict[str, Any]]) -> str:
    return "".join(one["text"] for one in found if one["event"] == "piece")


def settle(cvm: Cvm, sessions: int) -> None:
    """Wait until only the processes made ahead are there."""
    end = time.monotonic() + DEADLINE
    while len(cvm.processes()) > sessions:
        assert time.monotonic() < end, "processes are left over"
        time.sleep(0.01)


def working(cvm: Cvm) -> set[int]:
    """The processes in which an engine has worked: only they have a second thread."""
    found = set()
    for pid in cvm.processes():
        with contextlib.suppress(OSError):
            if len(list(Path(f"/proc/{pid}/task").iterdir())) > 1:
                found.add(pid)
    return found


def computing(cvm: Cvm, *, beside: Collection[int] = ()) -> int:
    """The session's process whose engine is at work."""
    end = time.monotonic() + DEADLINE
    while True:
        if found := working(cvm) - set(beside):
            return min(found)
        assert time.monotonic() < end, "no engine is at work"
        time.sleep(0.001)


def test_an_engine_that_answers(cvms: tuple[EvidenceWorld, Cvm, Cvm, Cvm]) -> None:
    world, front, *_ = cvms
    found = events(*ask(world, front))
    assert found[-1]["event"] == "done"
    assert CANARY in headline(found)


def test_an_engine_that_is_killed_a_hundred_times(cvms: tuple[EvidenceWorld, Cvm, Cvm, Cvm]) -> None:
    world, front, back, guard = cvms
    draw = random.Random(5)  # noqa: S311 - to have the same moments again
    settle(back, 2)
    for _ in range(KILLS):
        ended = working(back)  # of the answer before: not gone yet, on a slow machine
        # In the middle of a word or between two, and never after the last.
        device, exchange = ask(world, front, f"hang{draw.randrange(6)}")
        engine = computing(back, beside=ended)
        time.sleep(draw.uniform(0.0, 0.2))
        os.kill(engine, signal.SIGKILL)
        found = events(device, exchange)
        assert found[-1] == {"event": "error", "code": "unavailable"}
        assert any(one["event"] == "line" for one in found)
    assert events(*ask(world, front))[-1]["event"] == "done"
    for cvm in (front, back, guard):
        settle(cvm, 2)


@reads_memory
def test_nothing_is_left_after_a_killed_engine(cvms: tuple[EvidenceWorld, Cvm, Cvm, Cvm]) -> None:
    world, front, back, guard = cvms
    settle(back, 2)
    ended = working(back)
    device, exchange = ask(world, front, "hang2")
    computing(back, beside=ended)
    # The test's own process, from which the CVMs were forked, knows the word: the whole sentence it has only made since.
    sentence = f"Decided: the {CANARY} is on Saturday at 7".encode()
    held = [pid for pid in back.processes() if in_memory(pid, [sentence])]
    assert held, "the search finds nothing where there is something"
    for pid in held:
        os.kill(pid, signal.SIGKILL)
    events(device, exchange)
    for cvm in (front, back, guard):
        settle(cvm, 2)

    def holders() -> list[int]:
        everything = [pid for cvm in (front, back, guard) for pid in (cvm.pid, *cvm.processes())]
        return [pid for pid in everything if in_memory(pid, [sentence])]

    # A session's process may end a moment later than its device has left. How long a search takes is the machine's affair.
    for _ in range(10):
        if not holders():
            break
        time.sleep(1)
    else:
        pytest.fail("something is left")


def test_an_engine_that_hangs_ends_with_its_process() -> None:
    world = EvidenceWorld()
    with mock.patch.object(predictor, "_SILENCE", 5.0):
        front, back, guard = start(world)
    with stopping(front, back, guard):
        found = events(*ask(world, front, "hang0"))
        assert found[-1] == {"event": "error", "code": "unavailable"}
        # Of its own accord: the engine still hangs.
        assert any(one["status"] == 3 for one in back.events("WorkerLost"))
        assert events(*ask(world, front))[-1]["event"] == "done"


def test_an_engine_that_talks_nonsense_without_end(cvms: tuple[EvidenceWorld, Cvm, Cvm, Cvm]) -> None:
    world, front, *_ = cvms
    found = events(*ask(world, front, "nonsense"))
    assert found[-1]["event"] == "done"
    assert [one["event"] for one in found if one.get("kind") == "headline"][-1] == "dropped"
    assert "\ufffd" not in headline(found)
    assert events(*ask(world, front))[-1]["event"] == "done"

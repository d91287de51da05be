"""Row 16: an observer of the wire tries to tell twenty answers apart by the sizes and the times of what it sees.

The observer stands at the router: nearer to the CVM than any other. It has seen each of the twenty answers before, as often as it is tested on, and guesses
which one a session has by what it resembles most, in three ways. The answers are made by the roles themselves, of another length, at another speed, with
another number of quotes each; only the model is an engine that says what it is told to.
"""

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import comb
from typing import Final
from unittest import mock

import pytest

from sottovoce.core import frames
from sottovoce.core.frames import FrameReader, Pacer
from sottovoce.core.link import encode_turn
from sottovoce.core.tls import Data
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee.conversation import Conversation
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.guard import GuardRole
from sottovoce.tee.http import ClientExchange, Piece
from sottovoce.tee.orchestrator import OrchestratorRole
from sottovoce.tee.predictor import PredictorRole
from tee_kit import Cvm, Device, start_cvm, stopping

pytestmark = pytest.mark.timeout(300)

ANSWERS: Final = 20
SEEN: Final = 3
"""Sessions of each answer that the observer has learnt from; and as many that it is tested on."""
AT_ONCE: Final = 4
CADENCE_MS: Final = 30
CHANCE: Final = 1 / ANSWERS
WORDS: Final = [
    "talks",
    "about",
    "dinner",
    "and",
    "presents",
    "and",
    "cards",
    "and",
    "cakes",
    "and",
    "whether",
    "the",
    "room",
    "is",
    "free",
    "and",
    "what",
    "it",
    "costs",
    "and",
    "who",
    "can",
    "bring",
    "the",
    "cups",
]
CHAT: Final = (
    ("Ana", "We are on for dinner on Saturday at 7, decided!"),
    ("Ben", "I will bring the cake"),
    ("Ana", "Ben, can you ask what the room costs?"),
    ("Nina", "I'll get the present and the card"),
    ("Ben", "Is the room free before seven?"),
    ("Ana", "Moved: we meet at 6 now, not 7"),
    ("Nina", "I can't come before half past six"),
    ("Ben", "The cake costs 24, I paid it"),
)


class UnsafePacedEngineForTests:
    """Says as many words as the messages that it is shown ask for, at a speed of their own. There is no model in it."""

    name = "paced"

    def count(self, turns: Sequence[Turn]) -> int:
        return len(turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        del sampling, prompt
        which = int(turns[-1].text.partition("number ")[2].split()[0])
        time.sleep(0.012 * (7 * which % ANSWERS))  # another prompt takes another time to read
        yield opening
        yield "".join(f" {word}" for word in WORDS[: 2 + which])
        yield "."


def question(which: int) -> bytes:
    """The chat of answer number `which`: as long as any other's in bytes, with other quotes."""
    texts = [
        *CHAT[: 2 + which % 7],
        ("Nina", f"I will bring number {which:02} on Saturday"),
        ("Ben", " ".join(WORDS)),
    ]
    texts += [("Ben", "ok " * 10)] * (10 - len(texts))
    messages = [
        {"id": f"{at:02}", "sender": f"{sender:4}", "text": text.ljust(150)}
        for at, (sender, text) in enumerate(texts)
    ]
    return json.dumps({"chats": [{"messages": messages}]}).encode()


Seen = list[tuple[float, int]]
"""Seconds since the request, bytes: each message that the observer sees."""


def observed(world: EvidenceWorld, cvm: Cvm, which: int) -> Seen:
    """One session, as the observer sees it."""
    device, exchange = Device(world, cvm.address), ClientExchange("test")
    tls = device.accept()
    tls.send(exchange.request("POST", "/v1/summaries", question(which)))
    device.link.messages.clear()
    device.link.sock.sendall(encode_turn(tls.outgoing()))
    began = time.monotonic()
    events = tls.receive(device.link.answer())
    body = b"".join(
        piece.data
        for event in events
        if isinstance(event, Data)
        for piece in exchange.feed(event.data)
        if isinstance(piece, Piece)
    )
    # It is the answer that it is meant to be, to the last word.
    lines = [json.loads(line) for line in body.splitlines()]
    assert lines[-1]["event"] == "done"
    assert any(f"number {which:02}" in line.get("text", "") for line in lines)
    device.close()
    return [(at - began, len(message)) for at, message in device.link.messages if message]


def sizes(seen: Seen) -> list[float]:
    return [len(seen), sum(size for _, size in seen), *(size for _, size in seen[:8])]


def times(seen: Seen) -> list[float]:
    at = [moment for moment, _ in seen]
    gaps = [after - before for before, after in itertools.pairwise(at)] or [0.0]
    return [at[0], at[-1], max(gaps), statistics.fmean(gaps), statistics.pstdev(gaps), *gaps[:8]]


def both(seen: Seen) -> list[float]:
    return [*sizes(seen), *times(seen)]


WAYS: Final[Mapping[str, Callable[[Seen], list[float]]]] = {"sizes": sizes, "times": times, "both": both}


def right(learnt: Sequence[tuple[int, Seen]], tested: Sequence[tuple[int, Seen]], way: str) -> int:
    """How many sessions the observer guesses right: each is taken for the answer of the session that it resembles most."""
    known = [(which, WAYS[way](seen)) for which, seen in learnt]
    width = max(len(features) for _, features in known)
    columns = list(zip(*(_filled(features, width) for _, features in known), strict=True))
    scale = [statistics.pstdev(column) or 1.0 for column in columns]

    def distance(one: Sequence[float], other: Sequence[float]) -> float:
        pairs = zip(_filled(one, width), _filled(other, width), scale, strict=True)
        return sum(((ours - theirs) / unit) ** 2 for ours, theirs, unit in pairs)

    def guess(seen: Seen) -> int:
        features = WAYS[way](seen)
        return min(known, key=lambda pair: distance(features, pair[1]))[0]

    return sum(guess(seen) == which for which, seen in tested)


def _filled(features: Sequence[float], width: int) -> list[float]:
    return [*features, *[0.0] * width][:width]


def bound(tries: int) -> int:
    """So many right guesses, or more, come by chance once in ten thousand times."""
    tail, right_guesses = 1.0, 0
    while tail > 1e-4:
        tail -= comb(tries, right_guesses) * CHANCE**right_guesses * (1 - CHANCE) ** (tries - right_guesses)
        right_guesses += 1
    return right_guesses


def watch(world: EvidenceWorld) -> dict[str, float]:
    """Which part of the sessions the observer guesses right, in each way."""
    back_ends = {
        "predictor": start_cvm(world, PredictorRole(UnsafePacedEngineForTests()), slots=AT_ONCE),  # type: ignore[arg-type]  # any role will do
        "guard": start_cvm(world, GuardRole()),  # type: ignore[arg-type]
    }
    wiring = {name: cvm.address for name, cvm in back_ends.items()}
    orchestrator = start_cvm(
        world,
        OrchestratorRole(),  # type: ignore[arg-type]
        wiring=wiring,
        cadence_ms=CADENCE_MS,
        spares=AT_ONCE,
    )
    order = [which for which in range(ANSWERS) for _ in range(2 * SEEN)]
    random.Random(16).shuffle(order)  # noqa: S311 - to have the same order again
    with stopping(orchestrator, *back_ends.values()), ThreadPoolExecutor(AT_ONCE) as people:
        found = list(people.map(lambda which: (which, observed(world, orchestrator, which)), order))
    learnt: list[tuple[int, Seen]] = []
    tested: list[tuple[int, Seen]] = []
    for one in found:
        before = sum(which == one[0] for which, _ in learnt)
        (learnt if before < SEEN else tested).append(one)
    return {way: right(learnt, tested, way) / len(tested) for way in WAYS}


CERTAIN: Final = bound(ANSWERS * SEEN) / (ANSWERS * SEEN)


def test_an_observer_guesses_twenty_answers_by_chance() -> None:
    found = watch(EvidenceWorld())
    assert max(found.values()) < CERTAIN, found


async def _as_it_comes(self: Conversation, pacer: Pacer, _after: float) -> None:
    """In the cadence's place: each piece leaves when it is there, and the end of the last one is the end."""
    while pacer._pending or not pacer._ended:
        if pacer._pending:
            await self._burst(pacer.tick())
        await asyncio.sleep(0.001)


def _read(self: FrameReader, plaintext: bytes) -> bytes:
    """Frames that are as long as what is in them."""
    self._buffer += plaintext
    data = b""
    while len(self._buffer) > 1 and len(self._buffer) >= 2 + (
        length := int.from_bytes(self._buffer[:2], "big")
    ):
        data += bytes(self._buffer[2 : 2 + length])
        del self._buffer[: 2 + length]
    return data


def test_without_padding_and_cadence_the_same_observer_knows_more() -> None:
    with (
        mock.patch.object(Conversation, "_tick", _as_it_comes),
        mock.patch.object(FrameReader, "feed", _read),
        mock.patch.object(frames, "size_class", lambda length: length),
        mock.patch.object(frames, "_frame", lambda data: len(data).to_bytes(2, "big") + data),
    ):
        found = watch(EvidenceWorld())
    assert max(found.values()) >= CERTAIN, found

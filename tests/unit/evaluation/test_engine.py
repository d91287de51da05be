"""What the model has said once is not computed again, and belongs to its question alone."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluation import engine
from evaluation.engine import CACHE, CachedEngine

from sottovoce.simulator.models import DEFAULT
from sottovoce.tee.engines import Sampling, Turn

HELLO = [Turn(role="user", text="Hello")]


class UnsafeCountingEngineForTests:
    name = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, turns: Sequence[Turn], sampling: Sampling, **_: Any) -> Iterator[str]:
        self.asked += 1
        yield from (turns[-1].text, str(sampling.seed))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnsafeCountingEngineForTests:
    made = UnsafeCountingEngineForTests()
    monkeypatch.setattr(engine, "default_folder", lambda: tmp_path)
    (tmp_path / DEFAULT.file).touch()
    monkeypatch.setattr(CachedEngine, "_loaded", made)
    return made


def test_once_is_enough(model: UnsafeCountingEngineForTests, tmp_path: Path) -> None:
    for _ in range(2):
        with CachedEngine(tmp_path / "said.jsonl") as cached:
            for _ in range(2):
                assert list(cached.generate(HELLO, Sampling(max_tokens=4))) == ["Hello", "0"]
    assert model.asked == 1


def test_another_question_is_asked(model: UnsafeCountingEngineForTests, tmp_path: Path) -> None:
    with CachedEngine(tmp_path / "said.jsonl") as cached:
        for sampling in (Sampling(max_tokens=4), Sampling(max_tokens=5), Sampling(max_tokens=4, seed=1)):
            for prompt in ("", "headline", "rewrite"):
                assert next(iter(cached.generate(HELLO, sampling, prompt=prompt))) == "Hello"
        list(cached.generate(HELLO, Sampling(max_tokens=4), opening="The"))
    assert model.asked == 10


def test_who_stops_reading_keeps_all(model: UnsafeCountingEngineForTests, tmp_path: Path) -> None:
    with CachedEngine(tmp_path / "said.jsonl") as cached:
        next(cached.generate(HELLO, Sampling(max_tokens=4)))
        assert list(cached.generate(HELLO, Sampling(max_tokens=4))) == ["Hello", "0"]


def test_what_comes_with_the_project_is_of_its_form() -> None:
    for line in CACHE.read_text().splitlines():
        key, pieces = json.loads(line)
        assert len(bytes.fromhex(key)) == 32
        assert all(isinstance(piece, str) for piece in pieces)

"""Attacks that others collected, played with an engine that does as it is told."""

from collections.abc import Iterator, Sequence

import pytest

pytest.importorskip("bastioncorpus", reason="the evaluation's packages are not here: make eval")
pytest.importorskip("sumy", reason="the evaluation's packages are not here: make eval")

from evaluation.engine import Silent
from evaluation.public import public

from sottovoce.tee.engines import Sampling, Turn


class _Obeys(Silent):
    """Says again the longest message that it is shown."""

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        del sampling, prompt
        longest = max(turns[-1].text.splitlines(), key=len)
        return iter([opening, *(f" {word.strip(',.!?').lower()}" for word in longest.split()[:12]), "."])


def test_every_text_is_tried() -> None:
    found = list(public(Silent()))
    assert len(found) == len({one["text"] for one in found}) > 150
    assert {one["attack"] for one in found} == {True, False}
    assert not any(one["leads"] or one["steers"] for one in found)
    assert any(one["found"] for one in found)
    assert not any(one["quoted"] and one["found"] for one in found)


def test_an_engine_that_obeys_is_noticed() -> None:
    assert any(one["steers"] for one in public(_Obeys()))

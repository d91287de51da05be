"""How long answers take, and the classes that show of it."""

import numpy as np
import pytest

from sottovoce.core.frames import FRAME, stream_class
from sottovoce.simulator.population.answers import answer_class, rewrite_seconds, summary_seconds

MANY = 2000


def summary(messages: int, *, written: bool = True) -> np.ndarray:
    return summary_seconds(np.full(MANY, messages), np.random.default_rng(1), written=written)


def rewrite(draft: float, *, written: bool = True) -> np.ndarray:
    return rewrite_seconds(np.full(MANY, draft), np.random.default_rng(1), written=written)


def test_as_long_as_was_measured() -> None:
    """The demo's summary of 40 messages took 4.2 s (README). The 120 test drafts, of 108 bytes in the middle, take 23 s in the middle with the tokens that they had."""
    assert np.median(summary(40)) == pytest.approx(4.2, rel=0.1)
    assert np.median(rewrite(108)) == pytest.approx(23, rel=0.15)


@pytest.mark.parametrize(("messages", "headlines"), [(1, 1), (80, 1), (81, 3), (150, 4), (1000, 9)])
def test_a_long_chat_has_a_headline_for_each_section_and_one_of_these(messages: int, headlines: int) -> None:
    short = summary(1).mean() - summary(1, written=False).mean()
    long = summary(messages).mean() - summary(messages, written=False).mean()
    assert long / short == pytest.approx(headlines, rel=0.02)


def test_nothing_is_asked_of_the_model_in_a_language_that_it_does_not_write() -> None:
    assert {answer_class(taken) for taken in rewrite(500, written=False)} == {128 * FRAME}
    assert {answer_class(taken) for taken in summary(100, written=False)} == {128 * FRAME}
    assert 128 * FRAME not in {answer_class(taken) for taken in summary(100)}


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [(0.0, 128), (4.0, 128), (5.12, 128), (5.13, 256), (11.0, 512), (327.6, 8192), (328, 9216)],
)
def test_a_class_is_that_of_the_frames_that_leave_meanwhile(seconds: float, frames: int) -> None:
    assert answer_class(seconds) == frames * FRAME == stream_class(frames * FRAME)

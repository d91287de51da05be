"""Fits the weights of `features.ranking` to the chats in `dev`: logistic regression on whether a message tells a fact.

A chat counts by the square root of its length, a message that tells what nobody may miss twice. The penalty on large weights was chosen by leaving out one chat
at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.dataset import DATA, Chat, load_chats
from sottovoce.tee.features import weights
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.ranking import FEATURES, describe
from sottovoce.tee.features.reading import read

__all__ = ["fit", "write"]

_PENALTY: Final = 30.0
_STEPS: Final = 50
_USUAL: Final = 60
"""Messages of a chat that counts once."""
_FILE: Final = Path(weights.__file__)
_Array = Any


def examples(chats: Sequence[Chat]) -> tuple[_Array, _Array, _Array]:
    """Features, answers (1 where the message tells a fact) and how much each counts."""
    rows, answers, counts = [], [], []
    for chat in chats:
        tagged = {line.id: line.tags for line in chat.lines}
        messages = [
            Message(id=line.id, sender=line.sender, text=line.text, time=line.time) for line in chat.lines
        ]
        ranked = read(messages)
        share = (_USUAL / len(messages)) ** 0.5
        for one, row in zip(ranked, describe(ranked, chat.reader), strict=True):
            tags = tagged[one.message.id]
            rows.append(row)
            answers.append(float(bool(tags)))
            counts.append(share * max((chat.facts[tag].weight for tag in tags), default=1))
    return np.array(rows), np.array(answers), np.array(counts)


def fit(chats: Sequence[Chat]) -> tuple[float, tuple[float, ...]]:
    """The bias and the weights, for features as they are (Newton's method on the penalised likelihood)."""
    rows, answers, counts = examples(chats)
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled = np.c_[(rows - middle) / spread, np.ones(len(rows))]
    found = np.zeros(scaled.shape[1])
    penalty = np.diag([*[_PENALTY] * len(FEATURES), 1e-6])
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-scaled @ found))
        slope = scaled.T @ (counts * (odds - answers)) + penalty @ found
        curve = (scaled * (counts * odds * (1 - odds))[:, None]).T @ scaled + penalty
        found -= np.linalg.solve(curve, slope)
    plain = found[:-1] / spread
    return float(found[-1] - plain @ middle), tuple(float(weight) for weight in plain)


def written(bias: float, found: Sequence[float]) -> str:
    """The module with these weights."""
    lines = [f"    {weight:.4f},  # {name}" for name, weight in zip(FEATURES, found, strict=True)]
    return "\n".join(
        [
            '"""The weights of `ranking.FEATURES`, written by `python -m evaluation fit`."""',
            "",
            "from typing import Final",
            "",
            '__all__ = ["BIAS", "WEIGHTS"]',
            "",
            f"BIAS: Final = {bias:.4f}",
            "WEIGHTS: Final = (",
            *lines,
            ")",
            "",
        ]
    )


def write() -> None:
    """Fit to the chats in `dev`, and write the module."""
    _FILE.write_text(written(*fit(load_chats(DATA / "chats" / "dev"))))

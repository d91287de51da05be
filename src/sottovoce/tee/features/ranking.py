"""How much a message matters to somebody who was away: a weighted sum of what can be seen in it and around it.

The features say little about the language, so that they serve in all; the weights were fitted to the chats in evaluation/data/chats/dev by
`python -m evaluation fit`, and the numbers that are reported come from other chats. Everything is linear in the number of messages but for windows of fixed width.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sottovoce.tee.features.cues import Act, is_small_talk
from sottovoce.tee.features.reading import Read
from sottovoce.tee.features.text import content_words, fold, words
from sottovoce.tee.features.weights import BIAS, WEIGHTS

__all__ = ["FEATURES", "describe", "rarities", "score"]

_NEAR: Final = 20
"""Messages on each side that tell what is being talked about."""
_LONG_AGO: Final = 3.0
_LAUGHTER: Final = re.compile(
    r"\b(?:(?:ha){2,}h?|(?:he){2,}|(?:ja){2,}|k{3,}|(?:wk){2,}|lol|lmao|omg|mdr|ptdr|(?:rs){2,})\b"
)
_DIGITS: Final = re.compile(r"\d+")
_NAME: Final = 3
"""Letters of a first name that is looked for in a text."""
_ACTS: Final = (Act.CHANGE, Act.DECISION, Act.COMMITMENT, Act.REQUEST, Act.ACCEPTANCE)
FEATURES: Final = (
    "characters",
    "words",
    "place",
    "numbers",
    "cues",
    "central",
    "new",
    "laughter",
    "goes on",
    "pause",
    "reader",
    "name",
    "day",
    "time",
    "open",
    "small talk",
    "short",
    *(act.value for act in _ACTS),
)
"""What is seen, in the order of `describe`:

characters, words: logarithms of the length and of the number of words that say something; place: 0 at the beginning of the chat to 1; numbers: logarithm of how
many; cues: the score of `reading.read`; central: likeness to the messages around; new: part of the words not used before; goes on: the same sender writes next;
pause: logarithm of the minutes before it; reader, name: the reader, anybody's name is in it; day, time, small talk, and the acts of `cues`; open: a
question or proposal without an answer; short: three words at most.
"""


def score(features: Sequence[float]) -> float:
    """How much a message with these features matters: a logarithm of odds."""
    return BIAS + sum(weight * value for weight, value in zip(WEIGHTS, features, strict=True))


def describe(ranked: Sequence[Read], reader: str = "") -> list[tuple[float, ...]]:
    """The features of each of `ranked`, the messages of a chat that say something, in order."""
    words_of = [content_words(one.message.text) for one in ranked]
    rarity = rarities(words_of)
    weight = [math.sqrt(sum(rarity[word] ** 2 for word in found)) or 1.0 for found in words_of]
    names = {name for one in ranked for name in words(one.message.sender)[:1] if len(name) >= _NAME}
    own = words(reader)[:1]
    used: set[str] = set()
    found: list[tuple[float, ...]] = []
    for at, one in enumerate(ranked):
        folded, said = fold(one.message.text), set(words(one.message.text))
        about = words_of[at]
        near = range(max(0, at - _NEAR), min(len(ranked), at + _NEAR + 1))
        central = sum(
            sum(rarity[word] ** 2 for word in about & words_of[other]) / (weight[at] * weight[other])
            for other in near
            if other != at
        )
        after = ranked[at + 1] if at + 1 < len(ranked) else None
        found.append(
            (
                math.log1p(len(one.message.text)),
                math.log1p(len(about)),
                at / len(ranked),
                math.log1p(len(_DIGITS.findall(one.message.text))),
                one.score,
                central,
                len(about - used) / max(1, len(about)),
                float(_LAUGHTER.search(folded) is not None),
                float(after is not None and after.message.sender == one.message.sender),
                _pause(ranked[at - 1] if at else None, one),
                float(bool(said.intersection(own))),
                float(bool(said & names)),
                float(bool(one.days)),
                float(bool(one.times)),
                float(one.unanswered),
                float(is_small_talk(folded, one.acts)),
                float(len(said) <= _NAME),
                *(float(act in one.acts) for act in _ACTS),
            )
        )
        used |= about
    return found


def rarities(words_of: Sequence[frozenset[str]]) -> Mapping[str, float]:
    """How much each word tells: the logarithm of how few of the messages have it."""
    seen = Counter(word for found in words_of for word in found)
    return {word: math.log((len(words_of) + 1) / (count + 0.5)) for word, count in seen.items()}


def _pause(before: Read | None, one: Read) -> float:
    if before is None:
        return _LONG_AGO
    try:
        minutes = (_time(one) - _time(before)).total_seconds() / 60
    except (ValueError, TypeError):
        return 0.0
    return math.log1p(max(0.0, minutes))


def _time(one: Read) -> datetime:
    return datetime.fromisoformat(one.message.time)

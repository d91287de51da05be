"""Citations: which messages a generated line rests on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.text import content_words, numbers, words

__all__ = ["grounded", "supporting"]

_MOST: Final = 4
_RARE: Final = 1.5
_FEW, _LONG, _MANY = 2, 4, 8
"""A stem of four letters or more that at most two of eight messages or more have is about something."""


def supporting(line: str, messages: Sequence[Message]) -> list[str]:
    """The ids of the messages that say what `line` says, in order, four at most; empty where none does.

    A message supports a line by two words that matter, by one that hardly any other message has, or by one and its
    sender's name or a number.
    """
    topic, named, counted = content_words(line), set(words(line)), numbers(line)
    told = [topic & content_words(message.text) for message in messages]
    seen = Counter(word for found in told for word in found)
    few = _FEW if len(messages) >= _MANY else 0
    weights = {word: _RARE if seen[word] <= few and len(word) >= _LONG else 1.0 for word in topic}
    scored: list[tuple[float, int]] = []
    for at, message in enumerate(messages):
        shared = sum(weights[word] for word in told[at])
        by_name = bool(named.intersection(words(message.sender)[:1]))
        score = shared + (0.8 if by_name and shared else 0) + 0.7 * len(counted & numbers(message.text))
        if score >= _RARE:  # a common word alone is chance
            scored.append((-score, at))
    best = sorted(at for _, at in sorted(scored)[:_MOST])
    return [messages[at].id for at in best]


def grounded(line: str, texts: Iterable[str]) -> float:
    """The part, 0 to 1, of the words that matter in `line` that occur in `texts`."""
    topic = content_words(line)
    known: set[str] = set()
    for text in texts:
        known |= content_words(text)
    return len(topic & known) / len(topic) if topic else 0.0

"""Citations: which messages a generated line rests on."""

from collections.abc import Iterable, Sequence

from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.text import content_words, numbers, words

__all__ = ["grounded", "supporting"]

_MOST = 4


def supporting(line: str, messages: Sequence[Message]) -> list[str]:
    """The ids of the messages that say what `line` says, in order, four at most; empty where none does.

    A message supports a line by two words that matter, or by one and its sender's name or a number.
    """
    topic, named, counted = content_words(line), set(words(line)), numbers(line)
    scored: list[tuple[float, int]] = []
    for at, message in enumerate(messages):
        shared = len(topic & content_words(message.text))
        by_name = bool(named.intersection(words(message.sender)[:1]))
        score = shared + (0.8 if by_name and shared else 0) + 0.7 * len(counted & numbers(message.text))
        if score >= 1.5:  # noqa: PLR2004 - one word that matters alone is chance
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

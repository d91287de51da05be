"""Highlights: the messages that matter, quoted as they stand, so that nobody is misquoted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sottovoce.tee.features.cues import Act
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.ranking import describe, rarities, score
from sottovoce.tee.features.reading import Read, read
from sottovoce.tee.features.text import words

__all__ = ["DETAILS", "Detail", "Highlight", "Kind", "highlights", "room"]

Detail = Literal["quick", "full"]
Kind = Literal["decision", "change", "task", "request", "question", "date", "news"]
DETAILS: Final[dict[Detail, float]] = {"quick": 0.5, "full": 1.2}
"""Quotes for the square root of the number of messages."""
_FEWEST: Final = 2
_SHARE: Final = 0.5
"""Of a short chat, at most so much is quoted: a summary that is the chat is none."""
_THRESHOLD, _ALONE = -2.7, -3.6
"""Odds of 1 to 15: below them a message is not worth a line, even where there is room. Of 1 to 37: where there is no other."""
_FOR_READER: Final = 1.5
"""For what is asked of the reader: nothing else is as bad to miss."""
_ACCEPTORS: Final = 3
_ALIKE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Highlight:
    """A quote: `text` stands so in the first of `messages`, which `sender` sent.

    `kind` is what it does for the reader; `for_reader` that it asks the reader for something.
    """

    sender: str
    text: str
    messages: tuple[str, ...]
    kind: Kind = "news"
    for_reader: bool = False


def room(messages: int, detail: Detail) -> int:
    """How many quotes a summary of so many messages has, at most."""
    wanted = _FEWEST + round(DETAILS[detail] * math.sqrt(messages))
    return max(1, min(wanted, math.ceil(_SHARE * messages)))


def highlights(messages: Sequence[Message], *, reader: str = "", detail: Detail = "full") -> list[Highlight]:
    """The quotes for a summary of `messages`, in the order of the chat; none where nothing matters. `reader` is a sender's name."""
    ranked = read(messages)
    scored = [
        (score(features) + _FOR_READER * _asks(one, reader), one)
        for features, one in zip(describe(ranked, reader), ranked, strict=True)
    ]
    rarity = rarities([one.topic for one in ranked])
    chosen: list[Read] = []
    cited: set[str] = set()
    limit = room(len(messages), detail)
    for worth, one in sorted(scored, key=lambda pair: -pair[0]):
        if worth < (_THRESHOLD if chosen else _ALONE) or len(chosen) == limit:
            break
        if one.settled or one.message.id in cited or any(_alike(one, other, rarity) for other in chosen):
            continue
        chosen.append(one)
        cited.update(_cited(one))
    return [_highlight(one, reader) for one in sorted(chosen, key=lambda one: one.at)]


def _highlight(one: Read, reader: str) -> Highlight:
    return Highlight(
        sender=one.message.sender,
        text=one.quote,
        messages=_cited(one),
        kind=_kind(one),
        for_reader=_asks(one, reader),
    )


def _asks(one: Read, reader: str) -> bool:
    """Whether it asks `reader`, by name, for something."""
    own = set(words(reader)[:1])
    asks = bool(one.acts & {Act.REQUEST, Act.QUESTION}) and one.message.sender != reader
    return asks and not own.isdisjoint(words(one.quote))


def _cited(one: Read) -> tuple[str, ...]:
    return (one.message.id, *dict.fromkeys(one.also[:_ACCEPTORS]))


def _kind(one: Read) -> Kind:
    if Act.QUESTION in one.acts:
        return "question" if one.unanswered or Act.REQUEST not in one.acts else "request"
    kinds: tuple[tuple[Act, Kind], ...] = (
        (Act.CHANGE, "change"),
        (Act.DECISION, "decision"),
        (Act.REQUEST, "request"),
        (Act.COMMITMENT, "task"),
    )
    return next((kind for act, kind in kinds if act in one.acts), "date" if one.is_dated else "news")


def _alike(one: Read, other: Read, rarity: Mapping[str, float]) -> bool:
    """Whether the two say much of the same: more than half of what the one with less to say has, by how rare its words are."""
    ours, theirs, both = (
        sum(rarity[word] for word in topic) for topic in (one.topic, other.topic, one.topic & other.topic)
    )
    return both > _ALIKE * min(ours, theirs)

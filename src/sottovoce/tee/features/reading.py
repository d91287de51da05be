"""What each message of a chat does, by itself and among those after it, and the part of it that would be quoted.

Times, dates, commitments, decisions, open questions and requests count for a message; thanks, greetings and emoji against it. A proposal that
a later message settles, and a question that a later message answers, give way to that message.
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from sottovoce.tee.features.cues import Act, acts, days, is_small_talk, revises, times
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.quoting import quotable
from sottovoce.tee.features.text import (
    content_words,
    fold,
    has_emoji_only,
    numbers,
    sentences,
    shorten,
    words,
)

__all__ = ["QUOTE", "Read", "read"]

QUOTE: Final = 220
"""Characters of a quote, at most; 20 more would be a paragraph on a phone."""
_NEAR: Final = 6
"""Messages within which an answer or an acceptance is looked for."""
_FAR: Final = 40
"""Messages within which a decision settles what was said before it."""
_REVISED_WITHIN: Final = 100
"""Messages within which what was said is said otherwise."""
_ONLY: Final = 2
_MENTION: Final = re.compile(r"@[\u2066-\u2069]?([^\W\d_]+)")
_WEIGHTS: Final = {
    Act.DECISION: 3.0,
    Act.CHANGE: 2.0,
    Act.REQUEST: 2.0,
    Act.COMMITMENT: 1.5,
    Act.NEWS: 1.5,
    Act.PROPOSAL: 0.5,
    Act.QUESTION: 0.5,
    Act.REFUSAL: 0.5,
    Act.ACCEPTANCE: -0.5,
}
_DAY, _TIME, _NUMBER = 1.5, 1.5, 0.5
_OPEN, _ANSWER, _ASKED, _ACCEPTED = 2.0, 1.0, 2.0, 2.0
_ANSWERED, _SETTLED, _EMPTY, _SMALL_TALK = -2.5, -5.0, -2.0, -4.0


@dataclass(slots=True, kw_only=True, repr=False)
class Read:
    """A message with what the scoring found out about it. Higher `score`s matter more."""

    at: int
    message: Message
    quote: str
    acts: frozenset[Act]
    days: frozenset[str]
    times: frozenset[str]
    topic: frozenset[str]
    mentions: frozenset[str]
    numbers: frozenset[str]
    score: float = 0.0
    settled: bool = False
    """Whether a later message puts something in its place."""
    unanswered: bool = False
    """Whether it asks something, and nobody has answered."""
    also: list[str] = field(default_factory=list)

    @property
    def is_dated(self) -> bool:
        """Whether it names a day or a time."""
        return bool(self.days or self.times)

    @property
    def is_open(self) -> bool:
        """Whether it only asks or proposes."""
        return bool(self.acts & {Act.QUESTION, Act.PROPOSAL}) and Act.DECISION not in self.acts


def read(messages: Sequence[Message]) -> list[Read]:
    """The messages that say something to people, in order, scored."""
    names = {name for message in messages for name in words(message.sender)[:1]}
    names.update(name.casefold() for message in messages for name in _MENTION.findall(message.text))
    found = [_read_one(at, message, names) for at, message in enumerate(messages)]
    ranked = [one for one in found if one is not None]
    for index, one in enumerate(ranked):
        one.score += _own_score(one) + 0.5 * index / len(ranked)
    seen = Counter(word for one in ranked for word in one.topic)
    for index, one in enumerate(ranked):
        _look_ahead(one, ranked[index + 1 :])
        later = itertools.islice(ranked, index + 1, index + 1 + _REVISED_WITHIN)
        one.settled = one.settled or any(_revises(other, one, seen) for other in later)
    return ranked


# One message by itself.


def _read_one(at: int, message: Message, names: AbstractSet[str]) -> Read | None:
    text = quotable(message.text).strip()
    if has_emoji_only(text) or addresses_machine(message.text) or addresses_machine(message.sender):
        return None
    quote = _quote(text)
    folded = fold(quote)
    mentioned = {fold(name) for name in _MENTION.findall(text)}
    return Read(
        at=at,
        message=message,
        quote=quote,
        acts=acts(folded),
        days=days(folded),
        times=times(folded),
        topic=content_words(quote),
        mentions=frozenset(mentioned or set(words(quote)).intersection(names)),
        numbers=numbers(quote),
    )


def _quote(text: str) -> str:
    if len(text) <= QUOTE and "\n" not in text:
        return text
    parts = sentences(text)
    best = max(range(len(parts)), key=lambda index: (_weight(fold(parts[index])), -index))
    following = parts[best + 1] if best + 1 < len(parts) else ""
    joined = f"{parts[best]} {following}"
    if following and len(joined) <= QUOTE and joined in text and _weight(fold(following)) > 1:
        return joined
    return shorten(parts[best], QUOTE)


def _weight(folded: str) -> float:
    weight = sum(_WEIGHTS.get(act, 0.0) for act in acts(folded))
    return weight + _DAY * bool(days(folded)) + _TIME * bool(times(folded))


def _own_score(one: Read) -> float:
    folded = fold(one.quote)
    score = _weight(folded) + _NUMBER * bool(numbers(one.quote)) + min(len(one.topic), 8) * 0.15
    if len(one.topic) < 2:  # noqa: PLR2004 - a word alone says too little out of its place
        score += _EMPTY
    if is_small_talk(folded, one.acts):
        score += _SMALL_TALK
    return score


# One message among those after it.


def _look_ahead(one: Read, later: Sequence[Read]) -> None:
    near = [other for other in later if other.at - one.at <= _NEAR]
    settled = next((other for other in later if other.at - one.at <= _FAR and _settles(other, one)), None)
    if settled is not None:
        one.settled = True
        one.score += _SETTLED
        return
    others = [other for other in near if other.message.sender != one.message.sender]
    asks = bool(one.acts & {Act.REQUEST, Act.QUESTION})
    if asks and one.mentions:
        # Somebody is asked by name: only that person can answer.
        replied = {name for other in later for name in words(other.message.sender)[:1]}
        one.unanswered = not one.mentions <= replied
        one.score += _ASKED + _OPEN if one.unanswered else 0
        return
    if one.is_open and one.is_dated:
        _accept(one, others)
    if Act.QUESTION in one.acts:
        _answer(one, others)


def _accept(one: Read, others: Sequence[Read]) -> None:
    agreeing = [
        o
        for o in others
        if Act.ACCEPTANCE in o.acts and not o.acts & {Act.REFUSAL, Act.THANKS} and _same_days(o, one)
    ]
    if agreeing:
        one.score += _ACCEPTED
        one.also += [other.message.id for other in agreeing]


def _answer(one: Read, others: Sequence[Read]) -> None:
    answer = next((other for other in others if _answers(other, one)), None)
    if answer is None:
        one.unanswered = True
        one.score += _OPEN
    elif not one.also:
        one.score += _ANSWERED
        answer.score += _ANSWER
        answer.also.append(one.message.id)


def _answers(other: Read, question: Read) -> bool:
    if other.is_open or (other.mentions and not other.topic & question.topic):
        return False
    plain = bool(other.acts & {Act.ACCEPTANCE, Act.REFUSAL, Act.COMMITMENT})
    return plain or bool(other.topic & question.topic) or other.at - question.at <= 2  # noqa: PLR2004 - said at once


def _same_days(other: Read, one: Read) -> bool:
    return not other.days or bool(other.days & one.days)


def _revises(later: Read, one: Read, seen: Mapping[str, int]) -> bool:
    """Whether `later` says another day, time or number of what only these two speak about."""
    if later.is_open or not (one.is_dated or one.numbers) or not revises(fold(later.quote)):
        return False
    if not any(seen[word] <= _ONLY and not word.isdigit() for word in one.topic & later.topic):
        return False
    pairs = [(one.days, later.days), (one.times, later.times)]
    if not one.is_dated:
        pairs.append((one.numbers, later.numbers))
    return any(ours and theirs and not ours & theirs for ours, theirs in pairs)


def _settles(later: Read, one: Read) -> bool:
    """Whether `later` puts something in the place of `one`."""
    if not one.is_dated or later.is_open or not later.acts & {Act.DECISION, Act.CHANGE}:
        return False
    related = bool((later.topic & one.topic) or (later.days & one.days))
    if Act.DECISION in later.acts and later.is_dated:
        # What was proposed, asked or agreed to on the way to a decision.
        kept = {Act.DECISION, Act.CHANGE, Act.COMMITMENT, Act.REQUEST}
        replies = bool(one.acts & {Act.ACCEPTANCE, Act.REFUSAL}) and later.at - one.at <= _NEAR
        return (related or replies) and (Act.ACCEPTANCE in one.acts or not one.acts & kept)
    differs = later.is_dated and (later.days, later.times) != (one.days, one.times)
    return related and differs and Act.CHANGE in later.acts and Act.CHANGE not in one.acts

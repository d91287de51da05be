"""The gate that a headline goes through, word by word: what it has let out cannot be taken back, so each word is judged first."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sottovoce.tee.features.citations import COMMON, covering, said_in
from sottovoce.tee.features.cues import days, times
from sottovoce.tee.features.headline import OPENINGS, PROMPT
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.quoting import quotable
from sottovoce.tee.features.text import (
    clean,
    content_words,
    fold,
    has_address,
    listed,
    numbers,
    spelled_numbers,
    words,
)

__all__ = ["HeadlineGate", "check_quote"]

_LONGEST: Final = 240
_TAIL: Final = 60
_ECHO: Final = 4
"""Words in a row that are the prompt's own."""
_FORM: Final = re.compile(r"[<>{}\[\]`*#|\\~^=_@]|https?|&\w+;")
_CALLER: Final = re.compile(r"[+\u202a\u202c\d\s\-()\u00a0\u2011]{5,30}")
_SENTENCE: Final = re.compile(r"[.!?\u2026\u3002]$")
_SIGNS: Final = ".,;:!?()[]\"'\u201c\u201d\u2018\u2019\u2026\u201e\u00ab\u00bb"
_NOON: Final = 12
_DAY_HOURS: Final = 24
# The headline speaks about the group; nothing in it may speak to the reader.
_TO_READER: Final = listed(
    "you your yours you're you'll you've yourself please click tap dear attention "
    "dich dir dein deine deinen deinem deiner bitte klicke klicken vous votre vos toi cliquez clique "
    "usted ustedes tus haga pulsa voce seu sua clica jij jouw jullie klik"
)


def check_quote(sender: str, text: str, cited: Sequence[str], sources: dict[str, Message]) -> str | None:
    """Why a quote must not be released, as one word; None where it stands so in what may be quoted of the first cited message, by that sender."""
    if not text or not cited or any(one not in sources for one in cited):
        return "citation"
    source = sources[cited[0]]
    if source.sender != sender or not _may_be_named(sender):
        return "sender"
    if quotable(text) != text or "\n" in text:
        return "form"
    if text.removesuffix("\u2026") not in quotable(source.text):
        return "not verbatim"
    return "instructions" if addresses_machine(text) or addresses_machine(source.text) else None


def _may_be_named(sender: str) -> bool:
    """Whether a name leads nowhere. Who is in nobody's address book has a telephone number for a name."""
    return _CALLER.fullmatch(sender) is not None or quotable(sender) == clean(sender)


class HeadlineGate:
    """Text in pieces in, words that may be released out.

    A bad word ends the headline; `reason` then says why. `closed` is true when nothing more will be released.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = [one for one in messages if not addresses_machine(one.text)]
        texts = [quotable(one.text) for one in self._messages]
        self._numbers = _known_numbers(texts)
        self._days = {day for text in texts for day in days(fold(text))}
        self._dated = [(days(fold(text)), _known_numbers([text])) for text in texts]
        self._words = {word for text in texts for word in words(text)}
        # What no quote may repeat is not told in other words either: a password is a word like any other.
        whole = {piece for one in self._messages for piece in _pieces(clean(one.text))}
        self._left_out = whole - {piece for text in texts for piece in _pieces(text)}
        self._topic = {stem for text in texts for stem in content_words(text)}
        own = {run for run in _runs(PROMPT.system) if not _OPENING_WORDS.intersection(run[:2])}
        self._echoes = own - {run for text in texts for run in _runs(text)}
        self._rest = ""
        self._released = ""
        self._held = ""
        """Of the beginning, what no reader sees before a word comes that matters."""
        self.reason: str | None = None
        self.closed = False

    def feed(self, piece: str) -> str:
        """What may be released now that `piece` came."""
        self._rest += piece
        out = ""
        while not self.closed and (match := re.match(r"\s*\S+(?=\s)", self._rest)):
            self._rest = self._rest[match.end() :]
            out += self._judge(match[0])
        return out

    def end(self) -> str:
        """What may be released now that nothing more comes."""
        out = self._judge(self._rest) if not self.closed and self._rest.strip() else ""
        self.closed = True
        return out

    def citations(self) -> list[str]:
        """The ids of the messages that the released headline rests on."""
        told = self._released.split(" ")
        return covering(" ".join(word for word in told if fold(word) not in _OPENING_WORDS), self._messages)

    def _judge(self, word: str) -> str:
        if "\n" in word.strip() or ("\n" in word and self._released):
            self.closed = True
            return ""
        bare = word.strip()
        self.reason = self._fault(bare)
        if self.reason is not None:
            self.closed = True
            # A reader sees that something is missing.
            return "\u2026" if self._released and not self._held else ""
        self._held += f" {bare}" if self._released else bare
        self._released += f" {bare}" if self._released else bare
        self.closed = bool(_SENTENCE.search(bare)) and len(bare) > 3  # noqa: PLR2004 - not an abbreviation
        return self._let_out(_topic(bare))

    def _let_out(self, topic: frozenset[str]) -> str:
        if self._held == self._released and not topic:
            return ""
        out, self._held = self._held, ""
        return out

    def _fault(self, word: str) -> str | None:
        line = f"{self._released} {word}"
        if clean(word) != word or _FORM.search(word):
            return "form"
        if len(line) > _LONGEST:
            return "length"
        if has_address(line[-_TAIL:]) or not self._left_out.isdisjoint(_pieces(word)):
            return "link"
        return self._wrong_fact(word) or self._wrong_voice(word, line)

    def _wrong_fact(self, word: str) -> str | None:
        told = numbers(word) | spelled_numbers(word)
        if not told <= self._numbers:
            return "number"
        named = days(fold(word))
        if not named <= self._days and not self._words.issuperset(words(word)):
            return "day"
        if not self._is_dated_so(f"{self._released} {word}"):
            return "unsupported"
        known = self._words | _OPENING_WORDS | _CAPITALS
        capital = word.lstrip("\"'(\u201c\u2018")[:1].isupper() and self._released and self._is_english
        if capital and not named and not known.intersection(_variants(word)):
            return "name"
        return None

    def _is_dated_so(self, line: str) -> bool:
        """Whether one message names a day and a time together that `line` names together."""
        told = fold(line)
        named, counted = days(told), numbers(" ".join(times(told))) - {"0"}
        if not named or not counted:
            return True
        return any(named & theirs and counted & known for theirs, known in self._dated)

    @property
    def _is_english(self) -> bool:
        return self._released.startswith(OPENINGS["en"])

    def _wrong_voice(self, word: str, line: str) -> str | None:
        if _TO_READER.intersection(words(word)):
            return "address"
        if not self._released and not _OPENING_WORDS.intersection(words(word)):
            return "form"
        if any(run in self._echoes for run in _runs(" ".join(line.split()[-_ECHO:]))):
            return "prompt"
        return None if all(said_in(one, self._topic) for one in _topic(word)) else "unsupported"


_CAPITALS: Final = listed("i am pm ok tv usa uk eu")
_OPENING_WORDS: Final = frozenset(word for opening in OPENINGS.values() for word in words(opening))


def _topic(word: str) -> frozenset[str]:
    """What a message must say."""
    return content_words(word) - content_words(" ".join(_OPENING_WORDS)) - COMMON


def _variants(word: str) -> set[str]:
    found = words(word)
    return {
        *found,
        *(one.removesuffix("'s") for one in found),
        *(part for one in found for part in one.split("-")),
    }


def _pieces(text: str) -> set[str]:
    """What stands between blanks, as it is compared: without signs at its ends."""
    return {bare for piece in fold(text).split() if (bare := piece.strip(_SIGNS))}


def _runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[at : at + _ECHO]) for at in range(len(found) - _ECHO + 1)}


def _known_numbers(texts: Iterable[str]) -> set[str]:
    known: set[str] = set()
    for text in texts:
        known |= numbers(text)
        known |= spelled_numbers(text)
    # 18:00 may be told as 6 PM, and the other way round.
    hours = {int(number) for number in known if number.isdecimal() and int(number[:9]) < _DAY_HOURS}
    for hour in hours:
        known.add(str(hour - _NOON if hour > _NOON else hour + _NOON))
    known.update(f"{number}.0" for number in list(known) if number.isdecimal())
    return known | {"0"} if hours else known

# ruff: noqa: RUF001 - day periods and dashes of many languages
r"""The first line of a message, in every form that exports have.

    Android  20/11/2026, 18:03 - Anna: text            11/20/26, 6:03 PM - Anna: text
    iOS      [20/11/2026, 18:03:22] Anna: text         [2026-11-20, 6:03:22 p.m.] Anna: text
    either   18:03, 20/11/2026 - Anna: text            (Vietnamese and a few other locales)

    date   = 1*4DIGIT sep 1*2DIGIT sep 1*4DIGIT ["."] ; sep: "/" "." "-", a space may follow it
    time   = [period] 1*2DIGIT (":" / "." / "h") 2DIGIT [(":" / ".") 2DIGIT] [period]

One export has one shape from its first line to its last: only lines of the shape of the first one start a message.
What looks like a message of another shape was pasted into a message, and stays in it.
"""

import re
from datetime import time
from typing import Final, NamedTuple

__all__ = ["LRM", "Header", "HeaderReader", "Shape", "clean", "find_shape"]

LRM: Final = "\u200e"
"""Left-to-right mark: iOS puts it before what the app, not a person, has written. Kept until that is judged."""

# Every other direction mark, the byte order mark, and control characters (which could drive a terminal).
_NOISE: Final = re.compile(
    "[\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff\x00-\x08\x0b-\x1f\x7f-\x9f]",
)

_AM: Final = (
    "am|a.m.|a. m.|a.m|a m|vorm.|vorm|πμ|π.μ.|öö|de.|fm|sa|ص|पूर्वाह्न|पूर्व|오전|午前|上午|凌晨|早上|清晨|"
    "in the morning|da manhã|de la mañana|du matin|di mattina|morgens|pagi"
)
_PM: Final = (
    "pm|p.m.|p. m.|p.m|p m|nachm.|nachm|abends|μμ|μ.μ.|ös|du.|em|ch|م|अपराह्न|अप|오후|午後|下午|晚上|傍晚|中午|"
    "in the afternoon|in the evening|da tarde|da noite|de la tarde|de la noche|de l’après-midi|du soir|"
    "di pomeriggio|di sera|sore|malam"
)
_JOINING_WORDS: Final = "klo|kl\\.?|um|at|om|à|às|alle|ore|a las|alle ore|pukul"


def _key(period: str) -> str:
    return re.sub(r"[\s.]", "", period).casefold()


_IS_PM: Final = {_key(word): False for word in _AM.split("|")} | {_key(word): True for word in _PM.split("|")}


def _alternatives(words: str) -> str:
    longest_first = sorted(words.split("|"), key=len, reverse=True)
    return "|".join(re.escape(word).replace("\\ ", r"\s") for word in longest_first)


_PERIOD: Final = _alternatives(f"{_AM}|{_PM}")
_DATE: Final = r"(?P<a>\d{1,4})(?P<sep>[./-])\s?(?P<b>\d{1,2})(?P=sep)\s?(?P<c>\d{1,4})\.?"
_TIME: Final = (
    rf"(?:(?P<before>{_PERIOD})\s?)?(?P<hour>\d{{1,2}})(?:[:.]|\s?h\s?)(?P<minute>\d{{2}})(?:[:.](?P<second>\d{{2}}))?"
    rf"(?:\s?(?P<after>{_PERIOD}))?"
)
_JOIN: Final = rf"(?:[,،]\s?|\s)(?:(?:{_JOINING_WORDS})\s)?"
_ENDS: Final = {"bracket": (r"\[", r"\](?:\s|$)"), "dash": ("", r"\s[-–—](?:\s|$)")}


def _compile() -> tuple[re.Pattern[str], ...]:
    orders = (_DATE + _JOIN + _TIME, _TIME + _JOIN + _DATE)
    return tuple(
        re.compile(begin + order + end, re.IGNORECASE) for order in orders for begin, end in _ENDS.values()
    )


_PATTERNS: Final = _compile()
_NOON: Final = 12
_DAY_DIGITS: Final = 2
"""A number with more digits than a day or a month has is a year."""


class Shape(NamedTuple):
    """What all first lines of one export have in common."""

    pattern: int
    separator: str
    year_first: bool
    year_last: bool
    seconds: bool
    twelve_hours: bool


class Header(NamedTuple):
    """A first line taken apart: the date's three numbers as written, the time, where the rest begins."""

    date: tuple[str, str, str]
    time: time | None
    """None when there is no such time."""
    end: int
    own_shape: bool


def clean(text: str) -> str:
    """`text` without byte order mark, control characters and direction marks other than `LRM`."""
    return _NOISE.sub("", text)


def find_shape(line: str) -> Shape | None:
    """The shape of `line` if it can be the first line of a message."""
    for number, pattern in enumerate(_PATTERNS):
        if match := pattern.match(line):
            return _shape(number, match)
    return None


class HeaderReader:
    """Recognises the first lines of an export of one shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._match = _PATTERNS[shape.pattern].match
        self._times: dict[tuple[str, ...], time | None] = {}

    def read(self, line: str) -> Header | None:
        """`line` taken apart, or None if it does not look like a first line at all."""
        match = self._match(line)
        if match is None:
            return None
        a, b, c, *written = match.group("a", "b", "c", "hour", "minute", "second", "before", "after")
        key = tuple(written)
        if key not in self._times:
            self._times[key] = _time(*written)
        own_shape = _shape(self._shape.pattern, match) == self._shape
        return Header(date=(a, b, c), time=self._times[key], end=match.end(), own_shape=own_shape)


def _shape(number: int, match: re.Match[str]) -> Shape:
    a, separator, c, second, before, after = match.group("a", "sep", "c", "second", "before", "after")
    year_first, year_last = len(a) > _DAY_DIGITS, len(c) > _DAY_DIGITS
    return Shape(number, separator, year_first, year_last, second is not None, (before or after) is not None)


def _time(hour: str, minute: str, second: str | None, before: str | None, after: str | None) -> time | None:
    hours = int(hour)
    period = before or after
    if period and hours <= _NOON:  # "18:03 PM" does occur, and means 18:03
        is_pm = _IS_PM.get(_key(period))
        if is_pm is None:  # a letter that only ignoring case makes equal, such as a dotless i
            return None
        hours = hours % _NOON + _NOON * is_pm
    try:
        return time(hours, int(minute), int(second or 0))
    except ValueError:
        return None

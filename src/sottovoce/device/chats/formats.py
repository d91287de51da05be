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
from typing import Final, Literal, NamedTuple

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
_SEPARATORS: Final = "[./-]"
_JOIN: Final = rf"(?:[,،]\s?|\s)(?:(?:{_JOINING_WORDS})\s)?"
_BEGINS: Final = ("", r"\[")
_ENDS: Final = (r"\s[-–—](?:\s|$)", r"\](?:\s|$)")
_NOON: Final = 12
_DAY_DIGITS: Final = 2
"""A number with more digits than a day or a month has is a year."""


class Shape(NamedTuple):
    """What all first lines of one export have in common."""

    bracket: bool
    time_first: bool
    separator: str
    year_first: bool
    year_last: bool
    seconds: bool
    period: Literal["", "before", "after"]
    """Where the day period of a 12-hour clock stands."""

    @property
    def twelve_hours(self) -> bool:
        """Whether the clock has day periods."""
        return self.period != ""


class Header(NamedTuple):
    """A first line taken apart: the date's three numbers as written, the time, where the rest begins."""

    date: tuple[str, str, str]
    time: time | None
    """None when there is no such time."""
    end: int


def _compile(*, bracket: bool, time_first: bool, shape: Shape | None = None) -> re.Pattern[str]:
    """The pattern of first lines of any shape, or, much quicker, of one."""
    separator = re.escape(shape.separator) if shape else _SEPARATORS
    first = _number(year=shape.year_first) if shape else r"\d{1,4}"
    last = _number(year=shape.year_last) if shape else r"\d{1,4}"
    date = rf"(?P<a>{first})(?P<sep>{separator})\s?(?P<b>\d{{1,2}})(?P=sep)\s?(?P<c>{last})\.?"
    seconds = _part("second", r"[:.](?P<second>\d{2})", shape.seconds if shape else None)
    before = _part("before", rf"(?P<before>{_PERIOD})\s?", shape.period == "before" if shape else None)
    after = _part("after", rf"\s?(?P<after>{_PERIOD})", shape.period == "after" if shape else None)
    clock = rf"{before}(?P<hour>\d{{1,2}})(?:[:.]|\s?h\s?)(?P<minute>\d{{2}}){seconds}{after}"
    middle = clock + _JOIN + date if time_first else date + _JOIN + clock
    return re.compile(_BEGINS[bracket] + middle + _ENDS[bracket], re.IGNORECASE)


def _number(*, year: bool) -> str:
    return r"\d{3,4}" if year else r"\d{1,2}"


def _part(name: str, pattern: str, wanted: bool | None) -> str:  # noqa: FBT001 - yes, no, or either
    if wanted is None:
        return f"(?:{pattern})?"
    return pattern if wanted else f"(?P<{name}>(?!))?"


_ANY_SHAPE: Final = {
    (bracket, time_first): _compile(bracket=bracket, time_first=time_first)
    for bracket in (False, True)
    for time_first in (False, True)
}


def clean(text: str) -> str:
    """`text` without byte order mark, control characters and direction marks other than `LRM`."""
    return _NOISE.sub("", text)


def find_shape(line: str) -> Shape | None:
    """The shape of `line` if it can be the first line of a message."""
    for (bracket, time_first), pattern in _ANY_SHAPE.items():
        if match := pattern.match(line):
            return _shape(match, bracket=bracket, time_first=time_first)
    return None


class HeaderReader:
    """Recognises the first lines of an export of one shape."""

    def __init__(self, shape: Shape) -> None:
        self._match = _compile(bracket=shape.bracket, time_first=shape.time_first, shape=shape).match
        self._times: dict[tuple[str, ...], time | None] = {}

    def read(self, line: str) -> Header | None:
        """`line` taken apart, or None if it is not the first line of a message of this export."""
        match = self._match(line)
        if match is None:
            return None
        a, b, c, *written = match.group("a", "b", "c", "hour", "minute", "second", "before", "after")
        key = tuple(written)
        if key not in self._times:
            self._times[key] = _time(*written)
        return Header((a, b, c), self._times[key], match.end())


def _shape(match: re.Match[str], *, bracket: bool, time_first: bool) -> Shape:
    return Shape(
        bracket=bracket,
        time_first=time_first,
        separator=match["sep"],
        year_first=len(match["a"]) > _DAY_DIGITS,
        year_last=len(match["c"]) > _DAY_DIGITS,
        seconds=match["second"] is not None,
        period="before" if match["before"] else "after" if match["after"] else "",
    )


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

"""Day-first, month-first or year-first: decided once for the whole file, by evidence.

1. A year of four digits stands where it stands; dates with dots are never month-first, as no locale writes so.
2. Otherwise the reading wins that has the fewest impossible dates (month 20), then the fewest before 2009, when
   WhatsApp began, then the fewest steps back in time, as an export is in order.
3. Where readings tie, a year of two digits comes last. Where they still differ, the default: month-first for the form of the United States (slashes, a 12-hour
   clock, no zero padding), else day-first. A note says so.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from enum import Enum
from itertools import groupby, pairwise
from typing import Final

from sottovoce.device.chats.formats import Shape

__all__ = ["DateOrder", "DateReader", "decide"]

Digits = tuple[str, str, str]

_FIRST_YEAR: Final = 2009
_CENTURY: Final = 2000
_BUDDHIST: Final = 543
"""Thai exports count years from 543 BC: 2569 is 2026."""
_BUDDHIST_FROM: Final = 2400


class DateOrder(Enum):
    """The order of the date's three numbers."""

    DAY_FIRST = "day first"
    MONTH_FIRST = "month first"
    YEAR_FIRST = "year first"


class DateReader:
    """Reads dates of one order; each different date is worked out once."""

    def __init__(self, order: DateOrder) -> None:
        self._order = order
        self._known: dict[Digits, date | None] = {}

    def read(self, digits: Digits) -> date | None:
        """The date that `digits` mean in this order, or None if there is none."""
        if digits not in self._known:
            self._known[digits] = _date(digits, self._order)
        return self._known[digits]


def decide(dates: Iterable[Digits], shape: Shape) -> tuple[DateOrder, str]:
    """The order of `dates` (in the file's order), and a note, empty unless it had to be guessed."""
    distinct = [digits for digits, _ in groupby(dates)]
    readings = {order: _readings(distinct, order) for order in _possible(shape)}
    scores = {order: _score(reading) for order, reading in readings.items()}
    best = [order for order, score in scores.items() if score == min(scores.values())]
    if len(best) > 1 and not shape.year_first:
        best = [order for order in best if order is not DateOrder.YEAR_FIRST]
    if all(readings[order] == readings[best[0]] for order in best):
        return best[0], ""
    order = _default(distinct, shape)
    other = next(other for other in best if other is not order)
    return order, f"the dates could also be {other.value}; they were read as {order.value}"


def _possible(shape: Shape) -> tuple[DateOrder, ...]:
    if shape.year_first:
        return (DateOrder.YEAR_FIRST,)
    years = () if shape.year_last else (DateOrder.YEAR_FIRST,)
    months = () if shape.separator == "." else (DateOrder.MONTH_FIRST,)
    return (DateOrder.DAY_FIRST, *months, *years)


def _readings(dates: Sequence[Digits], order: DateOrder) -> list[date | None]:
    reader = DateReader(order)
    return [reader.read(digits) for digits in dates]


def _score(reading: Sequence[date | None]) -> tuple[int, int, int]:
    valid = [day for day in reading if day is not None]
    too_early = sum(day.year < _FIRST_YEAR for day in valid)
    steps_back = sum(later < earlier for earlier, later in pairwise(valid))
    return len(reading) - len(valid), too_early, steps_back


def _default(dates: Sequence[Digits], shape: Shape) -> DateOrder:
    padded = any(part.startswith("0") for digits in dates for part in digits[:2])
    if shape.separator == "/" and shape.twelve_hours and not padded:
        return DateOrder.MONTH_FIRST
    return DateOrder.DAY_FIRST


def _date(digits: Digits, order: DateOrder) -> date | None:
    a, b, c = (int(part) for part in digits)
    year, month, day, year_digits = {
        DateOrder.DAY_FIRST: (c, b, a, digits[2]),
        DateOrder.MONTH_FIRST: (c, a, b, digits[2]),
        DateOrder.YEAR_FIRST: (a, b, c, digits[0]),
    }[order]
    if len(year_digits) not in (2, 4):
        return None
    if len(year_digits) == 2:  # noqa: PLR2004 - two digits: this century
        year += _CENTURY
    elif year >= _BUDDHIST_FROM:
        year -= _BUDDHIST
    try:
        return date(year, month, day)
    except ValueError:
        return None

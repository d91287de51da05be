"""The preferred form of an HTTP date (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`."""

import calendar
import re
import time
from typing import Final

__all__ = ["format_http_date", "parse_http_date"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = re.compile(
    rb"(?:" + "|".join(_DAYS).encode() + rb"), ([0-9]{2}) (" + "|".join(_MONTHS).encode() + rb")"
    # Nothing before 1970 is the time of a request.
    rb" (19[7-9][0-9]|[2-9][0-9]{3})"
    rb" ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


def format_http_date(moment: int) -> bytes:
    """`moment` (Unix seconds) as an HTTP date, 29 bytes."""
    t = time.gmtime(moment)
    day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04}"
    return f"{day} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT".encode()


def parse_http_date(value: bytes) -> int | None:
    """The moment (Unix seconds) of which `value` is the one HTTP date; None for anything else."""
    match = _DATE.fullmatch(value)
    if match is None:
        return None
    day, year, hour, minute, second = (int(match[number]) for number in (1, 3, 4, 5, 6))
    month = _MONTHS.index(match[2].decode()) + 1
    moment = calendar.timegm((year, month, day, hour, minute, second))
    # Written again, so that no day outside its month and no wrong weekday passes.
    return moment if format_http_date(moment) == value else None

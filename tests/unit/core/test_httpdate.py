import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.httpdate import format_http_date, parse_http_date


def test_the_example_of_rfc_9110() -> None:
    assert parse_http_date(b"Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert format_http_date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.integers(0, 253402300799))
def test_round_trip(moment: int) -> None:
    assert parse_http_date(format_http_date(moment)) == moment
    if moment < time.time():
        assert format_http_date(moment).decode() == formatdate(moment, usegmt=True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Mon, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sat, 01 Jan 0000 00:00:00 GMT",
    ],
)
def test_anything_else_is_none(value: bytes) -> None:
    assert parse_http_date(value) is None


@given(st.binary(max_size=40))
def test_any_bytes(value: bytes) -> None:
    moment = parse_http_date(value)
    assert moment is None or format_http_date(moment) == value

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError, UsageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_rfc8785_section_3_2_3_sorts_names_by_utf16_code_units() -> None:
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical.encode(value))) == order


def test_rfc8785_section_3_2_2_escapes() -> None:
    assert canonical.encode('\u20ac$\x0f\nA\'B"\\\\"/') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@given(JSON)
def test_round_trip(value: object) -> None:
    assert canonical.decode(canonical.encode(value), limit=1 << 20) == value


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_a_typed_error(data: bytes) -> None:
    try:
        value = canonical.decode(data, limit=1 << 10)
    except DecodeError:
        return
    assert canonical.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b"1.0",
        b"1e3",
        b"NaN",
        b'"\\u0061"',
        b"",
        b"[1]\n",
        b'"\\ud800"',
        b"-0",
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        canonical.decode(data, limit=100)


def test_limits() -> None:
    with pytest.raises(DecodeError, match="longer"):
        canonical.decode(b"[1,2,3]", limit=3)
    with pytest.raises(DecodeError):
        canonical.decode(b"[" * 5000 + b"]" * 5000, limit=20_000)


@pytest.mark.parametrize("value", [1.5, 2**53, {1: 2}, b"bytes", "\ud800", {"\ud800": 1}])
def test_values_outside_the_subset_are_our_own_fault(value: object) -> None:
    with pytest.raises(UsageError):
        canonical.encode(value)

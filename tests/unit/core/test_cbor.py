import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UsageError

CBOR = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 99) | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


# RFC 8949 appendix A
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"), (23, "17"), (24, "1818"), (100, "1864"), (1000, "1903e8"), (1000000, "1a000f4240"),
        (18446744073709551615, "1bffffffffffffffff"), (-1, "20"), (-1000, "3903e7"),
        (-18446744073709551616, "3bffffffffffffffff"), (False, "f4"), (True, "f5"), (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"), ("IETF", "6449455446"), ("\u6c34", "63e6b0b4"),
        ([1, [2, 3], [4, 5]], "8301820203820405"), ({}, "a0"), ({1: 2, 3: 4}, "a201020304"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ],
)  # fmt: skip
def test_rfc8949_appendix_a(value: object, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    assert cbor.decode(bytes.fromhex(encoded), limit=100) == value


@given(CBOR)
def test_round_trip(value: object) -> None:
    assert cbor.decode(cbor.encode(value), limit=1 << 20) == value


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_raise_a_typed_error(data: bytes) -> None:
    try:
        value = cbor.decode(data, limit=1 << 10)
    except DecodeError:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        ("1817", "shortest"), ("190018", "shortest"), ("5f41014102ff", "indefinite"), ("9fff", "indefinite"),
        ("a203040102", "sorted"), ("a201020102", "sorted"), ("0000", "trailing"), ("4401", "early"), ("", "early"),
        ("61ff", "UTF-8"), ("fb3ff199999999999a", "subset"), ("c074", "subset"), ("f7", "subset"), ("a1f401", "neither"),
        ("1c", "reserved"), ("81" * 20 + "00", "deeply"), ("9b7fffffffffffffff", "early"),
    ],
)  # fmt: skip
def test_what_is_not_deterministic_is_refused(encoded: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        cbor.decode(bytes.fromhex(encoded), limit=100)


def test_the_limit_comes_before_parsing() -> None:
    with pytest.raises(DecodeError, match="longer"):
        cbor.decode(b"\x00" * 11, limit=10)


@pytest.mark.parametrize("value", [1.5, 2**64, {True: 1}, {b"x": 1}, object()])
def test_values_outside_the_subset_are_our_own_fault(value: object) -> None:
    with pytest.raises(UsageError):
        cbor.encode(value)

"""A small strict DER reader (X.690): minimal lengths, one-byte tags, nothing left over."""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["Fields", "Value", "integer", "oid", "one", "sequence", "values"]

INTEGER, BIT_STRING, OCTETS, OID, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
BOOLEAN, IA5, UTC_TIME, GENERALIZED = 0x01, 0x16, 0x17, 0x18
_LONG: Final = 0x80
_MAX_LENGTH_BYTES: Final = 3
_MULTI_BYTE_TAG: Final = 0x1F
_YEAR_PIVOT: Final = 50  # RFC 5280 section 4.1.2.5.1
_TRUE, _FALSE = b"\xff", b"\x00"
_UTC: Final = re.compile(rb"[0-9]{12}Z")
_FULL: Final = re.compile(rb"[0-9]{14}Z")


@dataclass(frozen=True, slots=True)
class Value:
    """One DER value: its tag, its contents, and all of its bytes."""

    tag: int
    body: bytes
    whole: bytes


def values(data: bytes) -> Iterator[Value]:
    """The values that stand one after the other in `data`.

    Raises:
        DecodeError: truncated, or not in the one form of DER.
    """
    at = 0
    while at < len(data):
        start, at = at, at + 2
        if at > len(data):
            raise DecodeError("the DER ends too early")
        tag, length = data[start], data[start + 1]
        if tag & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
            raise DecodeError("the DER has a tag of several bytes")
        if length >= _LONG:
            length, at = _long_length(data, at, length & ~_LONG)
        if length > len(data) - at:
            raise DecodeError("the DER ends too early")
        at += length
        yield Value(tag, data[at - length : at], data[start:at])


def _long_length(data: bytes, at: int, count: int) -> tuple[int, int]:
    # X.690 section 8.1.3.5; section 10.1: the shortest form only
    octets = data[at : at + count]
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(octets) != count:
        raise DecodeError("the DER has a malformed length")
    length = int.from_bytes(octets, "big")
    if octets[0] == 0 or length < _LONG:
        raise DecodeError("the DER has a length that is not minimal")
    return length, at + count


def one(data: bytes, tag: int) -> Value:
    """The only value in `data`, which has `tag`.

    Raises:
        DecodeError: another tag, or not exactly one.
    """
    found = list(values(data))
    if len(found) != 1 or found[0].tag != tag:
        raise DecodeError("the DER is not the one value that it should be")
    return found[0]


def integer(value: Value) -> int:
    """The number in an INTEGER (X.690 section 8.3: minimal).

    Raises:
        DecodeError: no INTEGER, or not in its shortest form.
    """
    body = value.body
    if value.tag != INTEGER or not body:
        raise DecodeError("the DER has a malformed integer")
    number = int.from_bytes(body, "big", signed=True)
    if len(body) > 1 and -(1 << 8 * len(body) - 9) <= number < 1 << 8 * len(body) - 9:
        raise DecodeError("the DER has an integer that is not minimal")
    return number


class Fields:
    """Takes the values of a SEQUENCE one by one; what is left over is an error."""

    def __init__(self, data: bytes, what: str) -> None:
        self._values = list(values(data))
        self._what = what

    def take(self, tag: int) -> Value:
        """The next value, which has `tag`.

        Raises:
            DecodeError: there is none, or another.
        """
        if not self.next_is(tag):
            raise DecodeError(f"{self._what} has a missing or misplaced field")
        return self._values.pop(0)

    def next_is(self, tag: int) -> bool:
        """Whether the next value has `tag`."""
        return bool(self._values) and self._values[0].tag == tag

    def truth(self) -> bool:
        """An optional BOOLEAN, False by default; DER writes no default (X.690 section 11.5).

        Raises:
            DecodeError: another form.
        """
        if not self.next_is(BOOLEAN):
            return False
        if self.take(BOOLEAN).body != _TRUE:
            raise DecodeError(f"{self._what} has a malformed truth value")
        return True

    def time(self) -> int:
        """A UTCTime or GeneralizedTime in the form of RFC 5280 section 4.1.2.5, as unix seconds.

        Raises:
            DecodeError: malformed.
        """
        long = self.next_is(GENERALIZED)
        body = self.take(GENERALIZED if long else UTC_TIME).body
        if not (_FULL if long else _UTC).fullmatch(body):
            raise DecodeError(f"{self._what} has a malformed time")
        text = body.decode("ascii")
        if not long:
            text = ("19" if int(text[:2]) >= _YEAR_PIVOT else "20") + text
        try:
            parsed = dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
        except ValueError:
            raise DecodeError(f"{self._what} has a malformed time") from None
        return int(parsed.timestamp())

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            DecodeError: there is.
        """
        if self._values:
            raise DecodeError(f"{self._what} has an unknown field")


def sequence(data: bytes, what: str) -> Fields:
    """The fields of the SEQUENCE that `data` is.

    Raises:
        DecodeError: it is none.
    """
    return Fields(one(data, SEQUENCE).body, what)


def oid(dotted: str) -> bytes:
    """The DER body of an object identifier (X.690 section 8.19)."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return bytes(out)

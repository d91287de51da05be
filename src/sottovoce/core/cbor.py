"""Deterministic CBOR (RFC 8949 section 4.2.1) for the subset that evidence uses.

Values are `None`, `bool`, `int` in the 64-bit range, `bytes`, `str`, lists, and maps with int or
str keys. Decoding accepts the shortest, sorted, definite-length form only, so each value has one
encoding, and it bounds size and depth before it builds anything.
"""

from typing import Any, Final

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.limits import LIMITS

__all__ = ["decode", "encode"]

Cbor = Any

# RFC 8949 section 3.1: major types
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE = 0, 1, 2, 3, 4, 5, 7
_FALSE, _TRUE, _NULL = 20, 21, 22
_DIRECT: Final = 24  # below this, the argument stands in the initial byte


def encode(value: Cbor) -> bytes:
    """The one deterministic encoding of `value`.

    Raises:
        UsageError: the value is outside the subset.
    """
    return _encode(value, 0)


def decode(data: bytes, *, limit: int) -> Cbor:
    """The value of which `data` is the deterministic encoding.

    Raises:
        DecodeError: too long, too deep, truncated, trailing bytes, or not deterministic.
    """
    if len(data) > limit:
        raise DecodeError("CBOR longer than its limit")
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise DecodeError("CBOR with trailing bytes")
    return value


def _head(major: int, argument: int) -> bytes:
    if argument < _DIRECT:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise UsageError("CBOR integer beyond 64 bits")


def _encode(value: Cbor, depth: int) -> bytes:
    if depth > LIMITS.cbor_depth:
        raise UsageError("CBOR nested too deeply")
    if value is None or isinstance(value, bool):
        return _head(_SIMPLE, {False: _FALSE, True: _TRUE, None: _NULL}[value])
    if isinstance(value, int):
        return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list | tuple):
        return _head(_ARRAY, len(value)) + b"".join(_encode(item, depth + 1) for item in value)
    if isinstance(value, dict):
        # Section 4.2.1: keys sorted by the bytes of their encoding.
        items = sorted((_key(key), _encode(item, depth + 1)) for key, item in value.items())
        return _head(_MAP, len(items)) + b"".join(key + item for key, item in items)
    raise UsageError("value outside the CBOR subset")


def _key(key: Cbor) -> bytes:
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise UsageError("CBOR map with a key that is neither integer nor text")
    return _encode(key, 0)


def _take(data: bytes, at: int, count: int) -> bytes:
    if count > len(data) - at:
        raise DecodeError("CBOR ends too early")
    return data[at : at + count]


def _argument(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise DecodeError("CBOR ends too early")
    initial = data[at]
    major, info = initial >> 5, initial & 0x1F
    if info < _DIRECT:
        return major, info, at + 1
    if info > 27:  # noqa: PLR2004 - RFC 8949 section 3: 28 to 30 reserved, 31 indefinite length
        raise DecodeError("CBOR of indefinite length or with a reserved argument")
    size = 1 << (info - _DIRECT)
    argument = int.from_bytes(_take(data, at + 1, size), "big")
    if argument < _DIRECT or (size > 1 and argument < 1 << 4 * size):
        raise DecodeError("CBOR argument is not in its shortest form")
    return major, argument, at + 1 + size


def _decode(data: bytes, at: int, depth: int) -> tuple[Cbor, int]:  # noqa: C901, PLR0911
    if depth > LIMITS.cbor_depth:
        raise DecodeError("CBOR nested too deeply")
    major, argument, at = _argument(data, at)
    if major == _UINT:
        return argument, at
    if major == _NINT:
        return -1 - argument, at
    if major == _BYTES:
        return _take(data, at, argument), at + argument
    if major == _TEXT:
        try:
            return _take(data, at, argument).decode(), at + argument
        except UnicodeDecodeError:
            raise DecodeError("CBOR text is not UTF-8") from None
    if major == _ARRAY:
        items = []
        for _ in range(argument):
            item, at = _decode(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == _MAP:
        return _decode_map(data, at, depth, argument)
    if major == _SIMPLE and argument in {_FALSE, _TRUE, _NULL}:
        return {_FALSE: False, _TRUE: True, _NULL: None}[argument], at
    raise DecodeError("CBOR type outside the subset")


def _decode_map(data: bytes, at: int, depth: int, count: int) -> tuple[Cbor, int]:
    result: dict[Cbor, Cbor] = {}
    previous = b""
    for _ in range(count):
        start = at
        key, at = _decode(data, at, depth + 1)
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise DecodeError("CBOR map with a key that is neither integer nor text")
        encoded = data[start:at]
        if encoded <= previous:
            raise DecodeError("CBOR map keys are not sorted and unique")
        previous = encoded
        result[key], at = _decode(data, at, depth + 1)
    return result, at

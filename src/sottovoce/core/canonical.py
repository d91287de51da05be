"""Canonical JSON: RFC 8785 for the subset that the protocol uses.

Values are `None`, `bool`, `int` within ±(2^53 - 1), `str`, lists and string-keyed dicts. There are
no floats, so the number rules of RFC 8785 section 3.2.2.3 reduce to plain decimal integers.
Decoding is strict: what is not the canonical form of its own value is refused.
"""

import json
from typing import Any, Final

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.limits import LIMITS

__all__ = ["Json", "decode", "encode"]

Json = Any
"""A value of the subset above; `Any`, as Python's checkers handle recursive aliases badly."""

_STRINGS: Final = json.JSONEncoder(ensure_ascii=False)
_MAX_INT: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: beyond this, IEEE 754 doubles lose digits


def encode(value: Json) -> bytes:
    """The canonical form of `value`, UTF-8.

    Raises:
        UsageError: the value is outside the subset.
    """
    _check(value, 0)
    return _write(value).encode()


def decode(data: bytes, *, limit: int) -> Json:
    """The value whose canonical form is `data`.

    Raises:
        DecodeError: not JSON, outside the subset, duplicate keys, or not in canonical form.
    """
    if len(data) > limit:
        raise DecodeError("the JSON document is longer than its limit")
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
        again = encode(value)
    except (ValueError, RecursionError, UsageError):
        raise DecodeError("not a JSON document of the accepted subset") from None
    if again != data:
        raise DecodeError("the JSON document is not in canonical form")
    return value


def _no_float(_: str) -> Json:
    raise ValueError


def _check(value: Json, depth: int) -> None:
    if depth > LIMITS.json_depth:
        raise UsageError("JSON nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UsageError("JSON object with a key that is not a string")
            _check_scalar(key)
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    else:
        _check_scalar(value)


def _check_scalar(value: Json) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError("JSON string with a lone surrogate") from None
    elif isinstance(value, int):
        if abs(value) > _MAX_INT:
            raise UsageError("JSON integer beyond 2^53 - 1")
    elif value is not None:
        raise UsageError("value outside the JSON subset")


def _write(value: Json) -> str:
    # RFC 8785 section 3.2.3: members sorted by the UTF-16 code units of their names.
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_string(name)}:{_write(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)


def _string(value: str) -> str:
    # RFC 8785 section 3.2.2.2: the escapes of ECMAScript's JSON.stringify, which json.dumps shares.
    return _STRINGS.encode(value)

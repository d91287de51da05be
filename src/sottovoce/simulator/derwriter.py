"""The little DER (X.690) that the simulated vendors write themselves."""

from typing import Final

from sottovoce.attest import der

__all__ = ["integer", "oid", "sequence", "wrap"]

OBJECT_IDENTIFIER: Final = 0x06
_SHORT: Final = 0x80  # section 8.1.3.4
_BASE: Final = 128


def wrap(tag: int, body: bytes) -> bytes:
    """One value of any length."""
    length = len(body)
    if length < _SHORT:
        return bytes([tag, length]) + body
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT | len(octets)]) + octets + body


def integer(value: int, *, tag: int = der.INTEGER) -> bytes:
    """A number that is not negative."""
    return wrap(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sequence(*values: bytes) -> bytes:
    """A sequence of encoded values."""
    return wrap(der.SEQUENCE, b"".join(values))


def oid(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, dotted.split("."))
    return wrap(OBJECT_IDENTIFIER, b"".join(map(_arc, (first * 40 + second, *rest))))


def _arc(value: int) -> bytes:
    digits = [value % _BASE]
    while value := value // _BASE:
        digits.append(value % _BASE | _SHORT)
    return bytes(reversed(digits))

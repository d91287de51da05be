"""Variable-length integers (RFC 9000 section 16), read and written in one place."""

from typing import Final

from sottovoce.core.errors import DecodeError, UsageError

__all__ = ["decode_varint", "encode_varint", "require_varint"]

_PREFIXES: Final = ((1, 0x00), (2, 0x40), (4, 0x80), (8, 0xC0))


def encode_varint(value: int) -> bytes:
    """The shortest encoding of `value`: 1, 2, 4 or 8 bytes."""
    for size, prefix in _PREFIXES:
        if 0 <= value < 1 << 8 * size - 2:
            encoded = bytearray(value.to_bytes(size, "big"))
            encoded[0] |= prefix
            return bytes(encoded)
    raise UsageError("a variable-length integer is out of range")


def decode_varint(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int] | None:
    """The integer at `at` and where it ends; None while bytes are missing. Any length of encoding is allowed (section 16)."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    if len(data) - at < size:
        return None
    value = int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1
    return value, at + size


def require_varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and where it ends.

    Raises:
        DecodeError: bytes are missing.
    """
    found = decode_varint(data, at)
    if found is None:
        raise DecodeError("a variable-length integer is cut short")
    return found

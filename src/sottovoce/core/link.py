"""The link between router and CVM: a byte stream cut into messages, with an end for each turn.

    u32 length ‖ data        1 ≤ length ≤ 65,536
    u32 0                    end of turn

What runs inside is TLS, so the router cannot see where a message of the session ends; it needs this mark to
know when the answer to one request of the gateway is complete.
"""

import struct
from typing import Final

from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS

__all__ = ["END_OF_TURN", "LinkReader", "encode_turn", "link_messages"]

_LENGTH: Final = struct.Struct(">I")
END_OF_TURN: Final = _LENGTH.pack(0)


def link_messages(data: bytes) -> bytes:
    """`data` as link messages, without an end of turn."""
    size = LIMITS.link_message
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(_LENGTH.pack(len(piece)) + piece for piece in pieces)


def encode_turn(data: bytes) -> bytes:
    """`data` as one whole turn."""
    return link_messages(data) + END_OF_TURN


class LinkReader:
    """Bytes in, messages out; `b""` stands for the end of a turn."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here without losing part of a message."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with `data`.

        Raises:
            DecodeError: a message longer than the limit.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > LIMITS.link_message:
                raise DecodeError("a link message is longer than its limit")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return messages

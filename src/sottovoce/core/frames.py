"""Frames of one size inside the session (protocol section 7).

    u16 length ‖ data ‖ zeros          512 bytes, length ≤ 510

A frame of length 0 is filler. A message (a request, an answer) ends on a size class: 4,096 bytes of frames, and
above that Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", 2019, section 4), rounded up to whole frames.

An answer that leaves at a cadence is as long as it took to make. Padmé's classes, an eighth to a thirty-second apart, would tell answers of one length from
those of another; its own are a factor of two apart.
"""

import struct
from collections.abc import Callable
from typing import Final

from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS

__all__ = ["FRAME", "FRAME_DATA", "FrameReader", "Pacer", "encode_message", "size_class", "stream_class"]

FRAME: Final = LIMITS.frame
_LENGTH: Final = struct.Struct(">H")
FRAME_DATA: Final = FRAME - _LENGTH.size
_SMALLEST: Final = 4096
_FILLER: Final = bytes(FRAME)
_SHORTEST: Final = 128 * FRAME
_LONGEST: Final = 8192 * FRAME
_STEP: Final = 1024 * FRAME


def size_class(length: int) -> int:
    """The size class of a message whose frames take `length` bytes: bytes, a multiple of 512."""
    if length <= _SMALLEST:
        return _SMALLEST
    exponent = length.bit_length() - 1
    mantissa_bits = exponent.bit_length()
    mask = (1 << (exponent - mantissa_bits)) - 1
    padded = (length + mask) & ~mask
    return -(-padded // FRAME) * FRAME


def stream_class(length: int) -> int:
    """The class of an answer at a cadence whose frames take `length` bytes: 128 frames, doubled until they are enough.

    Above 8,192 frames (5 minutes at 40 ms) 1,024 more each, so that it ends before the session has to.
    """
    if length > _LONGEST:
        return -(-length // _STEP) * _STEP
    found = _SHORTEST
    while found < length:
        found *= 2
    return found


def _frame(data: bytes) -> bytes:
    return (_LENGTH.pack(len(data)) + data).ljust(FRAME, b"\0")


def encode_message(data: bytes) -> bytes:
    """`data` as one whole message: frames up to its size class."""
    frames = b"".join(_frame(data[at : at + FRAME_DATA]) for at in range(0, len(data), FRAME_DATA))
    return frames.ljust(size_class(len(frames)), b"\0")


class FrameReader:
    """Bytes in, data out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without cutting a frame."""
        return not self._buffer

    def feed(self, plaintext: bytes) -> bytes:
        """The data of the frames that are complete with `plaintext`.

        Raises:
            DecodeError: a length beyond the frame, or padding that is not zero.
        """
        self._buffer += plaintext
        data = bytearray()
        whole = len(self._buffer) // FRAME * FRAME
        for at in range(0, whole, FRAME):
            frame = self._buffer[at : at + FRAME]
            (length,) = _LENGTH.unpack_from(frame)
            end = _LENGTH.size + length
            if length > FRAME_DATA or any(frame[end:]):
                raise DecodeError("a frame has a wrong length or padding")
            data += frame[_LENGTH.size : end]
        del self._buffer[:whole]
        return bytes(data)


class Pacer:
    """A message in frames: one a tick, filler where there is no data yet, to the end of its class.

    `classes` rounds the length of all frames up to that of the class.
    """

    def __init__(self, classes: Callable[[int], int] = size_class) -> None:
        self._classes = classes
        self._pending = bytearray()
        self._sent = 0
        self._ended = False

    def put(self, data: bytes) -> None:
        """Add data to send."""
        self._pending += data

    def end(self) -> None:
        """Say that no more data comes."""
        self._ended = True

    @property
    def has_begun(self) -> bool:
        """Whether a frame has left."""
        return self._sent > 0

    @property
    def is_over(self) -> bool:
        """Whether the message is complete, padding included."""
        return self._ended and not self._pending and self._sent == self._classes(self._sent)

    def tick(self) -> bytes:
        """The next frame; nothing after the end."""
        if self.is_over:
            return b""
        piece = bytes(self._pending[:FRAME_DATA])
        del self._pending[:FRAME_DATA]
        self._sent += FRAME
        return _frame(piece) if piece else _FILLER

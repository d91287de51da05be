"""The grammar of Binary HTTP (RFC 9292 section 3), read as bytes come.

message       = framing ‖ informational… ‖ control ‖ fields ‖ content ‖ fields ‖ padding
framing       = 0 request, 1 response, each section with its length; 2 request, 3 response, each section up to a zero
control       = sized method ‖ sized scheme ‖ sized authority ‖ sized path     or    status
informational = status 100..199 ‖ fields
fields        = length ‖ line…         or    line… ‖ 0
line          = sized name ‖ sized value
content       = sized                  or    (length > 0 ‖ bytes)… ‖ 0
sized         = length ‖ bytes;  every number is a variable-length integer;  padding = zeros

A message may end before each of fields, content and fields, where that is empty (sections 3.1, 3.2).

Every rule is a generator: it yields an event, or None while bytes are missing, and goes on where it stopped. So a message costs time
that is linear in its length, in however small pieces it comes.
"""

from collections.abc import Callable, Generator
from typing import Final, Generic, TypeVar

from sottovoce.core.bhttp_values import (
    FINAL_STATUS,
    INFORMATIONAL_STATUS,
    Content,
    End,
    Head,
    Headers,
    Informational,
    RequestHead,
)
from sottovoce.core.errors import DecodeError, LimitError, SottovoceError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.core.varint import decode_varint

__all__ = [
    "MAX_CONTENT",
    "MAX_HEAD",
    "REQUEST",
    "REQUEST_STREAM",
    "RESPONSE",
    "RESPONSE_STREAM",
    "Decoder",
    "Input",
    "read_request",
    "read_response",
]

REQUEST, RESPONSE, REQUEST_STREAM, RESPONSE_STREAM = range(4)
MAX_HEAD: Final = 32 * 1024
"""Everything but content and padding: a token takes 500 bytes, a list of hosts a few hundred."""
MAX_CONTENT: Final = LIMITS.request + 64 * 1024
"""The largest request, in frames and TLS records."""

_E = TypeVar("_E")
_T = TypeVar("_T")
_Wait = Generator[None, None, _T]
"""A rule without events: it yields None while bytes are missing, and returns what it read."""
RequestEvent = RequestHead | Content | End
ResponseEvent = Informational | Head | Content | End


class Input:
    """Bytes that are not read yet, and how many more the head may take."""

    def __init__(self, data: bytes = b"", *, ended: bool = False) -> None:
        self.buffer = bytearray(data)
        self.ended = ended
        self._head_left = MAX_HEAD

    def more(self) -> _Wait[None]:
        """Wait for bytes."""
        if self.ended:
            raise DecodeError("the binary HTTP message is cut short")
        yield None

    def is_over(self) -> _Wait[bool]:
        """Whether the message ends here."""
        while not self.buffer:
            if self.ended:
                return True
            yield None
        return False

    def number(self) -> _Wait[int]:
        """A variable-length integer."""
        while (found := decode_varint(self.buffer)) is None:
            yield from self.more()
        value, end = found
        del self.buffer[:end]
        return value

    def take(self, length: int) -> bytes:
        """The next `length` bytes, or as many as are here."""
        taken = bytes(self.buffer[:length])
        del self.buffer[:length]
        return taken

    def spend(self, length: int) -> None:
        """Count `length` bytes of the head."""
        self._head_left -= length
        if self._head_left < 0:
            raise LimitError("the head of the binary HTTP message is longer than its limit")

    def part(self, length: int) -> _Wait[bytes]:
        """`length` bytes of the head, all of them."""
        self.spend(length + 1)
        while len(self.buffer) < length:
            yield from self.more()
        return self.take(length)

    def sized(self) -> _Wait[bytes]:
        """A part of the head with its length in front."""
        length = yield from self.number()
        return (yield from self.part(length))


def _line(data: Input, name_length: int) -> _Wait[tuple[bytes, bytes]]:
    name = yield from data.part(name_length)
    value = yield from data.sized()
    return name, value


def _fields(data: Input, *, streamed: bool) -> _Wait[Headers]:
    lines = []
    if streamed:
        while length := (yield from data.number()):
            lines.append((yield from _line(data, length)))
        return tuple(lines)
    section = Input((yield from data.sized()), ended=True)
    while section.buffer:
        length = yield from section.number()
        lines.append((yield from _line(section, length)))
    return tuple(lines)


def _optional_fields(data: Input, *, streamed: bool) -> _Wait[Headers]:
    if (yield from data.is_over()):
        return ()
    return (yield from _fields(data, streamed=streamed))


def _content(data: Input, limit: int, *, streamed: bool) -> Generator[Content | None, None, None]:
    while length := (yield from data.number()):
        limit -= length
        if limit < 0:
            raise LimitError("the content of the binary HTTP message is longer than its limit")
        while length:
            if not data.buffer:
                yield from data.more()
            piece = data.take(length)
            length -= len(piece)
            if piece:
                yield Content(data=piece)
        if not streamed:
            return


def _rest(data: Input, limit: int, *, streamed: bool) -> Generator[Content | End | None, None, None]:
    if not (yield from data.is_over()):
        yield from _content(data, limit, streamed=streamed)
    trailers = yield from _optional_fields(data, streamed=streamed)
    yield End(trailers=trailers)
    while True:
        # Section 3.8
        if data.buffer.count(0) != len(data.buffer):
            raise DecodeError("the binary HTTP message has padding that is not zero")
        data.buffer.clear()
        if data.ended:
            return
        yield None


def read_request(data: Input, limit: int) -> Generator[RequestEvent | None, None, None]:
    """A request with at most `limit` bytes of content."""
    framing = yield from data.number()
    if framing not in {REQUEST, REQUEST_STREAM}:
        raise DecodeError("the binary HTTP message is not a request")
    streamed = framing == REQUEST_STREAM
    method = yield from data.sized()
    scheme = yield from data.sized()
    authority = yield from data.sized()
    path = yield from data.sized()
    headers = yield from _optional_fields(data, streamed=streamed)
    yield RequestHead(method=method, scheme=scheme, authority=authority, path=path, headers=headers)
    yield from _rest(data, limit, streamed=streamed)


def read_response(data: Input, limit: int) -> Generator[ResponseEvent | None, None, None]:
    """A response with at most `limit` bytes of content."""
    framing = yield from data.number()
    if framing not in {RESPONSE, RESPONSE_STREAM}:
        raise DecodeError("the binary HTTP message is not a response")
    streamed = framing == RESPONSE_STREAM
    while (status := (yield from data.number())) in INFORMATIONAL_STATUS:
        data.spend(1)
        headers = yield from _fields(data, streamed=streamed)
        yield Informational(status=status, headers=headers)
    if status not in FINAL_STATUS:
        raise DecodeError("the binary HTTP response has a status that cannot be")
    headers = yield from _optional_fields(data, streamed=streamed)
    yield Head(status=status, headers=headers)
    yield from _rest(data, limit, streamed=streamed)


class Decoder(Generic[_E]):
    """Bytes in, events out: `feed` what comes, then `finish`. After an error it takes nothing more."""

    def __init__(self, read: Callable[[Input], Generator[_E | None, None, None]]) -> None:
        self._input = Input()
        self._steps = read(self._input)
        self._failed = False

    def feed(self, data: bytes) -> list[_E]:
        """The events that are complete with `data`.

        Raises:
            DecodeError: malformed.
            LimitError: longer than the limits allow.
            ProtocolError: well-formed, but not taken here.
            UsageError: after `finish`.
        """
        if self._input.ended:
            raise UsageError("the binary HTTP message was said to be complete")
        self._input.buffer += data
        return self._events()

    def finish(self) -> list[_E]:
        """Say that no more bytes come: the last events, where empty sections at the end were left out.

        Raises:
            DecodeError: the message is not complete.
        """
        self._input.ended = True
        return self._events()

    def _events(self) -> list[_E]:
        if self._failed:
            raise DecodeError("the binary HTTP message was refused before")
        events = []
        try:
            for event in self._steps:
                if event is None:
                    break
                events.append(event)
        except UsageError as error:
            # The value would be illegal: here it is the peer that made it.
            self._failed = True
            raise DecodeError(str(error)) from None
        except SottovoceError:
            self._failed = True
            raise
        return events

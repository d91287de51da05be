"""Binary HTTP requests in pieces (RFC 9292): a gateway acts on the head before the content is here.

Whole requests are in `bhttp`; here are the indeterminate-length form's encoder (section 3.2), and a decoder for both
forms that gives the head and each piece of content as soon as it has them.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sottovoce.core.bhttp import Content, End, Headers, Request, decode_request
from sottovoce.core.errors import DecodeError, LimitError, ProtocolError
from sottovoce.core.varint import decode_varint, encode_varint

__all__ = ["RequestDecoder", "RequestEncoder", "RequestHead"]

_KNOWN, _STREAMED = 0, 2
_CONTROL: Final = 4
"""Method, scheme, authority, path (section 3.4)."""
_MAX_HEAD: Final = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """Control data and headers of a request."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Headers


class RequestEncoder:
    """A streamed request: `head`, then `data`, then `end`."""

    @staticmethod
    def head(request: Request) -> bytes:
        """The part before the content; the request's own content and trailers are left out."""
        control = (request.method, request.scheme, request.authority, request.path)
        lines = (part for line in request.headers for part in line)
        return encode_varint(_STREAMED) + b"".join(map(_sized, (*control, *lines))) + b"\0"

    @staticmethod
    def data(content: bytes) -> bytes:
        """A piece of content."""
        return _sized(content) if content else b""

    @staticmethod
    def end() -> bytes:
        """The end of the content, and no trailers."""
        return b"\0\0"


def _sized(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CONTENT = auto()
    TRAILERS = auto()
    PADDING = auto()


class RequestDecoder:
    """Bytes in, events out. Padding is checked; trailers, which nothing here uses, are refused."""

    def __init__(self, *, content_limit: int) -> None:
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._streamed = False
        self._remaining = 0
        self._began = False
        self._allowed = content_limit

    def feed(self, data: bytes) -> list[RequestHead | Content | End]:
        """The events that are complete with `data`.

        Raises:
            DecodeError: malformed, or not a request.
            LimitError: longer than the limits allow.
            ProtocolError: it has trailers.
        """
        self._buffer += data
        events: list[RequestHead | Content | End] = []
        while True:
            before = (self._state, len(self._buffer))
            event = self._step()
            if event is not None:
                events.append(event)
            if (self._state, len(self._buffer)) == before:
                return events

    def finish(self) -> list[RequestHead | Content | End]:
        """Say that no more bytes come: an `End` where section 3.8 lets the request end here.

        Raises:
            DecodeError: the request is not complete.
        """
        if self._state is _State.PADDING:
            return []
        # Empty content and empty trailers may be left out. A stream of content that has begun must be ended.
        may_end = self._state is _State.TRAILERS or (self._state is _State.LENGTH and not self._began)
        if self._buffer or not may_end:
            raise DecodeError("the binary HTTP request is cut short")
        self._state = _State.PADDING
        return [End()]

    def _step(self) -> RequestHead | Content | End | None:
        match self._state:
            case _State.HEAD:
                return self._head()
            case _State.LENGTH:
                self._length()
            case _State.CONTENT:
                return self._content()
            case _State.TRAILERS:
                return self._trailers()
            case _State.PADDING:
                self._padding()
        return None

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _varint(self) -> int | None:
        found = decode_varint(self._buffer)
        if found is None:
            return None
        del self._buffer[: found[1]]
        return found[0]

    def _head(self) -> RequestHead | None:
        found = _head_end(self._buffer)
        if found is None:
            return None
        end, self._streamed = found
        head = decode_request(self._take(end))
        self._state = _State.LENGTH
        return RequestHead(
            method=head.method,
            scheme=head.scheme,
            authority=head.authority,
            path=head.path,
            headers=head.headers,
        )

    def _length(self) -> None:
        length = self._varint()
        if length is None:
            return
        if length > self._allowed:
            raise LimitError("the content of a binary HTTP request is longer than its limit")
        self._allowed -= length
        self._remaining, self._began = length, True
        self._state = _State.CONTENT if length else _State.TRAILERS

    def _content(self) -> Content | None:
        data = self._take(self._remaining)
        self._remaining -= len(data)
        if not self._remaining:
            self._state = _State.LENGTH if self._streamed else _State.TRAILERS
        return Content(data=data) if data else None

    def _trailers(self) -> End | None:
        length = self._varint()
        if length is None:
            return None
        if length:
            raise ProtocolError("a binary HTTP request has trailers, and nothing here takes them")
        self._state = _State.PADDING
        return End()

    def _padding(self) -> None:
        if any(self._buffer):
            raise DecodeError("the binary HTTP request has padding that is not zero")
        self._buffer.clear()


def _head_end(data: bytearray) -> tuple[int, bool] | None:
    """Where the content begins, and whether the form is the indeterminate-length one; None while bytes are missing.

    Raises:
        DecodeError: not a request.
        LimitError: the head is longer than its limit.
    """
    framing = decode_varint(data)
    if framing is None:
        return None
    if framing[0] not in {_KNOWN, _STREAMED}:
        raise DecodeError("the binary HTTP message is not a request")
    streamed = framing[0] == _STREAMED
    at: int | None = framing[1]
    for _ in range(_CONTROL if streamed else _CONTROL + 1):
        at = _skip(data, at)
    while streamed and at is not None:
        name = decode_varint(data, at)
        if name is None:
            return None
        if name[0] == 0:
            return name[1], streamed
        at = _skip(data, _skip(data, at))
    return None if at is None else (at, streamed)


def _skip(data: bytearray, at: int | None) -> int | None:
    """Where the sized part at `at` ends; None while bytes are missing."""
    found = None if at is None else decode_varint(data, at)
    if found is None:
        return None
    end = sum(found)
    if end > _MAX_HEAD:
        raise LimitError("the head of a binary HTTP request is longer than its limit")
    return end if end <= len(data) else None

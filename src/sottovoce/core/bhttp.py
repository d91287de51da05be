"""Binary HTTP messages (RFC 9292).

    Request = framing (0 known-length, 2 indeterminate-length) ‖ control ‖ headers ‖ content ‖ trailers ‖ padding
    Response = framing (1, 3) ‖ informational responses ‖ status ‖ headers ‖ content ‖ trailers ‖ padding

Encoding writes known-length messages, except for streamed responses. Decoding takes both forms, and a message that is cut
after a complete section, as section 3.8 allows.
"""

from dataclasses import dataclass, field
from typing import Final

from sottovoce.core.errors import DecodeError, LimitError, ProtocolError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.core.varint import decode_varint, encode_varint, require_varint

__all__ = [
    "Content",
    "End",
    "Head",
    "Headers",
    "Informational",
    "Request",
    "Response",
    "ResponseDecoder",
    "ResponseEncoder",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "header",
]

Headers = tuple[tuple[bytes, bytes], ...]
_REQUEST, _RESPONSE, _REQUEST_STREAM, _RESPONSE_STREAM = range(4)
_MAX_FIELDS: Final = 16 * 1024
_MAX_CONTENT: Final = LIMITS.request + 64 * 1024
_TOKEN: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
)  # RFC 9110 section 5.6.2, lower case
_FINAL_STATUS: Final = range(200, 600)
_INFORMATIONAL: Final = range(100, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Informational:
    """An informational response (1xx)."""

    status: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. Header names are lower case (section 3.6)."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Headers = ()
    content: bytes = field(default=b"", repr=False)
    trailers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response with its informational ones."""

    status: int
    headers: Headers = ()
    content: bytes = field(default=b"", repr=False)
    trailers: Headers = ()
    informational: tuple[Informational, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in _FINAL_STATUS:
            raise UsageError("a final response has a status from 200 to 599")


def header(headers: Headers, name: bytes) -> bytes | None:
    """The one value of `name`.

    Raises:
        ProtocolError: it is there more than once.
    """
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise ProtocolError("a header that must be single is repeated")
    return values[0] if values else None


def _sized(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _field_lines(headers: Headers) -> bytes:
    return b"".join(_sized(name) + _sized(value) for name, value in headers)


def encode_request(request: Request) -> bytes:
    """A known-length request (section 3.1)."""
    control = (request.method, request.scheme, request.authority, request.path)
    return (
        encode_varint(_REQUEST)
        + b"".join(map(_sized, control))
        + _sized(_field_lines(request.headers))
        + _sized(request.content)
        + _sized(_field_lines(request.trailers))
    )


def encode_response(response: Response) -> bytes:
    """A known-length response (section 3.1)."""
    return (
        encode_varint(_RESPONSE)
        + b"".join(encode_varint(i.status) + _sized(_field_lines(i.headers)) for i in response.informational)
        + encode_varint(response.status)
        + _sized(_field_lines(response.headers))
        + _sized(response.content)
        + _sized(_field_lines(response.trailers))
    )


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def is_over(self) -> bool:
        return self.at == len(self.data)

    def varint(self) -> int:
        value, self.at = require_varint(self.data, self.at)
        return value

    def sized(self, limit: int) -> bytes:
        return self.take(self.varint(), limit)

    def take(self, length: int, limit: int) -> bytes:
        if length > limit:
            raise LimitError("a part of the binary HTTP message is longer than its limit")
        if length > len(self.data) - self.at:
            raise DecodeError("the binary HTTP message is cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def fields(self, *, streamed: bool) -> Headers:
        """Field lines: a sized section, or lines up to an empty name."""
        if not streamed:
            section = _Reader(self.sized(_MAX_FIELDS))
            lines = []
            while not section.is_over:
                lines.append(section.field(section.varint()))
            return tuple(lines)
        lines, start = [], self.at
        while length := self.varint():
            lines.append(self.field(length))
            if self.at - start > _MAX_FIELDS:
                raise LimitError("a part of the binary HTTP message is longer than its limit")
        return tuple(lines)

    def field(self, length: int) -> tuple[bytes, bytes]:
        name = self.take(length, _MAX_FIELDS)
        value = self.sized(_MAX_FIELDS)
        if not name or not _TOKEN.issuperset(name) or any(byte in b"\0\r\n" for byte in value):
            raise DecodeError("a header of the binary HTTP message is malformed")
        return name, value

    def content(self, *, streamed: bool) -> bytes:
        if not streamed:
            return self.sized(_MAX_CONTENT)
        pieces, total = [], 0
        while length := self.varint():
            pieces.append(self.take(length, _MAX_CONTENT - total))
            total += length
        return b"".join(pieces)

    def rest(self, *, streamed: bool) -> tuple[bytes, Headers]:
        """Content, trailers and padding; section 3.8 lets a message end before each of the first two."""
        content = b"" if self.is_over else self.content(streamed=streamed)
        trailers = () if self.is_over else self.fields(streamed=streamed)
        if any(self.data[self.at :]):
            raise DecodeError("the binary HTTP message has padding that is not zero")
        return content, trailers


def decode_request(data: bytes) -> Request:
    """Parse a request of either form.

    Raises:
        DecodeError: malformed, or not a request.
        LimitError: longer than the limits allow.
    """
    reader = _Reader(data)
    framing = reader.varint()
    if framing not in {_REQUEST, _REQUEST_STREAM}:
        raise DecodeError("the binary HTTP message is not a request")
    streamed = framing == _REQUEST_STREAM
    method, scheme, authority, path = (reader.sized(_MAX_FIELDS) for _ in range(4))
    if not method or not scheme:
        raise DecodeError("the binary HTTP request lacks a method or a scheme")
    headers = () if reader.is_over else reader.fields(streamed=streamed)
    content, trailers = reader.rest(streamed=streamed)
    return Request(
        method=method,
        scheme=scheme,
        authority=authority,
        path=path,
        headers=headers,
        content=content,
        trailers=trailers,
    )


def decode_response(data: bytes) -> Response:
    """Parse a response of either form.

    Raises:
        DecodeError: malformed, or not a response.
        LimitError: longer than the limits allow.
    """
    reader = _Reader(data)
    framing = reader.varint()
    if framing not in {_RESPONSE, _RESPONSE_STREAM}:
        raise DecodeError("the binary HTTP message is not a response")
    streamed = framing == _RESPONSE_STREAM
    informational = []
    while (status := reader.varint()) in _INFORMATIONAL:
        informational.append(Informational(status=status, headers=reader.fields(streamed=streamed)))
    if status not in _FINAL_STATUS:
        raise DecodeError("the binary HTTP response has a status that cannot be")
    headers = () if reader.is_over else reader.fields(streamed=streamed)
    content, trailers = reader.rest(streamed=streamed)
    return Response(
        status=status,
        headers=headers,
        content=content,
        trailers=trailers,
        informational=tuple(informational),
    )


class ResponseEncoder:
    """A streamed response: indeterminate-length (section 3.2)."""

    @staticmethod
    def head(status: int, headers: Headers = ()) -> bytes:
        """The part before the content."""
        return encode_varint(_RESPONSE_STREAM) + encode_varint(status) + _field_lines(headers) + b"\0"

    @staticmethod
    def data(content: bytes) -> bytes:
        """A piece of content."""
        return _sized(content) if content else b""

    @staticmethod
    def end() -> bytes:
        """The end of the content, and no trailers."""
        return b"\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Status and headers of a streamed response."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A piece of content."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The response is complete."""


class ResponseDecoder:
    """Bytes in, events out, for a response of either form. The head and each piece come as soon as they are whole."""

    def __init__(self) -> None:
        self._buffer = b""
        self._head: Head | None = None
        self._streamed = False
        self._ended = False

    def feed(self, data: bytes) -> list[Head | Content | End]:
        """The events that are complete with `data`.

        Raises:
            DecodeError: malformed.
            LimitError: longer than the limits allow.
        """
        self._buffer += data
        events: list[Head | Content | End] = []
        if self._head is None and not self._read_head(events):
            return events
        while not self._ended and self._read_content(events):
            pass
        if self._ended and any(self._buffer.lstrip(b"\0")):
            raise DecodeError("the binary HTTP message goes on after its end")
        return events

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            DecodeError: the response was not complete.
        """
        if not self._ended:
            raise DecodeError("the binary HTTP message is cut short")

    def _read_head(self, events: list[Head | Content | End]) -> bool:
        reader = _Reader(self._buffer)
        try:
            framing = reader.varint()
            if framing not in {_RESPONSE, _RESPONSE_STREAM}:
                raise ProtocolError("the binary HTTP message is not a response")
            self._streamed = framing == _RESPONSE_STREAM
            while (status := reader.varint()) in _INFORMATIONAL:
                reader.fields(streamed=self._streamed)
            headers = reader.fields(streamed=self._streamed)
        except DecodeError:
            # Short, or malformed: only more bytes could tell, and there is a limit to those.
            if len(self._buffer) > 2 * _MAX_FIELDS:
                raise
            return False
        if status not in _FINAL_STATUS:
            raise DecodeError("the binary HTTP response has a status that cannot be")
        self._head = Head(status=status, headers=headers)
        self._buffer = self._buffer[reader.at :]
        events.append(self._head)
        return True

    def _read_content(self, events: list[Head | Content | End]) -> bool:
        found = decode_varint(self._buffer)
        if found is None:
            return False
        length, at = found
        if length > _MAX_CONTENT:
            raise LimitError("a part of the binary HTTP message is longer than its limit")
        if len(self._buffer) - at < length:
            return False
        if length:
            events.append(Content(data=self._buffer[at : at + length]))
        if length == 0 or not self._streamed:
            return self._read_end(at + length, events)
        self._buffer = self._buffer[at + length :]
        return True

    def _read_end(self, at: int, events: list[Head | Content | End]) -> bool:
        reader = _Reader(self._buffer)
        reader.at = at
        try:
            reader.fields(streamed=self._streamed)
        except DecodeError:
            if len(self._buffer) - at > 2 * _MAX_FIELDS:
                raise
            if not self._streamed:
                # The content is out already; only the trailers are missing.
                self._buffer, self._streamed = b"\0" + self._buffer[at:], True
            return False
        self._buffer = self._buffer[reader.at :]
        self._ended = True
        events.append(End())
        return True

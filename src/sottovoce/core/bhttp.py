"""Binary HTTP messages (RFC 9292): whole ones, and responses in pieces. Requests in pieces are in `bhttp_requests`.

Whole messages are written in the known-length form (section 3.1), streamed ones in the indeterminate-length form (section 3.2). Both
forms are read, by one grammar (`bhttp_grammar`).
"""

from collections.abc import Iterable

from sottovoce.core.bhttp_grammar import (
    MAX_CONTENT,
    REQUEST,
    RESPONSE,
    RESPONSE_STREAM,
    Decoder,
    ResponseEvent,
    read_request,
    read_response,
)
from sottovoce.core.bhttp_values import (
    Content,
    End,
    Head,
    Headers,
    Informational,
    Request,
    RequestHead,
    Response,
    header,
)
from sottovoce.core.errors import DecodeError
from sottovoce.core.varint import encode_varint

__all__ = [
    "Content",
    "End",
    "Head",
    "Headers",
    "Informational",
    "Request",
    "RequestHead",
    "Response",
    "ResponseDecoder",
    "ResponseEncoder",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "field_lines",
    "header",
    "sized",
]


def sized(data: bytes) -> bytes:
    """`data` with its length in front."""
    return encode_varint(len(data)) + data


def field_lines(headers: Headers) -> bytes:
    """Field lines (section 3.6), with nothing around them."""
    return b"".join(sized(name) + sized(value) for name, value in headers)


def encode_request(request: Request) -> bytes:
    """A known-length request (section 3.1)."""
    control = (request.method, request.scheme, request.authority, request.path)
    return (
        encode_varint(REQUEST)
        + b"".join(map(sized, control))
        + sized(field_lines(request.headers))
        + sized(request.content)
        + sized(field_lines(request.trailers))
    )


def encode_response(response: Response) -> bytes:
    """A known-length response (section 3.1)."""
    return (
        encode_varint(RESPONSE)
        + b"".join(encode_varint(i.status) + sized(field_lines(i.headers)) for i in response.informational)
        + encode_varint(response.status)
        + sized(field_lines(response.headers))
        + sized(response.content)
        + sized(field_lines(response.trailers))
    )


def _join(events: Iterable[object]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Content))


def decode_request(data: bytes) -> Request:
    """Parse a request of either form.

    Raises:
        DecodeError: malformed, or not a request.
        LimitError: longer than the limits allow.
    """
    decoder = Decoder(lambda source: read_request(source, MAX_CONTENT))
    match decoder.feed(data) + decoder.finish():
        case [RequestHead() as head, *pieces, End(trailers=trailers)]:
            return Request(
                method=head.method,
                scheme=head.scheme,
                authority=head.authority,
                path=head.path,
                headers=head.headers,
                content=_join(pieces),
                trailers=trailers,
            )
    raise DecodeError("the binary HTTP message is cut short")


def decode_response(data: bytes) -> Response:
    """Parse a response of either form.

    Raises:
        DecodeError: malformed, or not a response.
        LimitError: longer than the limits allow.
    """
    decoder = ResponseDecoder()
    events = decoder.feed(data) + decoder.finish()
    informational = tuple(event for event in events if isinstance(event, Informational))
    match events[len(informational) :]:
        case [Head() as head, *pieces, End(trailers=trailers)]:
            return Response(
                status=head.status,
                headers=head.headers,
                content=_join(pieces),
                trailers=trailers,
                informational=informational,
            )
    raise DecodeError("the binary HTTP message is cut short")


class ResponseEncoder:
    """A streamed response: `head`, then `data`, then `end` (section 3.2)."""

    @staticmethod
    def head(status: int, headers: Headers = (), informational: Iterable[Informational] = ()) -> bytes:
        """The part before the content.

        Raises:
            UsageError: a status or a header that cannot be.
        """
        parts: tuple[Informational | Head, ...] = (*informational, Head(status=status, headers=headers))
        return encode_varint(RESPONSE_STREAM) + b"".join(
            encode_varint(part.status) + field_lines(part.headers) + b"\0" for part in parts
        )

    @staticmethod
    def data(content: bytes) -> bytes:
        """A piece of content."""
        return sized(content) if content else b""

    @staticmethod
    def end(trailers: Headers = ()) -> bytes:
        """The end of the content, and the trailers.

        Raises:
            UsageError: a trailer that cannot be.
        """
        return b"\0" + field_lines(End(trailers=trailers).trailers) + b"\0"


class ResponseDecoder(Decoder[ResponseEvent]):
    """A response of either form. Head and content come as soon as they are here."""

    def __init__(self, *, content_limit: int = MAX_CONTENT) -> None:
        super().__init__(lambda source: read_response(source, content_limit))

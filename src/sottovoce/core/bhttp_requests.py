"""Binary HTTP requests in pieces (RFC 9292): a gateway acts on the head before the content is here. Whole ones are in `bhttp`."""

from collections.abc import Generator

from sottovoce.core.bhttp import field_lines, sized
from sottovoce.core.bhttp_grammar import REQUEST_STREAM, Decoder, Input, RequestEvent, read_request
from sottovoce.core.bhttp_values import End, Headers, RequestHead
from sottovoce.core.errors import ProtocolError
from sottovoce.core.varint import encode_varint

__all__ = ["RequestDecoder", "RequestEncoder", "RequestHead"]


class RequestEncoder:
    """A streamed request: `head`, then `data`, then `end` (section 3.2)."""

    @staticmethod
    def head(request: RequestHead) -> bytes:
        """The part before the content. Of a whole request, content and trailers are left out."""
        control = (request.method, request.scheme, request.authority, request.path)
        return (
            encode_varint(REQUEST_STREAM)
            + b"".join(map(sized, control))
            + field_lines(request.headers)
            + b"\0"
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


class RequestDecoder(Decoder[RequestEvent]):
    """A request of either form. Head and content come as soon as they are here; trailers, which nothing here uses, are refused."""

    def __init__(self, *, content_limit: int) -> None:
        super().__init__(lambda source: _without_trailers(source, content_limit))


def _without_trailers(source: Input, limit: int) -> Generator[RequestEvent | None, None, None]:
    for event in read_request(source, limit):
        if isinstance(event, End) and event.trailers:
            raise ProtocolError("a binary HTTP request has trailers, and nothing here takes them")
        yield event

"""A streamed request as the gateway takes it in: outer body → chunked Oblivious HTTP → Binary HTTP → head and content."""

from collections.abc import AsyncGenerator, Sequence

from sottovoce.core import bhttp, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestDecoder, RequestHead
from sottovoce.core.errors import ProtocolError, SottovoceError
from sottovoce.edge.bodies import RequestBody

__all__ = ["KEY_NAME", "SealedRequest"]

KEY_NAME = 3
"""The bytes that name the gateway's key in front of a request: u8 key id, u16 KEM (RFC 9458 section 4.3)."""


class SealedRequest:
    """One streamed request. `head` comes first; the content can be read once."""

    def __init__(self, keys: Sequence[ohttp.GatewayKey], body: RequestBody, *, content_limit: int) -> None:
        self._body = body
        self._opener = ohttp_chunked.RequestOpener(keys)
        self._decoder = RequestDecoder(content_limit=content_limit)
        self._events = self._decode()
        self.key = b""
        """The name of the gateway's key."""
        self.is_authentic = False
        """Whether a chunk could be opened: whoever sent it can open the answer."""

    @property
    def enc(self) -> bytes:
        """The encapsulated key, once it is here."""
        return self._opener.enc

    def sealer(self) -> ohttp_chunked.ResponseSealer:
        """What seals the answer; it may begin before the request is complete."""
        return self._opener.sealer()

    async def head(self) -> RequestHead:
        """Method, path and headers.

        Raises:
            SottovoceError: the request cannot be opened or read.
        """
        first = await anext(self._events, None)
        if not isinstance(first, RequestHead):
            raise ProtocolError("the request has no head")
        return first

    async def content(self) -> AsyncGenerator[bytes, None]:
        """The content's pieces as they come; raises as `head`."""
        async for event in self._events:
            if isinstance(event, bhttp.Content):
                yield event.data

    async def _decode(self) -> AsyncGenerator[RequestHead | bhttp.Content | bhttp.End, None]:
        try:
            async for piece in self._body.pieces():
                self.key += piece[: KEY_NAME - len(self.key)]
                for chunk in self._opener.feed(piece):
                    self.is_authentic = True
                    for event in self._decoder.feed(chunk):
                        yield event
            last = self._opener.finish()
            self.is_authentic = True
            for event in self._decoder.feed(last):
                yield event
            for event in self._decoder.finish():
                yield event
        except SottovoceError as error:
            raise self._body.fail(error) from None

"""Chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08): the same, in pieces that can be used as they come.

    request   header ‖ enc ‖ chunks              response   response nonce ‖ chunks
    chunks    (varint length > 0 ‖ sealed chunk)…  ‖  varint 0 ‖ sealed final chunk, to the end of the stream

The final chunk is sealed with the associated data "final", so a stream that is cut is never taken for a whole one.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag

from sottovoce.core import hpke
from sottovoce.core.errors import DecodeError, LimitError, UsageError
from sottovoce.core.ohttp import (
    GatewayKey,
    KeyConfig,
    nonce_length,
    parse_head,
    request_header,
    response_keys,
)
from sottovoce.core.varint import decode_varint, encode_varint

__all__ = ["RequestOpener", "RequestSealer", "ResponseOpener", "ResponseSealer"]

_REQUEST: Final = b"message/bhttp chunked request"
_RESPONSE: Final = b"message/bhttp chunked response"
_FINAL: Final = b"final"
_MAX_CHUNK: Final = 64 * 1024 + 16
"""A receiver must take chunks of 16,384 bytes (section 6.2); ours takes four times that."""
_MAX_CHUNKS: Final = 1 << 32

_Open = Callable[[bytes, bytes], bytes]
"""(associated data, ciphertext) → plaintext, or OpenError."""


class _ChunkReader:
    """Cuts the stream into chunks and opens each."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._final = False
        self.finished = False

    def feed(self, data: bytes) -> None:
        if self.finished:
            raise DecodeError("the chunked message goes on after its end")
        self._buffer += data
        if self._final and len(self._buffer) > _MAX_CHUNK:
            raise LimitError("a chunk is longer than its limit")

    def take_head(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        head = bytes(self._buffer[:length])
        del self._buffer[:length]
        return head

    def peek(self) -> bytes:
        return bytes(self._buffer)

    def chunks(self, unseal: _Open) -> list[bytes]:
        opened = []
        while not self._final and (found := decode_varint(self._buffer)) is not None:
            length, at = found
            if length > _MAX_CHUNK:
                raise LimitError("a chunk is longer than its limit")
            if length == 0:
                self._final = True
                del self._buffer[:at]
                break
            if len(self._buffer) - at < length:
                break
            opened.append(unseal(b"", bytes(self._buffer[at : at + length])))
            del self._buffer[: at + length]
        return opened

    def finish(self, unseal: _Open) -> bytes:
        """The final chunk: what stands between its mark and the end of the stream."""
        if not self._final:
            raise DecodeError("the chunked message is cut short")
        plaintext = unseal(_FINAL, bytes(self._buffer))
        self.finished = True
        return plaintext


class _ResponseKeys:
    """The response's AEAD with its counter (section 5.2)."""

    def __init__(self, aead: hpke.Aead, nonce: bytes) -> None:
        self._aead = aead
        self._nonce = int.from_bytes(nonce, "big")
        self._counter = 0

    def _next(self) -> bytes:
        if self._counter >= _MAX_CHUNKS:
            raise UsageError("too many chunks under one key")
        nonce = (self._nonce ^ self._counter).to_bytes(hpke.NONCE_LENGTH, "big")
        self._counter += 1
        return nonce

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        return self._aead.encrypt(self._next(), plaintext, aad)

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        try:
            return self._aead.decrypt(self._next(), ciphertext, aad)
        except InvalidTag:
            raise hpke.OpenError("a chunk of the response is not authentic") from None


class RequestSealer:
    """A client's streamed request: `header`, then `chunk`s, then `final`; `opener` opens the answer."""

    def __init__(self, config: KeyConfig) -> None:
        self._suite = config.suite
        self._header = request_header(config, self._suite)
        info = _REQUEST + b"\0" + self._header
        self._enc, self._context = hpke.setup_sender(self._suite, config.public_key, info)
        self._finished = False

    def header(self) -> bytes:
        """What stands in front of the chunks."""
        return self._header + self._enc

    def chunk(self, data: bytes) -> bytes:
        """A sealed chunk that is not the last. Empty data gives nothing, as an empty chunk says nothing."""
        if self._finished:
            raise UsageError("the request is complete")
        if not data:
            return b""
        sealed = self._context.seal(b"", data)
        return encode_varint(len(sealed)) + sealed

    def final(self, data: bytes = b"") -> bytes:
        """The sealed last chunk."""
        if self._finished:
            raise UsageError("the request is complete")
        self._finished = True
        return encode_varint(0) + self._context.seal(_FINAL, data)

    def opener(self) -> "ResponseOpener":
        """What opens the answer."""
        return ResponseOpener(self._context, self._suite, self._enc)


class ResponseOpener:
    """A client's view of the streamed answer."""

    def __init__(self, context: hpke.SenderContext, suite: hpke.Suite, enc: bytes) -> None:
        self._context = context
        self._suite = suite
        self._enc = enc
        self._reader = _ChunkReader()
        self._keys: _ResponseKeys | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the chunks that are complete with `data`.

        Raises:
            OpenError: a chunk is not authentic, out of order, or the answer to another request.
            LimitError, DecodeError: a chunk too long, or bytes after the end.
        """
        self._reader.feed(data)
        if self._keys is None:
            nonce = self._reader.take_head(nonce_length(self._suite))
            if nonce is None:
                return []
            self._keys = _ResponseKeys(
                *response_keys(self._context, self._suite, _RESPONSE, self._enc, nonce)
            )
        return self._reader.chunks(self._keys.open)

    def finish(self) -> bytes:
        """The content of the final chunk, once the stream has ended.

        Raises:
            DecodeError: the stream was cut.
            OpenError: the final chunk is not authentic.
        """
        if self._keys is None:
            raise DecodeError("the chunked message is cut short")
        return self._reader.finish(self._keys.open)


class RequestOpener:
    """A gateway's view of a streamed request."""

    def __init__(self, keys: Sequence[GatewayKey]) -> None:
        self._keys = tuple(keys)
        self._reader = _ChunkReader()
        self._context: hpke.RecipientContext | None = None
        self._suite: hpke.Suite | None = None
        self.enc: bytes = b""
        """Identifies the request, once its head is here: whoever accepts it twice is replayed."""

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the chunks that are complete with `data`.

        Raises:
            UnknownKeyError: a key that this gateway does not have.
            OpenError: a chunk is not authentic or out of order.
            LimitError, DecodeError: a chunk too long, or bytes after the end.
        """
        self._reader.feed(data)
        if self._context is None:
            head = parse_head(self._keys, self._reader.peek())
            if head is None:
                return []
            self._reader.take_head(len(head.header) + len(head.enc))
            info = _REQUEST + b"\0" + head.header
            self._context = hpke.setup_recipient(head.suite, head.key.private_key, head.enc, info)
            self._suite, self.enc = head.suite, head.enc
        return self._reader.chunks(self._context.open)

    def finish(self) -> bytes:
        """The content of the final chunk, once the stream has ended.

        Raises:
            DecodeError: the stream was cut.
            OpenError: the final chunk is not authentic.
        """
        if self._context is None:
            raise DecodeError("the chunked message is cut short")
        return self._reader.finish(self._context.open)

    def sealer(self) -> "ResponseSealer":
        """What seals the answer; it may begin before the request is complete."""
        if self._context is None or self._suite is None:
            raise UsageError("the head of the request is not here yet")
        return ResponseSealer(self._context, self._suite, self.enc)


class ResponseSealer:
    """A gateway's streamed answer: `header`, then `chunk`s, then `final`."""

    def __init__(self, context: hpke.RecipientContext, suite: hpke.Suite, enc: bytes) -> None:
        self._nonce = os.urandom(nonce_length(suite))
        self._keys = _ResponseKeys(*response_keys(context, suite, _RESPONSE, enc, self._nonce))
        self._finished = False

    def header(self) -> bytes:
        """What stands in front of the chunks."""
        return self._nonce

    def chunk(self, data: bytes) -> bytes:
        """A sealed chunk that is not the last. Empty data gives nothing."""
        if self._finished:
            raise UsageError("the response is complete")
        if not data:
            return b""
        sealed = self._keys.seal(b"", data)
        return encode_varint(len(sealed)) + sealed

    def final(self, data: bytes = b"") -> bytes:
        """The sealed last chunk."""
        if self._finished:
            raise UsageError("the response is complete")
        self._finished = True
        return encode_varint(0) + self._keys.seal(_FINAL, data)

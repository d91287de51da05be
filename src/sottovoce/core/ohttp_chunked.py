"""Chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08): the same, in pieces that can be used as they come.

    request   header ‖ enc ‖ chunks              response   response nonce ‖ chunks
    chunks    (varint length > 0 ‖ sealed chunk)…  ‖  varint 0 ‖ sealed final chunk, to the end of the stream

The final chunk is sealed with the associated data "final", so a stream that is cut is never taken for a whole one.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sottovoce.core import hpke
from sottovoce.core.errors import DecodeError, LimitError, UsageError
from sottovoce.core.ohttp import (
    GatewayKey,
    KeyConfig,
    RequestHead,
    parse_head,
    response_keys,
    setup_request,
)
from sottovoce.core.varint import decode_varint, encode_varint

__all__ = ["RequestOpener", "RequestSealer", "ResponseOpener", "ResponseSealer"]

_REQUEST: Final = b"message/bhttp chunked request"
_RESPONSE: Final = b"message/bhttp chunked response"
_FINAL: Final = b"final"
_MAX_CHUNK: Final = 64 * 1024 + hpke.TAG_LENGTH
"""A receiver must take chunks of 16,384 bytes (section 3); ours takes four times that."""
_MAX_CHUNKS: Final = 1 << 32
"""Far below the 2^96 of section 6.2, and more than a session can send."""

_Open = Callable[[bytes, bytes], bytes]
"""(associated data, ciphertext) → plaintext, or OpenError."""


class _ChunkReader:
    """Cuts the stream into chunks and opens each. After an error it takes nothing more."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.finished = False
        self._final = False
        self._broken = False

    def feed(self, data: bytes) -> None:
        if self._broken or self.finished:
            raise DecodeError("the chunked message goes on after its end")
        self.buffer += data

    def take(self, length: int) -> bytes:
        taken = bytes(self.buffer[:length])
        del self.buffer[:length]
        return taken

    def chunks(self, unseal: _Open) -> list[bytes]:
        """The contents of the chunks before the final one that are whole by now."""
        self._broken = True
        opened = []
        while not self._final and (chunk := self._next()) is not None:
            plaintext = unseal(b"", chunk)
            if not plaintext:
                # Section 6: an empty chunk that is not the last is as bad as one that does not decrypt.
                raise hpke.OpenError("a chunk that is not the last one is empty")
            opened.append(plaintext)
        if self._final and len(self.buffer) > _MAX_CHUNK:
            raise LimitError("a chunk is longer than its limit")
        self._broken = False
        return opened

    def _next(self) -> bytes | None:
        found = decode_varint(self.buffer)
        if found is None:
            return None
        length, at = found
        if length > _MAX_CHUNK:
            raise LimitError("a chunk is longer than its limit")
        if len(self.buffer) < at + length:
            return None
        del self.buffer[:at]
        self._final = length == 0
        return None if self._final else self.take(length)

    def finish(self, unseal: _Open) -> bytes:
        """The final chunk: what stands between its mark and the end of the stream."""
        if self._broken or self.finished or not self._final:
            raise DecodeError("the chunked message is cut short")
        self._broken = True
        plaintext = unseal(_FINAL, bytes(self.buffer))
        self.finished, self._broken = True, False
        return plaintext


class _ResponseKeys:
    """The response's AEAD with its counter (section 6.2)."""

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


class _Sealer:
    """`chunk`s, then `final`."""

    def __init__(self, header: bytes, seal: Callable[[bytes, bytes], bytes]) -> None:
        self._header = header
        self._seal = seal
        self._finished = False

    def header(self) -> bytes:
        """What stands in front of the chunks."""
        return self._header

    def chunk(self, data: bytes) -> bytes:
        """A sealed chunk that is not the last. Empty data gives nothing, as an empty chunk is not allowed.

        Raises:
            UsageError: after `final`.
        """
        if self._finished:
            raise UsageError("the chunked message is complete")
        if not data:
            return b""
        sealed = self._seal(b"", data)
        return encode_varint(len(sealed)) + sealed

    def final(self, data: bytes = b"") -> bytes:
        """The sealed last chunk.

        Raises:
            UsageError: called before.
        """
        if self._finished:
            raise UsageError("the chunked message is complete")
        self._finished = True
        return encode_varint(0) + self._seal(_FINAL, data)


class RequestSealer(_Sealer):
    """A client's streamed request: `header`, then `chunk`s, then `final`; `opener` opens the answer.

    Raises:
        ProtocolError: the configuration offers no suite of ours.
        DecodeError, CryptoError: its key is malformed, or of small order.
    """

    def __init__(
        self, config: KeyConfig, *, unsafe_ephemeral_for_vectors: X25519PrivateKey | None = None
    ) -> None:
        header, enc, context, suite = setup_request(config, _REQUEST, unsafe_ephemeral_for_vectors)
        super().__init__(header + enc, context.seal)
        self._opener: ResponseOpener | None = ResponseOpener(context, suite, enc)

    def opener(self) -> "ResponseOpener":
        """The one object that opens the answer.

        Raises:
            UsageError: it was handed out before.
        """
        opener, self._opener = self._opener, None
        if opener is None:
            raise UsageError("the answer's opener was handed out before")
        return opener


class ResponseOpener:
    """A client's view of the streamed answer: `feed` what comes, then `finish`."""

    def __init__(self, context: hpke.SenderContext, suite: hpke.Suite, enc: bytes) -> None:
        self._context = context
        self._suite = suite
        self._enc = enc
        self._reader = _ChunkReader()
        self._keys: _ResponseKeys | None = None

    @property
    def finished(self) -> bool:
        """Whether the final chunk was authentic: only then is the answer whole."""
        return self._reader.finished

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the chunks that are complete with `data`.

        Raises:
            OpenError: a chunk is not authentic, out of order, or the answer to another request.
            LimitError, DecodeError: a chunk too long, or bytes after the end.
        """
        self._reader.feed(data)
        if self._keys is None:
            length = self._suite.entropy_length
            if len(self._reader.buffer) < length:
                return []
            nonce = self._reader.take(length)
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
    """A gateway's view of a streamed request: `feed` what comes, then `finish`."""

    def __init__(self, keys: Sequence[GatewayKey]) -> None:
        self._keys = tuple(keys)
        self._reader = _ChunkReader()
        self._head: RequestHead | None = None
        self._context: hpke.RecipientContext | None = None
        self._sealed = False

    @property
    def enc(self) -> bytes:
        """Identifies the request, once its head is here (empty before): whoever accepts it twice is replayed."""
        return self._head.enc if self._head else b""

    @property
    def finished(self) -> bool:
        """Whether the final chunk was authentic: only then is the request whole."""
        return self._reader.finished

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the chunks that are complete with `data`.

        Raises:
            UnknownKeyError: a key that this gateway does not have.
            CryptoError: an encapsulated key of small order.
            OpenError: a chunk is not authentic or out of order.
            LimitError, DecodeError: a chunk too long, or bytes after the end.
        """
        self._reader.feed(data)
        if self._context is None:
            self._head = parse_head(self._keys, bytes(self._reader.buffer))
            if self._head is None:
                return []
            self._reader.take(self._head.length)
            self._context = self._head.setup(_REQUEST)
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
        """The one object that seals the answer; it may begin before the request is complete.

        Raises:
            UsageError: the head of the request is not here yet, or the sealer was handed out before.
        """
        if self._context is None or self._head is None or self._sealed:
            raise UsageError("a request has one answer, once its head is here")
        self._sealed = True
        return ResponseSealer(self._context, self._head.suite, self._head.enc)


class ResponseSealer(_Sealer):
    """A gateway's streamed answer: `header`, then `chunk`s, then `final`."""

    def __init__(
        self,
        context: hpke.RecipientContext,
        suite: hpke.Suite,
        enc: bytes,
        *,
        unsafe_nonce_for_vectors: bytes | None = None,
    ) -> None:
        nonce = unsafe_nonce_for_vectors or os.urandom(suite.entropy_length)
        keys = _ResponseKeys(*response_keys(context, suite, _RESPONSE, enc, nonce))
        super().__init__(nonce, keys.seal)

"""Oblivious HTTP (RFC 9458): the encapsulation of whole messages. Key configurations are in `ohttp_keys`.

encapsulated request  u8 key id ‖ u16 KEM ‖ u16 KDF ‖ u16 AEAD ‖ enc ‖ ciphertext
encapsulated response response nonce ‖ ciphertext
"""

import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sottovoce.core import hkdf, hpke
from sottovoce.core.errors import DecodeError, ProtocolError, UsageError
from sottovoce.core.ohttp_keys import (
    GatewayKey,
    KeyConfig,
    decode_key_configs,
    encode_key_configs,
    find_suite,
    select_config,
)

__all__ = [
    "GatewayKey",
    "KeyConfig",
    "OpenedRequest",
    "RequestHead",
    "ResponseOpener",
    "ResponseSealer",
    "UnknownKeyError",
    "decode_key_configs",
    "encode_key_configs",
    "open_request",
    "parse_head",
    "response_keys",
    "seal_request",
    "select_config",
    "setup_request",
]

_HEADER: Final = struct.Struct(">BHHH")
_REQUEST: Final = b"message/bhttp request"
_RESPONSE: Final = b"message/bhttp response"


class UnknownKeyError(ProtocolError):
    """A request for a key that the gateway does not have (any more): fetch the directory again."""

    code = "peer.protocol.ohttp-key"


def setup_request(
    config: KeyConfig, label: bytes, unsafe_ephemeral_for_vectors: X25519PrivateKey | None = None
) -> tuple[bytes, bytes, hpke.SenderContext, hpke.Suite]:
    """Header, encapsulated key, context and suite of a new request (RFC 9458 section 4.3).

    Raises:
        ProtocolError: the configuration offers no suite of ours.
        DecodeError, CryptoError: its key is malformed, or of small order.
    """
    suite = config.suite
    header = _HEADER.pack(config.key_id, suite.kem_id, suite.kdf_id, suite.aead_id)
    enc, context = hpke.setup_sender(
        suite,
        config.public_key,
        label + b"\0" + header,
        unsafe_ephemeral_for_vectors=unsafe_ephemeral_for_vectors,
    )
    return header, enc, context, suite


class RequestHead(NamedTuple):
    """The readable part of an encapsulated request, `length` bytes, with the key and the suite that it names."""

    private_key: hpke.PrivateKey
    suite: hpke.Suite
    header: bytes
    enc: bytes
    length: int

    def setup(self, label: bytes) -> hpke.RecipientContext:
        """The context that opens the request (RFC 9458 section 4.3).

        Raises:
            CryptoError: an encapsulated key of small order.
        """
        return hpke.setup_recipient(self.suite, self.private_key, self.enc, label + b"\0" + self.header)


def parse_head(keys: Sequence[GatewayKey], data: bytes) -> RequestHead | None:
    """The head of an encapsulated request; None while bytes are missing.

    Raises:
        UnknownKeyError: no such key, or a suite that it does not have.
    """
    if len(data) < _HEADER.size:
        return None
    key_id, kem_id, kdf_id, aead_id = _HEADER.unpack_from(data)
    suite = find_suite(kem_id, kdf_id, aead_id)
    for key in keys:
        private_key = key.private_key
        if suite and key.key_id == key_id and private_key.kem_id == kem_id:
            end = _HEADER.size + hpke.ENC_LENGTH[kem_id]
            if len(data) < end:
                return None
            return RequestHead(private_key, suite, data[: _HEADER.size], data[_HEADER.size : end], end)
    raise UnknownKeyError("the gateway has no such key", hint="fetch the directory again")


def response_keys(
    context: hpke.SenderContext | hpke.RecipientContext,
    suite: hpke.Suite,
    label: bytes,
    enc: bytes,
    nonce: bytes,
) -> tuple[hpke.Aead, bytes]:
    """AEAD and its nonce for the response (RFC 9458 section 4.4); `nonce` has `suite.entropy_length` bytes."""
    secret = context.export(label, suite.entropy_length)
    key, base = hkdf.expand_blocks(hkdf.extract(enc + nonce, secret), b"key", b"nonce")
    return suite.new_aead(key[: suite.key_length]), base[: hpke.NONCE_LENGTH]


class ResponseOpener:
    """Opens the one response to one request; works once."""

    __slots__ = ("_context", "_enc", "_suite")

    def __init__(self, context: hpke.SenderContext, suite: hpke.Suite, enc: bytes) -> None:
        self._context: hpke.SenderContext | None = context
        self._suite = suite
        self._enc = enc

    def open(self, data: bytes) -> bytes:
        """The response's content.

        Raises:
            DecodeError: too short.
            OpenError: not authentic, or the answer to another request.
            UsageError: a response was opened before.
        """
        context, self._context = self._context, None
        if context is None:
            raise UsageError("the response was opened before")
        length = self._suite.entropy_length
        if len(data) < length + hpke.TAG_LENGTH:
            raise DecodeError("the encapsulated response is cut short")
        aead, nonce = response_keys(context, self._suite, _RESPONSE, self._enc, data[:length])
        try:
            return aead.decrypt(nonce, data[length:], b"")
        except InvalidTag:
            raise hpke.OpenError("the response is not authentic") from None


def seal_request(
    config: KeyConfig, request: bytes, *, unsafe_ephemeral_for_vectors: X25519PrivateKey | None = None
) -> tuple[bytes, ResponseOpener]:
    """The encapsulated request, and the one object that can open the answer.

    Raises:
        ProtocolError: the configuration offers no suite of ours.
        DecodeError, CryptoError: its key is malformed, or of small order.
    """
    header, enc, context, suite = setup_request(config, _REQUEST, unsafe_ephemeral_for_vectors)
    return header + enc + context.seal(b"", request), ResponseOpener(context, suite, enc)


class ResponseSealer:
    """Seals the one response; works once."""

    __slots__ = ("_context", "_enc", "_suite")

    def __init__(self, context: hpke.RecipientContext, suite: hpke.Suite, enc: bytes) -> None:
        self._context: hpke.RecipientContext | None = context
        self._suite = suite
        self._enc = enc

    def seal(self, response: bytes) -> bytes:
        """The encapsulated response.

        Raises:
            UsageError: a response was sealed before.
        """
        return self._unsafe_seal_with_nonce(response, os.urandom(self._suite.entropy_length))

    def _unsafe_seal_with_nonce(self, response: bytes, nonce: bytes) -> bytes:
        # Apart for test vectors only: a nonce that is used twice breaks the encryption.
        context, self._context = self._context, None
        if context is None:
            raise UsageError("a response was sealed before")
        aead, base = response_keys(context, self._suite, _RESPONSE, self._enc, nonce)
        return nonce + aead.encrypt(base, response, b"")


class OpenedRequest(NamedTuple):
    """A request's content, and what seals the answer. `enc` identifies the request: whoever accepts it twice is replayed."""

    content: bytes
    enc: bytes
    sealer: ResponseSealer

    def __repr__(self) -> str:
        return "<OpenedRequest>"


def open_request(keys: Sequence[GatewayKey], data: bytes) -> OpenedRequest:
    """Open an encapsulated request with the one of `keys` that it names.

    Raises:
        UnknownKeyError: none of them.
        DecodeError: cut short.
        OpenError: not authentic.
        CryptoError: an encapsulated key of small order.
    """
    head = parse_head(keys, data)
    if head is None or len(data) < head.length + hpke.TAG_LENGTH:
        raise DecodeError("the encapsulated request is cut short")
    context = head.setup(_REQUEST)
    content = context.open(b"", data[head.length :])
    return OpenedRequest(content, head.enc, ResponseSealer(context, head.suite, head.enc))

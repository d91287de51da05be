"""Oblivious HTTP (RFC 9458): key configurations, and the encapsulation of whole messages.

key config            u8 key id ‖ u16 KEM ‖ public key ‖ u16 length ‖ (u16 KDF ‖ u16 AEAD)…
encapsulated request  u8 key id ‖ u16 KEM ‖ u16 KDF ‖ u16 AEAD ‖ enc ‖ ciphertext
encapsulated response response nonce ‖ ciphertext
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from sottovoce.core import hpke
from sottovoce.core.errors import DecodeError, ProtocolError, UsageError

__all__ = [
    "GatewayKey",
    "KeyConfig",
    "OpenedRequest",
    "ResponseOpener",
    "ResponseSealer",
    "UnknownKeyError",
    "decode_key_configs",
    "encode_key_configs",
    "open_request",
    "seal_request",
    "select_config",
]

_HEADER: Final = struct.Struct(">BHHH")
_SYMMETRIC: Final = struct.Struct(">HH")
_CONFIG: Final = struct.Struct(">BH")
_LENGTH: Final = struct.Struct(">H")
_REQUEST: Final = b"message/bhttp request"
_RESPONSE: Final = b"message/bhttp response"
_PREFERRED: Final = (hpke.MLKEM768_X25519, hpke.X25519)
_AEADS: Final = (hpke.AES_128_GCM, hpke.CHACHA20_POLY1305)


class UnknownKeyError(ProtocolError):
    """A request for a key that the gateway does not have (any more): fetch the directory again."""

    code = "peer.protocol.ohttp-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """A gateway's public key (RFC 9458 section 3.1)."""

    key_id: int
    kem_id: int
    public_key: bytes
    symmetric: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        """The configuration as bytes."""
        suites = b"".join(_SYMMETRIC.pack(*pair) for pair in self.symmetric)
        return _CONFIG.pack(self.key_id, self.kem_id) + self.public_key + _LENGTH.pack(len(suites)) + suites

    @property
    def suite(self) -> hpke.Suite:
        """The suite to use with this key: the first AEAD of ours that it offers.

        Raises:
            ProtocolError: it offers none.
        """
        for aead in _AEADS:
            if (hpke.HKDF_SHA256, aead) in self.symmetric:
                return hpke.Suite(self.kem_id, hpke.HKDF_SHA256, aead)
        raise ProtocolError("the key configuration offers no suite of ours")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKey:
    """A gateway's key pair and its id."""

    key_id: int
    private_key: hpke.PrivateKey

    def config(self) -> KeyConfig:
        """The public half."""
        return KeyConfig(
            key_id=self.key_id,
            kem_id=self.private_key.kem_id,
            public_key=self.private_key.public_key(),
            symmetric=tuple((hpke.HKDF_SHA256, aead) for aead in _AEADS),
        )


def encode_key_configs(configs: Sequence[KeyConfig]) -> bytes:
    """`application/ohttp-keys` (RFC 9458 section 3.2)."""
    encoded = (config.encode() for config in configs)
    return b"".join(_LENGTH.pack(len(item)) + item for item in encoded)


def decode_key_configs(data: bytes) -> list[KeyConfig]:
    """Parse `application/ohttp-keys`; a configuration with an unknown KEM is left out (section 3.2).

    Raises:
        DecodeError: malformed, or nothing usable in it.
    """
    configs, at = [], 0
    while at < len(data):
        item, at = _sized(data, at)
        config = _decode_config(item)
        if config is not None:
            configs.append(config)
    if not configs:
        raise DecodeError("the list of key configurations holds none that is usable")
    return configs


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + _LENGTH.size
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise DecodeError("a key configuration is cut short")
    return data[start:end], end


def _decode_config(data: bytes) -> KeyConfig | None:
    if len(data) < _CONFIG.size:
        raise DecodeError("a key configuration is cut short")
    key_id, kem_id = _CONFIG.unpack_from(data)
    if kem_id not in hpke.PUBLIC_KEY_LENGTH:
        return None
    end = _CONFIG.size + hpke.PUBLIC_KEY_LENGTH[kem_id]
    suites, rest = _sized(data, end)
    if rest != len(data) or not suites or len(suites) % _SYMMETRIC.size:
        raise DecodeError("a key configuration has a malformed list of suites")
    return KeyConfig(
        key_id=key_id,
        kem_id=kem_id,
        public_key=data[_CONFIG.size : end],
        symmetric=tuple(_SYMMETRIC.iter_unpack(suites)),
    )


def select_config(configs: Sequence[KeyConfig]) -> KeyConfig:
    """The configuration to use: the post-quantum hybrid where it is offered.

    Raises:
        DecodeError: none is usable.
    """
    for kem_id in _PREFERRED:
        for config in configs:
            if config.kem_id == kem_id:
                return config
    raise DecodeError("no usable key configuration")


def request_header(config: KeyConfig, suite: hpke.Suite) -> bytes:
    """The seven bytes in front of an encapsulated request."""
    return _HEADER.pack(config.key_id, suite.kem_id, suite.kdf_id, suite.aead_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """The readable part of an encapsulated request."""

    key: GatewayKey
    suite: hpke.Suite
    header: bytes
    enc: bytes


HEADER_LENGTH: Final = _HEADER.size


def parse_head(keys: Sequence[GatewayKey], data: bytes) -> RequestHead | None:
    """The head of an encapsulated request; None while bytes are missing.

    Raises:
        UnknownKeyError: no such key, or a suite that it does not have.
    """
    if len(data) < _HEADER.size:
        return None
    key_id, kem_id, kdf_id, aead_id = _HEADER.unpack_from(data)
    for key in keys:
        if (key.key_id, key.private_key.kem_id) == (key_id, kem_id) and aead_id in _AEADS:
            end = _HEADER.size + hpke.ENC_LENGTH[kem_id]
            if kdf_id != hpke.HKDF_SHA256:
                break
            if len(data) < end:
                return None
            suite = hpke.Suite(kem_id, kdf_id, aead_id)
            return RequestHead(
                key=key, suite=suite, header=data[: _HEADER.size], enc=data[_HEADER.size : end]
            )
    raise UnknownKeyError("the gateway has no such key", hint="fetch the directory again")


def response_keys(
    context: hpke.SenderContext | hpke.RecipientContext,
    suite: hpke.Suite,
    label: bytes,
    enc: bytes,
    nonce: bytes,
) -> tuple[hpke.Aead, bytes]:
    """Key and nonce of the response (RFC 9458 section 4.4)."""
    secret = context.export(label, nonce_length(suite))
    prk = hpke.hkdf_extract(enc + nonce, secret)
    key = hpke.hkdf_expand(prk, b"key", hpke.KEY_LENGTH[suite.aead_id])
    return hpke.new_aead(suite.aead_id, key), hpke.hkdf_expand(prk, b"nonce", hpke.NONCE_LENGTH)


def nonce_length(suite: hpke.Suite) -> int:
    """max(Nn, Nk): the length of the response nonce and of the exported secret."""
    return max(hpke.NONCE_LENGTH, hpke.KEY_LENGTH[suite.aead_id])


class ResponseOpener:
    """Opens the one response to one request; works once."""

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
        length = nonce_length(self._suite)
        if len(data) < length:
            raise DecodeError("the encapsulated response is cut short")
        aead, nonce = response_keys(context, self._suite, _RESPONSE, self._enc, data[:length])
        try:
            return aead.decrypt(nonce, data[length:], b"")
        except InvalidTag:
            raise hpke.OpenError("the response is not authentic") from None


def seal_request(config: KeyConfig, request: bytes) -> tuple[bytes, ResponseOpener]:
    """The encapsulated request, and the one object that can open the answer.

    Raises:
        ProtocolError: the configuration offers no suite of ours.
        DecodeError: its key is malformed.
    """
    suite = config.suite
    header = request_header(config, suite)
    enc, context = hpke.setup_sender(suite, config.public_key, _REQUEST + b"\0" + header)
    return header + enc + context.seal(b"", request), ResponseOpener(context, suite, enc)


class ResponseSealer:
    """Seals the one response; works once."""

    def __init__(self, context: hpke.RecipientContext, suite: hpke.Suite, enc: bytes) -> None:
        self._context: hpke.RecipientContext | None = context
        self._suite = suite
        self._enc = enc

    def seal(self, response: bytes) -> bytes:
        """The encapsulated response.

        Raises:
            UsageError: a response was sealed before.
        """
        return self._unsafe_seal_with_nonce(response, os.urandom(nonce_length(self._suite)))

    def _unsafe_seal_with_nonce(self, response: bytes, nonce: bytes) -> bytes:
        context, self._context = self._context, None
        if context is None:
            raise UsageError("a response was sealed before")
        aead, base = response_keys(context, self._suite, _RESPONSE, self._enc, nonce)
        return nonce + aead.encrypt(base, response, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRequest:
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
    """
    head = parse_head(keys, data)
    if head is None:
        raise DecodeError("the encapsulated request is cut short")
    info = _REQUEST + b"\0" + head.header
    context = hpke.setup_recipient(head.suite, head.key.private_key, head.enc, info)
    content = context.open(b"", data[len(head.header) + len(head.enc) :])
    return OpenedRequest(content=content, enc=head.enc, sealer=ResponseSealer(context, head.suite, head.enc))

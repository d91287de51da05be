"""Key configurations of Oblivious HTTP (RFC 9458 section 3).

key config             u8 key id ‖ u16 KEM ‖ public key ‖ u16 length ‖ (u16 KDF ‖ u16 AEAD)…
application/ohttp-keys (u16 length ‖ key config)…
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core import hpke
from sottovoce.core.errors import DecodeError, ProtocolError, UsageError

__all__ = [
    "GatewayKey",
    "KeyConfig",
    "decode_key_configs",
    "encode_key_configs",
    "find_suite",
    "select_config",
]

_CONFIG: Final = struct.Struct(">BH")
_SYMMETRIC: Final = struct.Struct(">HH")
_LENGTH: Final = struct.Struct(">H")
_MAX_KEY_ID: Final = 255
_KEMS: Final = (hpke.MLKEM768_X25519, hpke.X25519)
"""In the order of preference (protocol section 2)."""
_AEADS: Final = (hpke.AES_128_GCM, hpke.CHACHA20_POLY1305)
"""In the order of preference (protocol section 2)."""
_SUITES: Final = {
    (kem, hpke.HKDF_SHA256, aead): hpke.Suite(kem, hpke.HKDF_SHA256, aead) for kem in _KEMS for aead in _AEADS
}


def find_suite(kem_id: int, kdf_id: int, aead_id: int) -> hpke.Suite | None:
    """The suite with these identifiers, if the protocol has it."""
    return _SUITES.get((kem_id, kdf_id, aead_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """A gateway's public key (RFC 9458 section 3.1), of a KEM that the protocol has; `symmetric` holds pairs of KDF and AEAD."""

    key_id: int
    kem_id: int
    public_key: bytes
    symmetric: tuple[tuple[int, int], ...]
    _suite: hpke.Suite | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.key_id <= _MAX_KEY_ID:
            raise UsageError("a key id is one byte")
        if len(self.public_key) != hpke.PUBLIC_KEY_LENGTH.get(self.kem_id):
            raise UsageError("a key configuration has an unknown KEM, or a public key of the wrong length")
        if not self.symmetric:
            raise UsageError("a key configuration names no suite")
        offered = (find_suite(self.kem_id, hpke.HKDF_SHA256, aead) for aead in _AEADS)
        ours = (suite for suite in offered if suite and (suite.kdf_id, suite.aead_id) in self.symmetric)
        object.__setattr__(self, "_suite", next(ours, None))

    @property
    def is_usable(self) -> bool:
        """Whether it offers a suite of ours."""
        return self._suite is not None

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
        if self._suite is None:
            raise ProtocolError("the key configuration offers no suite of ours")
        return self._suite


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKey:
    """A gateway's key pair and its id."""

    key_id: int
    private_key: hpke.PrivateKey

    def __post_init__(self) -> None:
        if not 0 <= self.key_id <= _MAX_KEY_ID:
            raise UsageError("a key id is one byte")

    def config(self) -> KeyConfig:
        """The public half."""
        return KeyConfig(
            key_id=self.key_id,
            kem_id=self.private_key.kem_id,
            public_key=self.private_key.public_key(),
            symmetric=tuple((hpke.HKDF_SHA256, aead) for aead in _AEADS),
        )


def encode_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """`application/ohttp-keys` (RFC 9458 section 3.2)."""
    encoded = (config.encode() for config in configs)
    return b"".join(_LENGTH.pack(len(item)) + item for item in encoded)


def decode_key_configs(data: bytes) -> list[KeyConfig]:
    """Parse `application/ohttp-keys`; a configuration with a KEM that the protocol does not have is left out (section 3.2).

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
    if end > len(data):
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
    """The configuration to use: the post-quantum hybrid where it is offered, with a suite of ours.

    Raises:
        DecodeError: none is usable.
    """
    for kem_id in _KEMS:
        for config in configs:
            if config.kem_id == kem_id and config.is_usable:
                return config
    raise DecodeError("no usable key configuration")

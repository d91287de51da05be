"""Hybrid public key encryption, base mode (RFC 9180), with X25519 and with X-Wing.

KDF: HKDF-SHA256. AEADs: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305. The library's own HPKE has neither export nor AAD, so it
cannot carry Oblivious HTTP.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from sottovoce.core import hkdf
from sottovoce.core.errors import CryptoError, UsageError
from sottovoce.core.kem import (
    ENC_LENGTH,
    MLKEM768_X25519,
    PUBLIC_KEY_LENGTH,
    X25519,
    PrivateKey,
    encapsulate,
    generate_private_key,
)

__all__ = [
    "AES_128_GCM",
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "ENC_LENGTH",
    "HKDF_SHA256",
    "KEY_LENGTH",
    "MLKEM768_X25519",
    "NONCE_LENGTH",
    "PUBLIC_KEY_LENGTH",
    "TAG_LENGTH",
    "X25519",
    "Aead",
    "OpenError",
    "PrivateKey",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "generate_private_key",
    "setup_recipient",
    "setup_sender",
]

HKDF_SHA256: Final = 0x0001
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 0x0001, 0x0002, 0x0003
KEY_LENGTH: Final = {AES_128_GCM: 16, AES_256_GCM: 32, CHACHA20_POLY1305: 32}
NONCE_LENGTH: Final = 12
TAG_LENGTH: Final = 16
_MAX_SEQUENCE: Final = (1 << 8 * NONCE_LENGTH) - 1
_MODE_BASE: Final = b"\x00"
_VERSION: Final = b"HPKE-v1"


class OpenError(CryptoError):
    """A ciphertext is not authentic under this key."""

    code = "peer.crypto.hpke"


class Aead(Protocol):
    """What the AEADs of the library have in common."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Ciphertext with tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Plaintext, or InvalidTag."""


_AEADS: Final[Mapping[int, Callable[[bytes], Aead]]] = {
    AES_128_GCM: AESGCM,
    AES_256_GCM: AESGCM,
    CHACHA20_POLY1305: ChaCha20Poly1305,
}


@dataclass(frozen=True, slots=True)
class Suite:
    """KEM, KDF and AEAD by their identifiers (RFC 9180 section 7), and what follows from them.

    Attributes:
        identifier: `suite_id` of RFC 9180 section 5.1, 10 bytes.
        key_length: bytes in the AEAD's key (`Nk`).
        entropy_length: max(Nn, Nk), which Oblivious HTTP needs (RFC 9458 section 4.4).
        new_aead: the AEAD, from its key.
    """

    kem_id: int
    kdf_id: int
    aead_id: int
    identifier: bytes = field(init=False, repr=False, compare=False)
    key_length: int = field(init=False, repr=False, compare=False)
    entropy_length: int = field(init=False, repr=False, compare=False)
    new_aead: Callable[[bytes], Aead] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kem_id not in ENC_LENGTH or self.kdf_id != HKDF_SHA256 or self.aead_id not in _AEADS:
            raise UsageError("an HPKE suite that is not supported")
        identifier = b"HPKE" + struct.pack(">HHH", self.kem_id, self.kdf_id, self.aead_id)
        object.__setattr__(self, "identifier", identifier)
        object.__setattr__(self, "key_length", KEY_LENGTH[self.aead_id])
        object.__setattr__(self, "entropy_length", max(NONCE_LENGTH, self.key_length))
        object.__setattr__(self, "new_aead", _AEADS[self.aead_id])


class _Schedule:
    """What the key schedule takes from suite and info alone (RFC 9180 section 5.1): base mode, no PSK, no PSK id.

    Each name is a label; the value is what `Extract` or `Expand` is given in front of the changing part.
    """

    __slots__ = ("exp", "key", "nonce", "sec", "secret")

    def __init__(self, suite_id: bytes, key_length: int, info: bytes) -> None:
        prefix = _VERSION + suite_id
        psk_id_hash = hkdf.extract(b"", prefix + b"psk_id_hash")
        info_hash = hkdf.extract(b"", prefix + b"info_hash" + info)
        context = _MODE_BASE + psk_id_hash + info_hash
        self.secret = prefix + b"secret"
        self.key = struct.pack(">H", key_length) + prefix + b"key" + context
        self.nonce = struct.pack(">H", NONCE_LENGTH) + prefix + b"base_nonce" + context
        self.exp = struct.pack(">H", hkdf.HASH_LENGTH) + prefix + b"exp" + context
        self.sec = prefix + b"sec"


# In Oblivious HTTP, info names a key of the gateway and a suite: there are few, and the same ones all day.
_schedule: Final = lru_cache(maxsize=64)(_Schedule)


class _Context:
    """Keys and the sequence number of one direction (RFC 9180 section 5.2)."""

    __slots__ = ("_aead", "_exporter", "_nonce", "_schedule", "_sequence")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        schedule = _schedule(suite.identifier, suite.key_length, info)
        secret = hkdf.extract(shared_secret, schedule.secret)
        key, nonce, self._exporter = hkdf.expand_blocks(secret, schedule.key, schedule.nonce, schedule.exp)
        self._schedule = schedule
        self._aead = suite.new_aead(key[: suite.key_length])
        self._nonce = nonce[:NONCE_LENGTH]
        self._sequence = 0

    def export(self, context: bytes, length: int) -> bytes:
        """A secret of `length` bytes, at most 8,160, for another use (RFC 9180 section 5.3).

        Raises:
            UsageError: more than that.
        """
        if not 0 <= length <= hkdf.MAX_EXPANSION:
            raise UsageError("HPKE cannot export that much")
        info = length.to_bytes(2, "big") + self._schedule.sec + context
        if length <= hkdf.HASH_LENGTH:
            return hkdf.expand_blocks(self._exporter, info)[0][:length]
        return hkdf.expand(self._exporter, info, length)

    def _next_nonce(self) -> bytes:
        if not self._sequence:
            return self._nonce
        if self._sequence >= _MAX_SEQUENCE:
            raise UsageError("the HPKE context has sealed all that it may")
        return (int.from_bytes(self._nonce, "big") ^ self._sequence).to_bytes(NONCE_LENGTH, "big")

    def __repr__(self) -> str:
        return f"<hpke.{type(self).__name__}>"


class SenderContext(_Context):
    """Seals, in order."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """The next ciphertext: 16 bytes longer than `plaintext`.

        Raises:
            UsageError: 2^96 - 1 messages were sealed before.
        """
        nonce = self._next_nonce()
        self._sequence += 1
        return self._aead.encrypt(nonce, plaintext, aad)


class RecipientContext(_Context):
    """Opens, in order."""

    __slots__ = ()

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext of the next ciphertext. A failure does not count (RFC 9180 section 5.2).

        Raises:
            OpenError: not authentic, or out of order.
        """
        try:
            plaintext = self._aead.decrypt(self._next_nonce(), ciphertext, aad)
        except InvalidTag:
            raise OpenError("a ciphertext is not authentic") from None
        self._sequence += 1
        return plaintext


def setup_sender(
    suite: Suite,
    public_key: bytes,
    info: bytes,
    *,
    unsafe_ephemeral_for_vectors: X25519PrivateKey | None = None,
) -> tuple[bytes, SenderContext]:
    """SetupBaseS (RFC 9180 section 5.1.1): the encapsulated key, and the context.

    Raises:
        DecodeError: a malformed public key.
        CryptoError: a public key of small order.
    """
    shared_secret, enc = encapsulate(suite.kem_id, public_key, unsafe_ephemeral_for_vectors)
    return enc, SenderContext(suite, shared_secret, info)


def setup_recipient(suite: Suite, private_key: PrivateKey, enc: bytes, info: bytes) -> RecipientContext:
    """SetupBaseR (RFC 9180 section 5.1.1).

    Raises:
        DecodeError: a malformed encapsulated key.
        CryptoError: an encapsulated key of small order.
        UsageError: the private key is of another KEM.
    """
    if private_key.kem_id != suite.kem_id:
        raise UsageError("the private key is of another KEM")
    return RecipientContext(suite, private_key.decapsulate(enc), info)

"""Hybrid public key encryption, base mode (RFC 9180), with X25519 and with X-Wing.

KEMs: DHKEM(X25519, HKDF-SHA256) 0x0020 (RFC 9180 section 4.1) and MLKEM768-X25519 0x647a (draft-connolly-cfrg-xwing-kem, named in
draft-ietf-hpke-pq). KDF: HKDF-SHA256. AEADs: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305. The library's own HPKE has
neither export nor AAD, so it cannot carry Oblivious HTTP.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from sottovoce.core.errors import CryptoError, DecodeError, UsageError

__all__ = [
    "AES_128_GCM",
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "ENC_LENGTH",
    "HKDF_SHA256",
    "MLKEM768_X25519",
    "PUBLIC_KEY_LENGTH",
    "X25519",
    "OpenError",
    "PrivateKey",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "generate_private_key",
    "hkdf_expand",
    "hkdf_extract",
    "new_aead",
    "setup_recipient",
    "setup_sender",
]

X25519: Final = 0x0020
MLKEM768_X25519: Final = 0x647A
HKDF_SHA256: Final = 0x0001
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 0x0001, 0x0002, 0x0003

ENC_LENGTH: Final = {X25519: 32, MLKEM768_X25519: 1120}
PUBLIC_KEY_LENGTH: Final = {X25519: 32, MLKEM768_X25519: 1216}
KEY_LENGTH: Final = {AES_128_GCM: 16, AES_256_GCM: 32, CHACHA20_POLY1305: 32}
NONCE_LENGTH: Final = 12
_SECRET: Final = 32
_SEED: Final = 32
_HASH: Final = 32
_MAX_SEQUENCE: Final = (1 << 8 * NONCE_LENGTH) - 1
_MODE_BASE: Final = b"\x00"
_MLKEM_PUBLIC, _MLKEM_CIPHERTEXT = 1184, 1088
_XWING_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")  # draft-connolly-cfrg-xwing-kem section 5.3


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


def new_aead(aead_id: int, key: bytes) -> Aead:
    """The AEAD with this identifier (RFC 9180 section 7.3) and key."""
    return _AEADS[aead_id](key)


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """RFC 5869 section 2.2 with SHA-256: 32 bytes."""
    return hmac.digest(salt or bytes(_HASH), ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2.3 with SHA-256: `length` bytes, at most 8,160."""
    if length > 255 * _HASH:
        raise UsageError("HKDF cannot expand that far")
    block = out = hmac.digest(prk, info + b"\x01", "sha256")
    counter = 1
    while len(out) < length:
        counter += 1
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


def _labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def _labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + info, length)


@dataclass(frozen=True, slots=True)
class Suite:
    """KEM, KDF and AEAD by their identifiers (RFC 9180 section 7)."""

    kem_id: int
    kdf_id: int
    aead_id: int

    def __post_init__(self) -> None:
        if self.kem_id not in ENC_LENGTH or self.kdf_id != HKDF_SHA256 or self.aead_id not in _AEADS:
            raise UsageError("an HPKE suite that is not supported")

    @property
    def identifier(self) -> bytes:
        """`suite_id` of RFC 9180 section 5.1."""
        return b"HPKE" + struct.pack(">HHH", self.kem_id, self.kdf_id, self.aead_id)


class PrivateKey:
    """A KEM's private key. 32 bytes for both KEMs: a scalar, or X-Wing's seed."""

    __slots__ = ("_bytes", "_mlkem", "_public", "_x25519", "kem_id")

    def __init__(self, kem_id: int, private: bytes) -> None:
        if kem_id not in ENC_LENGTH or len(private) != _SEED:
            raise UsageError("an HPKE private key has 32 bytes and a supported KEM")
        self.kem_id = kem_id
        self._bytes = private
        self._mlkem: MLKEM768PrivateKey | None = None
        scalar, prefix = private, b""
        if kem_id == MLKEM768_X25519:
            # draft-connolly-cfrg-xwing-kem section 5.2: expandDecapsulationKey
            expanded = hashlib.shake_256(private).digest(96)
            self._mlkem, scalar = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]
            prefix = self._mlkem.public_key().public_bytes_raw()
        self._x25519 = X25519PrivateKey.from_private_bytes(scalar)
        self._public = prefix + self._x25519.public_key().public_bytes_raw()

    @classmethod
    def from_bytes(cls, kem_id: int, private: bytes) -> "PrivateKey":
        """The key that `private_bytes` gave."""
        return cls(kem_id, private)

    def private_bytes(self) -> bytes:
        """The secret, 32 bytes, for a file that only its owner reads."""
        return self._bytes

    def public_key(self) -> bytes:
        """The public key: 32 or 1,216 bytes."""
        return self._public

    def __repr__(self) -> str:
        return "<hpke.PrivateKey>"

    def decapsulate(self, enc: bytes) -> bytes:
        """The shared secret, 32 bytes (RFC 9180 section 4; X-Wing section 5.5).

        Raises:
            DecodeError: an encapsulated key of the wrong length.
            CryptoError: a Diffie-Hellman value of small order.
        """
        if len(enc) != ENC_LENGTH[self.kem_id]:
            raise DecodeError("an encapsulated key has the wrong length")
        enc_x = enc[-32:]
        shared = _exchange(self._x25519, enc_x)
        public_x = self._public[-32:]
        if self._mlkem is None:
            return _dhkem_secret(shared, enc_x + public_x)
        return _xwing_secret(self._mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT]), shared, enc_x, public_x)


def generate_private_key(kem_id: int) -> PrivateKey:
    """A new private key."""
    return PrivateKey(kem_id, os.urandom(_SEED))


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        # RFC 9180 section 7.1.4: an all-zero result is an error
        raise CryptoError("a Diffie-Hellman value of small order") from None


def _dhkem_secret(shared: bytes, context: bytes) -> bytes:
    # RFC 9180 section 4.1: ExtractAndExpand
    suite_id = b"KEM" + struct.pack(">H", X25519)
    prk = _labeled_extract(suite_id, b"", b"eae_prk", shared)
    return _labeled_expand(suite_id, prk, b"shared_secret", context, _SECRET)


def _xwing_secret(mlkem: bytes, x25519: bytes, enc_x: bytes, public_x: bytes) -> bytes:
    # Section 5.3: the combiner
    return hashlib.sha3_256(mlkem + x25519 + enc_x + public_x + _XWING_LABEL).digest()


def _encapsulate(kem_id: int, public: bytes, ephemeral: X25519PrivateKey) -> tuple[bytes, bytes]:
    if len(public) != PUBLIC_KEY_LENGTH[kem_id]:
        raise DecodeError("an HPKE public key has the wrong length")
    public_x, enc_x = public[-32:], ephemeral.public_key().public_bytes_raw()
    shared = _exchange(ephemeral, public_x)
    if kem_id == X25519:
        return _dhkem_secret(shared, enc_x + public_x), enc_x
    try:
        mlkem, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]).encapsulate()
    except ValueError:
        raise DecodeError("an ML-KEM public key is malformed") from None
    return _xwing_secret(mlkem, shared, enc_x, public_x), ciphertext + enc_x


class _Context:
    """Keys and the sequence number of one direction (RFC 9180 section 5.2)."""

    __slots__ = ("_aead", "_exporter", "_nonce", "_sequence", "_suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        # Section 5.1, KeySchedule in base mode: no PSK, no PSK id
        suite_id = suite.identifier
        psk_id_hash = _labeled_extract(suite_id, b"", b"psk_id_hash", b"")
        info_hash = _labeled_extract(suite_id, b"", b"info_hash", info)
        context = _MODE_BASE + psk_id_hash + info_hash
        secret = _labeled_extract(suite_id, shared_secret, b"secret", b"")
        key = _labeled_expand(suite_id, secret, b"key", context, KEY_LENGTH[suite.aead_id])
        nonce = _labeled_expand(suite_id, secret, b"base_nonce", context, NONCE_LENGTH)
        self._suite = suite
        self._aead = new_aead(suite.aead_id, key)
        self._nonce = int.from_bytes(nonce, "big")
        self._exporter = _labeled_expand(suite_id, secret, b"exp", context, _HASH)
        self._sequence = 0

    def export(self, context: bytes, length: int) -> bytes:
        """A secret of `length` bytes for another use (RFC 9180 section 5.3)."""
        return _labeled_expand(self._suite.identifier, self._exporter, b"sec", context, length)

    def _next_nonce(self) -> bytes:
        if self._sequence >= _MAX_SEQUENCE:
            raise UsageError("the HPKE context has sealed all that it may")
        nonce = (self._nonce ^ self._sequence).to_bytes(NONCE_LENGTH, "big")
        self._sequence += 1
        return nonce

    def __repr__(self) -> str:
        return f"<hpke.{type(self).__name__}>"


class SenderContext(_Context):
    """Seals, in order."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """The next ciphertext: 16 bytes longer than `plaintext`."""
        return self._aead.encrypt(self._next_nonce(), plaintext, aad)


class RecipientContext(_Context):
    """Opens, in order."""

    __slots__ = ()

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext of the next ciphertext.

        Raises:
            OpenError: not authentic, or out of order.
        """
        nonce = self._next_nonce()
        try:
            return self._aead.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            self._sequence -= 1  # section 5.2: a failed Open does not advance the sequence
            raise OpenError("a ciphertext is not authentic") from None


def setup_sender(suite: Suite, public_key: bytes, info: bytes) -> tuple[bytes, SenderContext]:
    """SetupBaseS (RFC 9180 section 5.1.1): the encapsulated key, and the context.

    Raises:
        DecodeError: a malformed public key.
        CryptoError: a public key of small order.
    """
    return _unsafe_setup_sender_with_ephemeral(suite, public_key, info, X25519PrivateKey.generate())


def _unsafe_setup_sender_with_ephemeral(
    suite: Suite, public_key: bytes, info: bytes, ephemeral: X25519PrivateKey
) -> tuple[bytes, SenderContext]:
    # For test vectors only: an ephemeral key that is used twice breaks the encryption.
    shared_secret, enc = _encapsulate(suite.kem_id, public_key, ephemeral)
    return enc, SenderContext(suite, shared_secret, info)


def setup_recipient(suite: Suite, private_key: PrivateKey, enc: bytes, info: bytes) -> RecipientContext:
    """SetupBaseR (RFC 9180 section 5.1.1).

    Raises:
        DecodeError: a malformed encapsulated key.
        CryptoError: an encapsulated key of small order.
    """
    if private_key.kem_id != suite.kem_id:
        raise UsageError("the private key is of another KEM")
    return RecipientContext(suite, private_key.decapsulate(enc), info)

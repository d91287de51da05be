"""Two key encapsulation mechanisms: DHKEM(X25519, HKDF-SHA256) 0x0020, and the hybrid MLKEM768-X25519 0x647a.

The first is RFC 9180 section 4.1. The second is X-Wing (draft-connolly-cfrg-xwing-kem), which draft-ietf-hpke-pq registers for
HPKE: its secret is safe as long as one of ML-KEM-768 and X25519 is.

X-Wing   private key  seed of 32 bytes
         public key   ML-KEM-768 key (1,184) ‖ X25519 key (32)
         enc          ML-KEM-768 ciphertext (1,088) ‖ ephemeral X25519 key (32)
"""

import os
from functools import lru_cache
from hashlib import sha3_256, shake_256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sottovoce.core import hkdf
from sottovoce.core.errors import CryptoError, DecodeError, UsageError

__all__ = [
    "ENC_LENGTH",
    "MLKEM768_X25519",
    "PRIVATE_KEY_LENGTH",
    "PUBLIC_KEY_LENGTH",
    "X25519",
    "PrivateKey",
    "encapsulate",
    "generate_private_key",
]

X25519: Final = 0x0020
MLKEM768_X25519: Final = 0x647A
ENC_LENGTH: Final = {X25519: 32, MLKEM768_X25519: 1120}
PUBLIC_KEY_LENGTH: Final = {X25519: 32, MLKEM768_X25519: 1216}
PRIVATE_KEY_LENGTH: Final = 32
_POINT: Final = 32
_MLKEM_SEED: Final = 64
_XWING_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")
"""Draft section 5.3: an X-wing in ASCII."""
# RFC 9180 section 4.1: LabeledExtract and LabeledExpand of ExtractAndExpand, for KEM 0x0020 and 32 bytes
_EXTRACT_LABEL: Final = b"HPKE-v1KEM\x00\x20eae_prk"
_EXPAND_LABEL: Final = b"\x00\x20HPKE-v1KEM\x00\x20shared_secret"


class PrivateKey:
    """A KEM's private key: 32 bytes for both KEMs, a scalar or X-Wing's seed."""

    __slots__ = ("_bytes", "_mlkem", "_public", "_public_point", "_x25519", "kem_id")

    def __init__(self, kem_id: int, private: bytes) -> None:
        if kem_id not in ENC_LENGTH or len(private) != PRIVATE_KEY_LENGTH:
            raise UsageError("an HPKE private key has 32 bytes and a supported KEM")
        self.kem_id = kem_id
        self._bytes = private
        self._mlkem: MLKEM768PrivateKey | None = None
        scalar, prefix = private, b""
        if kem_id == MLKEM768_X25519:
            # Draft section 5.2: expandDecapsulationKey
            expanded = shake_256(private).digest(_MLKEM_SEED + _POINT)
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED])
            scalar, prefix = expanded[_MLKEM_SEED:], self._mlkem.public_key().public_bytes_raw()
        self._x25519 = X25519PrivateKey.from_private_bytes(scalar)
        self._public_point = self._x25519.public_key().public_bytes_raw()
        self._public = prefix + self._public_point

    @classmethod
    def from_bytes(cls, kem_id: int, private: bytes) -> "PrivateKey":
        """The key that `private_bytes` gave.

        Raises:
            UsageError: not 32 bytes, or an unknown KEM.
        """
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
        point = enc[-_POINT:]
        shared = _exchange(self._x25519, X25519PublicKey.from_public_bytes(point))
        if self._mlkem is None:
            return _dhkem_secret(shared, point, self._public_point)
        return _xwing_secret(self._mlkem.decapsulate(enc[:-_POINT]), shared, point, self._public_point)


def generate_private_key(kem_id: int) -> PrivateKey:
    """A new private key.

    Raises:
        UsageError: an unknown KEM.
    """
    return PrivateKey(kem_id, os.urandom(PRIVATE_KEY_LENGTH))


def encapsulate(
    kem_id: int, public_key: bytes, unsafe_ephemeral_for_vectors: X25519PrivateKey | None = None
) -> tuple[bytes, bytes]:
    """A fresh shared secret, 32 bytes, and its encapsulation for the owner of `public_key`.

    The third argument is for test vectors only: an ephemeral key that is used twice breaks the encryption.

    Raises:
        DecodeError: a malformed public key.
        CryptoError: a public key of small order.
    """
    public, mlkem = _load_public_key(kem_id, public_key)
    ephemeral = unsafe_ephemeral_for_vectors or X25519PrivateKey.generate()
    point = ephemeral.public_key().public_bytes_raw()
    shared = _exchange(ephemeral, public)
    if mlkem is None:
        return _dhkem_secret(shared, point, public_key), point
    secret, ciphertext = mlkem.encapsulate()
    return _xwing_secret(secret, shared, point, public_key[-_POINT:]), ciphertext + point


@lru_cache(maxsize=32)  # A client talks to one gateway key a day, and ML-KEM takes 19 µs to expand it.
def _load_public_key(kem_id: int, public_key: bytes) -> tuple[X25519PublicKey, MLKEM768PublicKey | None]:
    if len(public_key) != PUBLIC_KEY_LENGTH[kem_id]:
        raise DecodeError("an HPKE public key has the wrong length")
    public = X25519PublicKey.from_public_bytes(public_key[-_POINT:])
    if kem_id == X25519:
        return public, None
    try:
        return public, MLKEM768PublicKey.from_public_bytes(public_key[:-_POINT])
    except ValueError:
        # FIPS 203 section 7.2: a coefficient that is not reduced
        raise DecodeError("an ML-KEM public key is malformed") from None


def _exchange(private: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    try:
        return private.exchange(public)
    except ValueError:
        # RFC 9180 section 7.1.4: an all-zero result is an error
        raise CryptoError("a Diffie-Hellman value of small order") from None


def _dhkem_secret(shared: bytes, enc: bytes, public: bytes) -> bytes:
    prk = hkdf.extract(b"", _EXTRACT_LABEL + shared)
    return hkdf.expand_blocks(prk, _EXPAND_LABEL + enc + public)[0]


def _xwing_secret(mlkem: bytes, x25519: bytes, point: bytes, public: bytes) -> bytes:
    # Draft section 5.3: Combiner
    return sha3_256(mlkem + x25519 + point + public + _XWING_LABEL).digest()

"""RSA blind signatures, the client's side: RSABSSA-SHA384-PSS-Deterministic (RFC 9474).

The signer sees a number that is uniform whatever was signed, so it cannot recognise the signature later:

    device: blind(message) → blinded_msg, Blinding        section 4.2
    issuer: blinded_msg^d mod n                           section 4.3, `sottovoce.edge.rsa`
    device: Blinding.finalize(blind_sig) → signature      section 4.4, verified before it is returned
"""

import hashlib
import math
import os
import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sottovoce.core.errors import CryptoError, DecodeError, UsageError

__all__ = ["SALT_LENGTH", "Blinding", "PublicKey", "blind"]

SALT_LENGTH: Final = 48
"""RFC 9474 section 5: sLen of the PSS variants, in bytes."""

_HASH_LENGTH: Final = 48
_TRAILER: Final = b"\xbc"
_MINIMUM_BITS: Final = 2048
_MAXIMUM_BITS: Final = 4096
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=SALT_LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """An RSA public key of 2048 to 4096 bits; a whole number of bytes."""

    modulus: int
    exponent: int
    _verifier: rsa.RSAPublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bits = self.modulus.bit_length()
        if not _MINIMUM_BITS <= bits <= _MAXIMUM_BITS or bits % 8 or self.modulus % 2 == 0:
            raise DecodeError("RSA modulus of a length or form that is not allowed")
        try:
            numbers = rsa.RSAPublicNumbers(self.exponent, self.modulus)
            object.__setattr__(self, "_verifier", numbers.public_key())
        except ValueError:
            raise DecodeError("not an RSA public key") from None

    @property
    def length(self) -> int:
        """The modulus's length in bytes (`modulus_len`)."""
        return self.modulus.bit_length() // 8

    def verify(self, message: bytes, signature: bytes) -> None:
        """RSASSA-PSS-VERIFY (RFC 8017 section 8.1.2) with SHA-384 and a salt of 48 bytes.

        Raises:
            CryptoError: the signature is not this key's over `message`.
        """
        try:
            self._verifier.verify(signature, message, _PSS, hashes.SHA384())
        except InvalidSignature:
            raise CryptoError("blind RSA signature does not verify") from None


class Blinding:
    """What turns the signer's answer into a signature, once. Secret: it links the two."""

    __slots__ = ("_inverse", "_key", "_message")

    def __init__(self, key: PublicKey, message: bytes, inverse: int) -> None:
        self._key = key
        self._message = message
        self._inverse: int | None = inverse

    def __repr__(self) -> str:
        return "Blinding(...)"

    def finalize(self, blind_signature: bytes) -> bytes:
        """The signature over the message (RFC 9474 section 4.4), `key.length` bytes.

        Raises:
            DecodeError: the answer has another length.
            CryptoError: the signature does not verify.
            UsageError: called a second time.
        """
        if self._inverse is None:
            raise UsageError("a blinding is finalized once")
        inverse, self._inverse = self._inverse, None
        if len(blind_signature) != self._key.length:
            raise DecodeError("blind signature of another length than the key")
        number = int.from_bytes(blind_signature, "big") * inverse % self._key.modulus
        signature = number.to_bytes(self._key.length, "big")
        self._key.verify(self._message, signature)
        return signature


def blind(
    key: PublicKey,
    message: bytes,
    *,
    salt: bytes | None = None,
    factor: int | None = None,
) -> tuple[bytes, Blinding]:
    """Blind `message` (RFC 9474 section 4.2): `blinded_msg` of `key.length` bytes, and what undoes it.

    `salt` (48 bytes) and `factor` (the blind `r`, 1 ≤ r < n) are for test vectors: a factor known to anyone
    else, or used twice, lets the signer link the signature to its request.

    Raises:
        UsageError: `salt` or `factor` outside its range.
    """
    salt = os.urandom(SALT_LENGTH) if salt is None else salt
    encoded = int.from_bytes(_emsa_pss_encode(message, key.modulus.bit_length() - 1, salt), "big")
    if math.gcd(encoded, key.modulus) != 1:
        raise UsageError("message shares a factor with the key")
    if factor is None:
        factor = 1 + secrets.randbelow(key.modulus - 1)
    elif not 1 <= factor < key.modulus:
        raise UsageError("blinding factor outside 1 ≤ r < n")
    try:
        # DEVIATION: RFC 9474 section 4.2 wants constant time; Python's integers are not. Only code that runs
        # on the device itself, while it blinds, could time this; the factor is used once and never sent.
        inverse = pow(factor, -1, key.modulus)
    except ValueError:
        raise UsageError("blinding factor shares a factor with the key") from None
    blinded = encoded * pow(factor, key.exponent, key.modulus) % key.modulus
    return blinded.to_bytes(key.length, "big"), Blinding(key, message, inverse)


def _mgf1(seed: bytes, length: int) -> bytes:
    """RFC 8017 appendix B.2.1, with SHA-384."""
    blocks = -(-length // _HASH_LENGTH)
    mask = b"".join(hashlib.sha384(seed + counter.to_bytes(4, "big")).digest() for counter in range(blocks))
    return mask[:length]


def _emsa_pss_encode(message: bytes, bits: int, salt: bytes) -> bytes:
    """RFC 8017 section 9.1.1: `maskedDB ‖ H ‖ 0xbc`, of `bits` bits."""
    if len(salt) != SALT_LENGTH:
        raise UsageError("salt of another length than 48 bytes")
    length = -(-bits // 8)
    digest = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(length - SALT_LENGTH - _HASH_LENGTH - 2) + b"\x01" + salt
    mask = _mgf1(digest, len(block))
    masked = bytes(a ^ b for a, b in zip(block, mask, strict=True))
    top = masked[0] & (0xFF >> (8 * length - bits))
    return bytes([top]) + masked[1:] + digest + _TRAILER

"""Issuer keys of token type 0x0002, and the epochs of keys (RFC 9578 section 6.5, protocol sections 3 and 4).

An epoch is one UTC day, numbered from 1970. Every issuer key belongs to one, so a token dies with its day;
`GRACE` covers clocks that differ.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core import blindrsa
from sottovoce.core.errors import DecodeError

__all__ = [
    "EPOCH_SECONDS",
    "GRACE",
    "TOKEN_TYPE",
    "TokenKey",
    "TokenKeyError",
    "accepted_epochs",
    "epoch_at",
    "token_key_id",
]

TOKEN_TYPE: Final = 0x0002
"""RFC 9578 section 8.2.2: Blind RSA (2048-bit)."""
EPOCH_SECONDS: Final = 24 * 3600
GRACE: Final = 3600

_NK: Final = 256
_EXPONENT: Final = 65537

# RFC 9578 section 6.5: id-RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, no NULL
# parameters; then a 2048-bit modulus and the exponent 65537. DER leaves no other way to write it.
_SPKI_HEAD: Final = bytes.fromhex(
    "30820152303d06092a864886f70d01010a3030a00d300b0609608648016503040202a11a301806092a864886f70d0101"
    "08300b0609608648016503040202a2030201300382010f003082010a0282010100"
)
_SPKI_TAIL: Final = bytes.fromhex("0203010001")


class TokenKeyError(DecodeError):
    """An issuer key has another encoding, algorithm or size than token type 2 allows."""

    code = "token.key"


def epoch_at(now: int) -> int:
    """The epoch of the UTC day in which `now` (Unix seconds) lies."""
    return now // EPOCH_SECONDS


def accepted_epochs(now: int) -> range:
    """The epochs whose tokens may be spent at `now`: today's, and its neighbour within `GRACE`."""
    return range(epoch_at(now - GRACE), epoch_at(now + GRACE) + 1)


def token_key_id(spki: bytes) -> bytes:
    """32 bytes: SHA-256 of the encoded key (RFC 9578 section 6.5)."""
    return hashlib.sha256(spki).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """An issuer's public key, 2048 bits.

    Attributes:
        spki: its encoding, 342 bytes (RFC 9578 section 6.5).
        key_id: 32 bytes.
    """

    rsa: blindrsa.PublicKey
    spki: bytes = field(init=False, repr=False)
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.rsa.length != _NK or self.rsa.exponent != _EXPONENT:
            raise TokenKeyError("token key is not RSA of 2048 bits with exponent 65537")
        spki = _SPKI_HEAD + self.rsa.modulus.to_bytes(_NK, "big") + _SPKI_TAIL
        object.__setattr__(self, "spki", spki)
        object.__setattr__(self, "key_id", token_key_id(spki))

    @classmethod
    def parse(cls, spki: bytes) -> "TokenKey":
        """The key in `spki`.

        Raises:
            TokenKeyError: any other encoding, algorithm, hash, salt length, key size or exponent.
        """
        head, rest = spki[: len(_SPKI_HEAD)], spki[len(_SPKI_HEAD) :]
        modulus, tail = rest[:_NK], rest[_NK:]
        if head != _SPKI_HEAD or len(modulus) != _NK or tail != _SPKI_TAIL:
            raise TokenKeyError("token key is not RSASSA-PSS with SHA-384 and 2048 bits")
        try:
            rsa = blindrsa.PublicKey(modulus=int.from_bytes(modulus, "big"), exponent=_EXPONENT)
        except DecodeError:
            raise TokenKeyError("token key's modulus is not one of RSA with 2048 bits") from None
        return cls(rsa=rsa)

    @property
    def token_type(self) -> int:
        """Type 2."""
        return TOKEN_TYPE

    def check(self, signed: bytes, authenticator: bytes) -> None:
        """Check the issuer's signature over `signed`.

        Raises:
            CryptoError: it does not verify.
        """
        self.rsa.verify(signed, authenticator)

    @property
    def truncated_id(self) -> int:
        """The last byte of `key_id` (RFC 9578 section 6.1)."""
        return self.key_id[-1]

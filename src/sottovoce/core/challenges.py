"""Token challenges (RFC 9577 section 2.1) and the WWW-Authenticate field that offers them."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

from sottovoce.core.authscheme import from_base64url, parse_fields, to_base64url
from sottovoce.core.errors import DecodeError
from sottovoce.core.tokenkeys import TOKEN_TYPE, TokenKey

__all__ = ["OfferedChallenge", "TokenChallenge", "challenge_value", "parse_challenges"]

_CHALLENGE_LIMIT: Final = 1024
"""UNSPECIFIED: RFC 9577 allows 128 KiB; names of hosts need far less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChallenge:
    """What a token is bound to (RFC 9577 section 2.1).

    Attributes:
        issuer_name: 1 to 65535 bytes.
        origin_info: the names of the services that take the token, comma-separated; may be empty.
        redemption_context: 32 bytes, or empty for tokens that are fetched ahead of need.
        token_type: 16 bits; types 2 and 5 are issued here, and taken.
    """

    # struct { uint16 token_type; opaque issuer_name<1..2^16-1>; opaque redemption_context<0..32>;
    #          opaque origin_info<0..2^16-1>; } TokenChallenge;

    issuer_name: bytes
    origin_info: bytes = b""
    redemption_context: bytes = b""
    token_type: int = TOKEN_TYPE

    def __post_init__(self) -> None:
        if not 1 <= len(self.issuer_name) < 1 << 16 or len(self.origin_info) >= 1 << 16:
            raise DecodeError("token challenge with a name of a length that is not allowed")
        if len(self.redemption_context) not in {0, 32}:
            raise DecodeError("token challenge with a redemption context that is not 0 or 32 bytes")
        if not 0 <= self.token_type < 1 << 16:
            raise DecodeError("token type beyond 16 bits")

    def encode(self) -> bytes:
        """The wire form."""
        return b"".join((
            self.token_type.to_bytes(2, "big"),
            len(self.issuer_name).to_bytes(2, "big"), self.issuer_name,
            len(self.redemption_context).to_bytes(1, "big"), self.redemption_context,
            len(self.origin_info).to_bytes(2, "big"), self.origin_info,
        ))  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> "TokenChallenge":
        """Parse the wire form.

        Raises:
            DecodeError: too long, truncated, trailing bytes, or lengths that are not allowed.
        """
        if len(data) > _CHALLENGE_LIMIT:
            raise DecodeError("token challenge longer than its limit")
        token_type, rest = _take(data, 2)
        issuer_name, rest = _opaque(rest, 2)
        context, rest = _opaque(rest, 1)
        origin_info, rest = _opaque(rest, 2)
        if rest:
            raise DecodeError("token challenge with trailing bytes")
        return cls(
            issuer_name=issuer_name,
            origin_info=origin_info,
            redemption_context=context,
            token_type=int.from_bytes(token_type, "big"),
        )

    def digest(self) -> bytes:
        """32 bytes: SHA-256 of the wire form."""
        return _digest(self)


# A gateway compares every token with the digests of the same two challenges.
@functools.lru_cache(maxsize=16)
def _digest(challenge: TokenChallenge) -> bytes:
    return hashlib.sha256(challenge.encode()).digest()


def _take(data: bytes, count: int) -> tuple[bytes, bytes]:
    if len(data) < count:
        raise DecodeError("token challenge ends too early")
    return data[:count], data[count:]


def _opaque(data: bytes, size: int) -> tuple[bytes, bytes]:
    length, rest = _take(data, size)
    return _take(rest, int.from_bytes(length, "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedChallenge:
    """One PrivateToken challenge of a WWW-Authenticate field.

    Attributes:
        challenge: the encoded TokenChallenge, of any token type.
        token_key: the encoded key, or None.
        max_age: seconds for which the challenge stands, or None.
    """

    challenge: bytes
    token_key: bytes | None
    max_age: int | None


def challenge_value(challenge: TokenChallenge, key: TokenKey) -> bytes:
    """The WWW-Authenticate field that asks for a token (RFC 9577 section 2.1.1)."""
    offered, spki = to_base64url(challenge.encode()), to_base64url(key.spki)
    return b'PrivateToken challenge="' + offered + b'", token-key="' + spki + b'"'


def parse_challenges(value: bytes) -> tuple[OfferedChallenge, ...]:
    """The PrivateToken challenges of a WWW-Authenticate field, in their order (RFC 9577 section 2.1.1).

    Other schemes and unknown parameters are ignored.

    Raises:
        DecodeError: outside the grammar, a challenge missing, or a value that is not base64url.
    """
    return tuple(_offered(c.parameters) for c in parse_fields(value) if c.scheme == b"privatetoken")


def _offered(parameters: dict[bytes, bytes]) -> OfferedChallenge:
    if b"challenge" not in parameters:
        raise DecodeError("PrivateToken without a challenge")
    age = parameters.get(b"max-age")
    if age is not None and not (age.isdigit() and len(age) <= 10):  # noqa: PLR2004 - RFC 9111 section 1.2.2
        raise DecodeError("max-age is not a number of seconds")
    key = parameters.get(b"token-key")
    return OfferedChallenge(
        challenge=from_base64url(parameters[b"challenge"]),
        token_key=None if key is None else from_base64url(key),
        max_age=None if age is None else int(age),
    )

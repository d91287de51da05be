"""Privacy Pass tokens (RFC 9577), and the issuance of type 0x0002, blind RSA (RFC 9578 section 6).

Type 0x0005 is issued in `core.privatetokens`; its tokens are used as these are.

key, challenge ─ begin ──────→ TokenRequest, PendingToken
             issuer signs ───→ TokenResponse
PendingToken.finish ─────────→ Token, verified
authorization_value ─────────→ the Authorization field of one request
parse_authorization, verify_token ─→ VerifiedToken, whose digest is then spent
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Final, Protocol

from sottovoce.core import blindrsa
from sottovoce.core.authscheme import from_base64url, parse_fields, to_base64url
from sottovoce.core.challenges import TokenChallenge
from sottovoce.core.errors import CryptoError, DecodeError, ProtocolError, UsageError
from sottovoce.core.tokenkeys import (
    EPOCH_SECONDS,
    GRACE,
    TOKEN_TYPE,
    TokenKey,
    TokenKeyError,
    accepted_epochs,
    epoch_at,
    token_key_id,
)

__all__ = [
    "EPOCH_SECONDS",
    "GRACE",
    "PRIVATE_TOKEN_TYPE",
    "REQUEST_LENGTH",
    "RESPONSE_LENGTH",
    "TOKEN_TYPE",
    "PendingToken",
    "Token",
    "TokenBindingError",
    "TokenChallenge",
    "TokenKey",
    "TokenKeyError",
    "TokenRequest",
    "TokenSignatureError",
    "VerificationKey",
    "VerifiedToken",
    "accepted_epochs",
    "authorization_value",
    "begin",
    "epoch_at",
    "parse_authorization",
    "token_key_id",
    "verify_token",
]

PRIVATE_TOKEN_TYPE: Final = 0x0005
"""draft-ietf-privacypass-batched-tokens-08 section 8.1: VOPRF (ristretto255, SHA-512)."""

_TYPE: Final = TOKEN_TYPE.to_bytes(2, "big")
_NK: Final = 256
_AUTHENTICATORS: Final = {TOKEN_TYPE: _NK, PRIVATE_TOKEN_TYPE: 64}
"""Bytes of each type's authenticator. No two are equal, so that a type and a length never fit by chance."""
_NID: Final = 32
_NONCE: Final = 32
_INPUT_LENGTH: Final = 2 + _NONCE + 32 + _NID
REQUEST_LENGTH: Final = 3 + _NK
RESPONSE_LENGTH: Final = _NK


class TokenBindingError(ProtocolError):
    """A token was made for another key or another challenge."""

    code = "token.binding"


class TokenSignatureError(CryptoError):
    """The issuer's signature on a token, or its answer to a request, does not verify."""

    code = "token.signature"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Token:
    """A token (RFC 9577 section 2.2): 354 bytes on the wire, or 162 of type 5. Secret until it is spent."""

    # struct { uint16 token_type; uint8 nonce[32]; uint8 challenge_digest[32]; uint8 token_key_id[32];
    #          uint8 authenticator[Nk]; } Token;

    nonce: bytes
    challenge_digest: bytes
    key_id: bytes
    authenticator: bytes
    token_type: int = TOKEN_TYPE

    def __post_init__(self) -> None:
        authenticator = _AUTHENTICATORS.get(self.token_type)
        lengths = (len(self.nonce), len(self.challenge_digest), len(self.key_id), len(self.authenticator))
        if lengths != (_NONCE, 32, _NID, authenticator):
            raise DecodeError("token of another type, or with a field of another length")

    def __repr__(self) -> str:
        return "Token(...)"

    @property
    def authenticator_input(self) -> bytes:
        """What the issuer's signature covers, 98 bytes."""
        return self.token_type.to_bytes(2, "big") + self.nonce + self.challenge_digest + self.key_id

    def encode(self) -> bytes:
        """The wire form, 354 or 162 bytes."""
        return self.authenticator_input + self.authenticator

    @classmethod
    def decode(cls, data: bytes) -> "Token":
        """Parse the wire form.

        Raises:
            DecodeError: another token type or length.
        """
        token_type = int.from_bytes(data[:2], "big")
        if len(data) - _INPUT_LENGTH != _AUTHENTICATORS.get(token_type):
            raise DecodeError("not a token of type 2 or 5")
        return cls(
            token_type=token_type,
            nonce=data[2:34],
            challenge_digest=data[34:66],
            key_id=data[66:_INPUT_LENGTH],
            authenticator=data[_INPUT_LENGTH:],
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenRequest:
    """A request for one token (RFC 9578 section 6.1), 259 bytes on the wire."""

    # struct { uint16 token_type = 0x0002; uint8 truncated_token_key_id; uint8 blinded_msg[256]; } TokenRequest;

    truncated_key_id: int
    blinded: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.truncated_key_id < 1 << 8 or len(self.blinded) != _NK:
            raise DecodeError("token request with a field of another length")

    def __repr__(self) -> str:
        return "TokenRequest(...)"

    def encode(self) -> bytes:
        """The wire form, 259 bytes."""
        return _TYPE + bytes([self.truncated_key_id]) + self.blinded

    @classmethod
    def decode(cls, data: bytes) -> "TokenRequest":
        """Parse the wire form.

        Raises:
            DecodeError: another token type or length.
        """
        if len(data) != REQUEST_LENGTH or data[:2] != _TYPE:
            raise DecodeError("not a token request of type 2")
        return cls(truncated_key_id=data[2], blinded=data[3:])


class PendingToken:
    """A request's secret half: turns the issuer's answer into a token, once."""

    __slots__ = ("_blinding", "_input")

    def __init__(self, authenticator_input: bytes, blinding: blindrsa.Blinding) -> None:
        self._input = authenticator_input
        self._blinding = blinding

    def __repr__(self) -> str:
        return "PendingToken(...)"

    def finish(self, response: bytes) -> Token:
        """The token, verified under the key that it was begun with (RFC 9578 section 6.3).

        Raises:
            DecodeError: `response` is not 256 bytes.
            TokenSignatureError: the issuer signed with another key, or did not sign.
            UsageError: called a second time.
        """
        try:
            return Token.decode(self._input + self._blinding.finalize(response))
        except CryptoError:
            raise TokenSignatureError("the issuer's answer is not its signature") from None


def begin(
    public_key: TokenKey,
    challenge: TokenChallenge,
    *,
    nonce: bytes | None = None,
    salt: bytes | None = None,
    factor: int | None = None,
) -> tuple[bytes, PendingToken]:
    """A TokenRequest's wire form for one token, and what finishes it (RFC 9578 section 6.1).

    `nonce`, `salt` and `factor` are for test vectors; each is drawn afresh when it is not given.

    Raises:
        UsageError: a challenge of another token type, or a vector's value outside its range.
    """
    if challenge.token_type != TOKEN_TYPE:
        raise UsageError("a challenge of another token type")
    nonce = os.urandom(_NONCE) if nonce is None else nonce
    signed = _TYPE + nonce + challenge.digest() + public_key.key_id
    if len(signed) != _INPUT_LENGTH:
        raise UsageError("nonce of another length than 32 bytes")
    blinded, blinding = blindrsa.blind(public_key.rsa, signed, salt=salt, factor=factor)
    request = TokenRequest(truncated_key_id=public_key.truncated_id, blinded=blinded)
    return request.encode(), PendingToken(signed, blinding)


class VerificationKey(Protocol):
    """What tokens of one key are checked with: the issuer's public key, or for type 5 its secret one."""

    @property
    def token_type(self) -> int:
        """16 bits (RFC 9578 section 8.2)."""

    @property
    def key_id(self) -> bytes:
        """32 bytes: SHA-256 of the encoded public key."""

    def check(self, signed: bytes, authenticator: bytes) -> None:
        """Check the authenticator over `signed`, 98 bytes.

        Raises:
            CryptoError: it is not this key's.
        """


_CONSTRUCT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerifiedToken:
    """A token whose signature, key and challenge are right; only `verify_token` makes one.

    Attributes:
        digest: 32 bytes that name the token in the store of spent tokens: SHA-256 of what is signed. The
            signature is left out, so that a token signed twice still is one token.
    """

    digest: bytes
    _made_by: object

    def __post_init__(self) -> None:
        if self._made_by is not _CONSTRUCT:
            raise UsageError("only verify_token makes a VerifiedToken")

    def __repr__(self) -> str:
        return "VerifiedToken(...)"


def verify_token(token: Token, key: VerificationKey, challenge: TokenChallenge) -> VerifiedToken:
    """Check a token (RFC 9578 sections 5.4 and 6.4) against the key and the challenge that the service expects.

    It does not say whether the token was spent before: spend `VerifiedToken.digest` next.

    Raises:
        TokenBindingError: the token was made for another key or another challenge.
        TokenSignatureError: its signature does not verify.
    """
    if (token.token_type, token.key_id) != (key.token_type, key.key_id):
        raise TokenBindingError("token is bound to another key")
    if challenge.token_type != key.token_type or token.challenge_digest != challenge.digest():
        raise TokenBindingError("token is bound to another challenge")
    signed = token.authenticator_input
    try:
        key.check(signed, token.authenticator)
    except CryptoError:
        raise TokenSignatureError("token signature does not verify") from None
    return VerifiedToken(digest=hashlib.sha256(signed).digest(), _made_by=_CONSTRUCT)


def authorization_value(token: Token) -> bytes:
    """The Authorization field that spends `token` (RFC 9577 section 2.2)."""
    return b'PrivateToken token="' + to_base64url(token.encode()) + b'"'


def parse_authorization(value: bytes) -> Token:
    """The token in an Authorization field. Unknown parameters are ignored (RFC 9577 section 2.2).

    Raises:
        DecodeError: outside the grammar, another scheme, no token, or not a token of type 2 or 5.
    """
    credentials = parse_fields(value)
    if len(credentials) != 1 or credentials[0].scheme != b"privatetoken":
        raise DecodeError("authorization is not one PrivateToken")
    encoded = credentials[0].parameters.get(b"token")
    if encoded is None:
        raise DecodeError("authorization has no token")
    return Token.decode(from_base64url(encoded))

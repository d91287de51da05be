"""Token type 0x0005, VOPRF on ristretto255: RFC 9578 section 5 as draft-ietf-privacypass-batched-tokens-08 sections 5 and 8.1 apply it.

key, challenge, count ─ begin_batch ─→ AmortizedBatchTokenRequest, PendingTokens
             issuer ── issue_batch ──→ AmortizedBatchTokenResponse: one proof for all
PendingTokens.finish ────────────────→ Tokens, the proof verified
verify_token, with a PrivateTokenKey → VerifiedToken

Only who has the issuer's secret key can verify such a token, and can mint one as well.
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core import voprf
from sottovoce.core.challenges import TokenChallenge
from sottovoce.core.errors import CryptoError, DecodeError, UsageError
from sottovoce.core.tokenkeys import TokenKeyError, token_key_id
from sottovoce.core.tokens import PRIVATE_TOKEN_TYPE, Token, TokenSignatureError
from sottovoce.core.varint import encode_varint, require_varint

__all__ = [
    "MAX_BATCH",
    "MAX_BATCH_REQUEST",
    "MAX_BATCH_RESPONSE",
    "SINGLE_REQUEST_LENGTH",
    "SINGLE_RESPONSE_LENGTH",
    "BatchRequest",
    "BatchResponse",
    "PendingTokens",
    "PrivateTokenKey",
    "PublicTokenKey",
    "SingleRequest",
    "SingleResponse",
    "begin_batch",
    "begin_single",
    "issue_batch",
]

MAX_BATCH: Final = voprf.MAX_BATCH
"""Tokens in one request; the draft leaves it to the issuer."""

_TYPE: Final = PRIVATE_TOKEN_TYPE.to_bytes(2, "big")
_NE: Final = 32
_NONCE: Final = 32
_HEAD: Final = 3
SINGLE_REQUEST_LENGTH: Final = _HEAD + _NE
SINGLE_RESPONSE_LENGTH: Final = _NE + voprf.PROOF_LENGTH
_PREFIX: Final = 2
"""Bytes of the length of `MAX_BATCH` elements."""
MAX_BATCH_REQUEST: Final = _HEAD + _PREFIX + _NE * MAX_BATCH
MAX_BATCH_RESPONSE: Final = _PREFIX + _NE * MAX_BATCH + voprf.PROOF_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokenKey:
    """An issuer's public key: one element (draft section 8.1).

    Attributes:
        encoded: 32 bytes. Whether they are an element is found when the first proof is verified, as that takes libsodium.
        key_id: 32 bytes.
    """

    encoded: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.encoded) != _NE:
            raise TokenKeyError("token key of type 5 that is not 32 bytes")
        object.__setattr__(self, "key_id", token_key_id(self.encoded))

    @property
    def token_type(self) -> int:
        """Type 5."""
        return PRIVATE_TOKEN_TYPE

    @property
    def truncated_id(self) -> int:
        """The last byte of `key_id`."""
        return self.key_id[-1]


class PrivateTokenKey:
    """An issuer's secret key: it issues tokens and verifies them. The gateway has it too.

    Attributes:
        public: what devices have of it.
    """

    __slots__ = ("_voprf", "public")

    def __init__(self, secret: bytes) -> None:
        """Take a key, 32 bytes.

        Raises:
            TokenKeyError: not a scalar below the order, or zero.
            LibsodiumMissingError: libsodium is not here.
        """
        try:
            self._voprf: Final = voprf.SecretKey(secret)
        except DecodeError:
            raise TokenKeyError("token key is not a scalar") from None
        self.public: Final = PublicTokenKey(encoded=self._voprf.public.element)

    def __repr__(self) -> str:
        return "PrivateTokenKey(...)"

    @classmethod
    def generate(cls) -> "PrivateTokenKey":
        """A fresh key."""
        return cls(voprf.SecretKey.generate().secret_bytes())

    def secret_bytes(self) -> bytes:
        """The key, 32 bytes, to be kept."""
        return self._voprf.secret_bytes()

    @property
    def token_type(self) -> int:
        """Type 5."""
        return PRIVATE_TOKEN_TYPE

    @property
    def key_id(self) -> bytes:
        """32 bytes."""
        return self.public.key_id

    def check(self, signed: bytes, authenticator: bytes) -> None:
        """Check the authenticator over `signed` (RFC 9578 section 5.4), in constant time.

        Raises:
            CryptoError: it is not this key's.
        """
        if not hmac.compare_digest(self._voprf.evaluate(signed), authenticator):
            raise CryptoError("token does not verify")

    def issue(
        self, blinded: Sequence[bytes], *, nonce: bytes | None = None
    ) -> tuple[tuple[bytes, ...], bytes]:
        """The evaluated elements and their proof (draft section 5.2); `nonce` is for test vectors.

        Raises:
            CryptoError: an element is none of the group.
            UsageError: none, or more than `MAX_BATCH`.
        """
        return self._voprf.evaluate_batch(blinded, nonce=nonce)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchRequest:
    """An AmortizedBatchTokenRequest (draft section 5.1): 1 to `MAX_BATCH` blinded elements."""

    # struct { uint16_t token_type; uint8_t truncated_token_key_id; BlindedElement blinded_elements<V>; }

    truncated_key_id: int
    blinded: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.truncated_key_id < 1 << 8:
            raise DecodeError("batch request with a key id beyond 8 bits")
        _check_elements(self.blinded)

    def __repr__(self) -> str:
        return "BatchRequest(...)"

    def encode(self) -> bytes:
        """The wire form."""
        return _TYPE + bytes([self.truncated_key_id]) + _vector(self.blinded)

    @classmethod
    def decode(cls, data: bytes) -> "BatchRequest":
        """Parse the wire form.

        Raises:
            DecodeError: another token type, none or too many elements, cut short, trailing bytes, or a length in more bytes
                than it takes (draft section 4.2).
        """
        if data[:2] != _TYPE or len(data) < _HEAD:
            raise DecodeError("not a batch request of type 5")
        blinded, end = _read_vector(data, _HEAD)
        if end != len(data):
            raise DecodeError("batch request with trailing bytes")
        return cls(truncated_key_id=data[2], blinded=blinded)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchResponse:
    """An AmortizedBatchTokenResponse (draft section 5.2): as many elements as were asked for, and one proof of 64 bytes."""

    # struct { EvaluatedElement evaluated_elements<V>; uint8_t evaluated_proof[Ns + Ns]; }

    evaluated: tuple[bytes, ...]
    proof: bytes

    def __post_init__(self) -> None:
        _check_elements(self.evaluated)
        if len(self.proof) != voprf.PROOF_LENGTH:
            raise DecodeError("batch response with a proof of another length")

    def __repr__(self) -> str:
        return "BatchResponse(...)"

    def encode(self) -> bytes:
        """The wire form."""
        return _vector(self.evaluated) + self.proof

    @classmethod
    def decode(cls, data: bytes) -> "BatchResponse":
        """Parse the wire form.

        Raises:
            DecodeError: as for a request, or a proof of another length.
        """
        evaluated, end = _read_vector(data, 0)
        return cls(evaluated=evaluated, proof=data[end:])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SingleRequest:
    """A TokenRequest of type 5 (RFC 9578 section 5.1), 35 bytes on the wire."""

    # struct { uint16_t token_type = 0x0005; uint8_t truncated_token_key_id; uint8_t blinded_msg[Ne]; } TokenRequest;

    truncated_key_id: int
    blinded: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.truncated_key_id < 1 << 8 or len(self.blinded) != _NE:
            raise DecodeError("token request with a field of another length")

    def __repr__(self) -> str:
        return "SingleRequest(...)"

    def encode(self) -> bytes:
        """The wire form, 35 bytes."""
        return _TYPE + bytes([self.truncated_key_id]) + self.blinded

    @classmethod
    def decode(cls, data: bytes) -> "SingleRequest":
        """Parse the wire form.

        Raises:
            DecodeError: another token type or length.
        """
        if len(data) != SINGLE_REQUEST_LENGTH or data[:2] != _TYPE:
            raise DecodeError("not a token request of type 5")
        return cls(truncated_key_id=data[2], blinded=data[_HEAD:])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SingleResponse:
    """A TokenResponse of type 5 (RFC 9578 section 5.2), 96 bytes on the wire."""

    # struct { uint8_t evaluate_msg[Ne]; uint8_t evaluate_proof[Ns + Ns]; } TokenResponse;

    evaluated: bytes
    proof: bytes

    def __post_init__(self) -> None:
        if (len(self.evaluated), len(self.proof)) != (_NE, voprf.PROOF_LENGTH):
            raise DecodeError("token response with a field of another length")

    def __repr__(self) -> str:
        return "SingleResponse(...)"

    def encode(self) -> bytes:
        """The wire form, 96 bytes."""
        return self.evaluated + self.proof

    @classmethod
    def decode(cls, data: bytes) -> "SingleResponse":
        """Parse the wire form.

        Raises:
            DecodeError: another length.
        """
        if len(data) != SINGLE_RESPONSE_LENGTH:
            raise DecodeError("not a token response of type 5")
        return cls(evaluated=data[:_NE], proof=data[_NE:])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Blinded:
    """One token before it is issued: what is signed (98 bytes), the blinded element, and the blind that undoes it."""

    signed: bytes
    element: bytes
    blind: bytes


class PendingTokens:
    """A request's secret half: turns the issuer's answer into tokens, once. All of them, or none."""

    __slots__ = ("_key", "_tokens")

    def __init__(self, key: PublicTokenKey, tokens: Sequence[_Blinded]) -> None:
        self._key = key
        self._tokens: Sequence[_Blinded] | None = tokens

    def __repr__(self) -> str:
        return "PendingTokens(...)"

    def finish(self, response: bytes) -> tuple[Token, ...]:
        """The tokens of an AmortizedBatchTokenResponse, its proof verified under the key of the request (draft section 5.3).

        Raises:
            DecodeError: not such a response.
            TokenSignatureError: the issuer used another key, or the proof does not verify; not one token is to be kept.
            UsageError: called a second time.
        """
        tokens = self._take()
        answer = BatchResponse.decode(response)
        return self._finish(tokens, answer.evaluated, answer.proof)

    def finish_single(self, response: bytes) -> Token:
        """The token of a TokenResponse (RFC 9578 section 5.3); raises as `finish`."""
        tokens = self._take()
        answer = SingleResponse.decode(response)
        return self._finish(tokens, (answer.evaluated,), answer.proof)[0]

    def _take(self) -> Sequence[_Blinded]:
        if self._tokens is None:
            raise UsageError("a token request is finished once")
        tokens, self._tokens = self._tokens, None
        return tokens

    def _finish(
        self, tokens: Sequence[_Blinded], evaluated: Sequence[bytes], proof: bytes
    ) -> tuple[Token, ...]:
        if len(evaluated) != len(tokens):
            raise DecodeError("another number of answers than of blinded elements")
        try:
            key = voprf.PublicKey(self._key.encoded)
            key.verify_batch([token.element for token in tokens], evaluated, proof)
            return tuple(
                Token.decode(token.signed + voprf.finalize(token.signed, token.blind, element))
                for token, element in zip(tokens, evaluated, strict=True)
            )
        except (CryptoError, DecodeError):
            raise TokenSignatureError("the issuer's answer is not its own, or has no proof") from None


def begin_batch(
    key: PublicTokenKey,
    challenge: TokenChallenge,
    count: int,
    *,
    nonces: Sequence[bytes] = (),
    blinds: Sequence[bytes] = (),
) -> tuple[bytes, PendingTokens]:
    """A request's wire form for `count` tokens of one key, and what finishes it (draft section 5.1).

    `nonces` and `blinds` are for test vectors; they are drawn afresh where they are not given.

    Raises:
        UsageError: a challenge of another token type, or a count that is not 1 to `MAX_BATCH`.
        LibsodiumMissingError: libsodium is not here.
    """
    if not 1 <= count <= MAX_BATCH:
        raise UsageError("a batch has 1 to 256 tokens")
    tokens = [
        _begin(key, challenge, nonces[n] if nonces else None, blinds[n] if blinds else None)
        for n in range(count)
    ]
    request = BatchRequest(truncated_key_id=key.truncated_id, blinded=tuple(t.element for t in tokens))
    return request.encode(), PendingTokens(key, tokens)


def begin_single(
    key: PublicTokenKey, challenge: TokenChallenge, *, nonce: bytes | None = None, blind: bytes | None = None
) -> tuple[bytes, PendingTokens]:
    """A TokenRequest's wire form for one token, and what finishes it (RFC 9578 section 5.1); as `begin_batch`."""
    token = _begin(key, challenge, nonce, blind)
    request = SingleRequest(truncated_key_id=key.truncated_id, blinded=token.element)
    return request.encode(), PendingTokens(key, [token])


def _begin(
    key: PublicTokenKey, challenge: TokenChallenge, nonce: bytes | None, factor: bytes | None
) -> _Blinded:
    if challenge.token_type != PRIVATE_TOKEN_TYPE:
        raise UsageError("a challenge of another token type")
    nonce = os.urandom(_NONCE) if nonce is None else nonce
    signed = _TYPE + nonce + challenge.digest() + key.key_id
    element, factor = voprf.blind(signed, factor=factor)
    return _Blinded(signed=signed, element=element, blind=factor)


def issue_batch(key: PrivateTokenKey, request: BatchRequest) -> bytes:
    """The wire form of the answer to `request` (draft section 5.2).

    Raises:
        CryptoError: an element is none of the group.
    """
    evaluated, proof = key.issue(request.blinded)
    return BatchResponse(evaluated=evaluated, proof=proof).encode()


def _check_elements(elements: Sequence[bytes]) -> None:
    if not 1 <= len(elements) <= MAX_BATCH or any(len(element) != _NE for element in elements):
        raise DecodeError("a batch has 1 to 256 elements of 32 bytes")


def _vector(elements: Sequence[bytes]) -> bytes:
    return encode_varint(_NE * len(elements)) + b"".join(elements)


def _read_vector(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """The elements of a vector at `at`, and where it ends."""
    length, start = require_varint(data, at)
    end = start + length
    if data[at:start] != encode_varint(length):
        raise DecodeError("a length in more bytes than it takes")
    if length % _NE or length > _NE * MAX_BATCH or end > len(data):
        raise DecodeError("a batch of elements is cut short, or longer than its limit")
    return tuple(data[place : place + _NE] for place in range(start, end, _NE)), end

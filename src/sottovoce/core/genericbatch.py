"""Several token requests in one, of any type (draft-ietf-privacypass-batched-tokens-08 section 6).

key, challenge, count ─ begin_public_batch ─→ GenericBatchRequest, PendingPublicTokens
issuer, each request as if it came alone ───→ GenericBatchResponse
PendingPublicTokens.finish ─────────────────→ Tokens of type 2, each verified

Devices use it for type 2; of type 5 a batch with one proof costs less (`core.privatetokens`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.core.challenges import TokenChallenge
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.privatetokens import SINGLE_REQUEST_LENGTH, SINGLE_RESPONSE_LENGTH
from sottovoce.core.tokens import (
    PRIVATE_TOKEN_TYPE,
    REQUEST_LENGTH,
    RESPONSE_LENGTH,
    TOKEN_TYPE,
    PendingToken,
    Token,
    TokenKey,
    begin,
)
from sottovoce.core.varint import encode_varint, require_varint

__all__ = [
    "MAX_GENERIC",
    "MAX_GENERIC_REQUEST",
    "MAX_GENERIC_RESPONSE",
    "GenericBatchRequest",
    "GenericBatchResponse",
    "PendingPublicTokens",
    "begin_public_batch",
]

MAX_GENERIC: Final = 256
"""Tokens in one request; the draft leaves it to the issuer."""

_REQUESTS: Final = {TOKEN_TYPE: REQUEST_LENGTH, PRIVATE_TOKEN_TYPE: SINGLE_REQUEST_LENGTH}
_RESPONSES: Final = {TOKEN_TYPE: RESPONSE_LENGTH, PRIVATE_TOKEN_TYPE: SINGLE_RESPONSE_LENGTH}
_TYPE: Final = 2
_PREFIX: Final = 4
"""Bytes of the length of `MAX_GENERIC` requests."""
MAX_GENERIC_REQUEST: Final = _PREFIX + MAX_GENERIC * REQUEST_LENGTH
MAX_GENERIC_RESPONSE: Final = _PREFIX + MAX_GENERIC * (1 + _TYPE + RESPONSE_LENGTH)
# Section 4.1: whether an optional value is there
_ABSENT, _PRESENT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GenericBatchRequest:
    """A GenericBatchTokenRequest (section 6.1): 1 to `MAX_GENERIC` TokenRequests of type 2 or 5, each in its wire form."""

    # struct { GenericTokenRequest generic_token_requests<V>; } GenericBatchTokenRequest;

    requests: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _check_count(self.requests)
        if any(len(request) != _REQUESTS.get(_number(request)) for request in self.requests):
            raise DecodeError("a token request of an unknown type, or of another length")

    def __repr__(self) -> str:
        return "GenericBatchRequest(...)"

    def encode(self) -> bytes:
        """The wire form."""
        return _vector(self.requests)

    @classmethod
    def decode(cls, data: bytes) -> "GenericBatchRequest":
        """Parse the wire form.

        Raises:
            DecodeError: a token type other than 2 and 5, none or too many, cut short, trailing bytes, or a length in more bytes
                than it takes (section 4.2).
        """
        at, requests = _start(data, MAX_GENERIC_REQUEST), []
        while at < len(data):
            end = at + _REQUESTS.get(_number(data[at : at + _TYPE]), len(data))
            requests.append(data[at:end])
            at = end
        return cls(requests=tuple(requests))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GenericBatchResponse:
    """A GenericBatchTokenResponse (section 6.2): for each request the token type and its TokenResponse, or None where it was refused."""

    # struct { OptionalTokenResponse optional_token_responses<V>; } GenericBatchTokenResponse;

    responses: tuple[tuple[int, bytes] | None, ...]

    def __post_init__(self) -> None:
        _check_count(self.responses)
        given = [response for response in self.responses if response is not None]
        if any(len(body) != _RESPONSES.get(token_type) for token_type, body in given):
            raise DecodeError("a token response of an unknown type, or of another length")

    def __repr__(self) -> str:
        return "GenericBatchResponse(...)"

    def encode(self) -> bytes:
        """The wire form."""
        return _vector([_optional(response) for response in self.responses])

    @classmethod
    def decode(cls, data: bytes) -> "GenericBatchResponse":
        """Parse the wire form.

        Raises:
            DecodeError: as for a request, or a presence octet other than 0 and 1.
        """
        at, responses = _start(data, MAX_GENERIC_RESPONSE), list[tuple[int, bytes] | None]()
        while at < len(data):
            if data[at] not in (_ABSENT, _PRESENT):
                raise DecodeError("neither a token response nor its absence")
            if data[at] == _ABSENT:
                responses.append(None)
                at += 1
                continue
            body = at + 1 + _TYPE
            token_type = _number(data[at + 1 : body])
            at = body + _RESPONSES.get(token_type, len(data))
            responses.append((token_type, data[body:at]))
        return cls(responses=tuple(responses))


class PendingPublicTokens:
    """The secret half of a batch of type 2: turns the issuer's answer into tokens, once. All of them, or none."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Sequence[PendingToken]) -> None:
        self._tokens: Sequence[PendingToken] | None = tokens

    def __repr__(self) -> str:
        return "PendingPublicTokens(...)"

    def finish(self, response: bytes) -> tuple[Token, ...]:
        """The tokens of a GenericBatchTokenResponse, each verified under the key of its request (section 6.3).

        The draft lets an issuer answer a part of a batch. That is refused, as which part it was could mark a device.

        Raises:
            DecodeError: not such a response, or not one that answers every request.
            TokenSignatureError: one of the answers is not the issuer's signature; not one token is to be kept.
            UsageError: called a second time.
        """
        if self._tokens is None:
            raise UsageError("a token request is finished once")
        tokens, self._tokens = self._tokens, None
        answers = GenericBatchResponse.decode(response).responses
        signed = [answer[1] for answer in answers if answer is not None and answer[0] == TOKEN_TYPE]
        if not len(answers) == len(signed) == len(tokens):
            raise DecodeError("the issuer has not answered every token request of the batch, or others")
        return tuple(token.finish(answer) for token, answer in zip(tokens, signed, strict=True))


def begin_public_batch(
    key: TokenKey, challenge: TokenChallenge, count: int
) -> tuple[bytes, PendingPublicTokens]:
    """A request's wire form for `count` tokens of type 2 and of one key, and what finishes it.

    Raises:
        UsageError: a challenge of another token type, or a count that is not 1 to `MAX_GENERIC`.
    """
    if not 1 <= count <= MAX_GENERIC:
        raise UsageError("a batch has 1 to 256 tokens")
    begun = [begin(key, challenge) for _ in range(count)]
    request = GenericBatchRequest(requests=tuple(request for request, _ in begun))
    return request.encode(), PendingPublicTokens([pending for _, pending in begun])


def _check_count(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MAX_GENERIC:
        raise DecodeError("a batch has 1 to 256 tokens")


def _number(data: bytes) -> int:
    """The token type at the beginning of `data`; 0, which is none, where it is cut short."""
    return int.from_bytes(data[:_TYPE], "big") if len(data) >= _TYPE else 0


def _optional(response: tuple[int, bytes] | None) -> bytes:
    if response is None:
        return bytes([_ABSENT])
    token_type, body = response
    return bytes([_PRESENT]) + token_type.to_bytes(_TYPE, "big") + body


def _vector(items: Sequence[bytes]) -> bytes:
    body = b"".join(items)
    return encode_varint(len(body)) + body


def _start(data: bytes, limit: int) -> int:
    """Where the items of a vector begin that is all of `data`."""
    length, start = require_varint(data, 0)
    if data[:start] != encode_varint(length):
        raise DecodeError("a length in more bytes than it takes")
    if start + length != len(data) or len(data) > limit:
        raise DecodeError("a batch of token requests is cut short, or longer than its limit")
    return start

"""Issuer keys, made once a run, and tokens signed with them."""

from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core import ristretto
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.privatetokens import BatchRequest, PrivateTokenKey, begin_batch, issue_batch
from sottovoce.core.tokens import PendingToken, Token, TokenChallenge, TokenKey, TokenRequest, begin
from sottovoce.edge.rsa import BlindSigner

CHALLENGE = TokenChallenge(issuer_name=b"issuer.example", origin_info=b"service.example")


_TAKEN: set[int] = set()
_BATCH_TAKEN: set[int] = set()


@cache
def _private(number: int) -> rsa.RSAPrivateKey:
    del number
    while True:
        private = rsa.generate_private_key(65537, 2048)
        truncated_id = TokenKey(rsa=BlindSigner(private).public).truncated_id
        if truncated_id not in _TAKEN:
            _TAKEN.add(truncated_id)
            return private


def pem(number: int = 0) -> bytes:
    """The key file of `signer(number)`."""
    return _private(number).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@cache
def signer(number: int = 0) -> BlindSigner:
    """One of the run's issuer keys, by any number; their truncated ids differ."""
    return BlindSigner(_private(number))


@cache
def key(number: int = 0) -> TokenKey:
    """The public half of `signer(number)`."""
    return TokenKey(rsa=signer(number).public)


def answer(request: bytes, number: int = 0) -> bytes:
    """What an honest issuer answers."""
    return signer(number).blind_sign(TokenRequest.decode(request).blinded)


def answer_all(request: bytes, *numbers: int) -> bytes:
    """What an honest issuer with these keys answers to several requests in one, whichever key each of them names."""
    by_id = {key(number).truncated_id: number for number in numbers}
    requests = GenericBatchRequest.decode(request).requests
    answers = (answer(one, by_id[TokenRequest.decode(one).truncated_key_id]) for one in requests)
    return GenericBatchResponse(responses=tuple((2, one) for one in answers)).encode()


def pending(number: int = 0) -> tuple[bytes, PendingToken]:
    """A request and its secret half."""
    return begin(key(number), CHALLENGE)


def token(number: int = 0) -> Token:
    """A fresh token."""
    request, secret = pending(number)
    return secret.finish(answer(request, number))


BATCH_CHALLENGE = replace(CHALLENGE, token_type=5)


def need_sodium() -> None:
    """Skips the test, saying so, where tokens of type 5 cannot be made."""
    if not ristretto.is_available():
        pytest.skip("libsodium is not here")


@cache
def _batch_private(number: int) -> bytes:
    del number
    while True:
        key = PrivateTokenKey.generate()
        if key.public.truncated_id not in _BATCH_TAKEN:
            _BATCH_TAKEN.add(key.public.truncated_id)
            return key.secret_bytes()


def batch_secret(number: int = 0) -> bytes:
    """The key file of `batch_key(number)`; as with type 2 their truncated ids differ."""
    return _batch_private(number)


@cache
def batch_key(number: int = 0) -> PrivateTokenKey:
    """One of the run's secret keys of type 5, by any number."""
    need_sodium()
    return PrivateTokenKey(_batch_private(number))


def batch_token(number: int = 0) -> Token:
    """A fresh token of type 5."""
    key = batch_key(number)
    request, secret = begin_batch(key.public, BATCH_CHALLENGE, 1)
    return secret.finish(issue_batch(key, BatchRequest.decode(request)))[0]

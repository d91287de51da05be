import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import token_kit
from sottovoce.core import tokens, voprf
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.privatetokens import (
    MAX_BATCH,
    MAX_BATCH_REQUEST,
    MAX_BATCH_RESPONSE,
    BatchRequest,
    BatchResponse,
    PrivateTokenKey,
    PublicTokenKey,
    SingleRequest,
    SingleResponse,
    begin_batch,
    begin_single,
    issue_batch,
)
from sottovoce.core.tokenkeys import TokenKeyError
from sottovoce.core.tokens import (
    Token,
    TokenBindingError,
    TokenSignatureError,
    authorization_value,
    parse_authorization,
    verify_token,
)

CHALLENGE = token_kit.BATCH_CHALLENGE
E = bytes(range(32))
PROOF = bytes(64)


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


def answer(request: bytes, number: int = 0) -> bytes:
    return issue_batch(token_kit.batch_key(number), BatchRequest.decode(request))


def test_from_request_to_redemption() -> None:
    key = token_kit.batch_key()
    request, pending = begin_batch(key.public, CHALLENGE, 3)
    assert len(request) == 3 + 2 + 3 * 32
    made = pending.finish(answer(request))
    assert len({token.nonce for token in made}) == 3
    for token in made:
        assert (token.token_type, len(token.encode())) == (5, 162)
        assert Token.decode(token.encode()) == parse_authorization(authorization_value(token)) == token
        verify_token(token, key, CHALLENGE)


def test_one_by_one() -> None:
    key = token_kit.batch_key()
    request, pending = begin_single(key.public, CHALLENGE)
    evaluated, proof = key.issue([SingleRequest.decode(request).blinded])
    token = pending.finish_single(SingleResponse(evaluated=evaluated[0], proof=proof).encode())
    verify_token(token, key, CHALLENGE)


def test_the_largest_batch() -> None:
    request, pending = begin_batch(token_kit.batch_key().public, CHALLENGE, MAX_BATCH)
    response = answer(request)
    assert (len(request), len(response)) == (MAX_BATCH_REQUEST, MAX_BATCH_RESPONSE)
    assert len(pending.finish(response)) == MAX_BATCH


@pytest.mark.parametrize("count", [0, -1, MAX_BATCH + 1])
def test_batches_of_no_size(count: int) -> None:
    with pytest.raises(UsageError):
        begin_batch(token_kit.batch_key().public, CHALLENGE, count)


def test_a_challenge_of_type_2() -> None:
    with pytest.raises(UsageError):
        begin_batch(token_kit.batch_key().public, token_kit.CHALLENGE, 1)


def _noise(response: bytes) -> bytes:
    return response[:2] + b"\xff" * (len(response) - 2)


def _one_bit(response: bytes) -> bytes:
    return response[:-1] + bytes([response[-1] ^ 1])


def _swapped(response: bytes) -> bytes:
    return response[:2] + response[34:66] + response[2:34] + response[66:]


@pytest.mark.parametrize("change", [_noise, _one_bit, _swapped])
def test_an_answer_without_its_proof_gives_no_token(change: Callable[[bytes], bytes]) -> None:
    request, pending = begin_batch(token_kit.batch_key().public, CHALLENGE, 3)
    with pytest.raises(TokenSignatureError):
        pending.finish(change(answer(request)))
    with pytest.raises(UsageError, match="once"):
        pending.finish(answer(request))


def test_the_answer_of_another_key() -> None:
    request, pending = begin_batch(token_kit.batch_key().public, CHALLENGE, 2)
    with pytest.raises(TokenSignatureError):
        pending.finish(answer(request, 1))


def test_an_answer_to_another_request() -> None:
    key = token_kit.batch_key().public
    other, _ = begin_batch(key, CHALLENGE, 2)
    _, pending = begin_batch(key, CHALLENGE, 2)
    with pytest.raises(TokenSignatureError):
        pending.finish(answer(other))


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_answers(count: int) -> None:
    key = token_kit.batch_key()
    other, _ = begin_batch(key.public, CHALLENGE, count)
    _, pending = begin_batch(key.public, CHALLENGE, 2)
    with pytest.raises(DecodeError, match="number"):
        pending.finish(answer(other))


def test_a_public_key_that_is_no_element() -> None:
    request, pending = begin_batch(PublicTokenKey(encoded=b"\xff" * 32), CHALLENGE, 1)
    with pytest.raises(TokenSignatureError):
        pending.finish(answer(request))


def test_a_token_of_another_key_or_challenge() -> None:
    token, key = token_kit.batch_token(), token_kit.batch_key()
    with pytest.raises(TokenBindingError, match="key"):
        verify_token(token, token_kit.batch_key(1), CHALLENGE)
    with pytest.raises(TokenBindingError, match="challenge"):
        verify_token(token, key, dataclasses.replace(CHALLENGE, origin_info=b"other.example"))
    with pytest.raises(TokenBindingError, match="challenge"):
        verify_token(token, key, token_kit.CHALLENGE)
    with pytest.raises(TokenBindingError, match="key"):
        verify_token(token, token_kit.key(), token_kit.CHALLENGE)
    with pytest.raises(TokenBindingError, match="key"):
        verify_token(token_kit.token(), key, CHALLENGE)


def test_a_changed_token() -> None:
    encoded = token_kit.batch_token().encode()
    for at in (2, 161):
        changed = Token.decode(encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :])
        with pytest.raises(TokenSignatureError):
            verify_token(changed, token_kit.batch_key(), CHALLENGE)


def test_a_type_and_a_length_that_do_not_fit() -> None:
    for data in (b"\0\2" + bytes(160), b"\0\5" + bytes(352), b"\0\1" + bytes(160), b"\0\5", b"\0", b""):
        with pytest.raises(DecodeError):
            Token.decode(data)
    with pytest.raises(DecodeError):
        dataclasses.replace(token_kit.batch_token(), token_type=2)
    with pytest.raises(DecodeError):
        dataclasses.replace(token_kit.batch_token(), token_type=1)


def test_the_authenticator_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_kit.batch_token()
    monkeypatch.setattr(voprf.SecretKey, "evaluate", lambda *_: token.authenticator[:32])
    with pytest.raises(TokenSignatureError):
        verify_token(token, token_kit.batch_key(), CHALLENGE)


# Encodings


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\5",
        b"\0\5\1",
        b"\0\2\1\x20" + E,
        b"\0\5\1\0",
        b"\0\5\1\x20" + E[:-1],
        b"\0\5\1\x20" + E + b"\0",
        b"\0\5\1\x1f" + E[:-1],
        b"\0\5\1\x21" + E + b"\0",
        b"\0\5\1\x40\x20" + E,
        b"\0\5\1\x80\0\0\x20" + E,
        b"\0\5\1\x60\x20" + E * 257,
        b"\0\5\1\xff" + b"\xff" * 7,
    ],
)
def test_batch_requests_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        BatchRequest.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" + PROOF, b"\x20" + E, b"\x20" + E + PROOF[:-1], b"\x20" + E + PROOF + b"\0", b"\x40\x20" + E + PROOF,
        b"\x40\x40" + E + PROOF[:-1], PROOF,
    ],
)  # fmt: skip
def test_batch_responses_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        BatchResponse.decode(data)


@pytest.mark.parametrize("data", [b"", b"\0\5\1" + E[:-1], b"\0\5\1" + E + b"\0", b"\0\2\1" + E])
def test_single_requests_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SingleRequest.decode(data)


@pytest.mark.parametrize("data", [b"", E + PROOF[:-1], E + PROOF + b"\0"])
def test_single_responses_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SingleResponse.decode(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchRequest(truncated_key_id=256, blinded=(E,)),
        lambda: BatchRequest(truncated_key_id=-1, blinded=(E,)),
        lambda: BatchRequest(truncated_key_id=0, blinded=()),
        lambda: BatchRequest(truncated_key_id=0, blinded=(E[:-1],)),
        lambda: BatchRequest(truncated_key_id=0, blinded=(E,) * (MAX_BATCH + 1)),
        lambda: BatchResponse(evaluated=(E,), proof=b""),
        lambda: SingleRequest(truncated_key_id=256, blinded=E),
        lambda: SingleRequest(truncated_key_id=0, blinded=b""),
        lambda: SingleResponse(evaluated=b"", proof=PROOF),
    ],
)
def test_values_that_cannot_be_made(make: Callable[[], Any]) -> None:
    with pytest.raises(DecodeError):
        make()


@given(
    st.binary(max_size=200)
    | st.integers(1, 4).map(lambda n: b"\0\5\7" + bytes([0x40, 32 * n]) + E * n)
    | st.integers(1, 4).map(lambda n: bytes([0x40, 32 * n]) + E * n + PROOF)
)
def test_any_bytes_are_a_value_with_one_encoding_or_none(data: bytes) -> None:
    for kind in (BatchRequest, BatchResponse, SingleRequest, SingleResponse, Token):
        try:
            value: Any = kind.decode(data)
        except DecodeError:
            continue
        assert value.encode() == data


# Keys and secrets


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32])
def test_keys_that_are_none(data: bytes) -> None:
    with pytest.raises(TokenKeyError):
        PrivateTokenKey(data)
    if len(data) != 32:
        with pytest.raises(TokenKeyError):
            PublicTokenKey(encoded=data)


def test_a_key_is_kept_and_read_again() -> None:
    key = token_kit.batch_key()
    again = PrivateTokenKey(key.secret_bytes())
    assert again.public == key.public
    assert (key.token_type, key.key_id) == (key.public.token_type, key.public.key_id) == (5, again.key_id)


def test_nothing_secret_is_shown() -> None:
    request, pending = begin_batch(token_kit.batch_key().public, CHALLENGE, 1)
    shown = [
        BatchRequest.decode(request), pending, token_kit.batch_key(), token_kit.batch_token(), pending._take()[0],
        BatchResponse(evaluated=(E,), proof=PROOF), SingleRequest(truncated_key_id=0, blinded=E),
        SingleResponse(evaluated=E, proof=PROOF),
    ]  # fmt: skip
    for value in shown:
        assert len(repr(value)) < 80
        assert E.hex()[:8] not in repr(value)
    assert tokens.PRIVATE_TOKEN_TYPE == 5

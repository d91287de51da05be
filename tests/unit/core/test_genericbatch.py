"""Several token requests in one: the wire form, and a batch of type 2 from request to tokens."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import token_kit
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.genericbatch import (
    MAX_GENERIC,
    MAX_GENERIC_REQUEST,
    MAX_GENERIC_RESPONSE,
    GenericBatchRequest,
    GenericBatchResponse,
    begin_public_batch,
)
from sottovoce.core.tokens import TokenSignatureError, verify_token

PUBLIC, PRIVATE = b"\0\2\7" + bytes(256), b"\0\5\7" + bytes(32)
SIGNED, EVALUATED = (2, bytes(256)), (5, bytes(96))


def test_a_batch_of_type_2_from_request_to_tokens() -> None:
    request, pending = begin_public_batch(token_kit.key(), token_kit.CHALLENGE, 3)
    assert len(request) == 2 + 3 * 259
    tokens = pending.finish(token_kit.answer_all(request, 0))
    assert len({token.nonce for token in tokens}) == 3
    for token in tokens:
        verify_token(token, token_kit.key(), token_kit.CHALLENGE)


def test_a_batch_is_finished_once() -> None:
    request, pending = begin_public_batch(token_kit.key(), token_kit.CHALLENGE, 1)
    answer = token_kit.answer_all(request, 0)
    pending.finish(answer)
    with pytest.raises(UsageError, match="once"):
        pending.finish(answer)


def test_answers_that_do_not_belong_to_the_requests() -> None:
    one, other = (begin_public_batch(token_kit.key(), token_kit.CHALLENGE, 2) for _ in range(2))
    with pytest.raises(TokenSignatureError):
        one[1].finish(token_kit.answer_all(other[0], 0))


@pytest.mark.parametrize(
    "responses",
    [
        (SIGNED,),
        (SIGNED, SIGNED, SIGNED),
        (SIGNED, None),
        (SIGNED, EVALUATED),
        (SIGNED, None, SIGNED),
        (SIGNED, SIGNED, EVALUATED),
    ],
)
def test_answers_to_fewer_or_more_or_of_another_type(responses: tuple[tuple[int, bytes] | None, ...]) -> None:
    _, pending = begin_public_batch(token_kit.key(), token_kit.CHALLENGE, 2)
    with pytest.raises(DecodeError, match="every token request"):
        pending.finish(GenericBatchResponse(responses=responses).encode())


@pytest.mark.parametrize("count", [0, -1, MAX_GENERIC + 1])
def test_batches_of_no_size(count: int) -> None:
    with pytest.raises(UsageError):
        begin_public_batch(token_kit.key(), token_kit.CHALLENGE, count)


def test_a_challenge_of_type_5() -> None:
    with pytest.raises(UsageError):
        begin_public_batch(token_kit.key(), token_kit.BATCH_CHALLENGE, 1)


def test_the_wire_form() -> None:
    request = GenericBatchRequest(requests=(PUBLIC, PRIVATE))
    assert request.encode() == b"\x41\x26" + PUBLIC + PRIVATE
    assert GenericBatchRequest.decode(request.encode()) == request
    response = GenericBatchResponse(responses=(SIGNED, None, EVALUATED))
    assert response.encode() == b"\x41\x67" + b"\1\0\2" + bytes(256) + b"\0" + b"\1\0\5" + bytes(96)
    assert GenericBatchResponse.decode(response.encode()) == response


def test_the_largest() -> None:
    request = GenericBatchRequest(requests=(PUBLIC,) * MAX_GENERIC)
    response = GenericBatchResponse(responses=(SIGNED,) * MAX_GENERIC)
    assert (len(request.encode()), len(response.encode())) == (MAX_GENERIC_REQUEST, MAX_GENERIC_RESPONSE)
    assert GenericBatchRequest.decode(request.encode()) == request
    assert GenericBatchResponse.decode(response.encode()) == response


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\x40",
        b"\x23" + PRIVATE[:-1],
        b"\x22" + PRIVATE[:-1],
        b"\x23" + PRIVATE + b"\0",
        b"\x24" + PRIVATE + b"\0",
        b"\x25" + PRIVATE + b"\0\2",
        b"\x40\x23" + PRIVATE,
        b"\x34\0\1\7" + bytes(49),
        b"\x40\x41\0\0\7" + bytes(62),
        b"\x80\0\x23\x23" + PRIVATE * (MAX_GENERIC + 1),
    ],
)
def test_requests_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        GenericBatchRequest.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\1\1",
        b"\3\1\0\2",
        b"\1\2",
        b"\x40\1\0",
        b"\2\0",
        b"\x41\2\1\0\2" + bytes(255),
        b"\x41\3\2\0\2" + bytes(256),
        b"\x40\x62\1\0\5" + bytes(95),
        b"\x40\x94\1\0\1" + bytes(145),
        b"\x41\1" + bytes(MAX_GENERIC + 1),
    ],
)
def test_responses_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        GenericBatchResponse.decode(data)


def test_a_batch_that_answers_nothing_has_a_form() -> None:
    nothing = GenericBatchResponse.decode(b"\2\0\0")
    assert nothing.responses == (None, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GenericBatchRequest(requests=()),
        lambda: GenericBatchRequest(requests=(PUBLIC,) * (MAX_GENERIC + 1)),
        lambda: GenericBatchRequest(requests=(PUBLIC + b"\0",)),
        lambda: GenericBatchRequest(requests=(b"\0\1" + PUBLIC[2:],)),
        lambda: GenericBatchResponse(responses=()),
        lambda: GenericBatchResponse(responses=(None,) * (MAX_GENERIC + 1)),
        lambda: GenericBatchResponse(responses=((2, bytes(96)),)),
        lambda: GenericBatchResponse(responses=((1, bytes(145)),)),
    ],
)
def test_values_that_cannot_be_made(make: Callable[[], Any]) -> None:
    with pytest.raises(DecodeError):
        make()


@given(st.binary(max_size=300) | st.sampled_from([b"\x23" + PRIVATE, b"\2\0\0"]))
def test_any_bytes_are_a_value_with_one_encoding_or_none(data: bytes) -> None:
    for kind in (GenericBatchRequest, GenericBatchResponse):
        try:
            value = kind.decode(data)
        except DecodeError:
            continue
        assert value.encode() == data


def test_nothing_secret_is_shown() -> None:
    request, pending = begin_public_batch(token_kit.key(), token_kit.CHALLENGE, 1)
    shown = [GenericBatchRequest.decode(request), GenericBatchResponse(responses=(SIGNED,)), pending]
    assert [repr(one) for one in shown] == [
        "GenericBatchRequest(...)",
        "GenericBatchResponse(...)",
        "PendingPublicTokens(...)",
    ]

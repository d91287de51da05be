import dataclasses
import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import token_kit
from sottovoce.core import tokens
from sottovoce.core.authscheme import to_base64url
from sottovoce.core.challenges import OfferedChallenge, parse_challenges
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.tokens import (
    Token,
    TokenBindingError,
    TokenChallenge,
    TokenKey,
    TokenKeyError,
    TokenRequest,
    TokenSignatureError,
    VerifiedToken,
    authorization_value,
    begin,
    parse_authorization,
    verify_token,
)

DAY = 24 * 3600
CHALLENGE = token_kit.CHALLENGE


def test_a_token_from_request_to_use() -> None:
    request, pending = begin(token_kit.key(), CHALLENGE)
    assert len(request) == tokens.REQUEST_LENGTH == 259
    assert TokenRequest.decode(request).truncated_key_id == token_kit.key().key_id[31]
    token = pending.finish(token_kit.answer(request))
    assert len(token.encode()) == 354
    assert parse_authorization(authorization_value(token)) == token
    verified = verify_token(token, token_kit.key(), CHALLENGE)
    assert verified.digest == hashlib.sha256(token.encode()[:98]).digest()


def test_an_issuer_that_signs_with_another_key_is_refused() -> None:
    request, pending = token_kit.pending()
    answer = bytes(1) + token_kit.answer(request, 0)[1:]
    with pytest.raises(TokenSignatureError):
        pending.finish(answer)
    with pytest.raises(UsageError, match="once"):
        pending.finish(token_kit.answer(request))


@pytest.mark.parametrize("answer", [b"", bytes(255), bytes(257)])
def test_an_answer_of_another_length_is_refused(answer: bytes) -> None:
    with pytest.raises(DecodeError, match="length"):
        token_kit.pending()[1].finish(answer)


@pytest.mark.parametrize("field", ["nonce", "authenticator"])
def test_a_changed_token_does_not_verify(field: str) -> None:
    token = token_kit.token()
    changed = bytes([getattr(token, field)[0] ^ 1]) + getattr(token, field)[1:]
    with pytest.raises(TokenSignatureError) as caught:
        verify_token(dataclasses.replace(token, **{field: changed}), token_kit.key(), CHALLENGE)
    assert caught.value.code == "token.signature"


def test_a_token_is_bound_to_its_key_and_its_challenge() -> None:
    token = token_kit.token()
    with pytest.raises(TokenBindingError, match="key") as caught:
        verify_token(token, token_kit.key(1), CHALLENGE)
    assert caught.value.code == "token.binding"
    for change in ({"origin_info": b"x"}, {"issuer_name": b"x"}, {"redemption_context": bytes(32)}):
        with pytest.raises(TokenBindingError, match="challenge"):
            verify_token(token, token_kit.key(), dataclasses.replace(CHALLENGE, **change))  # type: ignore[arg-type]


def test_only_verification_makes_a_verified_token() -> None:
    with pytest.raises(UsageError):
        VerifiedToken(digest=bytes(32), _made_by=object())


def test_a_challenge_of_another_type_is_our_own_fault() -> None:
    with pytest.raises(UsageError):
        begin(token_kit.key(), dataclasses.replace(CHALLENGE, token_type=1))
    with pytest.raises(UsageError, match="nonce"):
        begin(token_kit.key(), CHALLENGE, nonce=bytes(31))


def test_secrets_show_their_type_only() -> None:
    request, pending = token_kit.pending()
    token = pending.finish(token_kit.answer(request))
    assert repr(pending) == "PendingToken(...)"
    assert repr(token) == "Token(...)"
    assert repr(TokenRequest.decode(request)) == "TokenRequest(...)"
    assert repr(verify_token(token, token_kit.key(), CHALLENGE)) == "VerifiedToken(...)"


@pytest.mark.parametrize("data", [b"", bytes(354), b"\x00\x01" + bytes(352), b"\x00\x02" + bytes(351), b"\x00\x02" + bytes(353)])  # fmt: skip
def test_what_is_no_token(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Token.decode(data)


@pytest.mark.parametrize("data", [b"", bytes(259), b"\x00\x02" + bytes(256), b"\x00\x02" + bytes(258), b"\xda\x7a" + bytes(257)])  # fmt: skip
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(DecodeError):
        TokenRequest.decode(data)


@given(st.binary(min_size=352, max_size=352))
def test_token_round_trip(rest: bytes) -> None:
    token = Token.decode(b"\x00\x02" + rest)
    assert token.encode() == b"\x00\x02" + rest
    assert parse_authorization(authorization_value(token)) == token


@given(
    st.builds(
        TokenChallenge,
        issuer_name=st.binary(min_size=1, max_size=100),
        origin_info=st.binary(max_size=100),
        redemption_context=st.just(b"") | st.binary(min_size=32, max_size=32),
        token_type=st.integers(0, 0xFFFF),
    )
)
def test_challenge_round_trip(challenge: TokenChallenge) -> None:
    assert TokenChallenge.decode(challenge.encode()) == challenge


@given(st.binary(max_size=120))
@example(bytes(2000))
def test_any_bytes_are_a_challenge_or_a_typed_error(data: bytes) -> None:
    try:
        challenge = TokenChallenge.decode(data)
    except DecodeError:
        return
    assert challenge.encode() == data


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        ("", "early"),
        ("0002", "early"),
        ("0002000000" + "0000", "length"),
        ("0002000161" + "01aa" + "0000", "redemption context"),
        ("0002000161" + "00" + "0001", "early"),
        ("0002000161" + "00" + "000000", "trailing"),
    ],
)
def test_challenges_that_are_none(encoded: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        TokenChallenge.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize("change", [{"issuer_name": bytes(1 << 16)}, {"origin_info": bytes(1 << 16)}, {"token_type": 1 << 16}, {"token_type": -1}])  # fmt: skip
def test_challenges_that_cannot_be_written(change: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        dataclasses.replace(CHALLENGE, **change)  # type: ignore[arg-type]


def test_a_key_has_one_encoding() -> None:
    key = token_kit.key()
    assert TokenKey.parse(key.spki) == key
    assert key.key_id == tokens.token_key_id(key.spki) == hashlib.sha256(key.spki).digest()


@given(st.integers(0, 341), st.integers(1, 255))
def test_a_key_with_one_byte_changed_is_another_key_or_none(at: int, bits: int) -> None:
    spki = bytearray(token_kit.key().spki)
    spki[at] ^= bits
    try:
        key = TokenKey.parse(bytes(spki))
    except TokenKeyError:
        return
    assert key.spki == bytes(spki)
    assert key.key_id != token_kit.key().key_id
    assert 81 <= at < 337, "only the modulus may differ"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_key_or_a_typed_error(data: bytes) -> None:
    with pytest.raises(TokenKeyError):
        TokenKey.parse(data)


def _authorization(parameters: bytes, scheme: bytes = b"PrivateToken") -> bytes:
    return scheme + b" " + parameters


TOKEN = to_base64url(b"\x00\x02" + bytes(range(176)) * 2)


@pytest.mark.parametrize(
    "value",
    [
        _authorization(b'token="' + TOKEN + b'"'),
        _authorization(b"token=" + TOKEN),
        _authorization(b"Token = " + TOKEN, b"PRIVATETOKEN"),
        _authorization(b'other="x", token=' + TOKEN + b", more=y"),
    ],
)
def test_authorization_that_rfc_9577_allows(value: bytes) -> None:
    assert to_base64url(parse_authorization(value).encode()) == TOKEN


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"PrivateToken",
        _authorization(b"token=" + TOKEN, b"Bearer"),
        _authorization(b"tokens=" + TOKEN),
        _authorization(b"token=" + TOKEN + b", token=" + TOKEN),
        _authorization(b"token=" + TOKEN + b", PrivateToken token=" + TOKEN),
        _authorization(b"token=" + TOKEN[:-4]),
        _authorization(b"token=" + TOKEN + b"AAAA"),
        _authorization(b"token=" + TOKEN + b"="),
        _authorization(b"token=" + TOKEN.replace(b"A", b"+", 1)),
        _authorization(b'token=""'),
    ],
)
def test_authorization_that_it_does_not(value: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_authorization(value)


@given(st.binary(max_size=600))
def test_any_authorization_is_a_typed_error(value: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_authorization(value)


def test_challenges_of_other_schemes_are_left_out() -> None:
    value = b'Other a="b", PrivateToken challenge="YWI=", PrivateToken challenge=YWJj, token-key="YQ==", max-age=5'
    assert parse_challenges(value) == (
        OfferedChallenge(challenge=b"ab", token_key=None, max_age=None),
        OfferedChallenge(challenge=b"abc", token_key=b"a", max_age=5),
    )


@pytest.mark.parametrize("parameters", [b"token-key=YQ==", b"challenge=YQ", b"challenge=YQ==, max-age=x", b"challenge=YQ==, max-age=12345678901", b"challenge=YQ==, token-key=Y"])  # fmt: skip
def test_offers_that_are_refused(parameters: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_challenges(b"PrivateToken " + parameters)


@pytest.mark.parametrize(
    ("now", "epochs"),
    [
        (100 * DAY, [99, 100]),
        (100 * DAY + 3599, [99, 100]),
        (100 * DAY + 3600, [100]),
        (101 * DAY - 3601, [100]),
        (101 * DAY - 3600, [100, 101]),
        (101 * DAY - 1, [100, 101]),
    ],
)
def test_epochs_overlap_by_their_grace(now: int, epochs: list[int]) -> None:
    assert list(tokens.accepted_epochs(now)) == epochs

"""False answers are refused, and known again at the gateway in the hands of a device that does not check them."""

from contextlib import closing
from pathlib import Path

import pytest

import token_kit
from sottovoce.attacks.false_issuer import TRIES, FalseAnswer, Forger
from sottovoce.core import blindrsa, voprf
from sottovoce.core.errors import CryptoError, SottovoceError
from sottovoce.core.genericbatch import GenericBatchResponse, PendingPublicTokens
from sottovoce.core.privatetokens import BatchRequest, PublicTokenKey, issue_batch
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    Token,
    TokenKey,
    TokenSignatureError,
    VerificationKey,
    verify_token,
)
from sottovoce.device.wallet import PendingBatch, Schedule, Wallet

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
COUNT = 4
TYPE_2 = [one for one in TRIES if one.token_type == 2]
FORGED = [one for one in TYPE_2 if "token.signature" in one.wanted]
TYPE_5 = [one for one in TRIES if one.token_type == 5]


@pytest.fixture
def forger() -> Forger:
    key = token_kit.key()
    return Forger(genuine={key.truncated_id: key})


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet(tmp_path / "wallet.sqlite", schedule=Schedule(batch=COUNT, age=(0, 0)))


def begin(wallet: Wallet, token_type: int) -> PendingBatch:
    if token_type == 2:
        keys: dict[int, TokenKey] = {TODAY: token_kit.key()}
        return wallet.begin_batch(keys, token_kit.CHALLENGE, NOON)
    batch_keys: dict[int, PublicTokenKey] = {TODAY: token_kit.batch_key().public}
    return wallet.begin_batch(batch_keys, token_kit.BATCH_CHALLENGE, NOON)


def genuine(request: bytes, token_type: int) -> bytes:
    if token_type == 2:
        return token_kit.answer_all(request, 0)
    return issue_batch(token_kit.batch_key(), BatchRequest.decode(request))


def refill(wallet: Wallet, forger: Forger, one: FalseAnswer) -> list[Token]:
    """What a device has after a refill at a false issuer."""
    batch = begin(wallet, one.token_type)
    answers = [genuine(request, one.token_type) for request in batch.requests]
    answers = [
        one.change(forger, request, answer) for request, answer in zip(batch.requests, answers, strict=True)
    ]
    kept = wallet.finish_batch(batch, answers, NOON)
    return [wallet.take(NOON) for _ in range(kept)]


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.tries)
def test_it_is_refused_and_nothing_is_kept(wallet: Wallet, forger: Forger, one: FalseAnswer) -> None:
    with closing(wallet):
        with pytest.raises(SottovoceError) as caught:
            refill(wallet, forger, one)
        assert {caught.value.code} == one.wanted
        assert wallet.count(NOON) == 0


def is_of(token: Token, key: VerificationKey) -> bool:
    try:
        key.check(token.authenticator_input, token.authenticator)
    except CryptoError:
        return False
    return True


@pytest.mark.parametrize("one", FORGED, ids=lambda one: one.tries)
def test_a_device_that_verifies_no_signature_keeps_it(
    wallet: Wallet, forger: Forger, one: FalseAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(blindrsa.PublicKey, "verify", lambda *_: None)
        tokens = refill(wallet, forger, one)
    good = [is_of(token, token_kit.key()) for token in tokens]
    assert good.count(False) == (1 if "one token" in one.tries else COUNT)


def test_a_device_that_takes_a_part_of_a_batch_has_fewer_tokens_than_any_other(
    wallet: Wallet, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = (one for one in TYPE_2 if one not in FORGED)

    def finish(pending: PendingPublicTokens, response: bytes) -> tuple[Token, ...]:
        answers = zip(pending._tokens or (), GenericBatchResponse.decode(response).responses, strict=True)
        return tuple(token.finish(answer[1]) for token, answer in answers if answer)

    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(PendingPublicTokens, "finish", finish)
        assert len(refill(wallet, forger, one)) == COUNT - 1


def test_a_marked_token_is_known_again(
    wallet: Wallet, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = (one for one in TYPE_2 if "mark" in one.tries)
    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(blindrsa.PublicKey, "verify", lambda *_: None)
        tokens = refill(wallet, forger, one)
    modulus = token_kit.key().rsa.modulus
    for token in tokens:
        unmarked = int.from_bytes(token.authenticator, "big") * pow(forger.mark, -1, modulus) % modulus
        token_kit.key().check(token.authenticator_input, unmarked.to_bytes(256, "big"))


@pytest.mark.parametrize(
    ("tries", "known"),
    [
        ("another key, with its proof", [True] * COUNT),
        ("another key for one token", [True] + [False] * (COUNT - 1)),
    ],
)
def test_a_device_that_verifies_no_proof_is_known_again(
    wallet: Wallet, forger: Forger, tries: str, known: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(one for one in TYPE_5 if tries in one.tries)
    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(voprf.PublicKey, "verify_batch", lambda *_: None)
        tokens = refill(wallet, forger, one)
    assert sorted(is_of(token, forger.secret) for token in tokens) == sorted(known)


@pytest.mark.parametrize("tries", ["another order", "noise"])
def test_a_device_that_verifies_no_proof_keeps_what_is_worth_nothing(
    wallet: Wallet, forger: Forger, tries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(one for one in TYPE_5 if tries in one.tries)
    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(voprf.PublicKey, "verify_batch", lambda *_: None)
        tokens = refill(wallet, forger, one)
    for token in tokens:
        with pytest.raises(TokenSignatureError):
            verify_token(token, token_kit.batch_key(), token_kit.BATCH_CHALLENGE)


def test_a_sum_without_weights_is_not_enough(
    wallet: Wallet, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch's proof is over weighted sums. Without weights the order of the answers goes unseen."""
    (one,) = (one for one in TYPE_5 if "order" in one.tries)
    weight = (1).to_bytes(32, "little")
    with closing(wallet), monkeypatch.context() as weakened:
        weakened.setattr(voprf, "_weights", lambda _, blinded, __: [weight] * len(blinded))
        tokens = refill(wallet, forger, one)
    assert len(tokens) == COUNT

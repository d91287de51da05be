"""A device fetches tokens of both types from an issuer on a real socket."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

import asgi
import edge_kit
import token_kit
from sottovoce.core import ristretto
from sottovoce.core.errors import DecodeError, LimitError, SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.core.privatetokens import BatchRequest, PrivateTokenKey, begin_batch, issue_batch
from sottovoce.core.tokens import EPOCH_SECONDS, Token, TokenSignatureError, verify_token
from sottovoce.device import walletfile
from sottovoce.device.environment import Environment
from sottovoce.device.issuance import refill
from sottovoce.device.transport import Network
from sottovoce.device.wallet import Schedule, Wallet, WalletEmpty, WalletError
from sottovoce.edge import issuer

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
EPOCHS = (TODAY, TODAY + 1)
AT_ONCE = Schedule(batch=4, age=(0, 0))
Change = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


@pytest.fixture(autouse=True)
def _keys_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        issuer, "load_token_key", lambda path: (token_kit.signer(int(path)), token_kit.key(int(path)))
    )
    monkeypatch.setattr(issuer, "load_batch_key", lambda path: token_kit.batch_key(int(path)))


def office(folder: Path) -> asgi.App:
    files = [issuer.KeyFile(epoch=epoch, path=str(epoch)) for epoch in EPOCHS]
    database = str(folder / "accounts.db")
    (folder / "account.key").write_text(issuer.enrol(database, "anna"))
    config = issuer.Config(database=database, keys=files, batch_keys=files, quota=100)
    return issuer.create_app(config, log=EventLog(lambda _: None), clock=lambda: NOON)


def fetched(folder: Path, wallet: Wallet, app: asgi.App, token_type: int) -> int:
    directory: Any = SimpleNamespace(
        token_keys=lambda: {epoch: token_kit.key(epoch) for epoch in EPOCHS},
        batch_token_keys=lambda: {epoch: token_kit.batch_key(epoch).public for epoch in EPOCHS},
    )

    async def run() -> int:
        async with edge_kit.serving(app) as url, Network() as network:
            environment = SimpleNamespace(
                token_type=token_type, issuer=url, issuer_name="issuer.example", service="service.example"
            )
            return await refill(
                wallet,
                environment=cast("Environment", environment),
                network=network,
                directory=directory,
                account=folder / "account.key",
                now=NOON,
            )

    return asyncio.run(run())


@contextlib.contextmanager
def wallet_of(folder: Path) -> Any:
    with contextlib.closing(Wallet(folder / "wallet.sqlite", schedule=AT_ONCE)) as wallet:
        yield wallet


@pytest.mark.parametrize("token_type", [2, 5])
def test_a_refill(tmp_path: Path, token_type: int) -> None:
    with wallet_of(tmp_path) as wallet:
        assert fetched(tmp_path, wallet, office(tmp_path), token_type) == 8
        for epoch in EPOCHS:
            token = wallet.take(max(NOON, epoch * EPOCH_SECONDS))
            assert token.token_type == token_type
            if token_type == 2:
                verify_token(token, token_kit.key(epoch), token_kit.CHALLENGE)
            else:
                verify_token(token, token_kit.batch_key(epoch), token_kit.BATCH_CHALLENGE)


def test_a_batch_of_type_5_takes_one_request_a_key(tmp_path: Path) -> None:
    keys = {epoch: token_kit.batch_key(epoch).public for epoch in EPOCHS}
    with wallet_of(tmp_path) as wallet:
        batch = wallet.begin_batch(keys, token_kit.BATCH_CHALLENGE, NOON)
    assert (batch.token_type, len(batch.requests)) == (5, 2)
    assert [len(BatchRequest.decode(request).blinded) for request in batch.requests] == [4, 4]


def rogue(answer: Callable[[bytes], bytes]) -> asgi.App:
    """An issuer that answers so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        content = answer(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    return app


OTHER = PrivateTokenKey.generate() if ristretto.is_available() else None


def _honest(request: bytes) -> bytes:
    parsed = BatchRequest.decode(request)
    keys = (token_kit.batch_key(epoch) for epoch in EPOCHS)
    return issue_batch(next(k for k in keys if k.public.truncated_id == parsed.truncated_key_id), parsed)


def _another_key(request: bytes) -> bytes:
    assert OTHER
    return issue_batch(OTHER, BatchRequest.decode(request))


def _one_element_of_another_key(request: bytes) -> bytes:
    honest, marked = _honest(request), _another_key(request)
    return honest[:-96] + marked[-96:-64] + honest[-64:]


def _noise(request: bytes) -> bytes:
    return _honest(request)[:2] + b"\x5a" * (len(_honest(request)) - 2)


def _noise_for_tomorrow_only(request: bytes) -> bytes:
    parsed = BatchRequest.decode(request)
    tomorrow = token_kit.batch_key(TODAY + 1).public.truncated_id == parsed.truncated_key_id
    return _noise(request) if tomorrow else _honest(request)


def _fewer(request: bytes) -> bytes:
    parsed = BatchRequest.decode(request)
    return _honest(
        BatchRequest(truncated_key_id=parsed.truncated_key_id, blinded=parsed.blinded[1:]).encode()
    )


REFUSED: list[tuple[Change, type[SottovoceError]]] = [
    (_another_key, TokenSignatureError),
    (_one_element_of_another_key, TokenSignatureError),
    (_noise, TokenSignatureError),
    (_noise_for_tomorrow_only, TokenSignatureError),
    (_fewer, DecodeError),
    (lambda _: b"", DecodeError),
    (lambda request: _honest(request)[:-1], DecodeError),
    (lambda request: _honest(request) + b"\0", DecodeError),
    (lambda _: bytes(9000), LimitError),
]


@pytest.mark.parametrize(("answer", "error"), REFUSED)
def test_of_an_issuance_whose_proof_fails_nothing_is_kept(
    tmp_path: Path, answer: Change, error: type[SottovoceError]
) -> None:
    office(tmp_path)
    with wallet_of(tmp_path) as wallet:
        with pytest.raises(error):
            fetched(tmp_path, wallet, rogue(answer), 5)
        assert wallet.count(NOON) == 0
        with pytest.raises(WalletEmpty):
            wallet.take(NOON)


def test_an_honest_issuer_of_that_kind_is_believed(tmp_path: Path) -> None:
    office(tmp_path)
    with wallet_of(tmp_path) as wallet:
        assert fetched(tmp_path, wallet, rogue(_honest), 5) == 8


def _signed(request: bytes) -> bytes:
    return token_kit.answer_all(request, *EPOCHS)


def test_an_honest_issuer_of_type_2_is_believed(tmp_path: Path) -> None:
    office(tmp_path)
    with wallet_of(tmp_path) as wallet:
        assert fetched(tmp_path, wallet, rogue(_signed), 2) == 8


REFUSED_OF_TYPE_2: list[tuple[Change, type[SottovoceError]]] = [
    (lambda _: bytes(256), DecodeError),
    (lambda request: _signed(request)[:-1], DecodeError),
    (lambda request: _signed(request) + b"\0", DecodeError),
    (lambda request: _signed(request)[:-1] + bytes([_signed(request)[-1] ^ 1]), TokenSignatureError),
    (lambda _: bytes(1 << 18), LimitError),
]


@pytest.mark.parametrize(("answer", "error"), REFUSED_OF_TYPE_2)
def test_of_an_issuance_of_type_2_with_one_wrong_answer_nothing_is_kept(
    tmp_path: Path, answer: Change, error: type[SottovoceError]
) -> None:
    office(tmp_path)
    with wallet_of(tmp_path) as wallet:
        with pytest.raises(error):
            fetched(tmp_path, wallet, rogue(answer), 2)
        assert wallet.count(NOON) == 0


# The wallet's file


FORMER = walletfile._TOKENS.replace("IN (162, 354)", "= 354")


def test_a_wallet_from_before_type_5_takes_it_and_keeps_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "wallet.sqlite"
    old = token_kit.token(TODAY)
    with wallet_of(tmp_path) as wallet:
        wallet.add([old], TODAY, NOON)
    with contextlib.closing(sqlite3.connect(path)) as file:
        row = file.execute("SELECT * FROM tokens").fetchone()
        file.execute("DROP TABLE tokens")
        file.execute(FORMER)
        file.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", row)
        file.commit()
        with pytest.raises(sqlite3.IntegrityError):
            file.execute("INSERT INTO tokens VALUES (9, 1, 1, zeroblob(162), x'00')")
    with wallet_of(tmp_path) as wallet:
        wallet.add([token_kit.batch_token(TODAY)], TODAY, NOON)
        taken = {wallet.take(NOON).token_type for _ in range(2)}
    assert taken == {2, 5}


def test_nothing_of_another_length_is_stored(tmp_path: Path) -> None:
    token = token_kit.batch_token(TODAY)
    wrong = cast("Token", SimpleNamespace(encode=lambda: token.encode() + b"\0"))
    with wallet_of(tmp_path) as wallet, pytest.raises(WalletError):
        wallet.add([wrong], TODAY, NOON)


def test_the_environment_says_which_type(tmp_path: Path) -> None:
    field = {one.name: one for one in msgspec.structs.fields(Environment)}["token_type"]
    assert field.default == 2
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(1, field.type)
    assert begin_batch(token_kit.batch_key().public, token_kit.BATCH_CHALLENGE, 1)

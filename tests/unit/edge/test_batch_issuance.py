"""The issuer's batches of type 5, and the gateway that takes such tokens."""

import asyncio
import base64
import contextlib
import json
import stat
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asgi
import token_kit
from ohttp_world import gateway_config
from sottovoce.core.challenges import parse_challenges
from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.core.genericbatch import MAX_GENERIC_REQUEST, GenericBatchRequest, GenericBatchResponse
from sottovoce.core.privatetokens import (
    MAX_BATCH_REQUEST,
    BatchRequest,
    PrivateTokenKey,
    begin_batch,
    begin_single,
    issue_batch,
)
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    TokenBindingError,
    TokenChallenge,
    TokenSignatureError,
    authorization_value,
    verify_token,
)
from sottovoce.edge import gateway, issuer
from sottovoce.edge.admission import Admission
from sottovoce.edge.batchkeys import generate_batch_key, load_batch_key
from sottovoce.edge.issuer import Config, KeyFile, create_app, enrol
from sottovoce.edge.spentstore import TokenExpired, TokenSpent

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
DIRECTORY = "/.well-known/private-token-issuer-directory"
BATCH = "application/private-token-amortized-batch-request"
SINGLE = "application/private-token-request"
GENERIC = "application/private-token-generic-batch-request"
CHALLENGE = token_kit.BATCH_CHALLENGE


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


class Office:
    """An issuer with keys of both types for three days, and one account."""

    def __init__(self, folder: Path, *, quota: int = 20) -> None:
        self.lines: list[str] = []
        self.now = NOON
        files, batch_files = [], []
        for epoch in (TODAY - 1, TODAY, TODAY + 1):
            path, batch_path = folder / f"{epoch}.pem", folder / f"{epoch}.key"
            path.write_bytes(token_kit.pem(epoch))
            batch_path.write_bytes(token_kit.batch_secret(epoch))
            files.append(KeyFile(epoch=epoch, path=str(path)))
            batch_files.append(KeyFile(epoch=epoch, path=str(batch_path)))
        database = str(folder / "accounts.db")
        self.account = enrol(database, "anna")
        self.config = Config(database=database, keys=files, batch_keys=batch_files, quota=quota)
        self.app: Any = create_app(self.config, log=EventLog(self.lines.append), clock=lambda: self.now)

    def post(self, body: bytes, kind: str = BATCH) -> asgi.Answer:
        headers = {"authorization": f"Bearer {self.account}", "content-type": kind}
        return asyncio.run(asgi.fetch(self.app, "POST", "/token-request", headers=headers, body=body))


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    # Reading a key of type 2 checks its primes, 50 ms each, which is tested elsewhere.
    by_name = {str(epoch): epoch for epoch in range(TODAY - 1, TODAY + 2)}

    def load(path: str) -> object:
        epoch = by_name[Path(path).stem]
        return token_kit.signer(epoch), token_kit.key(epoch)

    monkeypatch.setattr(issuer, "load_token_key", load)
    return Office(tmp_path)


def code(answer: asgi.Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["code"]


def request(count: int, epoch: int = TODAY) -> bytes:
    return begin_batch(token_kit.batch_key(epoch).public, CHALLENGE, count)[0]


def test_a_batch_is_issued(office: Office) -> None:
    key = token_kit.batch_key(TODAY)
    body, pending = begin_batch(key.public, CHALLENGE, 16)
    answer = office.post(body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/private-token-amortized-batch-response"
    assert answer.headers["cache-control"] == "no-store"
    for token in pending.finish(answer.body):
        verify_token(token, key, CHALLENGE)


def test_one_token_is_issued(office: Office) -> None:
    body, pending = begin_single(token_kit.batch_key(TODAY).public, CHALLENGE)
    answer = office.post(body, SINGLE)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/private-token-response"
    verify_token(pending.finish_single(answer.body), token_kit.batch_key(TODAY), CHALLENGE)


def test_a_batch_counts_as_many_tokens_as_it_has_all_or_none(office: Office) -> None:
    assert office.post(request(21)).status == 429, "more than a day's, in one batch"
    assert office.post(request(12)).status == 200
    assert code(office.post(request(9))) == (429, "quota")
    assert office.post(request(8)).status == 200
    assert office.post(request(1)).status == 429
    assert office.post(token_kit.pending(TODAY)[0], SINGLE).status == 429
    asyncio.run(asgi.shutdown(office.app))
    (line,) = map(json.loads, office.lines)
    assert (line["issued"], line["refused_quota"]) == (20, 4)


def test_requests_that_are_refused(office: Office) -> None:
    good = request(2)
    taken = {token_kit.batch_key(epoch).public.truncated_id for epoch in (TODAY - 1, TODAY, TODAY + 1)}
    other = next(number for number in range(256) if number not in taken)
    refused = {
        b"": "peer.decode",
        good[:-1]: "peer.decode",
        good + b"\0": "peer.decode",
        b"\0\2" + good[2:]: "peer.decode",
        bytes(MAX_BATCH_REQUEST + 1): "peer.limit",
        good[:2] + bytes([other]) + good[3:]: "token.key",
        good[:-32] + bytes(32): "peer.crypto",
        good[:-32] + b"\xff" * 32: "peer.crypto",
    }
    for body, wanted in refused.items():
        assert code(office.post(body)) == (422, wanted)
    assert code(office.post(good, SINGLE)) == (422, "peer.decode")
    assert code(office.post(good, "application/json")) == (415, "peer.media-type")
    assert code(office.post(request(1, TODAY + 7))) == (422, "token.key")


def test_no_account_no_batch(office: Office) -> None:
    office.account = "A" * 43
    assert code(office.post(request(1))) == (401, "refused.account")


def test_keys_are_those_of_the_day(office: Office) -> None:
    office.now = (TODAY + 1) * EPOCH_SECONDS + 3600
    assert [office.post(request(1, epoch)).status for epoch in (TODAY, TODAY + 1)] == [422, 200]


def test_the_directory_lists_both_types_the_default_first(office: Office) -> None:
    answer = asyncio.run(asgi.fetch(office.app, "GET", DIRECTORY))
    keys = json.loads(answer.body)["token-keys"]
    assert [(key["token-type"], key["not-before"]) for key in keys] == [
        (token_type, epoch * EPOCH_SECONDS) for token_type in (2, 5) for epoch in (TODAY, TODAY + 1)
    ]
    assert base64.urlsafe_b64decode(keys[2]["token-key"]) == token_kit.batch_key(TODAY).public.encoded


def test_an_issuer_without_keys_of_type_5_issues_none(office: Office) -> None:
    config = msgspec.structs.replace(office.config, batch_keys=[])
    office.app = create_app(config, log=EventLog(office.lines.append), clock=lambda: NOON)
    assert code(office.post(request(1))) == (422, "token.key")
    keys = json.loads(asyncio.run(asgi.fetch(office.app, "GET", DIRECTORY)).body)["token-keys"]
    assert {key["token-type"] for key in keys} == {2}


@pytest.mark.parametrize("again", [(TODAY, TODAY), (TODAY + 5, TODAY)])
def test_two_keys_for_one_epoch_or_with_one_id(office: Office, again: tuple[int, int]) -> None:
    epoch, of = again
    path = next(file.path for file in office.config.batch_keys if file.epoch == of)
    files = [*office.config.batch_keys, KeyFile(epoch=epoch, path=path)]
    config = msgspec.structs.replace(office.config, batch_keys=files)
    with pytest.raises(ConfigError):
        create_app(config, log=EventLog(office.lines.append))


# Several requests in one


def several(*requests: bytes) -> bytes:
    return GenericBatchRequest(requests=requests).encode()


def test_several_requests_of_both_types_in_one(office: Office) -> None:
    key = token_kit.batch_key(TODAY)
    public = [token_kit.pending(epoch) for epoch in (TODAY, TODAY + 1)]
    private, secret = begin_single(key.public, CHALLENGE)
    answer = office.post(several(public[0][0], private, public[1][0]), GENERIC)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/private-token-generic-batch-response"
    assert answer.headers["cache-control"] == "no-store"
    first, second, third = GenericBatchResponse.decode(answer.body).responses
    for response, (_, pending), epoch in zip((first, third), public, (TODAY, TODAY + 1), strict=True):
        assert response is not None
        assert response[0] == 2
        verify_token(pending.finish(response[1]), token_kit.key(epoch), token_kit.CHALLENGE)
    assert second is not None
    assert second[0] == 5
    verify_token(secret.finish_single(second[1]), key, CHALLENGE)


def test_several_requests_count_as_many_tokens_as_they_are_all_or_none(office: Office) -> None:
    one = token_kit.pending(TODAY)[0]
    assert code(office.post(several(*[one] * 21), GENERIC)) == (429, "quota")
    assert office.post(several(*[one] * 20), GENERIC).status == 200
    assert office.post(several(one), GENERIC).status == 429


def test_others_have_their_turn_while_many_are_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(tmp_path, quota=100)
    slices: list[int] = []
    genuine = issuer._sign_all

    def sign_all(signs: Any) -> list[bytes]:
        slices.append(len(signs))
        # Whichever came first, the other one waits for its turn before there is a second slice.
        while len(slices) == 1 and not office.app._pool._work_queue.qsize():
            time.sleep(0.001)
        return genuine(signs)

    monkeypatch.setattr(issuer, "_sign_all", sign_all)
    many = [token_kit.pending(TODAY + number % 2) for number in range(40)]

    def post(body: bytes, kind: str) -> Coroutine[Any, Any, asgi.Answer]:
        headers = {"authorization": f"Bearer {office.account}", "content-type": kind}
        return asgi.fetch(office.app, "POST", "/token-request", headers=headers, body=body)

    async def both() -> tuple[asgi.Answer, asgi.Answer]:
        office.app._pool = ThreadPoolExecutor(1)
        return await asyncio.gather(
            post(several(*(one for one, _ in many)), GENERIC), post(token_kit.pending(TODAY)[0], SINGLE)
        )

    batch, single = asyncio.run(both())
    assert (batch.status, single.status) == (200, 200)
    assert sorted(slices) == [1, 8, 16, 16]
    assert slices[-1] == 8, "whoever wanted one had it before the batch was done"
    for number, response in enumerate(GenericBatchResponse.decode(batch.body).responses):
        assert response is not None
        token = many[number][1].finish(response[1])
        verify_token(token, token_kit.key(TODAY + number % 2), token_kit.CHALLENGE)


def test_several_requests_of_which_one_is_bad(office: Office) -> None:
    good, of_then = (token_kit.pending(epoch)[0] for epoch in (TODAY, TODAY + 7))
    assert code(office.post(several(good, of_then), GENERIC)) == (400, "token.batch")
    assert code(office.post(several(good, good[:3] + b"\xff" * 256), GENERIC)) == (400, "token.batch")
    private = token_kit.batch_key(TODAY).public.truncated_id
    no_element = bytes([0, 5, private]) + b"\xff" * 32
    assert code(office.post(several(good, no_element), GENERIC)) == (400, "token.batch")
    for body in (b"", b"\0", several(good)[:-1], several(good) + b"\0", good):
        assert code(office.post(body, GENERIC)) == (422, "peer.decode")
    assert code(office.post(bytes(MAX_GENERIC_REQUEST + 1), GENERIC)) == (422, "peer.limit")
    assert code(office.post(several(good))) == (422, "peer.decode"), "under another media type"
    office.account = "A" * 43
    assert code(office.post(several(good), GENERIC)) == (401, "refused.account")


# Key files


def test_a_key_file_is_its_owners_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = generate_batch_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_batch_key(path).public.encoded == public
    with pytest.raises(ConfigError, match="written"):
        generate_batch_key(path)


def test_ids_that_are_taken_are_not_made(tmp_path: Path) -> None:
    free = 7
    public = generate_batch_key(tmp_path / "key", taken=set(range(256)) - {free})
    assert load_batch_key(tmp_path / "key").public.truncated_id == free
    assert len(public) == 32


@pytest.mark.parametrize("data", [None, b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32])
def test_key_files_that_are_none(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "key"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_batch_key(path)
    assert str(path) in caught.value.hint


# The gateway


class Gate:
    """A gateway's admission, and the event loop that it lives in."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        keys = {epoch: token_kit.key(epoch) for epoch in (TODAY, TODAY + 1)}
        batch_keys = {epoch: token_kit.batch_key(epoch) for epoch in (TODAY, TODAY + 1)}
        self._loop = asyncio.Runner()
        self.admission = Admission(
            keys,
            token_kit.CHALLENGE,
            f"sqlite:{folder}/spent.db?seconds=60",
            **({"batch_keys": batch_keys} | changes),
        )

    def admit(self, value: bytes) -> None:
        self._loop.run(self.admission.admit(value, NOON))

    def close(self) -> None:
        with self._loop:
            self._loop.run(self.admission.close())


def test_a_token_of_type_5_counts_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    value = authorization_value(token_kit.batch_token(TODAY))
    gate.admit(value)
    with pytest.raises(TokenSpent):
        gate.admit(value)
    gate.admit(authorization_value(token_kit.token(TODAY)))
    gate.close()
    with contextlib.closing(Gate(tmp_path)) as again, pytest.raises(TokenSpent):
        again.admit(value)


def _another_service() -> bytes:
    return made(token_kit.batch_key(TODAY), replace(CHALLENGE, origin_info=b"other.example"))


def _another_key() -> bytes:
    return made(PrivateTokenKey.generate(), CHALLENGE)


def _of_tomorrow() -> bytes:
    return authorization_value(token_kit.batch_token(TODAY + 1))


def _forged() -> bytes:
    token = token_kit.batch_token(TODAY)
    return authorization_value(replace(token, authenticator=bytes(64)))


def made(key: PrivateTokenKey, challenge: TokenChallenge) -> bytes:
    body, pending = begin_batch(key.public, challenge, 1)
    return authorization_value(pending.finish(issue_batch(key, BatchRequest.decode(body)))[0])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (_another_service, TokenBindingError),
        (_another_key, TokenBindingError),
        (_of_tomorrow, TokenExpired),
        (_forged, TokenSignatureError),
    ],
)
def test_tokens_that_are_refused(
    tmp_path: Path, make: Callable[[], bytes], error: type[SottovoceError]
) -> None:
    with contextlib.closing(Gate(tmp_path)) as gate, pytest.raises(error):
        gate.admit(make())


def test_a_gateway_without_the_secret_keys_refuses_type_5(tmp_path: Path) -> None:
    with contextlib.closing(Gate(tmp_path, batch_keys=None)) as gate:
        with pytest.raises(TokenBindingError):
            gate.admit(authorization_value(token_kit.batch_token(TODAY)))
        assert len(parse_challenges(gate.admission.challenge(NOON))) == 1


def test_the_challenge_offers_both_types_the_default_first(tmp_path: Path) -> None:
    with contextlib.closing(Gate(tmp_path)) as gate:
        offers = parse_challenges(gate.admission.challenge(NOON))
    assert [TokenChallenge.decode(offer.challenge).token_type for offer in offers] == [2, 5]
    assert [offer.token_key for offer in offers] == [
        token_kit.key(TODAY).spki,
        token_kit.batch_key(TODAY).public.encoded,
    ]


def test_a_gateways_configuration_with_keys_of_type_5(tmp_path: Path) -> None:
    path = tmp_path / "batch.key"
    path.write_bytes(token_kit.batch_secret(TODAY))
    entry = gateway.BatchKeyFile(epoch=TODAY, path=str(path))
    lines: list[str] = []
    gateway.create_app(gateway_config(tmp_path, batch_token_keys=[entry]), log=EventLog(lines.append))
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="scalar"):
        gateway.create_app(gateway_config(tmp_path, batch_token_keys=[entry]), log=EventLog(lines.append))

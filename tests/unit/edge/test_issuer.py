import asyncio
import base64
import json
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import asgi
import token_kit
from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import EPOCH_SECONDS, TokenKey, TokenRequest, begin, verify_token
from sottovoce.edge import issuer
from sottovoce.edge.accounts_sqlite import Accounts
from sottovoce.edge.database import StoreError
from sottovoce.edge.issuer import Config, KeyFile, create_app, enrol
from sottovoce.edge.rsa import BlindSigner

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
DIRECTORY = "/.well-known/private-token-issuer-directory"


class Office:
    """An issuer with keys for three days, one account and a clock."""

    def __init__(self, folder: Path, *, quota: int = 5) -> None:
        self.now = NOON
        self.lines: list[str] = []
        self.database = str(folder / "accounts.db")
        self.keys: dict[int, TokenKey] = {}
        files = []
        for epoch in (TODAY - 1, TODAY, TODAY + 1, TODAY + 2):
            path = folder / f"{epoch}.pem"
            path.write_bytes(token_kit.pem(epoch))
            self.keys[epoch] = token_kit.key(epoch)
            files.append(KeyFile(epoch=epoch, path=str(path)))
        self.account = enrol(self.database, "anna")
        self.config = Config(database=self.database, keys=files, quota=quota)
        self.app = self.start()

    def start(self) -> asgi.App:
        return create_app(self.config, log=EventLog(self.lines.append), clock=lambda: self.now)

    def headers(self, **changes: str | None) -> dict[str, str]:
        fields: dict[str, str | None] = {
            "authorization": f"Bearer {self.account}",
            "content-type": "application/private-token-request",
            "accept": "application/private-token-response",
        }
        fields |= {name.replace("_", "-"): value for name, value in changes.items()}
        return {name: value for name, value in fields.items() if value is not None}

    def post(self, body: bytes | list[bytes], **changes: str | None) -> asgi.Answer:
        headers = self.headers(**changes)
        return asyncio.run(asgi.fetch(self.app, "POST", "/token-request", headers=headers, body=body))

    def get(self, path: str) -> asgi.Answer:
        return asyncio.run(asgi.fetch(self.app, "GET", path))

    def request(self, epoch: int = TODAY) -> bytes:
        return begin(self.keys[epoch], token_kit.CHALLENGE)[0]


@cache
def _load(pem: bytes) -> tuple[BlindSigner, TokenKey]:
    number = next(number for number in range(TODAY - 1, TODAY + 3) if token_kit.pem(number) == pem)
    return token_kit.signer(number), token_kit.key(number)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    # Reading a key checks its primes, 50 ms each: here once a run, with real files in the other tests.
    monkeypatch.setattr(issuer, "load_token_key", lambda path: _load(Path(path).read_bytes()))
    return Office(tmp_path)


def code(answer: asgi.Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body)
    assert list(body) == ["code"]
    return str(body["code"])


def test_a_token_is_issued(office: Office) -> None:
    request, pending = begin(office.keys[TODAY], token_kit.CHALLENGE)
    answer = office.post(request)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/private-token-response"
    assert answer.headers["content-length"] == "256"
    assert answer.headers["cache-control"] == "no-store"
    verify_token(pending.finish(answer.body), office.keys[TODAY], token_kit.CHALLENGE)


def test_a_body_may_come_in_pieces(office: Office) -> None:
    request = office.request()
    assert office.post([request[:1], request[1:200], b"", request[200:]]).status == 200


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "A" * 43, "Bearer " + "A" * 44])  # fmt: skip
def test_no_account_no_token(office: Office, value: str | None) -> None:
    answer = office.post(office.request(), authorization=value)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert code(answer) == "refused.account"


def test_two_authorizations_are_none(office: Office) -> None:
    async def run() -> asgi.Answer:
        raw = [(name.encode(), value.encode()) for name, value in office.headers().items()]
        raw.append((b"authorization", f"Bearer {office.account}".encode()))
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": office.request()}

        async def send(message: object) -> None:
            sent.append(message)  # type: ignore[arg-type]

        scope = {"type": "http", "method": "POST", "path": "/token-request", "headers": raw}
        await office.app(scope, receive, send)
        return asgi._answer(sent)  # type: ignore[arg-type]

    assert asyncio.run(run()).status == 401


@pytest.mark.parametrize("kind", [None, "", "application/json", "application/private-token-request; a=b"])
def test_another_media_type(office: Office, kind: str | None) -> None:
    answer = office.post(office.request(), content_type=kind)
    assert answer.status == 415
    assert code(answer) == "peer.media-type"


def test_requests_that_are_refused_as_rfc_9578_asks(office: Office) -> None:
    request = office.request()
    other = next(
        number for number in range(256) if number not in {key.truncated_id for key in office.keys.values()}
    )
    too_large = (2**2048 - 1).to_bytes(256, "big")
    refused = {
        b"": "peer.decode",
        request[:-1]: "peer.decode",
        b"\x00\x01" + request[2:]: "peer.decode",
        request + b"x": "peer.limit",
        bytes([0, 2, other]) + request[3:]: "token.key",
        request[:3] + too_large: "peer.decode",
    }
    for body, wanted in refused.items():
        answer = office.post(body)
        assert (answer.status, code(answer)) == (422, wanted)


def test_a_body_without_end_is_cut_off(office: Office) -> None:
    answer = office.post([bytes(200)] * 1000)
    assert (answer.status, code(answer)) == (422, "peer.limit")


@pytest.mark.parametrize(
    ("now", "signed"),
    [
        (TODAY * EPOCH_SECONDS, {TODAY - 1, TODAY, TODAY + 1}),
        (TODAY * EPOCH_SECONDS + 3599, {TODAY - 1, TODAY, TODAY + 1}),
        (TODAY * EPOCH_SECONDS + 3600, {TODAY, TODAY + 1}),
        ((TODAY + 1) * EPOCH_SECONDS - 1, {TODAY, TODAY + 1}),
    ],
)
def test_keys_sign_in_their_days_only(office: Office, now: int, signed: set[int]) -> None:
    office.now = now
    answers = {epoch: office.post(office.request(epoch)).status for epoch in office.keys}
    assert answers == {epoch: 200 if epoch in signed else 422 for epoch in office.keys}
    keys = json.loads(office.get(DIRECTORY).body)["token-keys"]
    assert {base64.urlsafe_b64decode(key["token-key"]) for key in keys} == {
        office.keys[e].spki for e in signed
    }


def test_the_directory(office: Office) -> None:
    answer = office.get(DIRECTORY)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/private-token-issuer-directory"
    assert answer.headers["cache-control"] == f"max-age={EPOCH_SECONDS // 2}"
    body = json.loads(answer.body)
    assert body["issuer-request-uri"] == "/token-request"
    assert [key["token-type"] for key in body["token-keys"]] == [2, 2]
    # The preferred key, today's, comes first (RFC 9578 section 4).
    assert TokenKey.parse(base64.urlsafe_b64decode(body["token-keys"][0]["token-key"])) == office.keys[TODAY]


def test_the_quota_holds_for_the_day_and_across_restarts(office: Office) -> None:
    for _ in range(3):
        assert office.post(office.request()).status == 200
    asyncio.run(asgi.shutdown(office.app))
    office.app = office.start()
    for _ in range(2):
        assert office.post(office.request()).status == 200
    answer = office.post(office.request())
    assert (answer.status, code(answer)) == (429, "quota")
    assert answer.headers["retry-after"] == str(EPOCH_SECONDS // 2)
    office.now += EPOCH_SECONDS // 2
    assert office.post(office.request(TODAY + 1)).status == 200


def test_accounts_do_not_share_a_quota(tmp_path: Path) -> None:
    office = Office(tmp_path, quota=1)
    assert office.post(office.request()).status == 200
    assert office.post(office.request()).status == 429
    office.account = enrol(office.database, "ben")
    assert office.post(office.request()).status == 200


def test_the_quota_holds_against_requests_at_once_and_two_issuers(tmp_path: Path) -> None:
    office = Office(tmp_path, quota=10)
    apps = [office.app, office.start()]
    request = office.request()

    async def run() -> list[int]:
        posts = [
            asgi.fetch(app, "POST", "/token-request", headers=office.headers(), body=request)
            for app in apps * 10
        ]
        return [answer.status for answer in await asyncio.gather(*posts)]

    statuses = asyncio.run(run())
    assert statuses.count(200) == 10
    assert statuses.count(429) == 10


def test_a_removed_account_is_refused_and_keeps_its_count(office: Office) -> None:
    assert office.post(office.request()).status == 200
    accounts = Accounts(office.database)
    accounts.remove("anna")
    assert office.post(office.request()).status == 401
    office.account = accounts.enrol("anna")
    statuses = [office.post(office.request()).status for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]


def test_the_store_holds_no_key_no_token_and_no_time(office: Office) -> None:
    request = office.request()
    answer = office.post(request)
    asyncio.run(asgi.shutdown(office.app))
    content = b"".join(path.read_bytes() for path in Path(office.database).parent.glob("accounts.db*"))
    assert b"anna" in content, "the search works"
    for secret in (office.account.encode(), TokenRequest.decode(request).blinded[:16], answer.body[:16]):
        assert secret not in content
    rows = sqlite3.connect(office.database).execute("SELECT * FROM issued").fetchall()
    assert rows == [("anna", TODAY, 1)]


def test_old_counts_are_forgotten(office: Office) -> None:
    office.post(office.request())
    office.now += 2 * EPOCH_SECONDS
    office.post(office.request(TODAY + 2))
    rows = "SELECT day FROM issued ORDER BY day"
    connection = sqlite3.connect(office.database)
    assert connection.execute(rows).fetchall() == [(TODAY,), (TODAY + 2,)]
    connection.close()
    accounts = Accounts(office.database)
    accounts.forget(TODAY + 1)
    assert accounts._connection.execute(rows).fetchall() == [(TODAY + 2,)]


def test_the_log_counts_and_says_no_more(office: Office) -> None:
    office.post(office.request())
    office.post(office.request())
    office.post(b"")
    office.post(office.request(), authorization=None)
    assert office.lines == [], "no line a request"
    office.now += 3600
    office.post(office.request())
    asyncio.run(asgi.shutdown(office.app))
    first, last = (json.loads(line) for line in office.lines)
    assert first == {
        "event": "TokensIssued", "issued": 2, "refused_account": 1, "refused_quota": 0, "refused_request": 1, "failed": 0,
    }  # fmt: skip
    assert last["issued"] == 1


def test_a_store_that_fails_gives_no_token(office: Office) -> None:
    office.app._accounts._accounts._connection.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]
    answer = office.post(office.request())
    assert (answer.status, code(answer)) == (503, "disk")


def test_a_fault_in_signing_gives_no_token(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.edge.rawrsa.RawKey.private", lambda *_: bytes(256))
    answer = office.post(office.request())
    assert (answer.status, code(answer)) == (503, "issuer.fault")


def test_a_client_that_goes_away_gets_nothing_and_costs_nothing(office: Office) -> None:
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in office.headers().items()]
    scope = {"type": "http", "method": "POST", "path": "/token-request", "headers": raw}
    asyncio.run(office.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent == []
    assert [office.post(office.request()).status for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 204),
        ("GET", "/token-request", 404),
        ("POST", DIRECTORY, 404),
        ("GET", "/", 404),
        ("GET", "/../etc/passwd", 404),
    ],
)
def test_other_resources(office: Office, method: str, path: str, status: int) -> None:
    answer = asyncio.run(asgi.fetch(office.app, method, path))
    assert (answer.status, answer.body) == (status, b"")


def _no_keys(config: Config) -> Config:
    return Config(database=config.database, keys=[], quota=1)


def _twice_one_epoch(config: Config) -> Config:
    return Config(database=config.database, keys=[*config.keys, config.keys[0]], quota=1)


def _twice_one_key(config: Config) -> Config:
    again = KeyFile(epoch=1, path=config.keys[0].path)
    return Config(database=config.database, keys=[*config.keys, again], quota=1)


def _no_quota(config: Config) -> Config:
    return Config(database=config.database, keys=config.keys, quota=0)


@pytest.mark.parametrize("change", [_no_keys, _twice_one_epoch, _twice_one_key, _no_quota])
def test_configurations_that_are_refused(office: Office, change: Callable[[Config], Config]) -> None:
    with pytest.raises(ConfigError):
        create_app(change(office.config), log=EventLog(office.lines.append))


@pytest.mark.parametrize("account", ["", "a" * 65, "an na", "ann\n", "änna"])
def test_account_names_outside_the_grammar(office: Office, account: str) -> None:
    with pytest.raises(UsageError):
        enrol(office.database, account)


def test_an_account_is_enrolled_once(office: Office) -> None:
    with pytest.raises(UsageError, match="exists"):
        enrol(office.database, "anna")


def test_where_old_counts_cannot_be_forgotten_tokens_are_issued_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(_: Accounts, before: int) -> None:
        tried.append(before)
        raise StoreError("it cannot delete")

    monkeypatch.setattr(Accounts, "forget", fail)
    assert [office.post(office.request()).status for _ in range(2)] == [200, 200]
    assert len(tried) == 2


def test_what_a_stranger_asks_for_is_not_read(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: bytes) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(TokenRequest, "decode", read)
    office.account = "A" * 43
    assert office.post(bytes(259)).status == 401

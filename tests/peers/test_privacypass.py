"""Tokens against @cloudflare/privacypass-ts 0.8.1, both ways."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asgi
import token_kit
from sottovoce.core.challenges import challenge_value, parse_challenges
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    Token,
    TokenChallenge,
    TokenKey,
    TokenSignatureError,
    authorization_value,
    begin,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.issuer import Config, KeyFile, create_app, enrol

HERE = Path(__file__).parent
TODAY = 20000

pytestmark = pytest.mark.peer


class Peer:
    """The other implementation, in its own process."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if not node or not (HERE / "node_modules/@cloudflare/privacypass-ts").exists():
            pytest.skip("needs node and `npm ci` in tests/peers")
        self._process = subprocess.Popen(
            [node, HERE / "privacypass_peer.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, action: str, **values: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps({"do": action} | values) + "\n")
        stdin.flush()
        result: dict[str, Any] = json.loads(stdout.readline())
        return result

    def stop(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.stop()


def test_their_client_our_issuer_and_origin(peer: Peer, tmp_path: Path) -> None:
    key_file, database = tmp_path / "key.pem", str(tmp_path / "accounts.db")
    key_file.write_bytes(token_kit.pem())
    account = enrol(database, "peer")
    config = Config(database=database, keys=[KeyFile(epoch=TODAY, path=str(key_file))], quota=10)
    app = create_app(config, log=EventLog(lambda _: None), clock=lambda: float(TODAY * EPOCH_SECONDS))
    key, challenge = token_kit.key(), token_kit.CHALLENGE

    request = peer.ask("request", header=challenge_value(challenge, key).decode())["request"]
    headers = {"authorization": f"Bearer {account}", "content-type": "application/private-token-request"}
    answer = asyncio.run(
        asgi.fetch(app, "POST", "/token-request", headers=headers, body=bytes.fromhex(request))
    )
    assert answer.status == 200
    made = peer.ask("finalize", response=answer.body.hex())

    token = Token.decode(bytes.fromhex(made["token"]))
    assert parse_authorization(made["quoted"].encode()) == token
    assert parse_authorization(made["bare"].encode()) == token
    verify_token(token, key, challenge)


def test_their_client_refuses_what_our_issuer_did_not_sign(peer: Peer) -> None:
    header = challenge_value(token_kit.CHALLENGE, token_kit.key()).decode()
    request = bytes.fromhex(peer.ask("request", header=header)["request"])
    assert "error" in peer.ask("finalize", response=(bytes(1) + token_kit.answer(request)[1:]).hex())


def test_our_client_their_issuer_and_origin(peer: Peer) -> None:
    offer = peer.ask("offer", issuer="issuer.example", origin="service.example")
    (offered,) = parse_challenges(offer["header"].encode())
    challenge = TokenChallenge.decode(offered.challenge)
    assert challenge == token_kit.CHALLENGE
    assert offered.challenge.hex() == offer["challenge"]
    assert offered.max_age == 10
    key = TokenKey.parse(offered.token_key or b"")
    assert (key.spki.hex(), key.key_id.hex()) == (offer["key"], offer["keyId"])

    request, pending = begin(key, challenge)
    token = pending.finish(bytes.fromhex(peer.ask("issue", request=request.hex())["response"]))
    verify_token(token, key, challenge)
    assert peer.ask("redeem", header=authorization_value(token).decode()) == {"valid": True}


def test_their_origin_and_ours_refuse_the_same_token(peer: Peer) -> None:
    offer = peer.ask("offer", issuer="issuer.example", origin="service.example")
    key = TokenKey.parse(bytes.fromhex(offer["key"]))
    request, pending = begin(key, token_kit.CHALLENGE)
    token = pending.finish(bytes.fromhex(peer.ask("issue", request=request.hex())["response"]))
    encoded = bytearray(token.encode())
    encoded[-1] ^= 1
    changed = Token.decode(bytes(encoded))
    with pytest.raises(TokenSignatureError):
        verify_token(changed, key, token_kit.CHALLENGE)
    assert peer.ask("redeem", header=authorization_value(changed).decode()) != {"valid": True}

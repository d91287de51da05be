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
from sottovoce.core.genericbatch import begin_public_batch
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


def issued(folder: Path, request: str, kind: str) -> str:
    """What our issuer answers to a request of the media type `kind`."""
    key_file, database = folder / "key.pem", str(folder / "accounts.db")
    key_file.write_bytes(token_kit.pem())
    account = enrol(database, "peer")
    config = Config(database=database, keys=[KeyFile(epoch=TODAY, path=str(key_file))], quota=10)
    app = create_app(config, log=EventLog(lambda _: None), clock=lambda: float(TODAY * EPOCH_SECONDS))
    headers = {"authorization": f"Bearer {account}", "content-type": f"application/private-token-{kind}"}
    answer = asyncio.run(
        asgi.fetch(app, "POST", "/token-request", headers=headers, body=bytes.fromhex(request))
    )
    assert answer.status == 200
    return answer.body.hex()


def test_their_client_our_issuer_and_origin(peer: Peer, tmp_path: Path) -> None:
    key, challenge = token_kit.key(), token_kit.CHALLENGE
    request = peer.ask("request", header=challenge_value(challenge, key).decode())["request"]
    made = peer.ask("finalize", response=issued(tmp_path, request, "request"))

    token = Token.decode(bytes.fromhex(made["token"]))
    assert parse_authorization(made["quoted"].encode()) == token
    assert parse_authorization(made["bare"].encode()) == token
    verify_token(token, key, challenge)


def test_their_client_refuses_what_our_issuer_did_not_sign(peer: Peer) -> None:
    header = challenge_value(token_kit.CHALLENGE, token_kit.key()).decode()
    request = bytes.fromhex(peer.ask("request", header=header)["request"])
    answer = token_kit.answer(request)
    assert "error" in peer.ask("finalize", response=(answer[:-1] + bytes([answer[-1] ^ 1])).hex())


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


def test_several_requests_in_one_their_client_our_issuer(peer: Peer, tmp_path: Path) -> None:
    header = challenge_value(token_kit.CHALLENGE, token_kit.key()).decode()
    request = peer.ask("requests", header=header, count="3")["request"]
    made = peer.ask("finalizeAll", response=issued(tmp_path, request, "generic-batch-request"))
    tokens = [Token.decode(bytes.fromhex(token)) for token in made["tokens"]]
    assert len({token.nonce for token in tokens}) == 3
    for token in tokens:
        verify_token(token, token_kit.key(), token_kit.CHALLENGE)


def test_several_requests_in_one_our_client_their_issuer(peer: Peer) -> None:
    offer = peer.ask("offer", issuer="issuer.example", origin="service.example")
    key = TokenKey.parse(bytes.fromhex(offer["key"]))
    request, pending = begin_public_batch(key, token_kit.CHALLENGE, 3)
    tokens = pending.finish(bytes.fromhex(peer.ask("issueAll", request=request.hex())["response"]))
    for token in tokens:
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

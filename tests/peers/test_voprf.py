"""VOPRF on ristretto255 against @cloudflare/voprf-ts 1.0.0 and the Rust crate voprf 0.5.0, both ways, and tokens of type 5 in headers."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

import token_kit
from peers.javascript import JavaScript
from sottovoce.core import voprf
from sottovoce.core.challenges import OfferedChallenge, parse_challenges
from sottovoce.core.privatetokens import (
    BatchRequest,
    BatchResponse,
    PrivateTokenKey,
    PublicTokenKey,
    begin_batch,
    issue_batch,
)
from sottovoce.core.tokens import TokenSignatureError, authorization_value, parse_authorization, verify_token
from sottovoce.edge.admission import Admission

PROGRAM = Path(__file__).parent / "voprf_peer/target/release/voprf-peer"
INPUTS = [b"\0", b"Z" * 17, b"x" * 98]
TODAY, NOON = 20000, 20000 * 86400 + 43200.0

pytestmark = pytest.mark.peer


class Peer(Protocol):
    """The other implementation, in its own process."""

    def key(self, secret: bytes | None = None) -> bytes:
        """The public half of a secret key, or of a fresh one."""

    def blind(self, key: bytes, inputs: list[bytes]) -> list[bytes]: ...

    def evaluate(self, blinded: list[bytes]) -> tuple[list[bytes], bytes] | None: ...

    def finalize(self, key: bytes, evaluated: list[bytes], proof: bytes) -> list[bytes] | None: ...

    def output(self, inputs: list[bytes]) -> list[bytes]: ...

    def stop(self) -> None: ...


def _hex(values: list[bytes]) -> list[str]:
    return [value.hex() for value in values]


def _bytes(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


class TypeScript:
    """@cloudflare/voprf-ts, on @noble/curves."""

    def __init__(self) -> None:
        self._process = JavaScript("voprf_peer.mjs", "@cloudflare/voprf-ts", "@cloudflare/privacypass-ts")

    def ask(self, action: str, **values: object) -> dict[str, Any]:
        return self._process.ask(action, **values)

    def key(self, secret: bytes | None = None) -> bytes:
        return bytes.fromhex(self.ask("key", secret=secret.hex() if secret else None)["public"])

    def blind(self, key: bytes, inputs: list[bytes]) -> list[bytes]:
        return _bytes(self.ask("blind", key=key.hex(), inputs=_hex(inputs))["blinded"])

    def evaluate(self, blinded: list[bytes]) -> tuple[list[bytes], bytes] | None:
        result = self.ask("evaluate", blinded=_hex(blinded))
        return None if "error" in result else (_bytes(result["evaluated"]), bytes.fromhex(result["proof"]))

    def finalize(self, key: bytes, evaluated: list[bytes], proof: bytes) -> list[bytes] | None:
        result = self.ask("finalize", evaluated=_hex(evaluated), proof=proof.hex())
        return None if "error" in result else _bytes(result["outputs"])

    def output(self, inputs: list[bytes]) -> list[bytes]:
        return _bytes(self.ask("output", inputs=_hex(inputs))["outputs"])

    def stop(self) -> None:
        self._process.stop()


class Rust:
    """The crate voprf, on curve25519-dalek."""

    def __init__(self) -> None:
        if not PROGRAM.exists():
            pytest.skip("the Rust peer is not built: run `make peers` where cargo is")
        self._process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, verb: str, *values: bytes) -> list[bytes] | None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(" ".join([verb, *_hex(list(values))]) + "\n")
        stdin.flush()
        answer = stdout.readline().split()
        assert answer, "the peer is gone"
        return None if answer == ["error"] else _bytes(answer)

    def _must(self, verb: str, *values: bytes) -> list[bytes]:
        answer = self._ask(verb, *values)
        assert answer is not None
        return answer

    def key(self, secret: bytes | None = None) -> bytes:
        return self._must("key", *([secret] if secret else []))[0]

    def blind(self, key: bytes, inputs: list[bytes]) -> list[bytes]:
        return self._must("blind", *inputs)

    def evaluate(self, blinded: list[bytes]) -> tuple[list[bytes], bytes] | None:
        answer = self._ask("evaluate", *blinded)
        return (answer[:-1], answer[-1]) if answer else None

    def finalize(self, key: bytes, evaluated: list[bytes], proof: bytes) -> list[bytes] | None:
        return self._ask("finalize", key, proof, *evaluated)

    def output(self, inputs: list[bytes]) -> list[bytes]:
        return self._must("output", *inputs)

    def stop(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(params=[TypeScript, Rust])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    token_kit.need_sodium()
    peer: Peer = request.param()
    yield peer
    peer.stop()


def test_one_key_one_function(peer: Peer) -> None:
    key = voprf.SecretKey.generate()
    assert peer.key(key.secret_bytes()) == key.public.element
    assert peer.output(INPUTS) == [key.evaluate(data) for data in INPUTS]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_their_client_our_server(peer: Peer, count: int) -> None:
    key, inputs = voprf.SecretKey.generate(), INPUTS[:count]
    public = key.public.element
    evaluated, proof = key.evaluate_batch(peer.blind(public, inputs))
    assert peer.finalize(public, list(evaluated), proof) == [key.evaluate(data) for data in inputs]


def test_their_client_refuses_what_another_key_of_ours_evaluated(peer: Peer) -> None:
    key, other = voprf.SecretKey.generate(), voprf.SecretKey.generate()
    blinded = peer.blind(key.public.element, INPUTS)
    evaluated, proof = other.evaluate_batch(blinded)
    assert peer.finalize(key.public.element, list(evaluated), proof) is None
    honest, _ = key.evaluate_batch(blinded)
    assert peer.finalize(key.public.element, list(honest), proof) is None


@pytest.mark.parametrize("count", [1, 16])
def test_our_client_their_server(peer: Peer, count: int) -> None:
    """A batch of tokens of type 5, with their evaluation between our encodings."""
    secret = PrivateTokenKey.generate()
    key = PublicTokenKey(encoded=peer.key(secret.secret_bytes()))
    request, pending = begin_batch(key, token_kit.BATCH_CHALLENGE, count)
    answer = peer.evaluate(list(BatchRequest.decode(request).blinded))
    assert answer
    tokens = pending.finish(BatchResponse(evaluated=tuple(answer[0]), proof=answer[1]).encode())
    for token in tokens:
        verify_token(token, secret, token_kit.BATCH_CHALLENGE)
    assert [token.authenticator for token in tokens] == peer.output([t.authenticator_input for t in tokens])


def test_our_client_refuses_another_key_of_theirs(peer: Peer) -> None:
    key = PublicTokenKey(encoded=peer.key())
    peer.key()
    request, pending = begin_batch(key, token_kit.BATCH_CHALLENGE, 2)
    answer = peer.evaluate(list(BatchRequest.decode(request).blinded))
    assert answer
    with pytest.raises(TokenSignatureError):
        pending.finish(BatchResponse(evaluated=tuple(answer[0]), proof=answer[1]).encode())


def test_both_refuse_what_is_no_element(peer: Peer) -> None:
    peer.key()
    element = voprf.blind(b"x")[0]
    assert peer.evaluate([element]) is not None
    assert peer.evaluate([element, b"\xff" * 32]) is None


@pytest.fixture
def typescript() -> Iterator[TypeScript]:
    token_kit.need_sodium()
    peer = TypeScript()
    yield peer
    peer.stop()


def test_privacypass_ts_reads_our_challenges(typescript: TypeScript, tmp_path: Path) -> None:
    gate = Admission(
        {TODAY: token_kit.key()},
        token_kit.CHALLENGE,
        str(tmp_path / "spent.db"),
        batch_keys={TODAY: token_kit.batch_key()},
    )
    header = gate.challenge(NOON)
    asyncio.run(gate.close())
    offers = typescript.ask("offers", header=header.decode())["offers"]
    ours: tuple[OfferedChallenge, ...] = parse_challenges(header)
    assert [offer["type"] for offer in offers] == [2, 5]
    for offer, our in zip(offers, ours, strict=True):
        assert (offer["issuer"], offer["origins"]) == ("issuer.example", ["service.example"])
        assert (offer["challenge"], offer["key"]) == (our.challenge.hex(), (our.token_key or b"").hex())


def test_privacypass_ts_reads_our_tokens_and_we_theirs(typescript: TypeScript) -> None:
    key = token_kit.batch_key()
    request, pending = begin_batch(key.public, token_kit.BATCH_CHALLENGE, 1)
    (token,) = pending.finish(issue_batch(key, BatchRequest.decode(request)))
    read = typescript.ask("token", header=authorization_value(token).decode())
    assert (read["nonce"], read["digest"]) == (token.nonce.hex(), token.challenge_digest.hex())
    assert (read["keyId"], read["authenticator"]) == (token.key_id.hex(), token.authenticator.hex())
    assert read["again"] == token.encode().hex()
    assert parse_authorization(read["header"].encode()) == token
    changed = replace(token, nonce=bytes(32))
    with pytest.raises(TokenSignatureError):
        verify_token(changed, key, token_kit.BATCH_CHALLENGE)

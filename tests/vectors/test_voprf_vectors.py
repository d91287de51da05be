"""RFC 9497 vectors of ristretto255-SHA512 in mode VOPRF, and tokens of type 5, one by one and in batches.

Not for us: the other groups (among them all of `OPRFVectors-edgecases_swift-crypto.json`), the modes OPRF and POPRF, token type 1.
"""

import gzip
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import token_kit
from fixtures_dir import need
from sottovoce.core import voprf
from sottovoce.core.errors import DecodeError
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.privatetokens import (
    BatchRequest,
    BatchResponse,
    PrivateTokenKey,
    SingleRequest,
    SingleResponse,
    begin_batch,
    begin_single,
    issue_batch,
)
from sottovoce.core.tokens import Token, TokenChallenge, TokenKey, TokenRequest, begin, verify_token
from sottovoce.edge.rsa import BlindSigner

Vector = dict[str, Any]
SUITE, VOPRF_MODE = "ristretto255-SHA512", 1
# The Go vectors' names, and what they are called in those written in Rust.
NAMES = {"sk_s": "skS", "pk_s": "pkS"}


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


def _load(name: str) -> list[Vector]:
    data = need(name).read_bytes()
    vectors: list[Vector] = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
    assert vectors, "an empty file tests nothing"
    return [{NAMES.get(key, key): value for key, value in vector.items()} for vector in vectors]


def _list(vector: Vector, name: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in vector[name].split(",")]


@pytest.mark.parametrize("name", ["oprf/rfc9497_allVectors.json", "oprf/rfc9497_circl.json.gz"])
def test_rfc_9497_appendix_a_1_2(name: str) -> None:
    (suite,) = [s for s in _load(name) if (s["identifier"], s["mode"]) == (SUITE, VOPRF_MODE)]
    key = voprf.SecretKey.derive(bytes.fromhex(suite["seed"]), bytes.fromhex(suite["keyInfo"]))
    assert key.secret_bytes().hex() == suite["skSm"]
    assert key.public.element.hex() == suite["pkSm"]
    assert [vector["Batch"] for vector in suite["vectors"]] == [1, 1, 2]
    for vector in suite["vectors"]:
        _check_rfc_9497(key, vector)


def _check_rfc_9497(key: voprf.SecretKey, vector: Vector) -> None:
    inputs, blinds = _list(vector, "Input"), _list(vector, "Blind")
    blinded = [voprf.blind(data, factor=blind)[0] for data, blind in zip(inputs, blinds, strict=True)]
    assert blinded == _list(vector, "BlindedElement")
    evaluated, proof = key.evaluate_batch(blinded, nonce=bytes.fromhex(vector["Proof"]["r"]))
    assert list(evaluated) == _list(vector, "EvaluationElement")
    assert proof.hex() == vector["Proof"]["proof"]
    key.public.verify_batch(blinded, evaluated, proof)
    outputs = [voprf.finalize(*each) for each in zip(inputs, blinds, evaluated, strict=True)]
    assert outputs == _list(vector, "Output")
    assert [key.evaluate(data) for data in inputs] == outputs


@pytest.mark.parametrize("origin", ["go", "rs"])
def test_type_5_one_by_one(origin: str) -> None:
    vectors = _load(f"privacypass/issuance/type5_private_ristretto255_{origin}.json")
    for vector in vectors:
        _check_single({name: bytes.fromhex(value) for name, value in vector.items()})


def _check_single(vector: dict[str, bytes]) -> None:
    key = PrivateTokenKey(vector["skS"])
    assert key.public.encoded == vector["pkS"]
    challenge = TokenChallenge.decode(vector["token_challenge"])
    request, pending = begin_single(key.public, challenge, nonce=vector["nonce"], blind=vector["blind"])
    assert request == vector["token_request"]
    assert pending.finish_single(vector["token_response"]).encode() == vector["token"]
    verify_token(Token.decode(vector["token"]), key, challenge)
    # The proof holds a random number that the vector does not tell; the element is what it must be.
    theirs = SingleResponse.decode(vector["token_response"])
    assert theirs.encode() == vector["token_response"]
    (evaluated,), _ = key.issue([SingleRequest.decode(request).blinded])
    assert evaluated == theirs.evaluated


@pytest.mark.parametrize("origin", ["go", "rs"])
def test_type_5_in_batches(origin: str) -> None:
    vectors = _load(f"privacypass/batched/amortized_ristretto255_{origin}.json")
    assert max(len(vector["nonces"]) for vector in vectors) > 1, "the file has batches"
    for vector in vectors:
        _check_batch(vector)


def _check_batch(vector: Vector) -> None:
    key = PrivateTokenKey(bytes.fromhex(vector["skS"]))
    assert key.public.encoded.hex() == vector["pkS"]
    challenge = TokenChallenge.decode(bytes.fromhex(vector["token_challenge"]))
    nonces, blinds = ([bytes.fromhex(text) for text in vector[name]] for name in ("nonces", "blinds"))
    request, pending = begin_batch(key.public, challenge, len(nonces), nonces=nonces, blinds=blinds)
    assert request.hex() == vector["token_request"]
    response = bytes.fromhex(vector["token_response"])
    assert BatchResponse.decode(response).encode() == response
    tokens = pending.finish(response)
    assert [token.encode().hex() for token in tokens] == vector["tokens"]
    for token in tokens:
        verify_token(token, key, challenge)
    ours = BatchResponse.decode(issue_batch(key, BatchRequest.decode(request)))
    assert ours.evaluated == BatchResponse.decode(response).evaluated


@pytest.mark.parametrize(
    ("name", "count", "whole"),
    [
        ("generic_ts", 4, 0),
        ("generic_batched_tokens_v6_go", 4, 2),
        ("generic_batched_tokens_v6_rs", 2, 0),
    ],
)
def test_several_requests_in_one(name: str, count: int, whole: int) -> None:
    """Type 1, of which most of these batches hold some, is not spoken here; nor is the form before draft 4, with a length for each request.

    The tokens of type 2 are checked in all of them.
    """
    tokens = read = 0
    for vector in _load(f"privacypass/batched/{name}.json"):
        types = [int(one.get("type") or one["token_type"], 16) for one in vector["issuance"]]
        request, response = (bytes.fromhex(vector[part]) for part in ("token_request", "token_response"))
        of_type_2 = [one for one in vector["issuance"] if int(one.get("type") or one["token_type"], 16) == 2]
        made = [_check_generic(one, request, response) for one in of_type_2]
        tokens += len(made)
        if set(types) != {2} or name == "generic_ts":
            with pytest.raises(DecodeError):
                GenericBatchRequest.decode(request)
            continue
        read += 1
        assert GenericBatchRequest(requests=tuple(asked for asked, _ in made)).encode() == request
        assert GenericBatchRequest.decode(request).encode() == request
        answers = tuple((2, answer) for _, answer in made)
        assert GenericBatchResponse(responses=answers).encode() == response
        assert GenericBatchResponse.decode(response).responses == answers
    assert (tokens, read) == (count, whole)


def _check_generic(one: Vector, requests: bytes, responses: bytes) -> tuple[bytes, bytes]:
    """One token of type 2: its request and the issuer's answer."""
    key = TokenKey.parse(bytes.fromhex(one["pkS"]))
    challenge = TokenChallenge.decode(bytes.fromhex(one["token_challenge"]))
    request, pending = begin(
        key,
        challenge,
        nonce=bytes.fromhex(one["nonce"]),
        salt=bytes.fromhex(one["salt"]),
        factor=int(one["blind"], 16),
    )
    assert request in requests
    private = load_pem_private_key(bytes.fromhex(one["skS"]), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    response = BlindSigner(private).blind_sign(TokenRequest.decode(request).blinded)
    assert response in responses
    token = pending.finish(response)
    assert token.encode().hex() == one["token"]
    verify_token(token, key, challenge)
    return request, response

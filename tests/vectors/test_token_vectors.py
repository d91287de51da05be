"""RFC 9474, RFC 9577 and RFC 9578 vectors, from the RFCs' authors and from other implementations."""

import gzip
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from fixtures_dir import need
from sottovoce.core.blindrsa import blind
from sottovoce.core.challenges import parse_challenges
from sottovoce.core.errors import CryptoError, DecodeError
from sottovoce.core.tokens import (
    Token,
    TokenChallenge,
    TokenKey,
    TokenRequest,
    authorization_value,
    begin,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.rsa import BlindSigner

Vector = dict[str, Any]


def _load(name: str) -> list[Vector]:
    data = need(name).read_bytes()
    vectors: list[Vector] = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
    assert vectors, "an empty file tests nothing"
    return vectors


def _number(text: str) -> int:
    return int(text.removeprefix("0x"), 16)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _signer(vector: Vector) -> BlindSigner:
    p, q, n, e, d = (_number(vector[name]) for name in "pqned")
    numbers = rsa.RSAPrivateNumbers(
        p=p, q=q, d=d, dmp1=d % (p - 1), dmq1=d % (q - 1), iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(e, n),
    )  # fmt: skip
    return BlindSigner(numbers.private_key())


@pytest.mark.parametrize("name", ["blindrsa/rfc9474_circl.json.gz", "blindrsa/rfc9474_swift-crypto.json"])
def test_rfc_9474_appendix_a(name: str) -> None:
    vectors = _load(name)
    assert [vector["name"] for vector in vectors] == [
        "RSABSSA-SHA384-PSS-Randomized",
        "RSABSSA-SHA384-PSSZERO-Randomized",
        "RSABSSA-SHA384-PSS-Deterministic",
        "RSABSSA-SHA384-PSSZERO-Deterministic",
    ]
    for vector in vectors:
        _check_rfc_9474(vector)


def _check_rfc_9474(vector: Vector) -> None:
    signer = _signer(vector)
    message = _bytes(vector.get("prepared_msg") or vector["input_msg"])
    signature = _bytes(vector["sig"])
    # The issuer's half is the same in all variants.
    assert signer.blind_sign(_bytes(vector["blinded_msg"])) == _bytes(vector["blind_sig"])
    if "PSSZERO" in vector["name"]:
        with pytest.raises(CryptoError):
            signer.public.verify(message, signature)
        return
    factor = pow(_number(vector["inv"]), -1, signer.public.modulus)
    blinded, blinding = blind(signer.public, message, salt=_bytes(vector["salt"]), factor=factor)
    assert blinded == _bytes(vector["blinded_msg"])
    assert blinding.finalize(_bytes(vector["blind_sig"])) == signature
    signer.public.verify(message, signature)


@pytest.mark.parametrize("origin", ["go", "rust"])
def test_rfc_9578_type_2(origin: str) -> None:
    vectors = _load(f"privacypass/issuance/type2_pub_verif_rfc9578.{origin}.json")
    for vector in vectors:
        _check_type_2({name: bytes.fromhex(value) for name, value in vector.items()})


def _check_type_2(vector: dict[str, bytes]) -> None:
    key = TokenKey.parse(vector["pkS"])
    assert key.spki == vector["pkS"]
    challenge = TokenChallenge.decode(vector["token_challenge"])
    factor = int.from_bytes(vector["blind"], "big")
    request, pending = begin(key, challenge, nonce=vector["nonce"], salt=vector["salt"], factor=factor)
    assert request == vector["token_request"]
    token = pending.finish(vector["token_response"])
    assert token.encode() == vector["token"]
    verify_token(token, key, challenge)
    assert parse_authorization(authorization_value(token)) == token


@pytest.mark.parametrize("origin", ["go", "rust"])
def test_rfc_9578_type_2_issuer(origin: str) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - one use

    for vector in _load(f"privacypass/issuance/type2_pub_verif_rfc9578.{origin}.json"):
        private = load_pem_private_key(bytes.fromhex(vector["skS"]), None)
        assert isinstance(private, rsa.RSAPrivateKey)
        signer = BlindSigner(private)
        assert TokenKey(rsa=signer.public).spki.hex() == vector["pkS"]
        request = TokenRequest.decode(bytes.fromhex(vector["token_request"]))
        assert signer.blind_sign(request.blinded).hex() == vector["token_response"]


@pytest.mark.parametrize("name", ["auth_scheme_header_complicated", "auth_scheme_header_v14"])
def test_rfc_9577_appendix_a_header(name: str) -> None:
    for vector in _load(f"privacypass/auth-scheme/{name}.json"):
        offers = parse_challenges(vector["WWW-Authenticate"].encode())
        assert len(offers) == sum(field.startswith("token-challenge-") for field in vector)
        for number, offer in enumerate(offers):
            challenge = TokenChallenge.decode(offer.challenge)
            assert challenge.token_type == vector[f"token-type-{number}"]
            assert offer.challenge.hex() == vector[f"token-challenge-{number}"]
            assert (offer.token_key or b"").hex() == vector[f"token-key-{number}"]
            assert offer.max_age == vector[f"max-age-{number}"]


@pytest.mark.parametrize(
    "name", ["auth_scheme_token_v14", "token-test-vectors_pat-go", "auth_scheme_token_with_extensions_v1"]
)
def test_rfc_9577_appendix_a_token(name: str) -> None:
    for vector in _load(f"privacypass/auth-scheme/{name}.json"):
        token_type = int(vector["token_type"], 16)
        challenge = TokenChallenge(
            issuer_name=_bytes(vector["issuer_name"]),
            origin_info=_bytes(vector["origin_info"]),
            redemption_context=_bytes(vector["redemption_context"]),
            token_type=token_type,
        )
        wanted = _bytes(vector["token_authenticator_input"])
        nonce, key_id = _bytes(vector["nonce"]), _bytes(vector["token_key_id"])
        assert wanted == token_type.to_bytes(2, "big") + nonce + challenge.digest() + key_id
        if token_type == 2:
            token = Token.decode(wanted + bytes(256))
            assert token.authenticator_input == wanted
        else:
            with pytest.raises(DecodeError, match="type 2"):
                Token.decode(wanted + bytes(256))


@pytest.mark.parametrize(
    "name",
    ["type1_priv_verif_rfc9578.go", "typeDA7A_pub_verif_with_metadata_v3"],
)
def test_tokens_of_other_types_are_refused(name: str) -> None:
    for vector in _load(f"privacypass/issuance/{name}.json"):
        with pytest.raises(DecodeError):
            Token.decode(bytes.fromhex(vector["token"]))
        with pytest.raises(DecodeError):
            TokenRequest.decode(bytes.fromhex(vector["token_request"]))

"""RFC 9180's vectors, draft-ietf-hpke-pq's, X-Wing's; origin in ../shared/fixtures/PROVENANCE.tsv."""

import gzip
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fixtures_dir import need
from sottovoce.core import hpke

KEMS, AEADS = (
    {hpke.X25519, hpke.MLKEM768_X25519},
    {hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305},
)


def supported(vector: Any) -> bool:
    return (
        int(vector["mode"]) == 0
        and int(vector["kem_id"]) in KEMS
        and int(vector["kdf_id"]) == hpke.HKDF_SHA256
        and int(vector["aead_id"]) in AEADS
    )


def rfc9180() -> list[Any]:
    with gzip.open(need("hpke/vectors_rfc9180_5f503c5.json.gz")) as file:
        return [vector for vector in json.load(file) if supported(vector)]


def pq() -> list[Any]:
    return [v for v in json.loads(need("hpke/hpke-pq-test-vectors.json").read_bytes()) if supported(v)]


def check(vector: Any, context: Any, *, seals: bool) -> None:
    for item in vector["encryptions"]:
        aad, plaintext, ciphertext = (bytes.fromhex(item[name]) for name in ("aad", "pt", "ct"))
        if seals:
            assert context.seal(aad, plaintext) == ciphertext
        else:
            assert context.open(aad, ciphertext) == plaintext
    for item in vector["exports"]:
        wanted = bytes.fromhex(item["exported_value"])
        assert context.export(bytes.fromhex(item["exporter_context"]), int(item["L"])) == wanted


def suite(vector: Any) -> hpke.Suite:
    return hpke.Suite(int(vector["kem_id"]), int(vector["kdf_id"]), int(vector["aead_id"]))


def with_plaintexts(vector: Any) -> Any:
    for item in vector["encryptions"]:
        item.setdefault("pt", item.get("plaintext", vector.get("pt", "")))
    return vector


def test_rfc_9180_both_sides() -> None:
    vectors = rfc9180()
    assert len(vectors) == 3
    for vector in map(with_plaintexts, vectors):
        info = bytes.fromhex(vector["info"])
        ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skEm"]))
        enc, sender = hpke.setup_sender(
            suite(vector), bytes.fromhex(vector["pkRm"]), info, unsafe_ephemeral_for_vectors=ephemeral
        )
        assert enc.hex() == vector["enc"]
        check(vector, sender, seals=True)
        key = hpke.PrivateKey.from_bytes(hpke.X25519, bytes.fromhex(vector["skRm"]))
        assert key.public_key().hex() == vector["pkRm"]
        check(vector, hpke.setup_recipient(suite(vector), key, enc, info), seals=False)


def test_post_quantum_recipient() -> None:
    vectors = pq()
    assert vectors
    for vector in map(with_plaintexts, vectors):
        key = hpke.PrivateKey.from_bytes(hpke.MLKEM768_X25519, bytes.fromhex(vector["skRm"]))
        assert key.public_key().hex() == vector["pkRm"]
        enc = bytes.fromhex(vector["enc"])
        assert key.decapsulate(enc).hex() == vector["shared_secret"]
        check(
            vector, hpke.setup_recipient(suite(vector), key, enc, bytes.fromhex(vector["info"])), seals=False
        )


def test_x_wing() -> None:
    for vector in json.loads(need("hpke/xwing-test-vectors.json").read_bytes()):
        key = hpke.PrivateKey.from_bytes(hpke.MLKEM768_X25519, bytes.fromhex(vector["sk"]))
        assert key.public_key().hex() == vector["pk"]
        assert key.decapsulate(bytes.fromhex(vector["ct"])).hex() == vector["ss"]


@pytest.mark.parametrize("aead", sorted(AEADS))
def test_another_implementation_both_ways(aead: int) -> None:
    pyhpke = pytest.importorskip("pyhpke")
    theirs = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId(aead)
    )
    ours = hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, aead)
    key = hpke.generate_private_key(hpke.X25519)
    enc, sender = theirs.create_sender_context(
        theirs.kem.deserialize_public_key(key.public_key()), info=b"info"
    )
    recipient = hpke.setup_recipient(ours, key, enc, b"info")
    assert recipient.open(b"aad", sender.seal(b"hello", aad=b"aad")) == b"hello"
    assert recipient.export(b"label", 32) == sender.export(b"label", 32)
    enc, own = hpke.setup_sender(ours, key.public_key(), b"info")
    their_recipient = theirs.create_recipient_context(
        enc, theirs.kem.deserialize_private_key(key.private_bytes()), info=b"info"
    )
    assert their_recipient.open(own.seal(b"aad", b"hello"), aad=b"aad") == b"hello"

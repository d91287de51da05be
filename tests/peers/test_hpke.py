"""HPKE against @hpke/core 1.9.0 with @hpke/hybridkem-x-wing 0.7.0, and against pyhpke, both ways."""

from collections.abc import Iterator

import pytest

from peers.javascript import JavaScript
from sottovoce.core import hpke

INFO, LABEL = b"info of both", b"an exported label"
MESSAGES = ((b"aad", b"first"), (b"", b""), (b"final", bytes(range(256)) * 8))
KEMS = pytest.mark.parametrize("kem", [hpke.X25519, hpke.MLKEM768_X25519], ids=["x25519", "x-wing"])
AEADS = pytest.mark.parametrize(
    "aead", [hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305], ids=["aes128", "aes256", "chacha20"]
)


@pytest.fixture(scope="module")
def peer() -> Iterator[JavaScript]:
    peer = JavaScript("hpke_peer.mjs", "@hpke/core", "@hpke/chacha20poly1305", "@hpke/hybridkem-x-wing")
    yield peer
    peer.stop()


def hexed(messages: object) -> object:
    assert isinstance(messages, list | tuple)
    return [[part.hex() for part in message] for message in messages]


@pytest.mark.peer
@KEMS
@AEADS
def test_they_seal_and_we_open(peer: JavaScript, kem: int, aead: int) -> None:
    key = hpke.generate_private_key(kem)
    theirs = peer.ask(
        "seal",
        kem=kem,
        aead=aead,
        public=key.public_key().hex(),
        info=INFO.hex(),
        label=LABEL.hex(),
        messages=hexed(MESSAGES),
    )
    suite = hpke.Suite(kem, hpke.HKDF_SHA256, aead)
    recipient = hpke.setup_recipient(suite, key, bytes.fromhex(theirs["enc"]), INFO)
    for (aad, plaintext), sealed in zip(MESSAGES, theirs["sealed"], strict=True):
        assert recipient.open(aad, bytes.fromhex(sealed)) == plaintext
    assert recipient.export(LABEL, 32).hex() == theirs["exported"]


@pytest.mark.peer
@KEMS
@AEADS
def test_we_seal_and_they_open(peer: JavaScript, kem: int, aead: int) -> None:
    pair = peer.ask("generate", kem=kem, aead=aead)
    public = bytes.fromhex(pair["public"])
    assert hpke.PrivateKey.from_bytes(kem, bytes.fromhex(pair["private"])).public_key() == public
    enc, sender = hpke.setup_sender(hpke.Suite(kem, hpke.HKDF_SHA256, aead), public, INFO)
    theirs = peer.ask(
        "open",
        kem=kem,
        aead=aead,
        private=pair["private"],
        enc=enc.hex(),
        info=INFO.hex(),
        label=LABEL.hex(),
        messages=hexed([(aad, sender.seal(aad, plaintext)) for aad, plaintext in MESSAGES]),
    )
    assert theirs["opened"] == [plaintext.hex() for _, plaintext in MESSAGES]
    assert sender.export(LABEL, 32).hex() == theirs["exported"]


@pytest.mark.peer
@KEMS
def test_both_refuse_a_changed_encapsulation(peer: JavaScript, kem: int) -> None:
    pair = peer.ask("generate", kem=kem, aead=hpke.AES_128_GCM)
    suite = hpke.Suite(kem, hpke.HKDF_SHA256, hpke.AES_128_GCM)
    enc, sender = hpke.setup_sender(suite, bytes.fromhex(pair["public"]), INFO)
    changed, sealed = bytes([enc[0] ^ 1]) + enc[1:], sender.seal(b"", b"x")
    theirs = peer.ask(
        "open",
        kem=kem,
        aead=hpke.AES_128_GCM,
        private=pair["private"],
        enc=changed.hex(),
        info=INFO.hex(),
        label="",
        messages=hexed([(b"", sealed)]),
    )
    assert "error" in theirs
    key = hpke.PrivateKey.from_bytes(kem, bytes.fromhex(pair["private"]))
    with pytest.raises(hpke.OpenError):
        hpke.setup_recipient(suite, key, changed, INFO).open(b"", sealed)


@AEADS
def test_pyhpke_both_ways(aead: int) -> None:
    pyhpke = pytest.importorskip("pyhpke")
    theirs = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId(aead)
    )
    ours = hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, aead)
    key = hpke.generate_private_key(hpke.X25519)
    enc, sender = theirs.create_sender_context(theirs.kem.deserialize_public_key(key.public_key()), info=INFO)
    recipient = hpke.setup_recipient(ours, key, enc, INFO)
    for aad, plaintext in MESSAGES:
        assert recipient.open(aad, sender.seal(plaintext, aad=aad)) == plaintext
    assert recipient.export(LABEL, 100) == sender.export(LABEL, 100)

    enc, own = hpke.setup_sender(ours, key.public_key(), INFO)
    other = theirs.create_recipient_context(
        enc, theirs.kem.deserialize_private_key(key.private_bytes()), info=INFO
    )
    for aad, plaintext in MESSAGES:
        assert other.open(own.seal(aad, plaintext), aad=aad) == plaintext
    assert own.export(LABEL, 100) == other.export(LABEL, 100)

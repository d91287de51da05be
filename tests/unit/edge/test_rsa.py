import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import token_kit
from sottovoce.core.errors import ConfigError, DecodeError
from sottovoce.core.tokens import TokenKey
from sottovoce.edge import rawrsa
from sottovoce.edge.rawrsa import OpensslMissingError, RawKey
from sottovoce.edge.rsa import BlindSigner, SigningFaultError, generate_token_key, load_token_key


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_a_key_is_written_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    spki = generate_token_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    signer, key = load_token_key(path)
    assert key == TokenKey.parse(spki)
    assert signer.public == key.rsa


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"x")
    with pytest.raises(ConfigError):
        generate_token_key(path)
    assert path.read_bytes() == b"x"


def test_a_new_key_shares_no_truncated_id(tmp_path: Path) -> None:
    taken = set(range(256)) - set(range(0, 256, 2))
    spki = generate_token_key(tmp_path / "key.pem", taken=taken)
    assert TokenKey.parse(spki).truncated_id % 2 == 0


def test_files_that_hold_no_token_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match="read"):
        load_token_key(path)
    for content in (b"", b"no key", _pem(rsa.generate_private_key(65537, 3072))):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="2048"):
            load_token_key(path)
    path.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ConfigError, match="RSA"):
        load_token_key(path)


@pytest.mark.parametrize("length", [0, 255, 257])
def test_a_message_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError, match="range"):
        token_kit.signer().blind_sign(bytes(length))


def test_a_message_not_below_the_modulus_is_refused() -> None:
    signer = token_kit.signer()
    for number in (signer.public.modulus, signer.public.modulus + 1, 2**2048 - 1):
        with pytest.raises(DecodeError, match="range"):
            signer.blind_sign(number.to_bytes(256, "big"))
    last = signer.public.modulus - 1
    assert signer.blind_sign(last.to_bytes(256, "big")) == last.to_bytes(256, "big")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_small_messages(number: int) -> None:
    signer = token_kit.signer()
    signature = int.from_bytes(signer.blind_sign(number.to_bytes(256, "big")), "big")
    assert pow(signature, signer.public.exponent, signer.public.modulus) == number


def test_a_faulty_signature_is_never_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one faulty half the result would give the factors away (RFC 9474 section 8.1)."""
    key = rsa.generate_private_key(65537, 2048)
    signer, message, right = BlindSigner(key), bytes(255) + b"\x05", RawKey(key).private
    numbers = key.private_numbers()

    def faulty(_: RawKey, number: bytes) -> bytes:
        whole = int.from_bytes(right(number) or b"", "big")
        # Right modulo q, wrong modulo p.
        wrong = (whole + numbers.q) % numbers.public_numbers.n
        return wrong.to_bytes(256, "big")

    monkeypatch.setattr(RawKey, "private", faulty)
    with pytest.raises(SigningFaultError):
        signer.blind_sign(message)


def test_a_refusal_of_openssl_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RawKey, "private", lambda *_: None)
    with pytest.raises(SigningFaultError):
        token_kit.signer().blind_sign(bytes(255) + b"\x05")


def test_openssl_computes_what_python_does() -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers, raw = key.private_numbers(), RawKey(key)
    for _ in range(5):
        number = secrets.randbelow(numbers.public_numbers.n)
        data = number.to_bytes(256, "big")
        assert raw.private(data) == pow(number, numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
        assert raw.public(data) == pow(number, 65537, numbers.public_numbers.n).to_bytes(256, "big")


def test_openssl_takes_no_number_above_the_modulus() -> None:
    raw = RawKey(rsa.generate_private_key(65537, 2048))
    assert raw.private(b"\xff" * 256) is None
    assert raw.public(b"\xff" * 256) is None
    assert raw.private(bytes(257)) is None


def test_threads_share_a_key() -> None:
    signer = token_kit.signer()
    messages = [number.to_bytes(256, "big") for number in range(2, 66)]
    with ThreadPoolExecutor(4) as pool:
        signatures = list(pool.map(signer.blind_sign, messages))
    modulus, exponent = signer.public.modulus, signer.public.exponent
    assert [pow(int.from_bytes(one, "big"), exponent, modulus) for one in signatures] == list(range(2, 66))


def test_without_openssl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rawrsa, "_NAMES", ("libcrypto.so.0",))
    rawrsa._openssl.cache_clear()
    try:
        with pytest.raises(OpensslMissingError, match="OpenSSL 3") as caught:
            RawKey(rsa.generate_private_key(65537, 2048))
    finally:
        rawrsa._openssl.cache_clear()
    assert "libssl3" in caught.value.hint


def test_a_private_key_shows_nothing() -> None:
    assert repr(token_kit.signer()) == "BlindSigner(...)"
    assert repr(RawKey(rsa.generate_private_key(65537, 2048))) == "RawKey(...)"

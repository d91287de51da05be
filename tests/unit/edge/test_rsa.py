import stat
from pathlib import Path

import gmpy2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import token_kit
from sottovoce.core.errors import ConfigError, DecodeError
from sottovoce.core.tokens import TokenKey
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


def test_a_faulty_half_signature_is_never_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """One faulty half would give the factors away (RFC 9474 section 8.1)."""
    signer, power = token_kit.signer(), gmpy2.powmod_sec

    def faulty(base: gmpy2.mpz, exponent: gmpy2.mpz, modulus: gmpy2.mpz) -> gmpy2.mpz:
        result = power(base, exponent, modulus)
        return result ^ 1 if modulus == signer._p else result

    monkeypatch.setattr(gmpy2, "powmod_sec", faulty)
    with pytest.raises(SigningFaultError):
        signer.blind_sign(bytes(255) + b"\x05")


def test_the_exponentiation_never_sees_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, power, seen = token_kit.signer(), gmpy2.powmod_sec, []

    def spy(base: gmpy2.mpz, exponent: gmpy2.mpz, modulus: gmpy2.mpz) -> gmpy2.mpz:
        seen.append(int(base))
        return power(base, exponent, modulus)

    monkeypatch.setattr(gmpy2, "powmod_sec", spy)
    answers = {signer.blind_sign(bytes(255) + b"\x05") for _ in range(3)}
    assert len(answers) == 1
    assert len(seen) == len(set(seen)) == 6
    assert 5 not in seen


def test_a_private_key_shows_nothing() -> None:
    assert repr(token_kit.signer()) == "BlindSigner(...)"
    assert isinstance(token_kit.signer(), BlindSigner)

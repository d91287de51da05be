import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import token_kit
from sottovoce.core.blindrsa import PublicKey, blind
from sottovoce.core.errors import CryptoError, DecodeError, UsageError


def test_the_signature_is_over_the_message_and_the_signer_saw_neither() -> None:
    signer = token_kit.signer()
    blinded, blinding = blind(signer.public, b"message")
    signature = blinding.finalize(signer.blind_sign(blinded))
    signer.public.verify(b"message", signature)
    with pytest.raises(CryptoError):
        signer.public.verify(b"another", signature)


def test_two_requests_for_one_message_have_nothing_in_common() -> None:
    public = token_kit.signer().public
    assert blind(public, b"message", salt=bytes(48))[0] != blind(public, b"message", salt=bytes(48))[0]


def test_a_blinding_is_finalized_once_even_when_it_fails() -> None:
    signer = token_kit.signer()
    blinded, blinding = blind(signer.public, b"message")
    with pytest.raises(CryptoError):
        blinding.finalize(bytes(256))
    with pytest.raises(UsageError, match="once"):
        blinding.finalize(signer.blind_sign(blinded))


@pytest.mark.parametrize("length", [0, 255, 257])
def test_an_answer_of_another_length_is_refused(length: int) -> None:
    _, blinding = blind(token_kit.signer().public, b"message")
    with pytest.raises(DecodeError, match="length"):
        blinding.finalize(bytes(length))


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=256, max_size=256))
def test_noise_instead_of_a_signature_is_refused(noise: bytes) -> None:
    _, blinding = blind(token_kit.signer().public, b"message")
    with pytest.raises(CryptoError, match="does not verify"):
        blinding.finalize(noise)


def test_another_keys_signature_is_refused() -> None:
    blinded, blinding = blind(token_kit.signer().public, b"message")
    other = token_kit.signer(1)
    number = int.from_bytes(blinded, "big") % other.public.modulus
    with pytest.raises(CryptoError):
        blinding.finalize(other.blind_sign(number.to_bytes(256, "big")))


@pytest.mark.parametrize("factor", [0, -1, token_kit.signer().public.modulus])
def test_a_factor_outside_its_range_is_our_own_fault(factor: int) -> None:
    with pytest.raises(UsageError, match="blinding factor"):
        blind(token_kit.signer().public, b"message", factor=factor)


def test_a_salt_of_another_length_is_our_own_fault() -> None:
    with pytest.raises(UsageError, match="salt"):
        blind(token_kit.signer().public, b"message", salt=bytes(20))


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        (2**1023 + 1, 65537),
        (2**2047, 65537),
        (2**4096 + 1, 65537),
        (2**2049 + 1, 65537),
        (2**2047 + 1, 2),
        (2**2047 + 1, 0),
        (0, 65537),
    ],
)
def test_keys_that_are_none(modulus: int, exponent: int) -> None:
    with pytest.raises(DecodeError):
        PublicKey(modulus=modulus, exponent=exponent)


def test_a_blinding_shows_nothing() -> None:
    _, blinding = blind(token_kit.signer().public, b"message")
    assert repr(blinding) == "Blinding(...)"

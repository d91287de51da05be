from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import token_kit
from sottovoce.core import ristretto, voprf
from sottovoce.core.errors import CryptoError, DecodeError, UsageError
from sottovoce.core.voprf import MAX_BATCH, PublicKey, SecretKey

Batch = tuple[list[bytes], list[bytes], bytes]


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


@pytest.fixture
def key() -> SecretKey:
    return SecretKey.generate()


def batch(key: SecretKey, count: int) -> Batch:
    blinded = [voprf.blind(bytes([number]))[0] for number in range(count)]
    evaluated, proof = key.evaluate_batch(blinded)
    return blinded, list(evaluated), proof


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=6))
def test_both_sides_find_the_same(inputs: list[bytes]) -> None:
    key = SecretKey.generate()
    blinded, blinds = zip(*[voprf.blind(data) for data in inputs], strict=True)
    evaluated, proof = key.evaluate_batch(blinded)
    key.public.verify_batch(blinded, evaluated, proof)
    outputs = [voprf.finalize(*each) for each in zip(inputs, blinds, evaluated, strict=True)]
    assert outputs == [key.evaluate(data) for data in inputs]


def test_the_server_sees_something_else_each_time() -> None:
    assert len({voprf.blind(b"one input")[0] for _ in range(20)}) == 20


def test_a_nonce_is_used_once(key: SecretKey) -> None:
    blinded, _, _ = batch(key, 1)
    proofs = {key.evaluate_batch(blinded)[1] for _ in range(20)}
    assert len(proofs) == 20


def _another_key(made: Batch) -> Batch:
    blinded, _, proof = made
    return blinded, list(SecretKey.generate().evaluate_batch(blinded)[0]), proof


def _proof_of_another_key(made: Batch) -> Batch:
    evaluated, proof = SecretKey.generate().evaluate_batch(made[0])
    return made[0], list(evaluated), proof


def _one_of_another_key(made: Batch) -> Batch:
    blinded, evaluated, proof = made
    (other,), _ = SecretKey.generate().evaluate_batch(blinded[-1:])
    return blinded, [*evaluated[:-1], other], proof


def _two_swapped(made: Batch) -> Batch:
    blinded, (first, second, *rest), proof = made
    return blinded, [second, first, *rest], proof


def _both_swapped(made: Batch) -> Batch:
    blinded, evaluated, proof = made
    return [blinded[1], blinded[0], *blinded[2:]], [evaluated[1], evaluated[0], *evaluated[2:]], proof


def _cancelling(made: Batch) -> Batch:
    """What is added to one answer is taken from the next: an unweighted sum would not see it."""
    blinded, (first, second, *rest), proof = made
    extra = ristretto.multiply_base(ristretto.random_scalar())
    opposite = ristretto.multiply((ristretto.ORDER - 1).to_bytes(32, "little"), extra)
    return blinded, [ristretto.add(first, extra), ristretto.add(second, opposite), *rest], proof


def _proof_bit(made: Batch) -> Batch:
    blinded, evaluated, proof = made
    return blinded, evaluated, bytes([proof[0] ^ 1]) + proof[1:]


def _identity(made: Batch) -> Batch:
    blinded, evaluated, proof = made
    return blinded, [bytes(32), *evaluated[1:]], proof


def _no_element(made: Batch) -> Batch:
    blinded, evaluated, proof = made
    return blinded, [b"\xff" * 32, *evaluated[1:]], proof


@pytest.mark.parametrize(
    "change",
    [
        _another_key, _proof_of_another_key, _one_of_another_key, _two_swapped, _both_swapped, _cancelling, _proof_bit,
        _identity, _no_element,
    ],
)  # fmt: skip
def test_what_the_proof_does_not_cover(key: SecretKey, change: Callable[[Batch], Batch]) -> None:
    made = batch(key, 4)
    key.public.verify_batch(*made)
    with pytest.raises(CryptoError):
        key.public.verify_batch(*change(made))


@pytest.mark.parametrize(
    "proof",
    [
        b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64,
        ristretto.ORDER.to_bytes(32, "little") + b"\1" + bytes(31),
        b"\1" + bytes(31) + ristretto.ORDER.to_bytes(32, "little"),
    ],
)  # fmt: skip
def test_what_is_no_proof(key: SecretKey, proof: bytes) -> None:
    blinded, evaluated, _ = batch(key, 1)
    with pytest.raises(DecodeError, match="scalar"):
        key.public.verify_batch(blinded, evaluated, proof)


def test_a_scalar_in_another_encoding_is_none(key: SecretKey) -> None:
    blinded, evaluated, proof = batch(key, 1)
    answer = int.from_bytes(proof[32:], "little") + ristretto.ORDER
    with pytest.raises(DecodeError):
        key.public.verify_batch(blinded, evaluated, proof[:32] + answer.to_bytes(32, "little"))


def test_the_size_of_a_batch(key: SecretKey) -> None:
    element = voprf.blind(b"x")[0]
    for count in (0, MAX_BATCH + 1):
        with pytest.raises(UsageError):
            key.evaluate_batch([element] * count)
        with pytest.raises(UsageError):
            key.public.verify_batch([element] * count, [element] * count, b"\1" * 64)
    with pytest.raises(UsageError):
        key.public.verify_batch([element], [element] * 2, b"\1" * 64)


def test_no_oracle_for_what_is_no_element(key: SecretKey) -> None:
    for data in (bytes(32), b"\xff" * 32):
        with pytest.raises(CryptoError):
            key.evaluate_batch([voprf.blind(b"x")[0], data])


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32), b"\xff" * 32])
def test_keys_that_are_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SecretKey(data)
    with pytest.raises(DecodeError):
        PublicKey(data)


def test_inputs_of_a_length_that_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="65,535"):
        SecretKey.generate().evaluate(bytes(1 << 16))


def test_a_derived_key_depends_on_both() -> None:
    seeds = [(bytes(32), b"a"), (bytes(32), b"b"), (b"\1" + bytes(31), b"a")]
    assert len({SecretKey.derive(*seed).public.element for seed in seeds}) == 3


def test_no_key_is_found_in_256_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voprf, "_hash_to_scalar", lambda *_: bytes(32))
    with pytest.raises(CryptoError, match="derived"):
        SecretKey.derive(bytes(32), b"")


def test_a_secret_key_shows_nothing(key: SecretKey) -> None:
    assert repr(key) == "SecretKey(...)"

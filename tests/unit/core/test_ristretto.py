import ctypes
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import token_kit
from sottovoce.core import ristretto
from sottovoce.core.errors import CryptoError, DecodeError, UsageError
from sottovoce.core.ristretto import ORDER, LibsodiumMissingError

Uses = tuple[Callable[[], bytes], ...]
ONE, TWO = (number.to_bytes(32, "little") for number in (1, 2))
# RFC 9496 appendix A.1: the generator and its double.
GENERATOR = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
DOUBLE = bytes.fromhex("6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919")
# RFC 9496 appendix A.2: no canonical encodings, negative numbers, and such as are on no point.
INVALID = (
    "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20",
    "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
)


@pytest.fixture(autouse=True)
def _sodium() -> None:
    token_kit.need_sodium()


def test_the_generator_and_its_double() -> None:
    assert ristretto.multiply_base(ONE) == GENERATOR
    assert ristretto.multiply_base(TWO) == ristretto.multiply(TWO, GENERATOR) == DOUBLE
    assert ristretto.add(GENERATOR, GENERATOR) == DOUBLE


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_element(text: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(DecodeError, match="not an element"):
        ristretto.require_element(data)
    with pytest.raises(CryptoError):
        ristretto.multiply(TWO, data)
    with pytest.raises(CryptoError):
        ristretto.add(GENERATOR, data)


@pytest.mark.parametrize("data", [bytes(32), b"", GENERATOR[:-1], GENERATOR + b"\0"])
def test_neither_the_identity_nor_another_length(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not an element"):
        ristretto.require_element(data)


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_what_is_no_scalar(number: int) -> None:
    with pytest.raises(DecodeError, match="not a scalar"):
        ristretto.require_scalar(number.to_bytes(32, "little"))


@pytest.mark.parametrize("data", [b"", ONE[:-1], ONE + b"\0"])
def test_a_scalar_of_another_length(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a scalar"):
        ristretto.require_scalar(data)


def test_the_largest_scalar() -> None:
    largest = (ORDER - 1).to_bytes(32, "little")
    assert ristretto.require_scalar(largest) == largest
    assert ristretto.multiply(largest, ristretto.multiply_base(largest)) == GENERATOR


def test_zero_gives_the_identity_which_is_refused() -> None:
    uses: Uses = (
        lambda: ristretto.multiply(bytes(32), GENERATOR),
        lambda: ristretto.multiply_base(bytes(32)),
        lambda: ristretto.invert_scalar(bytes(32)),
    )
    for use in uses:
        with pytest.raises(CryptoError):
            use()


def test_nothing_is_read_beyond_an_argument() -> None:
    uses: Uses = (
        lambda: ristretto.multiply(ONE[:-1], GENERATOR),
        lambda: ristretto.multiply(ONE, GENERATOR[:-1]),
        lambda: ristretto.add(GENERATOR, b""),
        lambda: ristretto.from_uniform(bytes(63)),
        lambda: ristretto.reduce_scalar(bytes(32)),
        lambda: ristretto.multiply_subtract(ONE, ONE, b""),
    )
    for use in uses:
        with pytest.raises(UsageError, match="length"):
            use()


SCALARS = st.integers(1, ORDER - 1)


@given(SCALARS, SCALARS, SCALARS)
def test_scalar_arithmetic_is_that_of_integers(start: int, one: int, other: int) -> None:
    encoded = [number.to_bytes(32, "little") for number in (start, one, other)]
    wanted = (start - one * other) % ORDER
    assert int.from_bytes(ristretto.multiply_subtract(*encoded), "little") == wanted
    assert int.from_bytes(ristretto.invert_scalar(encoded[1]), "little") == pow(one, -1, ORDER)


@given(st.binary().map(lambda data: hashlib.sha512(data).digest()))
def test_64_bytes_make_a_scalar_and_an_element(data: bytes) -> None:
    assert int.from_bytes(ristretto.reduce_scalar(data), "little") == int.from_bytes(data, "little") % ORDER
    ristretto.require_element(ristretto.from_uniform(data))


@given(st.binary(max_size=40))
def test_any_bytes_are_an_element_or_none(data: bytes) -> None:
    try:
        assert ristretto.require_element(data) == data
    except DecodeError:
        return
    assert ristretto.multiply(ONE, data) == data


def test_random_scalars_differ() -> None:
    assert len({ristretto.random_scalar() for _ in range(100)}) == 100


def test_where_there_is_no_libsodium(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ristretto.version() >= "1.0.18"

    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    ristretto._sodium.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    try:
        assert not ristretto.is_available()
        with pytest.raises(LibsodiumMissingError) as caught:
            ristretto.multiply_base(ONE)
        assert (caught.value.code, "libsodium" in caught.value.hint) == ("config.libsodium", True)
    finally:
        ristretto._sodium.cache_clear()


def test_a_libsodium_without_the_group_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ristretto._sodium.cache_clear()
    # The C library of Python itself, which has no such function.
    monkeypatch.setattr(ctypes, "CDLL", lambda _: ctypes.PyDLL(None))
    try:
        assert not ristretto.is_available()
    finally:
        ristretto._sodium.cache_clear()

"""The group ristretto255 (RFC 9496), by libsodium.

Elements and scalars are 32 bytes in their one encoding. Every function that takes a scalar runs in libsodium's constant time:
the multiplication reads its whole table at each step, the inversion is a fixed chain of multiplications, and arithmetic modulo the
order has no branches. What Python adds is the copying of 32 bytes. libsodium is loaded at the first call, so that who uses no
token of type 5 needs none (decision record 16).
"""

import ctypes
import os
from functools import cache
from typing import Final

from sottovoce.core.errors import ConfigError, CryptoError, DecodeError, UsageError

__all__ = [
    "ELEMENT_LENGTH",
    "ORDER",
    "SCALAR_LENGTH",
    "UNIFORM_LENGTH",
    "LibsodiumMissingError",
    "add",
    "from_uniform",
    "invert_scalar",
    "is_available",
    "multiply",
    "multiply_base",
    "multiply_subtract",
    "random_scalar",
    "reduce_scalar",
    "require_element",
    "require_scalar",
    "version",
]

ELEMENT_LENGTH: Final = 32
SCALAR_LENGTH: Final = 32
UNIFORM_LENGTH: Final = 64
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""RFC 9496 section 4."""

_IDENTITY: Final = bytes(ELEMENT_LENGTH)
# Names that the system's loader knows; 23 and 26 are the two ABI versions since 1.0.18, the first with this group.
_NAMES: Final = ("libsodium.so.26", "libsodium.so.23", "libsodium.26.dylib", "libsodium.23.dylib")
# Name, and the lengths of its arguments, the result's first. Each returns 0, or nothing where marked.
_RETURNS: Final = {
    "crypto_core_ristretto255_add": 3,
    "crypto_core_ristretto255_from_hash": 2,
    "crypto_core_ristretto255_scalar_invert": 2,
    "crypto_scalarmult_ristretto255": 3,
    "crypto_scalarmult_ristretto255_base": 2,
}
_RETURNS_NOTHING: Final = {
    "crypto_core_ristretto255_scalar_mul": 3,
    "crypto_core_ristretto255_scalar_reduce": 2,
    "crypto_core_ristretto255_scalar_sub": 3,
}
_Result: Final = ctypes.c_char * ELEMENT_LENGTH


class LibsodiumMissingError(ConfigError):
    """Tokens of type 5 need libsodium 1.0.18 or later, and it is not here."""

    code = "config.libsodium"


@cache
def _sodium() -> ctypes.CDLL:
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            return _declare(library)
        except (OSError, AttributeError):
            continue
    raise LibsodiumMissingError(
        "tokens of type 5 need libsodium", hint="install the system's package: libsodium23, libsodium"
    )


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for names, result in ((_RETURNS, ctypes.c_int), (_RETURNS_NOTHING, None)):
        for name, count in names.items():
            function = getattr(library, name)
            function.argtypes = [ctypes.c_char_p] * count
            function.restype = result
    library.crypto_core_ristretto255_is_valid_point.argtypes = [ctypes.c_char_p]
    library.sodium_version_string.restype = ctypes.c_char_p
    # 0 the first time, 1 later: it chooses the code for this processor.
    if library.sodium_init() < 0:
        raise OSError
    return library


def is_available() -> bool:
    """Whether libsodium is here."""
    try:
        _sodium()
    except LibsodiumMissingError:
        return False
    return True


def version() -> str:
    """Libsodium's version.

    Raises:
        LibsodiumMissingError: it is not here.
    """
    text: bytes = _sodium().sodium_version_string()
    return text.decode("ascii")


def _call(name: str, *arguments: bytes, length: int = ELEMENT_LENGTH) -> bytes:
    result = _Result()
    # A pointer says no length: what is too short here would be read beyond its end.
    if any(len(argument) != length for argument in arguments):
        raise UsageError("argument of a group operation has another length")
    if getattr(_sodium(), name)(result, *arguments):
        raise CryptoError("no element of the group, or the identity")
    return result.raw


def require_element(data: bytes) -> bytes:
    """`data`, if it is an element other than the identity (DeserializeElement, RFC 9497 section 4.1).

    Raises:
        DecodeError: it is not.
    """
    if len(data) != ELEMENT_LENGTH or data == _IDENTITY:
        raise DecodeError("not an element of ristretto255")
    if _sodium().crypto_core_ristretto255_is_valid_point(data) != 1:
        raise DecodeError("not an element of ristretto255")
    return data


def require_scalar(data: bytes) -> bytes:
    """`data`, if it is a scalar below the order and not zero (RFC 9497 section 4.1; zero has no use here).

    Raises:
        DecodeError: it is not.
    """
    if len(data) != SCALAR_LENGTH or not 0 < int.from_bytes(data, "little") < ORDER:
        raise DecodeError("not a scalar of ristretto255")
    return data


def from_uniform(data: bytes) -> bytes:
    """The element that 64 uniform bytes stand for (RFC 9496 section 4.3.4)."""
    return _call("crypto_core_ristretto255_from_hash", data, length=UNIFORM_LENGTH)


def add(one: bytes, other: bytes) -> bytes:
    """The sum of two elements.

    Raises:
        CryptoError: one of them is none.
    """
    return _call("crypto_core_ristretto255_add", one, other)


def multiply(scalar: bytes, element: bytes) -> bytes:
    """`element` times `scalar`.

    Raises:
        CryptoError: it is no element, or the product is the identity.
    """
    return _call("crypto_scalarmult_ristretto255", scalar, element)


def multiply_base(scalar: bytes) -> bytes:
    """The generator times `scalar`.

    Raises:
        CryptoError: the scalar is zero.
    """
    return _call("crypto_scalarmult_ristretto255_base", scalar)


def reduce_scalar(data: bytes) -> bytes:
    """64 bytes, little endian, modulo the order."""
    return _call("crypto_core_ristretto255_scalar_reduce", data, length=UNIFORM_LENGTH)


def invert_scalar(scalar: bytes) -> bytes:
    """1 / `scalar`.

    Raises:
        CryptoError: it is zero.
    """
    return _call("crypto_core_ristretto255_scalar_invert", scalar)


def multiply_subtract(start: bytes, one: bytes, other: bytes) -> bytes:
    """`start` - `one` · `other`, all scalars."""
    product = _call("crypto_core_ristretto255_scalar_mul", one, other)
    return _call("crypto_core_ristretto255_scalar_sub", start, product)


def random_scalar() -> bytes:
    """A uniform scalar other than zero, which has a probability below 2^-252."""
    return reduce_scalar(os.urandom(UNIFORM_LENGTH))

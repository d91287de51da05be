"""RSA's two operations without padding (RFC 8017 sections 5.1.1 and 5.1.2), by the system's OpenSSL.

`cryptography` offers none without padding. OpenSSL blinds each private operation with a random base, runs its half-exponentiations in constant
time, and repeats the operation the long way where the halves do not fit the public key. It is loaded at the first key.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core.errors import ConfigError

__all__ = ["OpensslMissingError", "RawKey"]

# Names that the system's loader knows. Before 3.0 the padding was set by a macro, which cannot be called from here.
_NAMES: Final = ("libcrypto.so.3", "libcrypto.3.dylib", "libcrypto.so.4", "libcrypto.4.dylib")
_NO_PADDING: Final = 3
_Bytes: Final = ctypes.c_char_p
_Pointer: Final = ctypes.c_void_p
_Length: Final = ctypes.POINTER(ctypes.c_size_t)
_RUN: Final = (ctypes.c_int, _Pointer, _Bytes, _Length, _Bytes, ctypes.c_size_t)
# The result's type, and those of the arguments.
_FUNCTIONS: Final = {
    "d2i_AutoPrivateKey": (_Pointer, _Pointer, ctypes.POINTER(_Bytes), ctypes.c_long),
    "EVP_PKEY_free": (None, _Pointer),
    "EVP_PKEY_CTX_new": (_Pointer, _Pointer, _Pointer),
    "EVP_PKEY_CTX_free": (None, _Pointer),
    "EVP_PKEY_CTX_set_rsa_padding": (ctypes.c_int, _Pointer, ctypes.c_int),
    "EVP_PKEY_decrypt_init": (ctypes.c_int, _Pointer),
    "EVP_PKEY_decrypt": _RUN,
    "EVP_PKEY_encrypt_init": (ctypes.c_int, _Pointer),
    "EVP_PKEY_encrypt": _RUN,
    "ERR_clear_error": (None,),
}


class OpensslMissingError(ConfigError):
    """The issuer needs the system's OpenSSL 3, and it is not here."""

    code = "config.openssl"


@cache
def _openssl() -> ctypes.CDLL:
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            for function, (result, *arguments) in _FUNCTIONS.items():
                found = getattr(library, function)
                found.restype, found.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return library
    raise OpensslMissingError(
        "the issuer needs OpenSSL 3", hint="install the system's package: libssl3, openssl"
    )


class RawKey:
    """A private key inside OpenSSL. Any thread may use it."""

    __slots__ = ("_key", "_length")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Give `key` to OpenSSL.

        Raises:
            OpensslMissingError: there is none.
        """
        library = _openssl()
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._length = (key.key_size + 7) // 8
        self._key: int | None = library.d2i_AutoPrivateKey(None, ctypes.byref(_Bytes(der)), len(der))
        if not self._key:
            library.ERR_clear_error()
            raise ConfigError("OpenSSL does not take the key")

    def __repr__(self) -> str:
        return "RawKey(...)"

    def __del__(self) -> None:
        if getattr(self, "_key", None):
            _openssl().EVP_PKEY_free(self._key)
            self._key = None

    def private(self, number: bytes) -> bytes | None:
        """`number`^d mod n, both of the modulus's length; None if OpenSSL does not do it."""
        library = _openssl()
        return self._run(library.EVP_PKEY_decrypt_init, library.EVP_PKEY_decrypt, number)

    def public(self, number: bytes) -> bytes | None:
        """`number`^e mod n, both of the modulus's length; None if OpenSSL does not do it."""
        library = _openssl()
        return self._run(library.EVP_PKEY_encrypt_init, library.EVP_PKEY_encrypt, number)

    def _run(self, begin: Callable[..., int], run: Callable[..., int], number: bytes) -> bytes | None:
        library = _openssl()
        # A context of its own for each call, as threads share the key and not the context.
        context = library.EVP_PKEY_CTX_new(self._key, None)
        if not context:
            return None
        result, length = ctypes.create_string_buffer(self._length), ctypes.c_size_t(self._length)
        try:
            done = (
                begin(context) > 0
                and library.EVP_PKEY_CTX_set_rsa_padding(context, _NO_PADDING) > 0
                and run(context, result, ctypes.byref(length), number, len(number)) > 0
            )
        finally:
            library.EVP_PKEY_CTX_free(context)
        if not done:
            library.ERR_clear_error()
            return None
        return result.raw[: length.value]

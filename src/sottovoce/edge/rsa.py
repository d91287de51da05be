"""The issuer's private operation: BlindSign of RFC 9474 section 4.3, and its keys.

Side channels: OpenSSL blinds the operation and runs it in constant time (`edge.rawrsa`). Its result is checked with the public key before it
is released, as one faulty half-signature would give the factors away (RFC 9474 section 8.1). `python -m benchmarks.timing` measures the
times, with a control that must leak.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core.blindrsa import PublicKey
from sottovoce.core.errors import ConfigError, DecodeError, SottovoceError
from sottovoce.core.tokenkeys import TokenKey
from sottovoce.edge.rawrsa import RawKey

__all__ = ["BlindSigner", "SigningFaultError", "generate_token_key", "load_token_key"]

_BITS: Final = 2048
_EXPONENT: Final = 65537
_PEM_LIMIT: Final = 16 * 1024


class SigningFaultError(SottovoceError):
    """The private operation gave a wrong result, so nothing was released."""

    code = "issuer.fault"


class BlindSigner:
    """An RSA private key that signs blinded messages. Any thread may use it."""

    __slots__ = ("_raw", "public")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Take `key` into use.

        Raises:
            OpensslMissingError: OpenSSL is not here.
        """
        numbers = key.public_key().public_numbers()
        self.public: Final = PublicKey(modulus=numbers.n, exponent=numbers.e)
        self._raw = RawKey(key)

    def __repr__(self) -> str:
        return "BlindSigner(...)"

    def blind_sign(self, blinded: bytes) -> bytes:
        """`blind_sig` for `blinded`; both have the modulus's length.

        Raises:
            DecodeError: another length, or a number that is not below the modulus.
            SigningFaultError: the operation failed, or the check of its result.
        """
        if len(blinded) != self.public.length or int.from_bytes(blinded, "big") >= self.public.modulus:
            raise DecodeError("blinded message outside the key's range")
        signature = self._raw.private(blinded)
        if signature is None or self._raw.public(signature) != blinded:
            raise SigningFaultError("the private operation failed its check")
        return signature


def generate_token_key(path: Path | str, *, taken: Collection[int] = ()) -> bytes:
    """Make an issuer key, write it to `path` (PKCS #8 PEM, mode 0600), and return its SPKI, 342 bytes.

    `taken` holds the truncated ids of the other keys in use: the new key's differs from each, since requests
    name their key by this one byte (RFC 9578 section 6.5).

    Raises:
        ConfigError: `path` exists or cannot be written.
    """
    while True:
        key = rsa.generate_private_key(_EXPONENT, _BITS)
        public = TokenKey(rsa=BlindSigner(key).public)
        if public.truncated_id not in taken:
            break
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        raise ConfigError("the token key cannot be written", hint=f"looked for {path}") from None
    return public.spki


def load_token_key(path: Path | str) -> tuple[BlindSigner, TokenKey]:
    """The key that `generate_token_key` wrote.

    Raises:
        ConfigError: unreadable, not an RSA key in PEM, or of another size.
    """
    hint = f"looked for {path}"
    try:
        with Path(path).open("rb") as file:
            pem = file.read(_PEM_LIMIT)
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ConfigError("the token key is not RSA", hint=hint)
        signer = BlindSigner(key)
        return signer, TokenKey(rsa=signer.public)
    except OSError:
        raise ConfigError("the token key cannot be read", hint=hint) from None
    except (ValueError, TypeError, DecodeError, UnsupportedAlgorithm):
        raise ConfigError("the token key is not RSA of 2048 bits in PEM", hint=hint) from None

"""The issuer's private operation: BlindSign of RFC 9474 section 4.3, and its keys.

Side channels: each request is blinded with a fresh random base, both half-exponentiations run in constant
time (`powmod_sec`, GMP's `mpz_powm_sec`: no branch and no table index depends on the exponent), and the result is
checked with the public key before it is released, as one faulty half-signature would give the factors away
(RFC 9474 section 8.1). Not constant time are reductions modulo the factors and the recombination; what they work
on is uniform and fresh for each request, whatever was asked. `python -m benchmarks.timing` measures both claims,
with a control that must leak.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Final

import gmpy2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core.blindrsa import PublicKey
from sottovoce.core.errors import ConfigError, DecodeError, SottovoceError
from sottovoce.core.tokenkeys import TokenKey

__all__ = ["BlindSigner", "SigningFaultError", "generate_token_key", "load_token_key"]

_BITS: Final = 2048
_EXPONENT: Final = 65537
_PEM_LIMIT: Final = 16 * 1024


class SigningFaultError(SottovoceError):
    """The private operation gave a wrong result, so nothing was released."""

    code = "issuer.fault"


class BlindSigner:
    """An RSA private key that signs blinded messages. Any thread may use it."""

    __slots__ = ("_dp", "_dq", "_p", "_q", "_q_inverse", "public")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        numbers = key.private_numbers()
        public = numbers.public_numbers
        self.public: Final = PublicKey(modulus=public.n, exponent=public.e)
        self._p = gmpy2.mpz(numbers.p)
        self._q = gmpy2.mpz(numbers.q)
        self._dp = gmpy2.mpz(numbers.dmp1)
        self._dq = gmpy2.mpz(numbers.dmq1)
        self._q_inverse = gmpy2.mpz(numbers.iqmp)

    def __repr__(self) -> str:
        return "BlindSigner(...)"

    def blind_sign(self, blinded: bytes) -> bytes:
        """`blind_sig` for `blinded`; both have the modulus's length.

        Raises:
            DecodeError: another length, or a number that is not below the modulus.
            SigningFaultError: the check of the result failed.
        """
        modulus, exponent = self.public.modulus, self.public.exponent
        message = gmpy2.mpz(int.from_bytes(blinded, "big"))
        if len(blinded) != self.public.length or message >= modulus:
            raise DecodeError("blinded message outside the key's range")
        with gmpy2.context(allow_release_gil=True):
            base = gmpy2.mpz(2 + secrets.randbelow(modulus - 2))
            masked = self._power(message * gmpy2.powmod(base, exponent, modulus) % modulus)
            signature = masked * gmpy2.invert(base, modulus) % modulus
            if gmpy2.powmod(signature, exponent, modulus) != message:
                raise SigningFaultError("the private operation failed its check")
        return int(signature).to_bytes(self.public.length, "big")

    def _power(self, number: gmpy2.mpz) -> gmpy2.mpz:
        """`number`^d mod n by the Chinese remainder theorem (RFC 8017 section 5.1.2)."""
        half_p = gmpy2.powmod_sec(number % self._p, self._dp, self._p)
        half_q = gmpy2.powmod_sec(number % self._q, self._dq, self._q)
        return half_q + self._q * ((half_p - half_q) * self._q_inverse % self._p)


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
    except (ValueError, TypeError, DecodeError):
        raise ConfigError("the token key is not RSA of 2048 bits in PEM", hint=hint) from None

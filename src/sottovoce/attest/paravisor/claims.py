"""Runtime claims: what the paravisor says of the CVM, and the key of the TPM that it plays (JSON; OpenHCL, RuntimeClaims).

    {"keys": [{"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": "…"}, {"kid": "HCLEkPub", …}],
     "vm-configuration": {"secure-boot": true, "console-enabled": true, …}, "user-data": "…128 digits…"}

Keys are JSON Web Keys (RFC 7517; RFC 7518 section 6.3.1), their integers base64url without padding (RFC 7515 section 2).
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.attest.strictjson import strict_json
from sottovoce.core.errors import DecodeError

__all__ = ["USER_DATA", "RuntimeClaims", "base64url"]

USER_DATA: Final = 64
"""Bytes that the guest had put in when the report was made; zeros if none."""
_ATTESTATION_KEY: Final = "HCLAkPub"
_KEY_MEMBERS: Final = frozenset({"kid", "key_ops", "kty", "e", "n"})
_MEMBERS: Final = frozenset({"keys", "vm-configuration", "user-data"})
_EXPONENT: Final = 65537
_MODULUS_BYTES: Final = range(256, 513)  # 2,048 to 4,096 bits
_LIMIT: Final = 16 * 1024
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_HEX: Final = re.compile(r"[0-9A-Fa-f]{128}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeClaims:
    """What was claimed; nothing is verified yet.

    Attributes:
        attestation_key: signs the TPM's quotes.
        user_data: 64 bytes.
        secure_boot: None where the claims do not say.
        console: None where the claims do not say.
    """

    attestation_key: rsa.RSAPublicKey
    user_data: bytes
    secure_boot: bool | None
    console: bool | None

    @classmethod
    def parse(cls, data: bytes) -> "RuntimeClaims":
        """Parse the claims.

        Raises:
            DecodeError: not JSON, a member twice, an unknown one, or not exactly one attestation key of RSA, 2,048 to 4,096 bits.
        """
        if len(data) > _LIMIT:
            raise DecodeError("the runtime claims are longer than their limit")
        claims = strict_json(data, "the runtime claims")
        if not isinstance(claims, dict) or claims.keys() != _MEMBERS:
            raise DecodeError("the runtime claims have other members than they should")
        # New paravisors add members here. None of them is read, and those that are read are named.
        configuration = claims["vm-configuration"]
        user_data = claims["user-data"]
        if not isinstance(configuration, dict):
            raise DecodeError("the runtime claims have no configuration")
        if not isinstance(user_data, str) or not _HEX.fullmatch(user_data):
            raise DecodeError("the runtime claims have user data that are not 64 bytes")
        return cls(
            attestation_key=_attestation_key(claims["keys"]),
            user_data=bytes.fromhex(user_data),
            secure_boot=_flag(configuration, "secure-boot"),
            console=_flag(configuration, "console-enabled"),
        )


def base64url(text: Any, what: str) -> bytes:
    """The bytes of base64url without padding (RFC 7515 section 2), in its one canonical form.

    Raises:
        DecodeError: it is something else; `what` begins the message.
    """
    if isinstance(text, str) and _BASE64URL.fullmatch(text):
        try:
            value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            value = b""
        # Bits beyond the last byte must be zero, or one value would have several forms.
        if value and base64.urlsafe_b64encode(value).rstrip(b"=").decode() == text:
            return value
    raise DecodeError(f"{what} are not base64url in its canonical form")


def _flag(configuration: dict[str, Any], name: str) -> bool | None:
    value = configuration.get(name)
    if name in configuration and not isinstance(value, bool):
        raise DecodeError("the runtime claims have a setting that is neither true nor false")
    return value


def _attestation_key(keys: Any) -> rsa.RSAPublicKey:
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise DecodeError("the runtime claims have no list of keys")
    named = [key for key in keys if key.get("kid") == _ATTESTATION_KEY]
    if len(named) != 1:
        raise DecodeError("the runtime claims have not exactly one attestation key")
    (key,) = named
    if key.keys() != _KEY_MEMBERS or key["kty"] != "RSA" or key["key_ops"] != ["sign"]:
        raise DecodeError("the attestation key is not an RSA key for signing")
    exponent, modulus = (base64url(key[name], "the attestation key's numbers") for name in ("e", "n"))
    # RFC 7518 section 2, Base64urlUInt: no leading zeros
    if int.from_bytes(exponent, "big") != _EXPONENT or not exponent[0]:
        raise DecodeError("the attestation key has numbers in another form")
    if len(modulus) not in _MODULUS_BYTES or modulus[0] < 0x80 or not modulus[-1] & 1:  # noqa: PLR2004 - all bits of the size, so no zeros either
        raise DecodeError("the attestation key is not of 2,048 to 4,096 bits")
    try:
        return rsa.RSAPublicNumbers(_EXPONENT, int.from_bytes(modulus, "big")).public_key()
    except ValueError:
        raise DecodeError("the attestation key is not an RSA key") from None

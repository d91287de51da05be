"""OpenID Connect as an attester: the bearer is an ID token that the operator's provider gave to the device (OpenID Connect Core 1.0).

    device ── logs in ──→ provider ── ID token ──→ device ── Bearer ──→ issuer

Checked (Core section 3.1.3.7, RFC 8725): signature with a key of the provider, RS256 or ES256 only; `typ`; `iss`; `aud`, and that it names
us alone; `azp`; `exp`, `iat`, `nbf`.

Not checked: `nonce`. It ties an ID token to the login that a client began, and that was the device's, not the issuer's: only the device can
compare it. What a stolen ID token would give away is bounded here by its age and by the account's quota.

The account is a hash of issuer and subject: no name or address from the token is kept.
"""

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.edge.accountstore import AccountUnknownError
from sottovoce.edge.attesters import OidcConfig

__all__ = [
    "IdTokenError",
    "OpenIdConnect",
    "ProviderError",
    "ProviderKey",
    "parse_keys",
    "read_header",
    "verify_id_token",
]

_BEARER: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_TOKEN: Final = 8192
"""Characters: what servers take as one header field. Usual ID tokens have below 2,000."""
_MAX_KEYS: Final = 64 * 1024
"""Bytes of a JWKS."""
_LEEWAY: Final = 60
"""Seconds that the provider's clock may differ from ours."""
_FRESH: Final = 3600
"""Seconds after which the keys are fetched again, when a token comes."""
_RETRY: Final = 60
"""Seconds between two fetches, whatever comes: a token with a made-up key id costs the provider nothing."""
_STALE: Final = 24 * 3600
"""Seconds for which keys are used while the provider does not answer."""
_RSA_BITS: Final = 2048
_FETCH_SECONDS: Final = 5.0
_MAX_SUBJECT: Final = 255
"""Characters, ASCII (Core section 2)."""


class IdTokenError(AccountUnknownError):
    """The ID token is malformed, forged, expired, or for somebody else."""

    code = "refused.account"


class ProviderError(SottovoceError):
    """The provider's keys cannot be had, so that nobody can be known."""

    code = "unavailable.provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKey:
    """A public key of the provider: RSA of 2,048 bits or more, or P-256."""

    kid: str
    algorithm: str
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


Fetch = Callable[[], Awaitable[bytes]]


class OpenIdConnect:
    """Knows accounts by their ID tokens."""

    def __init__(self, config: OidcConfig, *, fetch: Fetch | None = None) -> None:
        """`fetch` gives the JWKS; if it is not given, it comes from the configured place.

        Raises:
            ConfigError: the configuration is incomplete, the keys would come without TLS, or the file with them cannot be used.
        """
        if not config.issuer or not config.audience or not config.jwks or config.max_age < 1:
            raise ConfigError("the OpenID provider's configuration is incomplete")
        self._config = config
        self._keys: tuple[ProviderKey, ...] = ()
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._fetch = fetch
        if fetch is None and "://" in config.jwks:
            _require_tls(config.jwks)
            self._fetch = self._download
        elif fetch is None:
            self._keys = _pinned(config.jwks)

    def takes(self, bearer: str) -> bool:
        """As `Attester.takes`."""
        return len(bearer) <= _MAX_TOKEN and _BEARER.fullmatch(bearer) is not None

    async def account(self, bearer: str, now: int) -> str:
        """As `Attester.account`: `oidc:` and 43 characters.

        Raises:
            IdTokenError: the token is not one of the provider's for us, or not of now.
            ProviderError: the provider's keys cannot be had.
        """
        kid, algorithm = read_header(bearer)
        return verify_id_token(bearer, await self._key(kid, algorithm), self._config, now)

    async def close(self) -> None:
        """It holds no connection."""

    async def _key(self, kid: str, algorithm: str) -> ProviderKey:
        if time.monotonic() - self._fetched > _FRESH:
            await self._refresh()
        found = self._find(kid, algorithm)
        if found is None:
            await self._refresh()
            found = self._find(kid, algorithm)
        if found is None:
            raise IdTokenError("no key of the provider signed the ID token")
        return found

    def _find(self, kid: str, algorithm: str) -> ProviderKey | None:
        fitting = [key for key in self._keys if key.algorithm == algorithm and key.kid == kid]
        # A token without a key id is taken where there is one key that it can mean (Core section 10.1).
        if not kid:
            fitting = [key for key in self._keys if key.algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        """Fetch the keys, if that was not just tried; old ones are kept for a while where it fails."""
        if self._fetch is None:
            return
        # Who comes while the keys are on their way waits for them.
        async with self._fetching:
            now = time.monotonic()
            if now - self._tried >= _RETRY:
                self._tried = now
                with contextlib.suppress(aiohttp.ClientError, OSError, ProviderError):
                    self._keys = parse_keys(await self._fetch())
                    self._fetched = now
        if now - self._fetched > _STALE:
            self._keys = ()
            raise ProviderError("the provider's keys cannot be had")

    async def _download(self) -> bytes:
        limit = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.get(self._config.jwks, allow_redirects=False) as response,
        ):
            body = await response.content.read(_MAX_KEYS + 1)
            while not response.content.at_eof() and len(body) <= _MAX_KEYS:
                body += await response.content.read(_MAX_KEYS + 1)
            if response.status != 200:  # noqa: PLR2004 - RFC 9110
                raise ProviderError("the provider refuses to give its keys")
            return body


def read_header(bearer: str) -> tuple[str, str]:
    """What a token says before it is verified: its key's id, which may be empty, and `RS256` or `ES256`.

    Raises:
        IdTokenError: malformed, of another type, or signed in another way.
    """
    try:
        header = jwt.get_unverified_header(bearer)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise IdTokenError("the ID token is malformed") from None
    # RFC 8725 section 3.11: an access token is no ID token, whoever signed it.
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise IdTokenError("the token is of another type than an ID token")
    kid, algorithm = header.get("kid", ""), header.get("alg")
    if not isinstance(kid, str) or algorithm not in {"RS256", "ES256"}:
        raise IdTokenError("the ID token is signed in a way that is not taken")
    return kid, str(algorithm)


def verify_id_token(bearer: str, key: ProviderKey, config: OidcConfig, now: int) -> str:
    """The account of a token that `key` signed, as `OpenIdConnect.account`.

    Raises:
        IdTokenError: it did not, or the token is not for us, or not of now.
    """
    claims = _verified(bearer, key)
    _check(claims, config, now)
    return _name(config.issuer, _subject(claims))


def _check(claims: dict[str, Any], config: OidcConfig, now: int) -> None:
    if claims.get("iss") != config.issuer:
        raise IdTokenError("the ID token is another provider's")
    if claims.get("aud") not in (config.audience, [config.audience]):
        raise IdTokenError("the ID token is for somebody else, or not for us alone")
    if claims.get("azp", config.audience) != config.audience:
        raise IdTokenError("the ID token was given to somebody else")
    if _moment(claims, "exp") <= now - _LEEWAY:
        raise IdTokenError("the ID token has expired")
    made = _moment(claims, "iat")
    if not now - config.max_age - _LEEWAY <= made <= now + _LEEWAY:
        raise IdTokenError("the ID token is too old, or of the future")
    if "nbf" in claims and _moment(claims, "nbf") > now + _LEEWAY:
        raise IdTokenError("the ID token is not valid yet")


def _verified(bearer: str, key: ProviderKey) -> dict[str, Any]:
    """The claims of a token whose signature is `key`'s. What they say is checked by `_check`, with our own clock."""
    try:
        claims: dict[str, Any] = jwt.decode(
            bearer,
            key.key,
            algorithms=[key.algorithm],
            options={
                "verify_signature": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.PyJWTError, ValueError, RecursionError, OverflowError):
        raise IdTokenError("the ID token's signature does not verify") from None
    return claims


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # JSON has no NaN, but Python's reader does.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1 << 53:
        raise IdTokenError(f"the ID token has no time in {name}")
    return value


def _subject(claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT or not subject.isascii():
        raise IdTokenError("the ID token names no subject")
    return subject


def _name(issuer: str, subject: str) -> str:
    # The colon is in no enrolled account's name, so that neither can be taken for the other.
    digest = hashlib.sha256(issuer.encode() + b"\x00" + subject.encode()).digest()
    return "oidc:" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class _Document(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


def parse_keys(data: bytes) -> tuple[ProviderKey, ...]:
    """The keys of a JWKS (RFC 7517) that can have signed ID tokens; others are left out, as providers publish many kinds.

    Raises:
        ProviderError: not a JWKS, too long, or none of its keys can be used.
    """
    try:
        document = msgspec.json.decode(data, type=_Document) if len(data) <= _MAX_KEYS else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        document = None
    if document is None:
        raise ProviderError("the provider's keys are no JWKS")
    keys = tuple(key for key in map(_parse_key, document.keys) if key is not None)
    if not keys:
        raise ProviderError("the provider has no key that can be used")
    return keys


def _parse_key(entry: dict[str, Any]) -> ProviderKey | None:
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
    kid = entry.get("kid", "")
    if (
        algorithm is None
        or "d" in entry
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or not isinstance(kid, str)
    ):
        return None
    try:
        key = jwt.PyJWK.from_dict(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS:
        return ProviderKey(kid=kid, algorithm=algorithm, key=key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return ProviderKey(kid=kid, algorithm=algorithm, key=key)
    return None


def _pinned(path: str) -> tuple[ProviderKey, ...]:
    try:
        with Path(path).open("rb") as file:
            return parse_keys(file.read(_MAX_KEYS + 1))
    except (OSError, ProviderError):
        raise ConfigError("the provider's keys cannot be read", hint=f"looked for {path}") from None


def _require_tls(url: str) -> None:
    parts = urlsplit(url)
    try:
        near = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        near = False
    if parts.scheme != "https" and not (parts.scheme == "http" and near):
        raise ConfigError("the provider's keys come over https", hint="or from a file, which pins them")

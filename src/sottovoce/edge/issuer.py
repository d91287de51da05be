"""The issuer: signs blinded tokens for accounts (RFC 9578 section 6), and learns no token.

    POST /token-request                            Authorization: Bearer <enrolment key, or ID token>
    GET  /.well-known/private-token-issuer-directory
    GET  /healthz

It keeps, per account and day, how many tokens were signed: no request, no answer, no time of day, and it logs
counts by the hour.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.authscheme import to_base64url
from sottovoce.core.errors import ConfigError, PeerError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    GRACE,
    REQUEST_LENGTH,
    TOKEN_TYPE,
    TokenKey,
    TokenRequest,
    epoch_at,
)
from sottovoce.edge.accounts import AccountStore, AccountUnknownError, QuotaError, enrol, open_accounts
from sottovoce.edge.attesters import Attester, Attesters, EnrolmentKeys, OidcConfig
from sottovoce.edge.rsa import BlindSigner, generate_token_key, load_token_key

__all__ = ["Config", "KeyFile", "create_app", "enrol", "generate_token_key"]

_REQUEST: Final = "/token-request"
_DIRECTORY: Final = "/.well-known/private-token-issuer-directory"
_REQUEST_TYPE: Final = b"application/private-token-request"
_RESPONSE_TYPE: Final = b"application/private-token-response"
_DIRECTORY_TYPE: Final = b"application/private-token-issuer-directory"
_BEARER: Final = re.compile(rb"[Bb]earer +([A-Za-z0-9_.-]{1,8192})")
_COUNTS_KEPT: Final = 7
"""Days for which an account's counts are kept, for bills and disputes."""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One epoch's private key: the day's number since 1970 (UTC), and its PEM file."""

    epoch: int
    path: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The issuer's configuration."""

    database: str
    """The accounts' store: absolute path of a SQLite file, or a URL of PostgreSQL (docs/spent-tokens.md)."""
    keys: list[KeyFile]
    quota: int
    """Tokens an account may have per UTC day."""
    enrolment_keys: bool = True
    """Whether accounts are known by the keys that they were enrolled with."""
    oidc: OidcConfig | None = None
    """An OpenID provider whose ID tokens are taken too."""


@event
class TokensIssued(Event):
    """What the issuer did since the last such line; written once an hour at most, and at the end."""

    issued: int
    refused_account: int
    refused_quota: int
    refused_request: int
    failed: int


class _UnknownKeyError(ProtocolError):
    """The request names no key that signs today."""

    code = "token.key"


class _MediaTypeError(ProtocolError):
    """The request has another media type."""

    code = "peer.media-type"


_STATUS: Final[tuple[tuple[type[SottovoceError], int, str], ...]] = (
    (AccountUnknownError, 401, "refused_account"),
    (QuotaError, 429, "refused_quota"),
    (_MediaTypeError, 415, "refused_request"),
    (PeerError, 422, "refused_request"),  # RFC 9578 section 6.2
    (SottovoceError, 503, "failed"),
)


class _Keys:
    """The private keys by epoch; a request names its key by one byte."""

    def __init__(self, files: list[KeyFile]) -> None:
        self._by_epoch: dict[int, tuple[BlindSigner, TokenKey]] = {}
        for file in files:
            if file.epoch in self._by_epoch:
                raise ConfigError("two token keys for one epoch")
            self._by_epoch[file.epoch] = load_token_key(file.path)
        if not self._by_epoch:
            raise ConfigError("the issuer has no token key")
        if len({key.truncated_id for _, key in self._by_epoch.values()}) < len(self._by_epoch):
            raise ConfigError("two token keys share a truncated id", hint="make one of them again")

    def current(self, now: int) -> list[tuple[BlindSigner, TokenKey]]:
        """Those that sign now: today's, tomorrow's (tokens are fetched ahead), and yesterday's in its grace."""
        epochs = [epoch_at(now), epoch_at(now) + 1, epoch_at(now - GRACE)]
        return [self._by_epoch[epoch] for epoch in dict.fromkeys(epochs) if epoch in self._by_epoch]

    def signer(self, truncated_id: int, now: int) -> BlindSigner:
        for signer, key in self.current(now):
            if key.truncated_id == truncated_id:
                return signer
        raise _UnknownKeyError("no token key of today has this id")


class _Counters:
    """Counts since the last log line."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._hour = 0
        self._counts = dict.fromkeys(
            ("issued", "refused_account", "refused_quota", "refused_request", "failed"), 0
        )

    def add(self, name: str, now: int) -> None:
        if self._hour and now // 3600 != self._hour:
            self.flush()
        self._hour = now // 3600
        self._counts[name] += 1

    def flush(self) -> None:
        if any(self._counts.values()):
            self._log.emit(TokensIssued(**self._counts))
        self._counts = dict.fromkeys(self._counts, 0)


class _Issuer:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        if config.quota < 1:
            raise ConfigError("the quota is below one token")
        self._keys = _Keys(config.keys)
        self._accounts = open_accounts(config.database)
        self._attesters = Attesters(_attesters(config, self._accounts))
        self._quota = config.quota
        self._counters = _Counters(log)
        self._clock = clock
        self._day = 0
        self._pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await asgi.lifespan(receive, send, shutdown=self._close)
            return
        match scope["method"], scope["path"]:
            case "POST", path if path == _REQUEST:
                await self._token_request(scope, receive, send)
            case "GET", path if path == _DIRECTORY:
                await self._directory(send)
            case "GET", "/healthz":
                await asgi.respond(send, 204)
            case _:
                await asgi.respond(send, 404)

    async def _token_request(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        now = int(self._clock())
        try:
            body = await self._sign(scope, receive, now)
        except UnavailableError:
            return  # the client went away: there is nobody to answer
        except SottovoceError as error:
            status, counter = next(
                (status, counter) for kind, status, counter in _STATUS if isinstance(error, kind)
            )
            self._counters.add(counter, now)
            await asgi.respond_error(send, status, error, *_extra_headers(status, now))
            return
        self._counters.add("issued", now)
        await asgi.respond(send, 200, body, kind=_RESPONSE_TYPE)

    async def _sign(self, scope: asgi.Scope, receive: asgi.Receive, now: int) -> bytes:
        bearer = _BEARER.fullmatch(asgi.header(scope, b"authorization") or b"")
        if not bearer:
            raise AccountUnknownError("no enrolment key or ID token was given")
        if asgi.header(scope, b"content-type") != _REQUEST_TYPE:
            raise _MediaTypeError("not a token request")
        request = TokenRequest.decode(await asgi.read_body(receive, REQUEST_LENGTH))
        signer = self._keys.signer(request.truncated_key_id, now)
        await self._count(bearer[1].decode(), now)
        # In a thread: the signature releases the lock of the interpreter.
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._pool, signer.blind_sign, request.blinded)

    async def _count(self, bearer: str, now: int, tokens: int = 1) -> None:
        """Count tokens for the account of `bearer`, before they are signed."""
        account, day = await self._attesters.account(bearer, now), epoch_at(now)
        await self._accounts.count(account, day, self._quota, tokens)
        if self._day != day:
            await self._accounts.forget(day - _COUNTS_KEPT)
            self._day = day

    async def _directory(self, send: asgi.Send) -> None:
        now = int(self._clock())
        keys = [
            {"token-type": TOKEN_TYPE, "token-key": to_base64url(key.spki).decode()}
            for _, key in self._keys.current(now)
        ]
        body = json.dumps({"issuer-request-uri": _REQUEST, "token-keys": keys}).encode()
        age = EPOCH_SECONDS - now % EPOCH_SECONDS
        caching = (b"cache-control", f"max-age={age}".encode())
        await asgi.respond(send, 200, body, caching, kind=_DIRECTORY_TYPE)

    async def _close(self) -> None:
        self._pool.shutdown()
        self._counters.flush()
        await self._attesters.close()
        await self._accounts.close()


def _attesters(config: Config, accounts: AccountStore) -> list[Attester]:
    attesters: list[Attester] = [EnrolmentKeys(accounts)] if config.enrolment_keys else []
    if config.oidc is not None:
        try:
            from sottovoce.edge.oidc import OpenIdConnect  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigError(
                "what reads ID tokens is not installed", hint="pip install 'sottovoce[oidc]'"
            ) from None
        attesters.append(OpenIdConnect(config.oidc))
    return attesters


def _extra_headers(status: int, now: int) -> list[tuple[bytes, bytes]]:
    if status == 401:  # noqa: PLR2004 - RFC 9110 section 11.6.1
        return [(b"www-authenticate", b"Bearer")]
    if status == 429:  # noqa: PLR2004 - RFC 6585 section 4
        return [(b"retry-after", str(EPOCH_SECONDS - now % EPOCH_SECONDS).encode())]
    return []


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The issuer's ASGI application; `clock` gives Unix seconds.

    Raises:
        ConfigError: no key, a key that cannot be read, two keys for one epoch or with one truncated id, or a
            quota below 1.
        StoreError: the database cannot be used.
    """
    return _Issuer(config, log, clock)

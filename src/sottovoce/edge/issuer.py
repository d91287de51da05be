"""The issuer: signs blinded tokens for accounts (RFC 9578), and learns no token.

    POST /token-request                            Authorization: Bearer <enrolment key, or ID token>
    GET  /.well-known/private-token-issuer-directory
    GET  /healthz

A request for one token has RFC 9578's media type, and its type in its first two bytes. A batch of type 5 has that of
draft-ietf-privacypass-batched-tokens-08 section 5, several requests of either type that of its section 6.

It keeps, per account and day, how many tokens were signed: no request, no answer, no time of day, and it logs
counts by the hour. Any number of processes may serve one issuer: what they share is the keys' files and the accounts' store.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from sottovoce.core import asgi
from sottovoce.core.authscheme import to_base64url
from sottovoce.core.counters import Counters
from sottovoce.core.errors import ConfigError, PeerError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.genericbatch import MAX_GENERIC_REQUEST, GenericBatchRequest, GenericBatchResponse
from sottovoce.core.privatetokens import (
    MAX_BATCH_REQUEST,
    BatchRequest,
    PrivateTokenKey,
    SingleRequest,
    SingleResponse,
    issue_batch,
)
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    GRACE,
    PRIVATE_TOKEN_TYPE,
    REQUEST_LENGTH,
    TOKEN_TYPE,
    TokenRequest,
    epoch_at,
)
from sottovoce.edge.accounts import enrol, open_accounts
from sottovoce.edge.accountstore import AccountStore, AccountUnknownError, QuotaError
from sottovoce.edge.attesters import Attester, Attesters, EnrolmentKeys, OidcConfig
from sottovoce.edge.batchkeys import load_batch_key
from sottovoce.edge.database import StoreError
from sottovoce.edge.issuerkeys import read_issuer_folder
from sottovoce.edge.keyfolder import Fault, keep_looking, listing
from sottovoce.edge.rsa import generate_token_key, load_token_key

__all__ = ["Config", "KeyFile", "create_app", "enrol", "generate_token_key"]

_REQUEST: Final = "/token-request"
_DIRECTORY: Final = "/.well-known/private-token-issuer-directory"
_REQUEST_TYPE: Final = b"application/private-token-request"
_RESPONSE_TYPE: Final = b"application/private-token-response"
_BATCH_REQUEST_TYPE: Final = b"application/private-token-amortized-batch-request"
_BATCH_RESPONSE_TYPE: Final = b"application/private-token-amortized-batch-response"
_GENERIC_REQUEST_TYPE: Final = b"application/private-token-generic-batch-request"
_GENERIC_RESPONSE_TYPE: Final = b"application/private-token-generic-batch-response"
_DIRECTORY_TYPE: Final = b"application/private-token-issuer-directory"
_BEARER: Final = re.compile(rb"[Bb]earer +([A-Za-z0-9_.-]{1,8192})")
_SLICE: Final = 16
"""Requests of one batch that are signed without a pause: whoever wants one token waits for these, and not for a whole batch."""
_COUNTS_KEPT: Final = 7
"""Days for which an account's counts are kept, for bills and disputes."""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One epoch's private key: the day's number since 1970 (UTC), and its file: PEM, or for type 5 32 bytes."""

    epoch: int
    path: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The issuer's configuration."""

    database: str
    """The accounts' store: absolute path of a SQLite file, or a URL of PostgreSQL (docs/spent-tokens.md)."""
    folder: str = ""
    """The key folder (`sottovoce directory keys issuer`), which it reads again while it runs; or else keys one by one:"""
    keys: list[KeyFile] = []
    """Of type 2."""
    batch_keys: list[KeyFile] = []
    """Of type 5, which is not issued where there are none."""
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


@event
class SigningKeysRead(Event):
    """The key folder was read again. Where it was refused, for the reason `fault`, the keys are those of before."""

    STATE = frozenset({"tokens", "batch"})

    refused: bool
    fault: Fault
    tokens: int
    batch: int


class _UnknownKeyError(ProtocolError):
    """The request names no key that signs today."""

    code = "token.key"


class _NoneIssuedError(ProtocolError):
    """One request of several names no key of today, or cannot be signed, so that none is answered."""

    code = "token.batch"


class _MediaTypeError(ProtocolError):
    """The request has another media type."""

    code = "peer.media-type"


_STATUS: Final[tuple[tuple[type[SottovoceError], int, str], ...]] = (
    (AccountUnknownError, 401, "refused_account"),
    (QuotaError, 429, "refused_quota"),
    (_MediaTypeError, 415, "refused_request"),
    (_NoneIssuedError, 400, "refused_request"),  # batched tokens, section 6.2
    (PeerError, 422, "refused_request"),  # RFC 9578 section 6.2
    (SottovoceError, 503, "failed"),
)


class _Named(Protocol):
    @property
    def truncated_id(self) -> int: ...


_Signer = TypeVar("_Signer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A request that was understood: what signs it, how many tokens it asks for, and the answer, which `join` makes of what was signed."""

    signs: tuple[Callable[[], bytes], ...]
    tokens: int = 1
    kind: bytes = _RESPONSE_TYPE
    join: Callable[[Sequence[bytes]], bytes] = b"".join


class _Keys:
    """The private keys of both types by epoch; a request names its key by one byte."""

    def __init__(self, config: Config) -> None:
        if config.folder:
            if config.keys or config.batch_keys:
                raise ConfigError(
                    "keys are named one by one, or by their folder", hint="leave one of both out"
                )
            found = read_issuer_folder(Path(config.folder))
            self._signing, batch = dict(found.signing), dict(found.batch)
        else:
            self._signing = {file.epoch: load_token_key(file.path) for file in config.keys}
            batch = {file.epoch: load_batch_key(file.path) for file in config.batch_keys}
            if (len(self._signing), len(batch)) != (len(config.keys), len(config.batch_keys)):
                raise ConfigError("two token keys for one epoch")
        self._batch = {epoch: (key, key.public) for epoch, key in batch.items()}
        if not self._signing:
            raise ConfigError("the issuer has no token key")
        # A folder holds old keys too: no two share an id of which it may have to sign at one time.
        apart = 3 if config.folder else 1 << 20
        for epoch in {*self._signing, *self._batch}:
            near = range(epoch, epoch + apart)
            _check_ids([key for one, (_, key) in self._signing.items() if one in near])
            _check_ids([key for one, (_, key) in self._batch.items() if one in near])

    @property
    def counts(self) -> tuple[int, int]:
        """How many there are of type 2, and of type 5."""
        return len(self._signing), len(self._batch)

    def published(self, now: int) -> list[tuple[int, int, bytes]]:
        """Epoch, type and encoded public key of those that sign now, the preferred ones first."""
        signing = [(epoch, TOKEN_TYPE, self._signing[epoch][1].spki) for epoch in _epochs(self._signing, now)]
        batch = [
            (epoch, PRIVATE_TOKEN_TYPE, self._batch[epoch][1].encoded) for epoch in _epochs(self._batch, now)
        ]
        return signing + batch

    def understand(self, body: bytes, now: int) -> _Work:
        """The work for a TokenRequest of either type.

        Raises:
            DecodeError: it is none.
            _UnknownKeyError: it names no key of today.
        """
        if body[:2] != PRIVATE_TOKEN_TYPE.to_bytes(2, "big"):
            request = TokenRequest.decode(body)
            signer = _find(self._signing, request.truncated_key_id, now)
            return _Work(signs=(lambda: signer.blind_sign(request.blinded),))
        single = SingleRequest.decode(body)
        key = _find(self._batch, single.truncated_key_id, now)
        return _Work(signs=(lambda: _issue_single(key, single),))

    def understand_batch(self, body: bytes, now: int) -> _Work:
        """The work for a batch of type 5; raises as `understand`."""
        request = BatchRequest.decode(body)
        key = _find(self._batch, request.truncated_key_id, now)
        return _Work(
            signs=(lambda: issue_batch(key, request),), tokens=len(request.blinded), kind=_BATCH_RESPONSE_TYPE
        )

    def understand_generic(self, body: bytes, now: int) -> _Work:
        """The work for several TokenRequests, each as if it came alone. All are signed, or none.

        Raises:
            DecodeError: it is not such a request.
            _NoneIssuedError: one of them names no key of today.
        """
        requests = GenericBatchRequest.decode(body).requests
        try:
            works = [self.understand(request, now) for request in requests]
        except _UnknownKeyError:
            raise _NoneIssuedError("one request of the batch names no key of today") from None
        types = [int.from_bytes(request[:2], "big") for request in requests]
        return _Work(
            signs=tuple(_of_batch(sign) for work in works for sign in work.signs),
            tokens=len(works),
            kind=_GENERIC_RESPONSE_TYPE,
            join=lambda signed: GenericBatchResponse(
                responses=tuple(zip(types, signed, strict=True))
            ).encode(),
        )


def _of_batch(sign: Callable[[], bytes]) -> Callable[[], bytes]:
    def signed() -> bytes:
        try:
            return sign()
        except PeerError:
            raise _NoneIssuedError("one request of the batch cannot be signed") from None

    return signed


def _sign_all(signs: Sequence[Callable[[], bytes]]) -> list[bytes]:
    return [sign() for sign in signs]


def _issue_single(key: PrivateTokenKey, request: SingleRequest) -> bytes:
    (evaluated,), proof = key.issue((request.blinded,))
    return SingleResponse(evaluated=evaluated, proof=proof).encode()


def _check_ids(keys: Sequence[_Named]) -> None:
    if len({key.truncated_id for key in keys}) < len(keys):
        raise ConfigError("two token keys share a truncated id", hint="make one of them again")


def _epochs(keys: Collection[int], now: int) -> list[int]:
    """Those that sign now: today's, tomorrow's (tokens are fetched ahead), and yesterday's in its grace."""
    epochs = [epoch_at(now), epoch_at(now) + 1, epoch_at(now - GRACE)]
    return [epoch for epoch in dict.fromkeys(epochs) if epoch in keys]


def _find(keys: Mapping[int, tuple[_Signer, _Named]], truncated_id: int, now: int) -> _Signer:
    for epoch in _epochs(keys, now):
        signer, public = keys[epoch]
        if public.truncated_id == truncated_id:
            return signer
    raise _UnknownKeyError("no token key of today has this id")


class _Issuer:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        if config.quota < 1:
            raise ConfigError("the quota is below one token")
        self._config = config
        self._log = log
        self._listing = listing(Path(config.folder)) if config.folder else ()
        self._keys = _Keys(config)
        self._accounts = open_accounts(config.database)
        self._attesters = Attesters(_attesters(config, self._accounts))
        self._quota = config.quota
        self._counters = Counters(log, TokensIssued)
        self._clock = clock
        self._day = 0
        self._pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            look = asyncio.ensure_future(keep_looking(self.reload))
            await asgi.lifespan(receive, send, shutdown=self._close)
            look.cancel()
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

    def reload(self) -> None:
        """Read the key folder again, if it has changed. Requests that are under way keep the key that they began with."""
        found = listing(Path(self._config.folder)) if self._config.folder else ()
        if found == self._listing:
            return
        fault = Fault.NONE
        try:
            self._keys, self._listing = _Keys(self._config), found
        except Exception as error:  # noqa: BLE001 - whatever a file can do, it must not end the looking
            # Not a reason to stop: the keys at hand are good for today. It is tried again at the next look.
            fault = Fault.of(error)
        tokens, batch = self._keys.counts
        self._log.emit(
            SigningKeysRead(refused=fault is not Fault.NONE, fault=fault, tokens=tokens, batch=batch)
        )

    async def _token_request(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        now = int(self._clock())
        try:
            # Who it is comes first: what is asked for costs more to read, and anybody can send it.
            account = await self._attesters.account(_bearer(scope), now)
            work = await self._understand(scope, receive, now)
            await self._accounts.count(account, epoch_at(now), self._quota, work.tokens)
            await self._forget_old(epoch_at(now))
            body = work.join(await self._sign(work.signs))
        except UnavailableError:
            return  # the client went away: there is nobody to answer
        except SottovoceError as error:
            status, counter = next(
                (status, counter) for kind, status, counter in _STATUS if isinstance(error, kind)
            )
            self._counters.add(counter, now)
            await asgi.respond_error(send, status, error, *_extra_headers(status, now))
            return
        self._counters.add("issued", now, work.tokens)
        await asgi.respond(send, 200, body, kind=work.kind)

    async def _sign(self, signs: Sequence[Callable[[], bytes]]) -> list[bytes]:
        # In threads: a signature releases the lock of the interpreter. Between two slices others have their turn.
        run, signed = asyncio.get_running_loop().run_in_executor, []
        for at in range(0, len(signs), _SLICE):
            signed += await run(self._pool, _sign_all, signs[at : at + _SLICE])
        return signed

    async def _understand(self, scope: asgi.Scope, receive: asgi.Receive, now: int) -> _Work:
        match asgi.header(scope, b"content-type"):
            case kind if kind == _REQUEST_TYPE:
                return self._keys.understand(await asgi.read_body(receive, REQUEST_LENGTH), now)
            case kind if kind == _BATCH_REQUEST_TYPE:
                return self._keys.understand_batch(await asgi.read_body(receive, MAX_BATCH_REQUEST), now)
            case kind if kind == _GENERIC_REQUEST_TYPE:
                return self._keys.understand_generic(await asgi.read_body(receive, MAX_GENERIC_REQUEST), now)
        raise _MediaTypeError("not a token request")

    async def _forget_old(self, day: int) -> None:
        """Once a day. Where it fails, tokens are issued all the same, and it is tried again with the next request."""
        if self._day == day:
            return
        self._day = day
        try:
            await self._accounts.forget(day - _COUNTS_KEPT)
        except StoreError:
            self._day = 0

    async def _directory(self, send: asgi.Send) -> None:
        now = int(self._clock())
        # A key of tomorrow signs today, and its tokens are taken from tomorrow on: `not-before` says so.
        keys = [
            {
                "token-type": token_type,
                "token-key": to_base64url(key).decode(),
                "not-before": epoch * EPOCH_SECONDS,
            }
            for epoch, token_type, key in self._keys.published(now)
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


def _bearer(scope: asgi.Scope) -> str:
    bearer = _BEARER.fullmatch(asgi.header(scope, b"authorization") or b"")
    if not bearer:
        raise AccountUnknownError("no enrolment key or ID token was given")
    return bearer[1].decode()


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

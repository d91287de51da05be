"""Spent tokens in Redis or Valkey, for many gateways. One server; what it must be set to is checked at each connection.

Keys, all under `sottovoce:spent:`:

    state     hash: id (32 hexadecimal digits, drawn when the store is made), epoch (the first that is open), tokens (how many in
              all), set:N (how many in epoch N)
    N         set of the digests of epoch N

Nothing here has a time to live: the server's clock may be wrong, and would let tokens be spent again. Each step is a script, which
the server runs alone and writes to its file as one.

`appendfsync always` is what makes a token safe: the server answers after its file is on the disk, and ends itself where that fails.
"""

import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sottovoce.core.errors import UsageError
from sottovoce.edge.database import (
    StoreDownError,
    StoreError,
    StoreFullError,
    StoreSlowError,
    StoreUnknownError,
    StoreUnsafeError,
)
from sottovoce.edge.spentstore import Refusal, refusal
from sottovoce.edge.storeurl import StoreUrl

__all__ = ["RedisSpent"]

_PREFIX: Final = "sottovoce:spent:"
_STATE: Final = _PREFIX + "state"
_OTHER = -1

# KEYS: state, then a token's set for each token. ARGV: id, limit, then epoch and digest of each token.
_SPEND: Final = """
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch', 'tokens')
if state[1] ~= ARGV[1] then return {-1} end
local horizon, held, limit = tonumber(state[2]), tonumber(state[3]), tonumber(ARGV[2])
local outcomes = {}
for i = 2, #KEYS do
  local epoch, digest = ARGV[2 * i - 1], ARGV[2 * i]
  if tonumber(epoch) < horizon then outcomes[i - 1] = 2
  elseif redis.call('SISMEMBER', KEYS[i], digest) == 1 then outcomes[i - 1] = 1
  elseif held >= limit then outcomes[i - 1] = 3
  else
    held = held + 1
    redis.call('HINCRBY', KEYS[1], 'tokens', 1)
    redis.call('HINCRBY', KEYS[1], 'set:' .. epoch, 1)
    redis.call('SADD', KEYS[i], digest)
    outcomes[i - 1] = 0
  end
end
return outcomes
"""
# KEYS: state. ARGV: id, first epoch that stays open, prefix of the sets.
_EXPIRE: Final = """
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch')
if state[1] ~= ARGV[1] then return -1 end
local horizon = math.max(tonumber(state[2]), tonumber(ARGV[2]))
if tonumber(state[2]) < horizon then redis.call('HSET', KEYS[1], 'epoch', ARGV[2]) end
local gone = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local epoch = string.match(field, '^set:(%d+)$')
  if epoch and tonumber(epoch) < horizon then
    local count = redis.call('HGET', KEYS[1], field)
    gone = gone + redis.call('SCARD', ARGV[3] .. epoch)
    redis.call('UNLINK', ARGV[3] .. epoch)
    redis.call('HDEL', KEYS[1], field)
    redis.call('HINCRBY', KEYS[1], 'tokens', '-' .. count)
  end
end
return gone
"""
_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'epoch', 0, 'tokens', 0)
return 1
"""

_WANTED: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
"""Otherwise a token that was confirmed could be lost in a crash, while the file is rewritten, or to make room."""


class RedisSpent:
    """Spent tokens in the server at a URL; one connection, made when it is needed."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._id = url.store
        self._client: Redis | None = None
        self._spend_sha = ""

    async def create(self) -> str:
        """Make the store, empty, and return its id, 32 hexadecimal digits.

        Raises:
            UsageError: there is one already.
            StoreError: the server is down, or not set up so that it loses nothing.
        """
        drawn = secrets.token_hex(16)
        async with self._server() as client:
            await _require_safe(client)
            if not await _ask(client, "EVAL", _CREATE, 1, _STATE, drawn):
                raise UsageError("there is a store already", hint="its gateways use it as it is")
        return drawn

    async def describe(self) -> dict[str, int | str]:
        """The store's id, its first open epoch, and how many tokens it holds; raises as `create` but for UsageError."""
        async with self._server() as client:
            await self._require_store(client)
            found = await _ask(client, "HMGET", _STATE, "id", "epoch", "tokens")
        return {"store": found[0].decode(), "epoch": int(found[1]), "tokens": int(found[2])}

    async def spend_all(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        """As `SpentStore.spend_all`."""
        keys: list[Any] = [_STATE, *(f"{_PREFIX}{epoch}" for _, epoch in tokens)]
        values = [part for digest, epoch in tokens for part in (epoch, digest)]
        client = await self._connected()
        try:
            with _Typed():
                answer = await self._spend(client, [len(keys), *keys, self._id, self._url.tokens, *values])
        except BaseException:
            # An answer may still come: on this connection the next command would take it for its own.
            await self._drop()
            raise
        if answer == [_OTHER]:
            await self._drop()
            raise StoreUnknownError("the store is gone, or another one is in its place")
        return [refusal(number) for number in answer]

    async def expire(self, before: int) -> int:
        """As `SpentStore.expire`, on a connection of its own."""
        async with self._server() as client:
            await self._require_store(client)
            gone = await _ask(client, "EVAL", _EXPIRE, 1, _STATE, self._id, before, _PREFIX)
        if gone == _OTHER:
            raise StoreUnknownError("the store is gone, or another one is in its place")
        return int(gone)

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()

    async def _spend(self, client: Redis, arguments: list[Any]) -> list[int]:
        answer: list[int]
        try:
            answer = await _ask(client, "EVALSHA", self._spend_sha, *arguments)
        except exceptions.NoScriptError:
            # Somebody emptied the server's cache of scripts: this one has not run.
            answer = await _ask(client, "EVAL", _SPEND, *arguments)
        return answer

    async def _connected(self) -> Redis:
        if self._client is None:
            client = self._new_client()
            try:
                with _Typed():
                    await client.initialize()
                    await self._require_store(client)
                    self._spend_sha = await client.script_load(_SPEND)
            except BaseException:
                await _close(client)
                raise
            self._client = client
        return self._client

    async def _require_store(self, client: Redis) -> None:
        await _require_safe(client)
        found = await _ask(client, "HGET", _STATE, "id")
        if found is None:
            raise StoreUnknownError("there is no store of spent tokens", hint="sottovoce spent create")
        if self._id and found.decode() != self._id:
            raise StoreUnknownError("the store is gone, or another one is in its place")
        self._id = found.decode()

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _close(client)

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[Redis]:
        client = self._new_client()
        try:
            with _Typed():
                await client.initialize()
                yield client
        finally:
            await _close(client)

    def _new_client(self) -> Redis:
        url = self._url
        if url.socket:
            place: dict[str, Any] = {"unix_socket_path": url.socket}
        else:
            place = {"host": url.host, "port": url.port}
        if url.tls:
            url.tls_context()  # says what is wrong with the authorities' file
            place |= {
                "ssl": True,
                "ssl_ca_certs": url.ca or None,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_min_version": ssl.TLSVersion.TLSv1_3,
            }
        return Redis(
            **place,
            db=int(url.database),
            username=url.user or None,
            password=url.password() or None,
            single_connection_client=True,
            # Nothing is sent twice: a second try of a token would find it spent by the first.
            retry=Retry(NoBackoff(), 0),
            socket_timeout=url.seconds,
            socket_connect_timeout=url.seconds,
            protocol=2,
        )


class _Typed:
    """Turns the client's errors into ours. Their messages may quote a command, and with it a digest."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, exceptions.RedisError):
            raise _typed(error) from None
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise StoreDownError("the store cannot be reached") from None


def _typed(error: exceptions.RedisError) -> StoreError:
    if isinstance(error, exceptions.TimeoutError):
        return StoreSlowError("the store did not answer in time")
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM" in str(error):
        return StoreFullError("the store's memory is full", hint="nothing was written; raise maxmemory")
    if isinstance(error, exceptions.ReadOnlyError):
        return StoreUnsafeError("the store is a replica", hint="spend at the primary")
    if isinstance(error, exceptions.NoPermissionError):
        return StoreUnsafeError(
            "the store does not show its settings", hint="the user needs CONFIG|GET and ROLE"
        )
    if isinstance(error, exceptions.ConnectionError):
        return StoreDownError("the store cannot be reached, or does not let us in")
    return StoreError("the store took no write")


async def _ask(client: Redis, *words: Any) -> Any:
    """One command, and the answer as the server gives it."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def _require_safe(client: Redis) -> None:
    role = await _ask(client, "ROLE")
    if role[0] != b"master":
        raise StoreUnsafeError("the store is a replica", hint="spend at the primary")
    answer = await _ask(client, "CONFIG GET", *_WANTED)
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    found = {_text(name): _text(value) for name, value in pairs}
    for name, value in _WANTED.items():
        if found.get(name) != value:
            raise StoreUnsafeError(
                "the store's server could lose a token that it confirmed", hint=f"set {name} {value}"
            )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _close(client: Redis) -> None:
    connection = client.connection
    if connection is not None:
        # At once: nobody waits for the server to say goodbye.
        await connection.disconnect(nowait=True)
    await client.aclose()

"""Spent tokens in PostgreSQL, for many gateways. The work of a group is one function in the database, so one round trip.

A commit is on the disk before it is confirmed: the function asks for that itself, whatever the session or a pool between says, and
refuses where the server was told to skip it (`fsync`, `full_page_writes`).
"""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sottovoce.core.errors import UsageError
from sottovoce.edge.database import StoreError, StoreUnknownError, StoreUnsafeError
from sottovoce.edge.postgres import dial, typed_errors
from sottovoce.edge.spentstore import Refusal, refusal
from sottovoce.edge.storeurl import StoreUrl

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresSpent"]

_LOCK: Final = 8317995080211460212
"""The advisory lock that parts spending from closing an epoch; in ASCII "sottospt"."""
_CHUNK: Final = 10_000
_OTHER, _UNSAFE = -1, -2

# The lock comes before the horizon is read, in statements of their own: a statement sees what was committed when it began. Without it
# a gateway could read the horizon, another one close and forget the epoch, and the first write the token a second time.
# Digests are written in one order everywhere (`spend_all` sorts), so that two groups never wait for each other.
_SCHEMA: Final = """
CREATE TABLE sottovoce_spent (
  epoch bigint NOT NULL, digest bytea NOT NULL CHECK (octet_length(digest) = 32), PRIMARY KEY (epoch, digest)
);
CREATE TABLE sottovoce_spent_state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one), store text NOT NULL, epoch bigint NOT NULL, forgotten bigint NOT NULL
);
CREATE SEQUENCE sottovoce_spent_count;
CREATE FUNCTION sottovoce_spend(wanted text, most bigint, epochs bigint[], digests bytea[]) RETURNS smallint[]
LANGUAGE plpgsql AS $body$
DECLARE
  state sottovoce_spent_state;
  room bigint;
  outcomes smallint[] := '{}';
  outcome smallint;
  written bigint;
BEGIN
  IF current_setting('fsync') <> 'on' OR current_setting('full_page_writes') <> 'on' THEN
    RETURN '{-2}';
  END IF;
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  PERFORM pg_advisory_xact_lock_shared(8317995080211460212);
  SELECT * INTO state FROM sottovoce_spent_state;
  IF NOT FOUND OR state.store <> wanted THEN
    RETURN '{-1}';
  END IF;
  SELECT most + state.forgotten - CASE WHEN is_called THEN last_value ELSE 0 END INTO room FROM sottovoce_spent_count;
  FOR i IN 1 .. cardinality(digests) LOOP
    IF epochs[i] < state.epoch THEN
      outcome := 2;
    ELSIF room <= 0 THEN
      outcome := 3;
      IF EXISTS (SELECT FROM sottovoce_spent WHERE epoch = epochs[i] AND digest = digests[i]) THEN
        outcome := 1;
      END IF;
    ELSE
      INSERT INTO sottovoce_spent VALUES (epochs[i], digests[i]) ON CONFLICT DO NOTHING;
      GET DIAGNOSTICS written = ROW_COUNT;
      outcome := 1;
      IF written = 1 THEN
        outcome := 0;
        room := room - 1;
        PERFORM nextval('sottovoce_spent_count');
      END IF;
    END IF;
    outcomes := outcomes || outcome;
  END LOOP;
  RETURN outcomes;
END
$body$;
"""
_FIRST: Final = "INSERT INTO sottovoce_spent_state VALUES (true, $1, 0, 0)"
_SPEND: Final = "SELECT sottovoce_spend($1, $2, $3, $4)"
_DELETE: Final = (
    "DELETE FROM sottovoce_spent WHERE (epoch, digest) IN (SELECT epoch, digest FROM sottovoce_spent"
    " WHERE epoch < (SELECT epoch FROM sottovoce_spent_state) LIMIT $1)"
)
_RECOUNT: Final = (
    "UPDATE sottovoce_spent_state SET forgotten ="
    " (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM sottovoce_spent_count)"
    " - (SELECT count(*) FROM sottovoce_spent)"
)


class PostgresSpent:
    """Spent tokens in the database at a URL; one connection, made when it is needed."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._id = url.store
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def create(self) -> str:
        """Make the store, empty, and return its id, 32 hexadecimal digits.

        Raises:
            UsageError: there is one already.
            StoreError: the server is down, or could lose what it confirmed.
        """
        drawn = secrets.token_hex(16)
        connection = await dial(self._url)
        try:
            with typed_errors():
                await _require_safe(connection)
                if await connection.fetchval("SELECT to_regclass('sottovoce_spent') IS NOT NULL"):
                    raise UsageError("there is a store already", hint="its gateways use it as it is")
                # All or nothing; of two who make it at once, the second fails.
                async with connection.transaction():
                    await connection.execute(_SCHEMA)
                    await connection.execute(_FIRST, drawn)
        finally:
            connection.terminate()
        return drawn

    async def describe(self) -> dict[str, int | str]:
        """The store's id, its first open epoch, and how many tokens it holds; raises as `create` but for UsageError."""
        connection = await dial(self._url)
        try:
            with typed_errors():
                await _require_safe(connection)
                await self._require_store(connection)
                row = await connection.fetchrow(
                    "SELECT store, epoch, (SELECT count(*) FROM sottovoce_spent) AS tokens FROM sottovoce_spent_state"
                )
        finally:
            connection.terminate()
        if row is None:
            raise StoreUnknownError("there is no store of spent tokens", hint="sottovoce spent create")
        return {"store": row["store"], "epoch": row["epoch"], "tokens": row["tokens"]}

    async def spend_all(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        """As `SpentStore.spend_all`."""
        order = sorted(range(len(tokens)), key=lambda number: tokens[number])
        digests = [tokens[number][0] for number in order]
        epochs = [tokens[number][1] for number in order]
        connection = await self._connected()
        try:
            with typed_errors():
                answer = await connection.fetchval(_SPEND, self._id, self._url.tokens, epochs, digests)
        except BaseException:
            self._drop()
            raise
        if answer in ([_OTHER], [_UNSAFE]):
            self._drop()
            _raise(answer[0])
        if len(answer) != len(tokens):
            raise StoreError("the store gave another number of answers")
        outcomes: list[Refusal] = [None] * len(tokens)
        for number, outcome in zip(order, answer, strict=True):
            outcomes[number] = refusal(outcome)
        return outcomes

    async def expire(self, before: int) -> int:
        """As `SpentStore.expire`, on a connection of its own."""
        connection = await dial(self._url)
        try:
            with typed_errors():
                await self._require_store(connection)
                await self._close_epochs(connection, before)
                total = 0
                while count := int((await connection.execute(_DELETE, _CHUNK)).rpartition(" ")[2]):
                    total += count
                # Writes that were broken off were counted too: once a day the count begins anew from what is there.
                await connection.execute("SET statement_timeout = 0")
                await connection.execute(_RECOUNT)
        finally:
            connection.terminate()
        return total

    async def close(self) -> None:
        """Close the connection."""
        self._drop()

    async def _close_epochs(self, connection: "asyncpg.Connection[asyncpg.Record]", before: int) -> None:
        async with connection.transaction():
            # Writes that began before are over when this has the lock; those that come later see the new horizon.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await connection.execute("UPDATE sottovoce_spent_state SET epoch = greatest(epoch, $1)", before)

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            connection = await dial(self._url)
            try:
                with typed_errors():
                    await _require_safe(connection)
                    await self._require_store(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    async def _require_store(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        found = await connection.fetchval("SELECT store FROM sottovoce_spent_state")
        if found is None:
            raise StoreUnknownError("there is no store of spent tokens", hint="sottovoce spent create")
        if self._id and found != self._id:
            _raise(_OTHER)
        self._id = found

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _require_safe(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What is fixed while the server runs; the function looks at the rest each time."""
    unlogged = await connection.fetchval(
        "SELECT count(*) FROM pg_class WHERE relname IN ('sottovoce_spent', 'sottovoce_spent_state')"
        " AND relpersistence <> 'p'"
    )
    settings = await connection.fetchrow(
        "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages"
    )
    if unlogged or settings is None or (settings["fsync"], settings["pages"]) != ("on", "on"):
        _raise(_UNSAFE)


def _raise(number: int) -> None:
    if number == _OTHER:
        raise StoreUnknownError("the store is gone, or another one is in its place")
    raise StoreUnsafeError(
        "the store's server could lose a token that it confirmed",
        hint="set fsync and full_page_writes on, and make the tables LOGGED",
    )

"""The issuer's accounts and counts in PostgreSQL, for issuers on many machines. The tables are made when they are not there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from sottovoce.core.errors import UsageError
from sottovoce.edge.accountstore import AccountUnknownError, QuotaError, key_hash, new_key, require_name
from sottovoce.edge.database import StoreSlowError
from sottovoce.edge.postgres import dial, typed_errors
from sottovoce.edge.storeurl import StoreUrl

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresAccounts"]

_CONNECTIONS: Final = 8
"""So many commits wait for the disk at once; the server writes them together."""
_LOCK: Final = 8317995080142743907
"""The advisory lock under which the tables are made; in ASCII "sottoacc"."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sottovoce_accounts (
  key_hash bytea PRIMARY KEY CHECK (octet_length(key_hash) = 32), account text NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS sottovoce_issued (
  account text NOT NULL, day bigint NOT NULL, tokens bigint NOT NULL, PRIMARY KEY (account, day)
);
"""
# One statement: of two issuers that count at once the second waits for the first, and sees its sum.
_COUNT: Final = (
    "INSERT INTO sottovoce_issued AS issued SELECT $1::text, $2::bigint, $4::bigint WHERE $4 <= $3::bigint"
    " ON CONFLICT (account, day) DO UPDATE SET tokens = issued.tokens + $4 WHERE issued.tokens + $4 <= $3"
)
_NONE: Final = "INSERT 0 0"
"""What PostgreSQL says when nothing was written."""


class PostgresAccounts:
    """Accounts and their counts in the database at a URL. The connections are made when they are needed."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._idle: list[asyncpg.Connection[asyncpg.Record]] = []
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._made = False

    async def account_of(self, key: bytes) -> str:
        """As `AccountStore.account_of`."""
        async with self._connection() as connection:
            found = await connection.fetchval(
                "SELECT account FROM sottovoce_accounts WHERE key_hash = $1", key_hash(key)
            )
        if found is None:
            raise AccountUnknownError("no account has this key")
        return str(found)

    async def count(self, account: str, day: int, quota: int, tokens: int = 1) -> None:
        """As `AccountStore.count`."""
        async with self._connection() as connection:
            written = await connection.execute(_COUNT, account, day, quota, tokens)
        if written == _NONE:
            raise QuotaError("the account has had its tokens for today")

    async def forget(self, before: int) -> None:
        """As `AccountStore.forget`."""
        async with self._connection() as connection:
            await connection.execute("DELETE FROM sottovoce_issued WHERE day < $1", before)

    async def enrol(self, account: str) -> str:
        """As `AccountStore.enrol`."""
        require_name(account)
        key = new_key()
        async with self._connection() as connection:
            written = await connection.execute(
                "INSERT INTO sottovoce_accounts VALUES ($1, $2) ON CONFLICT DO NOTHING",
                key_hash(key.encode()),
                account,
            )
        if written == _NONE:
            raise UsageError("the account exists", hint="remove it first if its key is lost")
        return key

    async def remove(self, account: str) -> None:
        """As `AccountStore.remove`."""
        async with self._connection() as connection:
            await connection.execute("DELETE FROM sottovoce_accounts WHERE account = $1", account)

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """One of the connections, for a statement that is over when the time limit is."""
        connection = None
        try:
            async with asyncio.timeout(self._url.seconds), self._free:
                with typed_errors():
                    connection = await self._idle_or_new()
                    yield connection
        except TimeoutError:
            _drop(connection)
            raise StoreSlowError("the store did not answer in time") from None
        except BaseException:
            # Whatever it was: an answer may still come, and would be taken for the next one's.
            _drop(connection)
            raise
        self._idle.append(connection)

    async def _idle_or_new(self) -> "asyncpg.Connection[asyncpg.Record]":
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await dial(self._url)
        try:
            if not self._made:
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                    await connection.execute(_SCHEMA)
                self._made = True
        except BaseException:
            connection.terminate()
            raise
        return connection


def _drop(connection: "asyncpg.Connection[asyncpg.Record] | None") -> None:
    if connection is not None:
        connection.terminate()

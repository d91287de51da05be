"""Accounts in one SQLite file, which any number of issuer processes on one machine share."""

import asyncio
import threading
from pathlib import Path
from typing import Final

from sottovoce.core.errors import UsageError
from sottovoce.edge import database
from sottovoce.edge.accountstore import AccountUnknownError, QuotaError, key_hash, new_key, require_name

__all__ = ["Accounts", "SqliteAccounts"]

_SCHEMA: Final = (
    (
        "CREATE TABLE IF NOT EXISTS accounts"
        " (key_hash BLOB PRIMARY KEY CHECK (length(key_hash) = 32), account TEXT NOT NULL UNIQUE) STRICT"
    ),
    (
        "CREATE TABLE IF NOT EXISTS issued (account TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL,"
        " PRIMARY KEY (account, day)) STRICT, WITHOUT ROWID"
    ),
)
# One statement: two requests at once cannot both take the last token of the day.
_COUNT: Final = (
    "INSERT INTO issued SELECT ?1, ?2, ?4 WHERE ?4 <= ?3"
    " ON CONFLICT DO UPDATE SET tokens = tokens + ?4 WHERE tokens + ?4 <= ?3"
)


class Accounts:
    """Accounts and their counts, in one SQLite file. Any thread may use it."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the store.

        Raises:
            ConfigError: the file cannot be opened or made.
            StoreError: it is damaged, locked, or the disk is full.
        """
        self._lock = threading.Lock()
        self._connection = database.connect(path, _SCHEMA)

    def enrol(self, account: str) -> str:
        """As `AccountStore.enrol`."""
        require_name(account)
        key = new_key()
        statement = "INSERT INTO accounts VALUES (?, ?) ON CONFLICT DO NOTHING"
        if self._write(statement, (key_hash(key.encode()), account)) == 0:
            raise UsageError("the account exists", hint="remove it first if its key is lost")
        return key

    def remove(self, account: str) -> None:
        """As `AccountStore.remove`."""
        self._write("DELETE FROM accounts WHERE account = ?", (account,))

    def account_of(self, key: bytes) -> str:
        """As `AccountStore.account_of`."""
        with self._lock:
            try:
                found = self._connection.execute(
                    "SELECT account FROM accounts WHERE key_hash = ?", (key_hash(key),)
                ).fetchone()
            except database.SQLITE_ERRORS as error:
                raise database.typed(error) from None
        if found is None:
            raise AccountUnknownError("no account has this key")
        return str(found[0])

    def count(self, account: str, day: int, quota: int, tokens: int = 1) -> None:
        """As `AccountStore.count`.

        A process that dies loses no count. A power failure may lose those of the last moments, and who had these tokens can
        have as many again that day; waiting for the disk would cost a quarter of what the signature does.
        """
        if self._write(_COUNT, (account, day, quota, tokens), wait=False) == 0:
            raise QuotaError("the account has had its tokens for today")

    def forget(self, before: int) -> None:
        """As `AccountStore.forget`."""
        self._write("DELETE FROM issued WHERE day < ?", (before,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write(self, statement: str, values: tuple[object, ...], *, wait: bool = True) -> int:
        """Rows changed, on the disk if `wait`."""
        with self._lock:
            try:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if wait else 'NORMAL'}")
                return self._connection.execute(statement, values).rowcount
            except database.SQLITE_ERRORS as error:
                raise database.typed(error) from None


class SqliteAccounts:
    """`Accounts` for an event loop: what waits for the disk does so in a thread."""

    def __init__(self, path: Path | str) -> None:
        """As `Accounts`."""
        self._accounts = Accounts(path)

    async def account_of(self, key: bytes) -> str:
        """As `AccountStore.account_of`."""
        return await asyncio.to_thread(self._accounts.account_of, key)

    async def count(self, account: str, day: int, quota: int, tokens: int = 1) -> None:
        """As `AccountStore.count`."""
        await asyncio.to_thread(self._accounts.count, account, day, quota, tokens)

    async def forget(self, before: int) -> None:
        """As `AccountStore.forget`."""
        await asyncio.to_thread(self._accounts.forget, before)

    async def enrol(self, account: str) -> str:
        """As `AccountStore.enrol`."""
        return await asyncio.to_thread(self._accounts.enrol, account)

    async def remove(self, account: str) -> None:
        """As `AccountStore.remove`."""
        await asyncio.to_thread(self._accounts.remove, account)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._accounts.close)

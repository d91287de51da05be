"""The issuer's accounts: who may have tokens, and how many they had today. No token, request or time.

    issuer ─ AccountStore ─┬─ SqliteAccounts               one machine, any number of issuer processes
                           └─ edge.accounts_postgres       many machines

Enrolled accounts have a key; an account of an OpenID provider (`edge.oidc`) has only its counts here.
"""

import asyncio
import hashlib
import re
import secrets
import threading
from pathlib import Path
from typing import Final, Protocol

from sottovoce.core.errors import ConfigError, RefusedError, UsageError
from sottovoce.edge import database
from sottovoce.edge.storeurl import parse_store_url

__all__ = [
    "AccountStore",
    "AccountUnknownError",
    "Accounts",
    "QuotaError",
    "SqliteAccounts",
    "enrol",
    "key_hash",
    "new_key",
    "open_accounts",
    "require_name",
]

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_KEY_BYTES: Final = 32

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


class AccountUnknownError(RefusedError):
    """The enrolment key, or the ID token, belongs to no account."""

    code = "refused.account"


class QuotaError(RefusedError):
    """The account has had its tokens for today."""

    code = "quota"


class AccountStore(Protocol):
    """What a store of accounts does, for one event loop."""

    async def account_of(self, key: bytes) -> str:
        """The account whose enrolment key is `key`.

        Raises:
            AccountUnknownError: no account has this key.
            StoreError: the store could not be read.
        """

    async def count(self, account: str, day: int, quota: int, tokens: int = 1) -> None:
        """Count `tokens` for `account` on UTC day `day`, all or none, where a crash does not take it away.

        Raises:
            QuotaError: the account would have more than `quota` tokens on this day.
            StoreError: the store took no write.
        """

    async def forget(self, before: int) -> None:
        """Forget the counts of days below `before`.

        Raises:
            StoreError: the store took no write.
        """

    async def enrol(self, account: str) -> str:
        """Add an account and return its key, 43 characters, of which the store keeps a hash only.

        Raises:
            UsageError: the name is taken, or not 1 to 64 letters, digits and `._@+-`.
            StoreError: the store took no write.
        """

    async def remove(self, account: str) -> None:
        """Remove an account; its key is refused from now on. What it had today still counts."""

    async def close(self) -> None:
        """Let go of the file or the connections."""


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


def open_accounts(text: str) -> AccountStore:
    """The store of accounts that `text` names (`edge.storeurl`): SQLite or PostgreSQL.

    Raises:
        ConfigError: another kind of store, a file that cannot be opened, or what talks to the server is not installed.
        StoreError: the file is damaged, locked, or the disk is full.
    """
    url = parse_store_url(text)
    if url.kind == "sqlite":
        return SqliteAccounts(url.path)
    if url.kind != "postgresql":
        raise ConfigError("accounts are kept in SQLite or PostgreSQL")
    try:
        from sottovoce.edge.accounts_postgres import PostgresAccounts  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "what talks to the store is not installed", hint="pip install 'sottovoce[postgresql]'"
        ) from None
    return PostgresAccounts(url)


def enrol(text: Path | str, account: str) -> str:
    """Add an account to the store that `text` names and return its key; see `AccountStore.enrol`.

    For a store on a server it runs an event loop, so it cannot be called inside one.
    """
    url = parse_store_url(str(text))
    if url.kind == "sqlite":
        accounts = Accounts(url.path)
        try:
            return accounts.enrol(account)
        finally:
            accounts.close()

    async def add() -> str:
        store = open_accounts(str(text))
        try:
            return await store.enrol(account)
        finally:
            await store.close()

    return asyncio.run(add())


def require_name(account: str) -> None:
    """Raise unless `account` is a name that may be enrolled.

    Raises:
        UsageError: it is not 1 to 64 letters, digits and `._@+-`.
    """
    if not _ACCOUNT.fullmatch(account):
        raise UsageError("account name outside its grammar", hint="1 to 64 letters, digits and ._@+-")


def new_key() -> str:
    """A fresh enrolment key, 43 characters."""
    return secrets.token_urlsafe(_KEY_BYTES)


def key_hash(key: bytes) -> bytes:
    """What a store keeps of an enrolment key, 32 bytes."""
    # The key has 256 random bits, so a plain hash cannot be reversed by guessing.
    return hashlib.sha256(key).digest()

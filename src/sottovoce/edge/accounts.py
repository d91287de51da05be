"""The issuer's accounts: who may have tokens, and how many they had today. No token, request or time."""

import hashlib
import re
import secrets
import threading
from pathlib import Path
from typing import Final

from sottovoce.core.errors import RefusedError, UsageError
from sottovoce.edge import database

__all__ = ["AccountUnknownError", "Accounts", "QuotaError", "enrol"]

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
    "INSERT INTO issued SELECT account, ?2, ?4 FROM accounts WHERE key_hash = ?1 AND ?4 <= ?3"
    " ON CONFLICT DO UPDATE SET tokens = tokens + ?4 WHERE tokens + ?4 <= ?3"
)


class AccountUnknownError(RefusedError):
    """The enrolment key belongs to no account."""

    code = "refused.account"


class QuotaError(RefusedError):
    """The account has had its tokens for today."""

    code = "quota"


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
        """Add an account and return its key, 43 characters, of which the store keeps a hash only.

        Raises:
            UsageError: the name is taken, or not 1 to 64 letters, digits and `._@+-`.
            StoreError: the store took no write.
        """
        if not _ACCOUNT.fullmatch(account):
            raise UsageError("account name outside its grammar", hint="1 to 64 letters, digits and ._@+-")
        key = secrets.token_urlsafe(_KEY_BYTES)
        statement = "INSERT INTO accounts VALUES (?, ?) ON CONFLICT DO NOTHING"
        if self._write(statement, (_key_hash(key.encode()), account)) == 0:
            raise UsageError("the account exists", hint="remove it first if its key is lost")
        return key

    def remove(self, account: str) -> None:
        """Remove an account; its key is refused from now on. What it had today still counts."""
        self._write("DELETE FROM accounts WHERE account = ?", (account,))

    def count(self, key: bytes, day: int, quota: int, tokens: int = 1) -> None:
        """Count `tokens` for the account of `key` on UTC day `day`, all or none, before it returns.

        A process that dies loses no count. A power failure may lose those of the last moments, and who had these tokens can
        have as many again that day; waiting for the disk would cost a quarter of what the signature does.

        Raises:
            AccountUnknownError: no account has this key.
            QuotaError: the account would have more than `quota` tokens on this day.
            StoreError: the store took no write.
        """
        if self._write(_COUNT, (_key_hash(key), day, quota, tokens), wait=False) == 0:
            self._check(key)
            raise QuotaError("the account has had its tokens for today")

    def forget(self, before: int) -> None:
        """Forget the counts of days below `before`.

        Raises:
            StoreError: the store took no write.
        """
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

    def _check(self, key: bytes) -> None:
        with self._lock:
            try:
                found = self._connection.execute(
                    "SELECT 1 FROM accounts WHERE key_hash = ?", (_key_hash(key),)
                ).fetchone()
            except database.SQLITE_ERRORS as error:
                raise database.typed(error) from None
        if not found:
            raise AccountUnknownError("no account has this key")


def enrol(path: Path | str, account: str) -> str:
    """Add an account to the store at `path` and return its key; see `Accounts.enrol`."""
    accounts = Accounts(path)
    try:
        return accounts.enrol(account)
    finally:
        accounts.close()


def _key_hash(key: bytes) -> bytes:
    # The key has 256 random bits, so a plain hash cannot be reversed by guessing.
    return hashlib.sha256(key).digest()

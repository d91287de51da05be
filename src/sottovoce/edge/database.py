"""The edge's SQLite files: WAL, STRICT tables, every commit on the disk before it counts.

Not trusted with secrets: who holds such a file learns account names, counts and which tokens are spent.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError, SottovoceError

__all__ = [
    "SQLITE_ERRORS",
    "StoreCorruptError",
    "StoreDownError",
    "StoreError",
    "StoreFullError",
    "StoreSlowError",
    "StoreUnknownError",
    "StoreUnsafeError",
    "connect",
    "typed",
]

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What any statement can raise; `typed` turns it into one of ours. SQLite's message may quote damaged bytes,
which `sqlite3` then fails to decode."""

_BUSY_SECONDS: Final = 5.0
_OPEN_TRIES: Final = 50
_RESERVE: Final = 4 * 1024 * 1024
"""Bytes of write-ahead log made ahead: SQLite's checkpoint comes at 1,000 pages of 4 KiB."""
_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class StoreError(SottovoceError):
    """The store did not take a write, or could not be read: what depends on it is refused."""

    code = "disk"


class StoreFullError(StoreError):
    """The disk is full, or the store holds as much as it may, so it took no write."""

    code = "disk.full"


class StoreCorruptError(StoreError):
    """The store's file is damaged."""

    code = "disk.corrupt"


class StoreDownError(StoreError):
    """The store's server cannot be reached, or does not let us in."""

    code = "unavailable.store"


class StoreSlowError(StoreError):
    """The store did not answer in time. Whether it took the write is not known, so it counts as taken."""

    code = "unavailable.store.slow"


class StoreUnsafeError(StoreError):
    """The store's server could lose a write that it has confirmed, so none is given to it."""

    code = "unavailable.store.unsafe"


class StoreUnknownError(StoreError):
    """Where the store should be is none, or another one: what was written before would not be found."""

    code = "unavailable.store.unknown"


def typed(error: sqlite3.Error | UnicodeDecodeError) -> StoreError:
    """The typed error for one of SQLite's."""
    if isinstance(error, UnicodeDecodeError):
        return StoreCorruptError("the store's file is damaged")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _FULL:
        return StoreFullError("the disk is full", hint="nothing was written; make room and try again")
    if code & 0xFF in _CORRUPT:
        return StoreCorruptError("the store's file is damaged")
    return StoreError("the store could not be used")


def connect(path: Path | str, schema: tuple[str, ...]) -> sqlite3.Connection:
    """Open or make the database at `path` (mode 0600), in autocommit mode, for any thread.

    Raises:
        ConfigError: the file cannot be opened or made.
        StoreError: it is damaged, locked, or the disk is full.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        raise ConfigError("the database cannot be opened", hint=f"looked for {path}") from None
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, schema)
        _reserve(connection, Path(f"{path}-wal"))
    except SQLITE_ERRORS as error:
        connection.close()
        raise typed(error) from None
    except StoreError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, schema: tuple[str, ...]) -> None:
    _write_ahead(connection)
    # FULL: in WAL mode the default would lose the last commits when power fails, and a token with them.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    # A damaged tree could hide rows, and let a token be spent twice: better no service. About 0.2 s a million rows.
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise StoreCorruptError("the store's file is damaged")
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema:
        connection.execute(statement)
    connection.execute("COMMIT")


def _reserve(connection: sqlite3.Connection, log: Path) -> None:
    # A write into a file that has its length already is a third faster than one that makes it longer.
    if log.stat().st_size >= _RESERVE:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE reserve (filler BLOB) STRICT")
    connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (_RESERVE,))
    connection.execute("DROP TABLE reserve")
    connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for its lock when two processes turn the mode of a new file at once.
    for _ in range(_OPEN_TRIES):
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.02)
        else:
            if mode == "wal":
                return
            break
    raise StoreError("the store cannot be used in write-ahead mode")

"""The wallet's file: SQLite with mode 0600, one journal, spent tokens overwritten.

Trusted: who reads it can spend the tokens in it, and knows which ones this device will spend. A file that was
damaged is reported and left as it is; it is never replaced silently.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError, SottovoceError

__all__ = ["WalletCorruptError", "WalletError", "WalletFullError", "connect", "corrupt", "transaction"]

_APPLICATION: Final = 0x53_76_57_31
_BUSY_SECONDS: Final = 5.0
_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH}
_LENGTHS: Final = "(162, 354)"
"""Bytes of a token of type 5 and of type 2."""
_ADDED: Final = {"covered": "INTEGER NOT NULL DEFAULT -1", "firm": "INTEGER NOT NULL DEFAULT 0"}
"""Columns of `state` that wallets of the first days do not have."""
# SQLite's message may quote damaged bytes, which `sqlite3` then fails to decode.
_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)

_TOKENS: Final = (
    "CREATE TABLE tokens (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, ready INTEGER NOT NULL,"
    f" token BLOB NOT NULL CHECK (length(token) IN {_LENGTHS}), seal BLOB NOT NULL) STRICT"
)
_SCHEMA: Final = (
    (
        "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), next_refill INTEGER NOT NULL,"
        " covered INTEGER NOT NULL, firm INTEGER NOT NULL) STRICT"
    ),
    _TOKENS,
    "INSERT INTO state VALUES (0, 0, -1, 0)",
    f"PRAGMA application_id = {_APPLICATION}",
)


class WalletError(SottovoceError):
    """The wallet's file could not be read or written; no token was used."""

    code = "disk.wallet"


class WalletFullError(WalletError):
    """The disk is full; no token was used."""

    code = "disk.full"


class WalletCorruptError(ConfigError):
    """The wallet's file is damaged. It was left as it is."""

    code = "config.wallet"


def corrupt(path: Path) -> WalletCorruptError:
    """The error for a damaged file."""
    return WalletCorruptError(
        "the wallet's file is damaged", hint=f"move {path} away; the next refill starts a new wallet"
    )


def connect(path: Path) -> sqlite3.Connection:
    """Open the wallet at `path`, or make an empty one.

    Raises:
        ConfigError: it cannot be opened or made, or others may read it.
        WalletCorruptError: it is damaged, or no wallet.
        WalletError: it is in use by another process for too long, or the disk is full.
    """
    try:
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode
    except OSError:
        raise ConfigError("the wallet cannot be opened", hint=f"looked for {path}") from None
    except _SQLITE_ERRORS as error:
        raise _typed(error, path) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError("others may read the wallet", hint=f"chmod 600 {path}")
    connection = _open(path)
    try:
        _set_up(connection, "TRUNCATE")
        _check(connection, path)
        _take_both_types(connection)
    except _SQLITE_ERRORS as error:
        connection.close()
        raise _typed(error, path) from None
    except SottovoceError:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All or nothing, on the disk when it ends; other processes wait.

    Raises:
        WalletCorruptError: the file is damaged.
        WalletError: it could not be written; nothing changed.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except _SQLITE_ERRORS as error:
        raise _typed(error, path) from None


def _typed(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> SottovoceError:
    if isinstance(error, UnicodeDecodeError):
        return corrupt(path)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _FULL:
        return WalletFullError("the disk is full", hint="make room and try again")
    if code & 0xFF in _CORRUPT:
        return corrupt(path)
    return WalletError("the wallet could not be used", hint="is another program using it?")


def _open(path: Path) -> sqlite3.Connection:
    # mode=rw: SQLite must not make a file of its own accord, with rights of its own choice.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _set_up(connection: sqlite3.Connection, journal: str) -> None:
    # A journal that is truncated, and deleted rows overwritten: no copy of a spent token stays in the files.
    settings = (
        f"journal_mode = {journal}",
        "synchronous = FULL",
        "secure_delete = ON",
        "trusted_schema = OFF",
    )
    for setting in settings:
        connection.execute(f"PRAGMA {setting}")


def _create(path: Path) -> None:
    # Made whole under another name first, so that an interrupted start leaves no half-made wallet.
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = _open(draft)
        _set_up(connection, "MEMORY")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.close()
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process made it meanwhile
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if application != _APPLICATION or sound != "ok":
        raise corrupt(path)
    if connection.execute("SELECT count(*) FROM state").fetchone()[0] != 1:
        raise corrupt(path)
    if _lacking(connection):
        with transaction(connection, path):  # another process may have added them meanwhile
            for name in _lacking(connection):
                connection.execute(f"ALTER TABLE state ADD COLUMN {name} {_ADDED[name]}")


def _lacking(connection: sqlite3.Connection) -> list[str]:
    present = {row[1] for row in connection.execute("PRAGMA table_info(state)")}
    return [name for name in _ADDED if name not in present]


def _take_both_types(connection: sqlite3.Connection) -> None:
    """A wallet of before type 5 allows tokens of type 2 only: its table is made anew, its tokens stay."""
    found = "SELECT sql FROM sqlite_schema WHERE name = 'tokens'"
    if connection.execute(found).fetchone()[0] == _TOKENS:
        return
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have done it since.
    if connection.execute(found).fetchone()[0] != _TOKENS:
        connection.execute("ALTER TABLE tokens RENAME TO former")
        connection.execute(_TOKENS)
        connection.execute("INSERT INTO tokens SELECT id, epoch, ready, token, seal FROM former")
        connection.execute("DROP TABLE former")
    connection.execute("COMMIT")

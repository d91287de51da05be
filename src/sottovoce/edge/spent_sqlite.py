"""Spent tokens in one SQLite file, for the gateways of one machine. Every commit is on the disk before a token counts."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sottovoce.edge import database
from sottovoce.edge.spentstore import Refusal, TokenExpired, TokenSpent

__all__ = ["SqliteSpent"]

_CHUNK: Final = 10_000
"""Rows deleted in one transaction, so that no gateway waits long for the lock."""
_PAGE: Final = 4096
_SPARE: Final = 64
"""Pages for the tables' roots, and to work with."""
_ROW: Final = 64
"""Bytes of a row: 32 of digest, 3 of epoch, headers, and pages that are two thirds full, as digests come in no order."""

_SCHEMA: Final = (
    (
        "CREATE TABLE IF NOT EXISTS spent (epoch INTEGER NOT NULL, digest BLOB NOT NULL CHECK (length(digest) = 32),"
        " PRIMARY KEY (epoch, digest)) STRICT, WITHOUT ROWID"
    ),
    "CREATE TABLE IF NOT EXISTS horizon (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL) STRICT",
    "INSERT INTO horizon VALUES (0, 0) ON CONFLICT DO NOTHING",
)
# One statement, so that no other gateway can forget the epoch between check and write.
_SPEND: Final = (
    "INSERT INTO spent SELECT ?1, ?2 WHERE ?1 >= (SELECT epoch FROM horizon) ON CONFLICT DO NOTHING"
)
_FORGET: Final = (
    "DELETE FROM spent WHERE (epoch, digest) IN"
    " (SELECT epoch, digest FROM spent WHERE epoch < (SELECT epoch FROM horizon) LIMIT ?)"
)


class SqliteSpent:
    """Spent tokens by epoch and digest, in one SQLite file that processes share."""

    def __init__(self, path: Path | str, *, tokens: int, seconds: float) -> None:
        """Open or make the store. It takes about `tokens` tokens (never fewer than 65,000), and waits `seconds` for its lock.

        Raises:
            ConfigError: the file cannot be opened or made.
            StoreError: it is damaged, locked, or the disk is full.
        """
        # The writes of this process stand in line anyway; expiry runs beside them in another thread.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spent")
        self._lock = threading.Lock()
        self._connection = database.connect(path, _SCHEMA)
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
            # SQLite itself refuses to let the file grow beyond; pages of forgotten tokens are used again.
            self._pages = _SPARE + tokens * _ROW // _PAGE
            self._limit_pages(self._pages)
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None

    async def spend_all(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        """As `SpentStore.spend_all`, with one wait for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.write, tokens)

    async def expire(self, before: int) -> int:
        """As `SpentStore.expire`."""
        return await asyncio.to_thread(self._expire, before)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.shut)
        self._thread.shutdown(wait=False)

    def write(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        """`spend_all` for a thread."""
        with self._lock:
            return self._write(tokens)

    def _write(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        try:
            if len(tokens) == 1:
                return [self._insert(*tokens[0])]
            self._connection.execute("BEGIN IMMEDIATE")
            refusals = [self._insert(*token) for token in tokens]
            self._connection.execute("COMMIT")
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None
        finally:
            # Whatever happened: a transaction left open would take later tokens without writing them.
            self._undo()
        return refusals

    def _insert(self, digest: bytes, epoch: int) -> Refusal:
        if self._connection.execute(_SPEND, (epoch, digest)).rowcount == 1:
            return None
        horizon = self._connection.execute("SELECT epoch FROM horizon").fetchone()[0]
        if epoch < horizon:
            return TokenExpired("the token's epoch is over")
        return TokenSpent("the token was spent before")

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except database.SQLITE_ERRORS:
            # The connection can do no more; SQLite rolls the transaction back when the file is next opened.
            self._connection.close()

    def _expire(self, before: int) -> int:
        try:
            with self._lock:
                self._connection.execute("UPDATE horizon SET epoch = max(epoch, ?)", (before,))
            total = 0
            while count := self._forget():
                total += count
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None
        return total

    def _forget(self) -> int:
        with self._lock:
            # To take rows out of a full file can need a page: a tree is balanced anew.
            self._limit_pages(self._pages + _SPARE)
            try:
                return self._connection.execute(_FORGET, (_CHUNK,)).rowcount
            finally:
                self._limit_pages(self._pages)

    def _limit_pages(self, pages: int) -> None:
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def shut(self) -> None:
        """`close` for a thread."""
        with self._lock:
            self._connection.close()

"""Replay protection of the gateway (RFC 9458 section 6.5): an encapsulated key is accepted once.

A request with a `Date` is accepted within `WINDOW` seconds of it (section 6.5.1), and its encapsulated key is kept until that time is over.
One without a `Date` is accepted as long as its gateway key lives, and kept as long; there is room for `UNDATED` of these.

What is over is forgotten by the minute, and which minutes were is written down: a request of one of these is refused, whatever the clock says
then. It is forgotten only once it was over for `_DELAY` by a clock that nobody can set. So a clock that was ahead for a while makes the gateway forget
no request that it could take again, and once it is right the gateway refuses nothing, until the time comes that the wrong clock showed.

Keys seen are in one SQLite file that all gateways with the same OHTTP keys share, written before the request is used.
A restart forgets nothing. A power failure may lose the last moments (commits are not waited for on the disk). What could be
replayed then opens nothing: tokens are spent in a store of their own that waits, and sessions did not survive either.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ProtocolError
from sottovoce.core.httpdate import parse_http_date
from sottovoce.edge import database

__all__ = ["UNDATED", "WINDOW", "ForgottenError", "ReplayError", "Replays", "RequestDateError"]

WINDOW: Final = 300
"""Seconds that a request's date may differ from ours: clocks differ, and dates are rounded to the minute."""
UNDATED: Final = 1_000_000
"""About 50 MB. Beyond it, requests must have a date."""

_NEVER: Final = 1 << 40
"""From here on, `expires` is no minute but names the gateway key of an undated request."""
_NAME: Final = 16
_CHUNK: Final = 2_000
"""Rows deleted at once, about 5 ms."""
_DELAY: Final = 2 * WINDOW + 120.0
"""Seconds from when a request is found over until it is forgotten: longer than any is good for."""
_MINUTES: Final = 20_000
"""Forgotten minutes that are kept: two weeks of them, and an OHTTP key lives for a day and a half."""

_SCHEMA: Final = (
    (
        "CREATE TABLE IF NOT EXISTS seen (expires INTEGER NOT NULL, name BLOB NOT NULL CHECK (length(name) = 16),"
        " PRIMARY KEY (expires, name)) STRICT, WITHOUT ROWID"
    ),
    "CREATE TABLE IF NOT EXISTS forgotten (minute INTEGER PRIMARY KEY) STRICT",
)
# In one statement: a clock that is set back must not bring forgotten requests back.
_ADD: Final = (
    "INSERT INTO seen SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE minute = ?1)"
    " ON CONFLICT DO NOTHING"
)
_OVER: Final = "SELECT expires, name FROM seen WHERE expires < ? ORDER BY expires, name LIMIT ?"
_MARK: Final = f"INSERT OR IGNORE INTO forgotten SELECT DISTINCT expires FROM ({_OVER})"  # noqa: S608 - a constant
_FORGET: Final = f"DELETE FROM seen WHERE (expires, name) IN ({_OVER})"  # noqa: S608 - a constant
_TRIM: Final = "DELETE FROM forgotten WHERE minute <= (SELECT minute FROM forgotten ORDER BY minute DESC LIMIT 1 OFFSET ?)"


class ReplayError(ProtocolError):
    """The same encapsulated request was here before."""

    code = "peer.protocol.replay"


class RequestDateError(ProtocolError):
    """The request's date is malformed or too far from the gateway's clock, or it has none and needs one."""

    code = "peer.protocol.date"


class ForgottenError(database.StoreError):
    """The gateway has forgotten what came at the request's time, as its clock was ahead: whether this came is not known."""

    code = "unavailable.store.forgotten"


class Replays:
    """The encapsulated keys seen. `keys` are those in use: three bytes each, key id and KEM, as they begin a request."""

    def __init__(
        self,
        path: Path | str,
        keys: Collection[bytes],
        *,
        undated: int = UNDATED,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or make the store; `steady` gives seconds by a clock that nobody can set.

        Raises:
            ConfigError: the file cannot be opened or made.
            StoreError: it is damaged, locked, or the disk is full.
        """
        self._room = self._undated = undated
        self._steady = steady
        self._over = self._next_over = 0
        self._next = 0.0
        self._waiting: list[tuple[int, bytes, asyncio.Future[bool]]] = []
        self._connection = database.connect(path, _SCHEMA)
        try:
            # Commits go to the file, not to the disk: a process that dies loses nothing.
            self._connection.execute("PRAGMA synchronous = NORMAL")
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None
        self.use(keys)

    def use(self, keys: Collection[bytes]) -> None:
        """Forget the undated requests of keys other than these.

        Raises:
            StoreError: the file is damaged, locked, or the disk is full.
        """
        try:
            self._forget_keys(keys)
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None

    async def accept(self, key: bytes, enc: bytes, date: bytes | None, now: float) -> None:
        """Record a request that was opened with `key`; returns once it may be used.

        Raises:
            ReplayError: it was here before.
            ForgottenError: what was here at its time is forgotten.
            RequestDateError: its date is not acceptable at `now` (Unix seconds).
            StoreError: the store took no write.
        """
        expires = self._expires(key, date, now)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            # Requests that the event loop finds at once share one transaction.
            asyncio.get_running_loop().call_soon(self._write, int(now) // 60)
        self._waiting.append((expires, hashlib.sha256(key + enc).digest()[:_NAME], future))
        if not await future:
            self._require_known(expires)
            raise ReplayError("the request was here before")
        if date is None:
            self._undated -= 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _require_known(self, expires: int) -> None:
        try:
            row = self._connection.execute("SELECT 1 FROM forgotten WHERE minute = ?", (expires,)).fetchone()
        except database.SQLITE_ERRORS as error:
            raise database.typed(error) from None
        if row is not None:
            raise ForgottenError("whether the request was here before is forgotten", hint="check the clock")

    def _expires(self, key: bytes, date: bytes | None, now: float) -> int:
        if date is not None:
            moment = _moment(date)
            if abs(moment - now) > WINDOW:
                raise RequestDateError("the request's date is too far from the gateway's clock")
            return (moment + WINDOW) // 60 + 1
        if self._undated <= 0:
            raise RequestDateError("the request needs a date")
        return _NEVER + int.from_bytes(key, "big")

    def _write(self, minute: int) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            new = self._add([(expires, name) for expires, name, _ in waiting])
            self._forget(minute)
        except database.SQLITE_ERRORS as error:
            failure = database.typed(error)
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(failure)
            return
        for (_, _, future), fresh in zip(waiting, new, strict=True):
            if not future.done():
                future.set_result(fresh)

    def _add(self, rows: Sequence[tuple[int, bytes]]) -> list[bool]:
        """For each row, whether it is new."""
        if len(rows) == 1:
            return [self._connection.execute(_ADD, rows[0]).rowcount == 1]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if self._connection.executemany(_ADD, rows).rowcount == len(rows):
                self._connection.execute("COMMIT")
                return [True] * len(rows)
            # One of them is a replay: which?
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            new = [self._connection.execute(_ADD, row).rowcount == 1 for row in rows]
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return new

    def _forget(self, minute: int) -> None:
        """Forget some of what was over `_DELAY` ago, and still is."""
        if self._steady() >= self._next:
            self._over, self._next_over, self._next = self._next_over, minute, self._steady() + _DELAY
        if not (over := min(self._over, minute)):
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(_MARK, (over, _CHUNK))
            gone = self._connection.execute(_FORGET, (over, _CHUNK)).rowcount
            self._connection.execute(_TRIM, (_MINUTES,))
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if gone < _CHUNK:
            self._over = 0

    def _forget_keys(self, keys: Collection[bytes]) -> None:
        """Forget the undated requests of keys that are gone, and count the others."""
        self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS kept (expires INTEGER PRIMARY KEY) STRICT")
        names = [(_NEVER + int.from_bytes(key, "big"),) for key in keys]
        try:
            # All of it or nothing: where it fails, the keys of before stay in use.
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM kept")
            self._connection.executemany("INSERT OR IGNORE INTO kept VALUES (?)", names)
            self._connection.execute(
                "DELETE FROM seen WHERE expires >= ? AND expires NOT IN (SELECT expires FROM kept)", (_NEVER,)
            )
            found = self._connection.execute("SELECT count(*) FROM seen WHERE expires >= ?", (_NEVER,))
            count = int(found.fetchone()[0])
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._undated = self._room - count


@lru_cache(maxsize=64)
def _moment(date: bytes) -> int:
    # Devices round to the minute, so that most requests have one of a few dates.
    moment = parse_http_date(date)
    if moment is None:
        raise RequestDateError("the request's date is malformed")
    return moment

"""The store of spent tokens: one for all gateways, written before a token counts.

Trusted for availability and against double spending only: who holds the file learns digests of tokens that
were spent, and no token can be made from them. Who can write it can refuse tokens, or let one be spent twice.
"""

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ProtocolError, SottovoceError, UsageError
from sottovoce.edge import database

__all__ = ["SpentTokens", "TokenExpired", "TokenSpent"]

_DIGEST: Final = 32
_EPOCHS: Final = 1 << 32
_CHUNK: Final = 10_000
"""Rows deleted in one transaction, so that no gateway waits long for the lock."""

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


class TokenSpent(ProtocolError):  # noqa: N818 - the event has this name in the protocol
    """The token was spent before."""

    code = "token.spent"


class TokenExpired(ProtocolError):  # noqa: N818 - as TokenSpent
    """The token's epoch is over, and its spent tokens are forgotten."""

    code = "token.expired"


class _Waiting:
    """A token that a thread waits for: refused until its write has said otherwise."""

    __slots__ = ("done", "outcome", "token")

    def __init__(self, token: tuple[bytes, int]) -> None:
        self.token = token
        self.done = False
        self.outcome: SottovoceError | None = database.StoreError("the token was not recorded")


class SpentTokens:
    """Spent tokens by epoch and digest, in one SQLite file that processes share. Any thread may use it."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the store.

        Raises:
            ConfigError: the file cannot be opened or made.
            StoreError: it is damaged, locked, or the disk is full.
        """
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._connection = database.connect(path, _SCHEMA)

    def spend(self, digest: bytes, epoch: int) -> None:
        """Record that the token with `digest` (32 bytes) is spent; returns once that is on the disk.

        After any error the token must not be used: it may have been recorded.

        Raises:
            TokenSpent: it was recorded before, by any process, ever.
            TokenExpired: its epoch was forgotten.
            StoreError: the store took no write (`StoreFullError`: the disk is full).
            UsageError: `digest` has another length, or `epoch` is no day since 1970.
        """
        _check(digest, epoch)
        mine = _Waiting((digest, epoch))
        self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                self._spend_waiting()
        if mine.outcome:
            raise mine.outcome

    def spend_all(self, tokens: Sequence[tuple[bytes, int]]) -> list[TokenSpent | TokenExpired | None]:
        """Record many tokens with one write to the disk: for each, None or why it is refused.

        Raises:
            StoreError: nothing was recorded; none of the tokens may be used.
            UsageError: as for `spend`.
        """
        for digest, epoch in tokens:
            _check(digest, epoch)
        with self._lock:
            return self._write(tokens)

    def expire(self, before: int) -> int:
        """Forget, for good, the tokens of epochs below `before`; returns how many there were.

        Tokens of these epochs are refused from now on by every process, whatever its clock says.

        Raises:
            StoreError: the store took no write.
        """
        with self._lock:
            try:
                self._connection.execute("UPDATE horizon SET epoch = max(epoch, ?)", (before,))
                total = 0
                while count := self._connection.execute(_FORGET, (_CHUNK,)).rowcount:
                    total += count
            except database.SQLITE_ERRORS as error:
                raise database.typed(error) from None
        return total

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _spend_waiting(self) -> None:
        # Threads that came while another one waited for the disk share the next write.
        group = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for waiting in group:
            waiting.done = True
        try:
            refusals = self._write([waiting.token for waiting in group])
        except database.StoreError as error:
            for waiting in group:
                waiting.outcome = error
        else:
            for waiting, refusal in zip(group, refusals, strict=True):
                waiting.outcome = refusal

    def _write(self, tokens: Sequence[tuple[bytes, int]]) -> list[TokenSpent | TokenExpired | None]:
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

    def _insert(self, digest: bytes, epoch: int) -> TokenSpent | TokenExpired | None:
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


def _check(digest: bytes, epoch: int) -> None:
    if len(digest) != _DIGEST or not 0 <= epoch < _EPOCHS:
        raise UsageError("digest of another length than 32 bytes, or epoch out of range")

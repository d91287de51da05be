"""The device's tokens: fetched in batches at times of their own, spent later (protocol section 4).

The issuer sees when an account fetches, the gateway when a token is spent. To keep the two apart:

- a batch has a fixed size, whatever is left in the wallet;
- the next refill's time is drawn at random, and spending does not move it (`device.schedule`);
- a token waits a random time before it may be spent, and which one is spent next is drawn at random;
- each token is of one epoch's key, so all tokens spent on one day are of the same kind.

No network here: `begin_batch` gives requests, `finish_batch` takes the issuer's answers. The secrets between
the two stay in memory; a batch that is never finished is lost, and nothing else.
"""

import hashlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import DecodeError, RefusedError, UsageError
from sottovoce.core.genericbatch import begin_public_batch
from sottovoce.core.privatetokens import PublicTokenKey, begin_batch
from sottovoce.core.tokens import (
    EPOCH_SECONDS,
    Token,
    TokenChallenge,
    TokenKey,
    epoch_at,
)
from sottovoce.device.schedule import Plan, Schedule
from sottovoce.device.walletfile import (
    WalletCorruptError,
    WalletError,
    WalletFullError,
    connect,
    corrupt,
    transaction,
)

__all__ = [
    "PendingBatch",
    "Schedule",
    "Stock",
    "Wallet",
    "WalletCorruptError",
    "WalletEmpty",
    "WalletError",
    "WalletFullError",
]

_SEAL_LABEL: Final = b"sottovoce/1 wallet"
_SEAL_LENGTH: Final = 16


class WalletEmpty(RefusedError):  # noqa: N818 - the wallet's state has this name in the protocol
    """No token may be spent now.

    Attributes:
        ready_at: Unix seconds from which a token that is already here may be spent, or None.
    """

    code = "wallet.empty"

    def __init__(self, ready_at: int | None, now: int) -> None:
        if ready_at is None:
            hint = "the next refill brings new ones"
        else:
            hint = f"the next one may be spent in {ready_at - now} s: tokens rest before use"
        super().__init__("no token left", hint=hint)
        self.ready_at = ready_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """How many tokens the wallet holds: `ready` may be spent now, `waiting` later."""

    ready: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Pending:
    """One request, the epoch of its key, and what turns its answer into tokens."""

    epoch: int
    request: bytes
    finish: Callable[[bytes], Sequence[Token]]


class PendingBatch:
    """The secret half of one refill's requests; finished once.

    Attributes:
        token_type: 2 or 5.
        requests: as they are posted, one for each epoch; the answers go to `Wallet.finish_batch` in this order.
    """

    __slots__ = ("_pending", "requests", "token_type")

    def __init__(self, token_type: int, begun: Sequence[_Pending]) -> None:
        self.token_type: Final = token_type
        self.requests = tuple(pending.request for pending in begun)
        self._pending: Sequence[_Pending] | None = begun

    def __repr__(self) -> str:
        return "PendingBatch(...)"

    def finish(self, responses: Sequence[bytes]) -> list[tuple[int, Token]]:
        """Every token with its epoch, or none.

        Raises:
            DecodeError: another number of answers, or one of another length.
            TokenSignatureError: an answer is not the issuer's signature, or has no proof.
            UsageError: called a second time.
        """
        if self._pending is None:
            raise UsageError("a batch is finished once")
        pending, self._pending = self._pending, None
        if len(responses) != len(pending):
            raise DecodeError("another number of answers than of token requests")
        return [
            (one.epoch, token)
            for one, response in zip(pending, responses, strict=True)
            for token in one.finish(response)
        ]


def _begin(epoch: int, key: TokenKey | PublicTokenKey, challenge: TokenChallenge, count: int) -> _Pending:
    request, tokens = (
        begin_batch(key, challenge, count)
        if isinstance(key, PublicTokenKey)
        else begin_public_batch(key, challenge, count)
    )
    return _Pending(epoch=epoch, request=request, finish=tokens.finish)


class Wallet:
    """Tokens in one file that processes of one user share."""

    def __init__(
        self,
        path: Path,
        *,
        schedule: Schedule | None = None,
        draw: random.Random | None = None,
        zone: Callable[[int], int] | None = None,
    ) -> None:
        """Open the wallet at `path`, or make an empty one.

        `draw` is for tests; `zone` gives the device's time zone at a time, in seconds east of UTC.

        Raises:
            ConfigError: it cannot be opened or made, or others may read it.
            WalletCorruptError: it is damaged; it was left as it is.
            WalletError: another process holds it, or the disk is full.
        """
        self._path = path
        self._schedule = schedule or Schedule()
        self._draw = draw or secrets.SystemRandom()
        self._zone = zone or _local_zone
        self._lock = threading.Lock()
        self._taken: dict[bytes, tuple[int, int]] = {}
        self._connection = connect(path)

    def __repr__(self) -> str:
        return "Wallet(...)"

    def due(self, now: int) -> bool:
        """Whether it is time for a refill. Spending does not change the answer."""
        return self._schedule.is_due(self._look(now), now)

    def next_refill(self, now: int) -> int:
        """Unix seconds of the next refill; `now` where it is due."""
        plan = self._look(now)
        return now if self._schedule.is_due(plan, now) else plan.time

    def begin_batch(
        self, keys: Mapping[int, TokenKey] | Mapping[int, PublicTokenKey], challenge: TokenChallenge, now: int
    ) -> PendingBatch:
        """Begin a refill: requests for `Schedule.batch` tokens of today's key and as many of tomorrow's.

        `keys` are the directory's of the challenge's type, by epoch; others than today's and tomorrow's are left out.

        Raises:
            UsageError: no key of today or tomorrow, or a challenge of another token type.
            LibsodiumMissingError: type 5 needs libsodium.
            WalletError: the file could not be written.
        """
        epochs = [epoch for epoch in self._schedule.epochs(now) if epoch in keys]
        if not epochs:
            raise UsageError("no token key of today or tomorrow", hint="refresh the directory")
        begun = [_begin(epoch, keys[epoch], challenge, self._schedule.batch) for epoch in epochs]
        with self._lock, transaction(self._connection, self._path):
            self._write_plan(self._schedule.begun(self._plan(), now, self._draw))
        return PendingBatch(challenge.token_type, begun)

    def finish_batch(self, batch: PendingBatch, responses: Sequence[bytes], now: int) -> int:
        """Check every answer, then keep all tokens at once and draw the next refill; returns how many.

        Raises:
            DecodeError, TokenSignatureError: one answer is wrong, so none is kept.
            UsageError: the batch was finished before.
            WalletError: nothing was written.
        """
        tokens = batch.finish(responses)
        covered = max(epoch for epoch, _ in tokens)
        with self._lock, transaction(self._connection, self._path):
            for epoch, token in tokens:
                self._insert(token, epoch, self._schedule.ready(epoch, now, self._draw))
            self._write_plan(self._schedule.refilled(covered, now, self._zone(now), self._draw))
            self._drop_expired(now)
        return len(tokens)

    def add(self, tokens: Sequence[Token], epoch: int, now: int) -> None:
        """Keep verified tokens of one epoch's key; each gets its own random time of first use.

        Raises:
            WalletError: nothing was written.
        """
        with self._lock, transaction(self._connection, self._path):
            for token in tokens:
                self._insert(token, epoch, self._schedule.ready(epoch, now, self._draw))
            self._drop_expired(now)

    def take(self, now: int) -> Token:
        """A token to spend now, drawn at random; it is gone from the disk before it is returned.

        Raises:
            WalletEmpty: none may be spent now.
            WalletCorruptError: a token was damaged; all were left as they are.
            WalletError: the file could not be written; none was taken.
        """
        with self._lock, transaction(self._connection, self._path):
            self._drop_expired(now)
            rows = self._connection.execute(
                "SELECT id FROM tokens WHERE epoch = ? AND ready <= ? ORDER BY id", (epoch_at(now), now)
            ).fetchall()
            # The state of emptiness leaves the transaction as a value: dropping what expired still counts.
            taken = self._remove(self._draw.choice(rows)[0]) if rows else None
            ready_at = None if taken else self._ready_at(now)
        if taken is None:
            raise WalletEmpty(ready_at, now)
        token, epoch, ready = taken
        self._taken[token.nonce] = (epoch, ready)
        return token

    def put_back(self, token: Token) -> None:
        """Undo a `take` of this wallet: the token may be spent from the same time on as before.

        Only for a token of which not a byte has left the device. A crash between the two loses it, so that no token is on the disk
        while it may be on its way.

        Raises:
            UsageError: this wallet did not give the token, or has it back.
            WalletError: the file could not be written; the token is lost.
        """
        taken = self._taken.pop(token.nonce, None)
        if taken is None:
            raise UsageError("a token is put back once, by the wallet that gave it")
        with self._lock, transaction(self._connection, self._path):
            self._insert(token, *taken)

    def count(self, now: int) -> int:
        """Tokens that are not expired, ready or not."""
        stock = self.stock(now)
        return stock.ready + stock.waiting

    def stock(self, now: int) -> Stock:
        """Tokens that are not expired, by whether they may be spent at `now`."""
        today = epoch_at(now)
        with self._lock, transaction(self._connection, self._path):
            total, ready = self._connection.execute(
                "SELECT count(*), coalesce(sum(epoch = ?1 AND ready <= ?2), 0) FROM tokens WHERE epoch >= ?1",
                (today, now),
            ).fetchone()
        return Stock(ready=ready, waiting=total - ready)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _look(self, now: int) -> Plan:
        """The plan as it stands now, kept if it was drawn anew."""
        with self._lock, transaction(self._connection, self._path):
            plan = self._plan()
            looked = self._schedule.look(plan, now, self._zone(now), self._draw)
            if looked != plan:
                self._write_plan(looked)
        return looked

    def _plan(self) -> Plan:
        row = self._connection.execute("SELECT next_refill, covered, firm FROM state").fetchone()
        return Plan(time=row[0], covered=row[1], firm=bool(row[2]))

    def _write_plan(self, plan: Plan) -> None:
        values = (plan.time, plan.covered, int(plan.firm))
        self._connection.execute("UPDATE state SET next_refill = ?, covered = ?, firm = ?", values)

    def _insert(self, token: Token, epoch: int, ready: int) -> None:
        data = token.encode()
        self._connection.execute(
            "INSERT INTO tokens (epoch, ready, token, seal) VALUES (?, ?, ?, ?)",
            (epoch, ready, data, _seal(epoch, ready, data)),
        )

    def _remove(self, row: int) -> tuple[Token, int, int]:
        """The token, its epoch and the time from which it may be spent."""
        epoch, ready, data, seal = self._connection.execute(
            "DELETE FROM tokens WHERE id = ? RETURNING epoch, ready, token, seal", (row,)
        ).fetchone()
        if seal != _seal(epoch, ready, data):
            raise corrupt(self._path)
        return Token.decode(data), epoch, ready

    def _drop_expired(self, now: int) -> None:
        self._connection.execute("DELETE FROM tokens WHERE epoch < ?", (epoch_at(now),))

    def _ready_at(self, now: int) -> int | None:
        ready: int | None = self._connection.execute(
            "SELECT min(ready) FROM tokens WHERE ready > ? AND ready < (epoch + 1) * ?", (now, EPOCH_SECONDS)
        ).fetchone()[0]
        return ready


def _local_zone(now: int) -> int:
    return time.localtime(now).tm_gmtoff


def _seal(epoch: int, ready: int, token: bytes) -> bytes:
    """A checksum against a damaged disk; not against who can write the file."""
    numbers = f"{epoch}/{ready}/".encode()
    return hashlib.sha256(_SEAL_LABEL + numbers + token).digest()[:_SEAL_LENGTH]

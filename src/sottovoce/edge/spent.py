"""The store of spent tokens: one for all gateways, written before a token counts.

    device ─ token ─→ gateway ─ SpentTokens ─┬─ edge.spent_sqlite      one machine
                                             ├─ edge.spent_redis       Redis or Valkey, many gateways
                                             └─ edge.spent_postgres    PostgreSQL, many gateways

Trusted for availability and against double spending only: who holds the store learns digests of tokens that
were spent, and no token can be made from them. Who can write it can refuse tokens, or let one be spent twice.

Whatever the store is, these hold:

1. A token counts when the store has said that it is new, and has it where a crash does not take it away.
2. No answer, a late one or an error is a refusal. The token may then have been recorded, and nobody asks again for it.
3. Tokens are forgotten by epoch only, for good: first the epoch is closed for every gateway, then its tokens go.
4. A full store refuses. It forgets nothing to make room.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.edge.database import StoreError, StoreSlowError
from sottovoce.edge.spentstore import Refusal, SpentStore
from sottovoce.edge.storeurl import StoreUrl, parse_store_url

__all__ = ["SpentTokens", "open_spent", "open_store"]

_DIGEST: Final = 32
_EPOCHS: Final = 1 << 32
_GROUP: Final = 512
"""Tokens in one write: some milliseconds of a server's time."""
_WAITING: Final = 4096
"""Tokens that wait for a write: more than a second's worth means that the store is ill."""
_EXPIRY_SECONDS: Final = 600.0
"""Forgetting ten million rows takes a minute or two, beside the gateways' writes."""


class SpentTokens:
    """Spends tokens in a store, in groups and within a time limit. One event loop uses it."""

    def __init__(self, store: SpentStore, *, seconds: float) -> None:
        """`seconds` is how long a token waits, its write included."""
        self._store = store
        self._seconds = seconds
        self._waiting: deque[tuple[tuple[bytes, int], asyncio.Future[Refusal]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def spend(self, digest: bytes, epoch: int) -> None:
        """Record that the token with `digest` (32 bytes) is spent; returns once that is safe.

        After any error the token must not be used: it may have been recorded.

        Raises:
            TokenSpent: it was recorded before, by any gateway, ever.
            TokenExpired: its epoch was forgotten.
            StoreError: the store took no write: it is down, slow (`StoreSlowError`), full (`StoreFullError`), damaged.
            UsageError: `digest` has another length, or `epoch` is no day since 1970.
        """
        if len(digest) != _DIGEST or not 0 <= epoch < _EPOCHS:
            raise UsageError("digest of another length than 32 bytes, or epoch out of range")
        if len(self._waiting) >= _WAITING:
            raise StoreSlowError("too many tokens wait for the store")
        outcome: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append(((digest, epoch), outcome))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.ensure_future(self._write_waiting())
        try:
            async with asyncio.timeout(self._seconds):
                refusal = await outcome
        except TimeoutError:
            raise StoreSlowError("the store did not answer in time") from None
        if refusal is not None:
            raise refusal

    async def expire(self, before: int) -> int:
        """As `SpentStore.expire`."""
        try:
            async with asyncio.timeout(_EXPIRY_SECONDS):
                return await self._store.expire(before)
        except TimeoutError:
            raise StoreSlowError("the store did not forget in time") from None

    async def close(self) -> None:
        """Let what is being written end, then close the store."""
        if self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer], timeout=self._seconds)
        await self._store.close()

    async def _write_waiting(self) -> None:
        # Tokens that come while a write is on its way share the next one.
        while group := self._take_group():
            refusals = await self._write([token for token, _ in group], [outcome for _, outcome in group])
            for (_, outcome), refusal in zip(group, refusals, strict=True):
                if not outcome.done():
                    outcome.set_result(refusal)

    def _take_group(self) -> list[tuple[tuple[bytes, int], asyncio.Future[Refusal]]]:
        group: list[tuple[tuple[bytes, int], asyncio.Future[Refusal]]] = []
        while self._waiting and len(group) < _GROUP:
            item = self._waiting.popleft()
            # Who has given up was told that the token is refused; it need not be recorded.
            if not item[1].done():
                group.append(item)
        return group

    async def _write(
        self, tokens: Sequence[tuple[bytes, int]], outcomes: Sequence[asyncio.Future[Refusal]]
    ) -> Sequence[Refusal]:
        try:
            async with asyncio.timeout(self._seconds):
                refusals = await self._store.spend_all(tokens)
        except TimeoutError:
            return [StoreSlowError("the store did not answer in time")] * len(tokens)
        except SottovoceError as error:
            return [error] * len(tokens)
        except BaseException:
            # Ours to repair, but whoever waits is refused first.
            for outcome in outcomes:
                if not outcome.done():
                    outcome.set_result(StoreError("the token was not recorded"))
            raise
        if len(refusals) != len(tokens):
            return [StoreError("the store gave another number of answers")] * len(tokens)
        return refusals


def open_store(url: StoreUrl) -> SpentStore:
    """The store at `url`. A file is opened now; a server is asked when the first token comes.

    Raises:
        ConfigError: the file cannot be opened or made, or what talks to the server is not installed.
        StoreError: the file is damaged, locked, or the disk is full.
    """
    if url.kind == "sqlite":
        from sottovoce.edge.spent_sqlite import SqliteSpent  # noqa: PLC0415 - only what is used

        return SqliteSpent(url.path, tokens=url.tokens, seconds=url.seconds)
    try:
        if url.kind == "redis":
            from sottovoce.edge.spent_redis import RedisSpent  # noqa: PLC0415 - an extra

            return RedisSpent(url)
        from sottovoce.edge.spent_postgres import PostgresSpent  # noqa: PLC0415 - an extra

        return PostgresSpent(url)
    except ImportError:
        raise ConfigError(
            "what talks to the store is not installed", hint=f"pip install 'sottovoce[{url.kind}]'"
        ) from None


def open_spent(text: str) -> SpentTokens:
    """The spent tokens in the store that `text` names (`edge.storeurl`); raises as `open_store` and `parse_store_url`."""
    url = parse_store_url(text)
    return SpentTokens(open_store(url), seconds=url.seconds)

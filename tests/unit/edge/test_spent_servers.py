"""Stores on servers, where things go wrong with any of them: down, slow, restarted, emptied, replaced."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sottovoce.core.errors import UsageError
from sottovoce.edge.database import (
    StoreDownError,
    StoreUnknownError,
)
from sottovoce.edge.spent import open_spent
from sottovoce.edge.spentstore import TokenSpent
from store_kit import EPOCH, SERVERS, Place, digest, empty, place, refused, server_store


@pytest.fixture(params=SERVERS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    where = place(request, request.param, tmp_path)
    asyncio.run(where.make())
    yield where
    # Some tests leave it stopped or dead.
    where.server.signal_all(signal.SIGCONT)
    if not where.server._answers():
        where.server.kill()
        where.server.start()


def test_a_server_that_was_killed_and_comes_back_knows_what_it_confirmed(at: Place) -> None:
    async def play() -> None:
        spent = open_spent(at.url())
        for number in range(20):
            await spent.spend(digest(number), EPOCH)
        at.server.kill()
        assert await refused(spent, 100) == "unavailable.store"
        assert await refused(spent, 101) == "unavailable.store"
        at.server.start()
        for number in range(20):
            with pytest.raises(TokenSpent):
                await spent.spend(digest(number), EPOCH)
        await spent.spend(digest(200), EPOCH)
        await spent.close()

    asyncio.run(play())


def test_a_server_that_hangs_is_a_refusal_in_time(at: Place) -> None:
    async def play() -> None:
        spent = open_spent(at.url())
        await spent.spend(digest(0), EPOCH)
        spent._seconds = 1.5
        at.server.signal_all(signal.SIGSTOP)
        assert await refused(spent, 1) == "unavailable.store.slow"
        assert (await refused(spent, 2)).startswith("unavailable.store")
        at.server.signal_all(signal.SIGCONT)
        spent._seconds = 60
        # The answer to the token that was given up is nobody else's.
        with pytest.raises(TokenSpent):
            await spent.spend(digest(0), EPOCH)
        await spent.spend(digest(3), EPOCH)
        await spent.close()

    asyncio.run(play())


def test_a_server_that_is_down_from_the_start_is_used_when_it_comes(at: Place) -> None:
    async def play() -> None:
        at.server.kill()
        spent = open_spent(at.url())
        assert await refused(spent, 0) == "unavailable.store"
        with pytest.raises(StoreDownError):
            await spent.expire(EPOCH)
        at.server.start()
        await spent.spend(digest(0), EPOCH)
        await spent.close()

    asyncio.run(play())


def test_a_store_that_was_never_made_is_refused(at: Place) -> None:
    async def play() -> None:
        empty(at.server)
        spent = open_spent(at.url())
        assert await refused(spent, 0) == "unavailable.store.unknown"
        with pytest.raises(StoreUnknownError):
            await spent.expire(EPOCH)
        with pytest.raises(StoreUnknownError):
            await server_store(at.url()).describe()
        await spent.close()

    asyncio.run(play())


def test_a_store_that_lost_everything_is_not_taken_for_the_same(at: Place) -> None:
    async def play() -> None:
        known = str((await server_store(at.url()).describe())["store"])
        running, pinned = open_spent(at.url()), open_spent(at.url(f"store={known}"))
        await running.spend(digest(0), EPOCH)
        await pinned.spend(digest(1), EPOCH)
        empty(at.server)
        assert await refused(running, 0) == "unavailable.store.unknown"
        await server_store(at.url()).create()
        # Neither who was connected, nor who starts now and was told which store it is.
        assert await refused(running, 0) == "unavailable.store.unknown"
        assert await refused(open_spent(at.url(f"store={known}")), 1) == "unavailable.store.unknown"
        with pytest.raises(StoreUnknownError):
            await running.expire(EPOCH)
        await running.close()
        await pinned.close()

    asyncio.run(play())


def test_a_store_is_made_once_and_says_what_it_is(at: Place) -> None:
    async def play() -> None:
        store = server_store(at.url())
        with pytest.raises(UsageError, match="already"):
            await store.create()
        before = await store.describe()
        assert len(str(before["store"])) == 32
        assert await store.spend_all([(digest(0), EPOCH), (digest(0), EPOCH)])
        await store.expire(EPOCH)
        assert await store.describe() == before | {"tokens": 1, "epoch": EPOCH}
        await store.expire(EPOCH + 1)
        assert await store.describe() == before | {"tokens": 0, "epoch": EPOCH + 1}
        await store.close()

    asyncio.run(play())

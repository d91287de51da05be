"""One suite for every store of spent tokens, each on its real server."""

import asyncio
import multiprocessing
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.edge.database import StoreError, StoreFullError, StoreSlowError
from sottovoce.edge.spent import SpentTokens, open_spent, open_store
from sottovoce.edge.spentstore import Refusal, TokenExpired, TokenSpent
from sottovoce.edge.storeurl import parse_store_url
from store_kit import EPOCH, KINDS, Place, digest, place

_T = TypeVar("_T")


@pytest.fixture(params=KINDS)
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request, request.param, tmp_path)


@pytest.fixture
def at(empty_place: Place) -> Place:
    asyncio.run(empty_place.make())
    return empty_place


def run(play: Callable[[], Awaitable[_T]]) -> _T:
    async def whole() -> _T:
        return await play()

    return asyncio.run(whole())


def kinds(refusals: list[Refusal]) -> list[type[Any]]:
    return [type(refusal) for refusal in refusals]


def test_a_token_is_spent_once(at: Place) -> None:
    async def play() -> None:
        spent = open_spent(at.url())
        await spent.spend(digest(0), EPOCH)
        with pytest.raises(TokenSpent) as caught:
            await spent.spend(digest(0), EPOCH)
        assert caught.value.code == "token.spent"
        await spent.spend(digest(1), EPOCH)
        await spent.spend(digest(0), EPOCH + 1)
        await spent.close()

    run(play)


def test_and_once_across_gateways_and_restarts(at: Place) -> None:
    async def play() -> None:
        async with at.store() as first, at.store() as second:
            assert await first.spend_all([(digest(0), EPOCH)]) == [None]
            assert kinds(await second.spend_all([(digest(0), EPOCH)])) == [TokenSpent]
        async with at.store() as third:
            assert kinds(await third.spend_all([(digest(0), EPOCH)])) == [TokenSpent]

    run(play)


def test_a_group_has_an_outcome_for_each_in_its_order(at: Place) -> None:
    async def play() -> None:
        async with at.store() as store:
            await store.expire(EPOCH)
            high, low = (b"\xff" * 32, EPOCH), (digest(0), EPOCH)
            refusals = await store.spend_all(
                [high, low, high, (digest(5), EPOCH - 1), (digest(5), EPOCH + 1)]
            )
            assert kinds(refusals) == [type(None), type(None), TokenSpent, TokenExpired, type(None)]
            assert await store.spend_all([]) == []

    run(play)


def test_a_closed_epoch_stays_closed_for_every_gateway(at: Place) -> None:
    async def play() -> None:
        async with at.store() as store, at.store() as other:
            for epoch in (EPOCH - 1, EPOCH):
                assert await store.spend_all([(digest(0), epoch)]) == [None]
            assert await store.expire(EPOCH) == 1
            old = [(digest(0), EPOCH - 1), (digest(1), EPOCH - 1)]
            assert kinds(await other.spend_all(old)) == [TokenExpired, TokenExpired]
            assert await other.expire(EPOCH - 5) == 0
            assert kinds(await store.spend_all(old)) == [TokenExpired, TokenExpired]
            assert kinds(await store.spend_all([(digest(0), EPOCH)])) == [TokenSpent]

    run(play)


def test_a_full_store_refuses_and_forgets_nothing(at: Place) -> None:
    async def play() -> None:
        async with at.store("tokens=3000") as store:
            accepted: list[tuple[bytes, int]] = []
            full = False
            for start in range(0, 200_000, 500):
                group = [(os.urandom(32), EPOCH) for _ in range(start, start + 500)]
                try:
                    refusals = await store.spend_all(group)
                except StoreFullError:
                    full = True
                    break
                accepted += [token for token, refusal in zip(group, refusals, strict=True) if refusal is None]
                if any(refusals):
                    assert set(kinds(refusals)) <= {type(None), StoreFullError}
                    full = True
                    break
            assert full
            # SQLite counts pages and refuses a group whole; the others count tokens.
            assert len(accepted) == 3000 if at.kind != "sqlite" else len(accepted) > 3000
            assert set(kinds(await store.spend_all(accepted[:500]))) == {TokenSpent}
            assert set(kinds(await store.spend_all(accepted[-500:]))) == {TokenSpent}
            # When the epoch is over there is room again.
            assert await store.expire(EPOCH + 1) == len(accepted)
            assert await store.spend_all([(os.urandom(32), EPOCH + 1) for _ in range(500)]) == [None] * 500

    run(play)


def test_the_error_of_a_full_store_reaches_who_spends(at: Place) -> None:
    if at.kind == "sqlite":
        pytest.skip("SQLite has room for 65,000 tokens at least")

    async def play() -> None:
        spent = open_spent(at.url("tokens=1"))
        await spent.spend(digest(0), EPOCH)
        for number in (1, 1):
            with pytest.raises(StoreFullError) as caught:
                await spent.spend(digest(number), EPOCH)
            assert caught.value.code == "disk.full"
        with pytest.raises(TokenSpent):
            await spent.spend(digest(0), EPOCH)
        await spent.close()

    run(play)


def test_many_that_spend_at_once_in_two_gateways(at: Place) -> None:
    async def one(spent: SpentTokens, number: int) -> bool:
        try:
            await spent.spend(digest(number), EPOCH)
        except TokenSpent:
            return False
        return True

    async def play() -> None:
        gateways = [open_spent(at.url()) for _ in range(2)]
        # Opposite orders: a store that locks row by row must not tie itself up.
        numbers = [*range(300), *reversed(range(300))]
        won = await asyncio.gather(*(one(spent, number) for number in numbers for spent in gateways))
        assert sum(won) == 300
        for spent in gateways:
            await spent.close()

    run(play)


def _spend_fifty(url: str, ready: Any, go: Any, won: Any) -> None:
    async def play() -> int:
        spent, count = open_spent(url), 0
        for number in range(50):
            try:
                await spent.spend(digest(number), EPOCH)
            except TokenSpent:
                continue
            count += 1
        await spent.close()
        return count

    ready.release()
    go.wait()
    won.put(asyncio.run(play()))


def test_processes_that_spend_the_same_tokens_at_once(at: Place) -> None:
    context = multiprocessing.get_context("fork")
    ready, go, won = context.Semaphore(0), context.Event(), context.SimpleQueue()
    children = [context.Process(target=_spend_fifty, args=(at.url(), ready, go, won)) for _ in range(4)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    go.set()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert sum(won.get() for _ in children) == 50


def test_closing_an_epoch_while_its_tokens_are_spent_lets_none_through_twice(at: Place) -> None:
    async def play() -> None:
        gateways = [open_spent(at.url()) for _ in range(2)]
        accepted: list[int] = []
        some = asyncio.Event()

        async def spend(spent: SpentTokens) -> None:
            for number in range(200):
                try:
                    await spent.spend(digest(number), EPOCH)
                except TokenSpent:
                    continue
                except TokenExpired:
                    return
                accepted.append(number)
                if len(accepted) == 20:
                    some.set()

        async def close() -> None:
            await some.wait()
            await gateways[0].expire(EPOCH + 1)

        await asyncio.gather(*map(spend, gateways), close())
        assert len(accepted) == len(set(accepted))
        for spent in gateways:
            with pytest.raises(TokenExpired):
                await spent.spend(digest(0), EPOCH)
            await spent.close()

    run(play)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(("spend", "expire")), st.integers(0, 5), st.integers(0, 3)), max_size=25
    )
)
def test_any_history_is_that_of_a_set(at: Place, history: list[tuple[str, int, int]]) -> None:
    base = _next_base()

    async def play() -> None:
        horizon, spent = base, set()
        async with at.store() as one, at.store() as two:
            for count, (step, number, day) in enumerate(history):
                store, epoch = (one, two)[count % 2], base + day
                if step == "expire":
                    await store.expire(epoch)
                    horizon = max(horizon, epoch)
                    continue
                wanted = (
                    TokenExpired if epoch < horizon else TokenSpent if (number, day) in spent else type(None)
                )
                assert kinds(await store.spend_all([(digest(number), epoch)])) == [wanted]
                spent.add((number, day))

    run(play)


_BASES: Iterator[int] = iter(range(EPOCH + 100, EPOCH + 10**6, 100))


def _next_base() -> int:
    return next(_BASES)


# What every store's users see, whatever the store is


class Fake:
    """A store that does as it is told."""

    def __init__(self, answer: Callable[[list[tuple[bytes, int]]], Awaitable[list[Refusal]]]) -> None:
        self.answer = answer
        self.groups: list[list[tuple[bytes, int]]] = []

    async def spend_all(self, tokens: Any) -> list[Refusal]:
        self.groups.append(list(tokens))
        return await self.answer(list(tokens))

    async def expire(self, before: int) -> int:
        await asyncio.sleep(3600)
        return before

    async def close(self) -> None:
        pass


async def _take_all(tokens: list[tuple[bytes, int]]) -> list[Refusal]:
    await asyncio.sleep(0)
    return [None] * len(tokens)


async def _never(tokens: list[tuple[bytes, int]]) -> list[Refusal]:
    await asyncio.sleep(3600)
    return [None] * len(tokens)


def test_tokens_that_come_while_one_is_written_share_a_write() -> None:
    async def play() -> None:
        fake = Fake(_take_all)
        spent = SpentTokens(fake, seconds=5)
        await asyncio.gather(*(spent.spend(digest(number), EPOCH) for number in range(1000)))
        assert sum(map(len, fake.groups)) == 1000
        assert len(fake.groups) == 2
        await spent.close()

    run(play)


def test_a_slow_store_is_a_refusal_in_time_and_what_waits_is_not_burnt() -> None:
    async def play() -> None:
        fake = Fake(_never)
        spent = SpentTokens(fake, seconds=0.02)
        first = asyncio.ensure_future(spent.spend(digest(0), EPOCH))
        await asyncio.sleep(0.01)
        rest = [asyncio.ensure_future(spent.spend(digest(number), EPOCH)) for number in (1, 2)]
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreSlowError] * 3
        assert isinstance(outcomes[0], StoreSlowError)
        assert outcomes[0].code == "unavailable.store.slow"
        # What is written next has all the time it needs, and does not wait for what was given up.
        assert spent._writer is not None
        await spent._writer
        spent._seconds = 60
        fake.answer = _take_all
        await spent.spend(digest(3), EPOCH)
        await spent.close()

    run(play)


def test_a_queue_has_an_end() -> None:
    async def play() -> None:
        spent = SpentTokens(Fake(_never), seconds=5)
        tasks = [asyncio.ensure_future(spent.spend(digest(number), EPOCH)) for number in range(4096)]
        await asyncio.sleep(0)
        assert len(spent._waiting) == 4096
        with pytest.raises(StoreSlowError):
            await spent.spend(digest(5000), EPOCH)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert spent._writer is not None
        spent._writer.cancel()

    run(play)


async def _too_few(tokens: list[tuple[bytes, int]]) -> list[Refusal]:
    return [None] * (len(tokens) - 1)


async def _down(tokens: list[tuple[bytes, int]]) -> list[Refusal]:
    raise StoreError("x")


@pytest.mark.parametrize("answer", [_too_few, _down])
def test_whatever_a_store_says_nobody_is_accepted_without_an_answer(answer: Any) -> None:
    async def play() -> None:
        spent = SpentTokens(Fake(answer), seconds=5)
        outcomes = await asyncio.gather(
            *(spent.spend(digest(number), EPOCH) for number in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [StoreError] * 3

    run(play)


def test_a_fault_of_ours_refuses_all_that_wait() -> None:
    async def broken(tokens: list[tuple[bytes, int]]) -> list[Refusal]:
        raise MemoryError

    async def play() -> None:
        spent = SpentTokens(Fake(broken), seconds=5)
        outcomes = await asyncio.gather(
            *(spent.spend(digest(number), EPOCH) for number in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
        assert spent._writer is not None
        with pytest.raises(MemoryError):
            await spent._writer

    run(play)


def test_forgetting_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.edge.spent._EXPIRY_SECONDS", 0.01)
    with pytest.raises(StoreSlowError):
        asyncio.run(SpentTokens(Fake(_never), seconds=5).expire(EPOCH))


@pytest.mark.parametrize(("value", "epoch"), [(bytes(31), EPOCH), (bytes(33), EPOCH), (b"", EPOCH), (bytes(32), -1), (bytes(32), 1 << 32)])  # fmt: skip
def test_a_digest_or_an_epoch_out_of_range_is_our_own_fault(value: bytes, epoch: int) -> None:
    with pytest.raises(UsageError):
        asyncio.run(SpentTokens(Fake(_take_all), seconds=5).spend(value, epoch))


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("spent_redis", "redis://127.0.0.1/0", "redis"),
        ("spent_postgres", "postgresql://a@127.0.0.1/b", "postgresql"),
    ],
)
def test_a_client_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, f"sottovoce.edge.{module}", None)
    with pytest.raises(ConfigError) as caught:
        open_store(parse_store_url(url))
    assert caught.value.hint == f"pip install 'sottovoce[{extra}]'"


def test_every_refusal_is_one_of_ours() -> None:
    assert all(issubclass(kind, SottovoceError) for kind in (TokenSpent, TokenExpired, StoreError))

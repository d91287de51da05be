"""One suite for every store of accounts, PostgreSQL's on a real server."""

import asyncio
import dataclasses
import multiprocessing
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.edge import database
from sottovoce.edge.accounts import enrol, open_accounts
from sottovoce.edge.accounts_postgres import PostgresAccounts
from sottovoce.edge.accountstore import AccountStore, AccountUnknownError, QuotaError
from sottovoce.edge.database import StoreDownError, StoreError, StoreSlowError
from store_kit import Place, place

_T = TypeVar("_T")
TODAY = 20000


@pytest.fixture(autouse=True)
def _patient_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for another one's write waits as long as a slow disk takes."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 60.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request, request.param, tmp_path)


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request, "postgresql", tmp_path)


def play(where: Place, steps: Callable[[AccountStore], Awaitable[_T]]) -> _T:
    async def whole() -> _T:
        store = open_accounts(where.url())
        try:
            return await steps(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def test_an_account_is_known_by_its_key(at: Place) -> None:
    async def steps(store: AccountStore) -> None:
        key = await store.enrol("anna")
        assert len(key) == 43
        assert await store.account_of(key.encode()) == "anna"
        for wrong in (b"", b"x" * 43, key.encode() + b"x"):
            with pytest.raises(AccountUnknownError) as caught:
                await store.account_of(wrong)
            assert caught.value.code == "refused.account"

    play(at, steps)


def test_an_account_is_enrolled_once_and_can_be_removed(at: Place) -> None:
    async def steps(store: AccountStore) -> None:
        key = await store.enrol("anna")
        with pytest.raises(UsageError, match="exists"):
            await store.enrol("anna")
        await store.count("anna", TODAY, 2, 2)
        await store.remove("anna")
        with pytest.raises(AccountUnknownError):
            await store.account_of(key.encode())
        other = await store.enrol("anna")
        assert other != key
        # What it had today still counts.
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY, 2)

    play(at, steps)


@pytest.mark.parametrize("name", ["", "a" * 65, "an na", "ann\n", "änna", "oidc:anna"])
def test_names_outside_the_grammar(at: Place, name: str) -> None:
    async def steps(store: AccountStore) -> None:
        with pytest.raises(UsageError):
            await store.enrol(name)

    play(at, steps)


def test_a_quota_is_of_one_account_and_one_day(at: Place) -> None:
    async def steps(store: AccountStore) -> None:
        for _ in range(3):
            await store.count("anna", TODAY, 3)
        with pytest.raises(QuotaError) as caught:
            await store.count("anna", TODAY, 3)
        assert caught.value.code == "quota"
        await store.count("anna", TODAY + 1, 3)
        await store.count("oidc:ben", TODAY, 3)
        await store.count("anna", TODAY, 4)

    play(at, steps)


def test_a_batch_counts_whole_or_not_at_all(at: Place) -> None:
    async def steps(store: AccountStore) -> None:
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY, 10, 11)
        await store.count("anna", TODAY, 10, 8)
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY, 10, 3)
        await store.count("anna", TODAY, 10, 2)
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY, 10)

    play(at, steps)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(1, 6)), max_size=12))
def test_no_history_of_counts_is_above_the_quota(at: Place, history: list[tuple[int, int, int]]) -> None:
    async def steps(store: AccountStore) -> None:
        await store.forget(TODAY + 10)
        had: dict[tuple[int, int], int] = {}
        for account, day, tokens in history:
            before = had.get((account, day), 0)
            try:
                await store.count(f"account-{account}", TODAY + day, 10, tokens)
            except QuotaError:
                assert before + tokens > 10
            else:
                had[account, day] = before + tokens
                assert before + tokens <= 10

    play(at, steps)


def test_old_counts_are_forgotten(at: Place) -> None:
    async def steps(store: AccountStore) -> None:
        for day in (TODAY, TODAY + 1):
            await store.count("anna", day, 1)
        await store.forget(TODAY + 1)
        await store.count("anna", TODAY, 1)
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY + 1, 1)

    play(at, steps)


def _count(url: str, go: Any, won: Any) -> None:
    async def steps() -> int:
        store, count = open_accounts(url), 0

        async def one() -> bool:
            try:
                await store.count("anna", TODAY, 40)
            except QuotaError:
                return False
            return True

        count = sum(await asyncio.gather(*(one() for _ in range(20))))
        await store.close()
        return count

    go.wait()
    won.put(asyncio.run(steps()))


def test_issuers_that_count_at_once_keep_to_the_quota(at: Place) -> None:
    context = multiprocessing.get_context("fork")
    go, won = context.Event(), context.SimpleQueue()
    children = [context.Process(target=_count, args=(at.url(), go, won)) for _ in range(4)]
    for child in children:
        child.start()
    go.set()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert sum(won.get() for _ in children) == 40


def test_an_account_is_enrolled_from_outside_an_event_loop(at: Place) -> None:
    key = enrol(at.url(), "anna")

    async def steps(store: AccountStore) -> str:
        return await store.account_of(key.encode())

    assert play(at, steps) == "anna"


def test_accounts_are_in_sqlite_or_postgresql() -> None:
    with pytest.raises(ConfigError, match="SQLite or PostgreSQL"):
        open_accounts("redis://127.0.0.1/0")


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sottovoce.edge.accounts_postgres", None)
    with pytest.raises(ConfigError) as caught:
        open_accounts("postgresql://a@127.0.0.1/b")
    assert caught.value.hint == "pip install 'sottovoce[postgresql]'"


def test_a_server_that_is_killed_keeps_its_counts_and_gives_nothing_meanwhile(postgres: Place) -> None:
    async def steps(store: AccountStore) -> None:
        await store.count("anna", TODAY, 5, 3)
        postgres.server.kill()
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                await store.count("anna", TODAY, 5)
            assert caught.value.code == StoreDownError.code
        postgres.server.start()
        # Connections of before may still be in the pool.
        for _ in range(20):
            try:
                await store.count("anna", TODAY, 5, 2)
            except StoreDownError:
                continue
            break
        with pytest.raises(QuotaError):
            await store.count("anna", TODAY, 5)

    play(postgres, steps)


def test_a_server_that_hangs_is_an_error_in_time(postgres: Place) -> None:
    async def steps() -> None:
        store = open_accounts(postgres.url())
        assert isinstance(store, PostgresAccounts)
        await store.count("anna", TODAY, 5)
        store._url = dataclasses.replace(store._url, seconds=1)
        postgres.server.signal_all(signal.SIGSTOP)
        try:
            with pytest.raises(StoreSlowError):
                await store.count("anna", TODAY, 5)
        finally:
            postgres.server.signal_all(signal.SIGCONT)
        await store.close()

    asyncio.run(steps())

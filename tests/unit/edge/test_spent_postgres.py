"""PostgreSQL as a store: set up so that it could forget, its locks, a full disk, and the least rights that a gateway needs."""

import asyncio
import shutil
from pathlib import Path

import pytest

from sottovoce.edge.database import (
    StoreDownError,
    StoreError,
    StoreFullError,
    StoreSlowError,
    StoreUnknownError,
    StoreUnsafeError,
)
from sottovoce.edge.spent import SpentTokens, open_spent
from sottovoce.edge.spentstore import TokenSpent
from sottovoce.simulator.servers import USER, PostgresServer, find_program
from store_kit import EPOCH, Place, digest, place, refused, server_store


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    where = place(request, "postgresql", tmp_path)
    asyncio.run(where.make())
    return where


def test_each_commit_waits_for_the_disk_whatever_the_session_says(postgres: Place) -> None:
    server: PostgresServer = postgres.server
    server.sql(f"ALTER ROLE {USER} SET synchronous_commit = off")
    body = "SELECT sottovoce_spend(store, 100, '{1}', ARRAY[decode(repeat('00', 32), 'hex')]) FROM sottovoce_spent_state"
    shown = server.sql(f"BEGIN; SHOW synchronous_commit; {body}; SHOW synchronous_commit; ROLLBACK")
    server.sql(f"ALTER ROLE {USER} RESET synchronous_commit")
    assert [line for line in shown.splitlines() if line in {"on", "off", "{0}"}] == ["off", "{0}", "on"]


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_told_to_skip_the_disk_is_given_no_token(postgres: Place, setting: str) -> None:
    server: PostgresServer = postgres.server

    async def play() -> None:
        running = open_spent(postgres.url())
        await running.spend(digest(0), EPOCH)
        server.sql(f"ALTER SYSTEM SET {setting} = off")
        server.sql("SELECT pg_reload_conf()")
        try:
            for spent in (running, open_spent(postgres.url())):
                assert await _until_refused(spent) == "unavailable.store.unsafe"
                await spent.close()
            with pytest.raises(StoreUnsafeError):
                await server_store(postgres.url()).create()
        finally:
            server.sql(f"ALTER SYSTEM RESET {setting}")
            server.sql("SELECT pg_reload_conf()")

    asyncio.run(play())


async def _until_refused(spent: SpentTokens) -> str:
    # A reload reaches the server's processes a moment later.
    for number in range(1000, 2000):
        try:
            await spent.spend(digest(number), EPOCH)
        except StoreError as error:
            return error.code
        except TokenSpent:
            pass
    return ""


def test_tables_that_a_crash_empties_are_refused(postgres: Place) -> None:
    postgres.server.sql("ALTER TABLE sottovoce_spent SET UNLOGGED")

    async def play() -> None:
        assert await refused(open_spent(postgres.url()), 0) == "unavailable.store.unsafe"

    asyncio.run(play())


def test_a_gateway_waits_for_another_ones_lock_and_no_longer(postgres: Place) -> None:
    async def play() -> None:
        other = await asyncio.create_subprocess_exec(
            str(shutil.which("psql") or find_program("psql")),
            *(
                "--host",
                "127.0.0.1",
                "--port",
                str(postgres.server.port),
                "--username",
                USER,
                "--dbname",
                USER,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"BEGIN; LOCK TABLE sottovoce_spent; \\echo locked\n")
        while b"locked" not in await other.stdout.readline():
            pass
        spent = open_spent(postgres.url("seconds=3"))
        spent._seconds = 60  # the server's own limit is what ends it
        assert await refused(spent, 0) == "unavailable.store.slow"
        other.stdin.close()
        await other.wait()
        await spent.spend(digest(1), EPOCH)
        await spent.close()

    asyncio.run(play())


def test_a_full_disk_of_the_server_is_named() -> None:
    from sottovoce.edge import postgres as module  # noqa: PLC0415 - an extra

    states = {
        "53100": StoreFullError,
        "53200": StoreFullError,
        "53300": StoreDownError,
        "28P01": StoreDownError,
        "57P01": StoreDownError,
        "57014": StoreSlowError,
        "40P01": StoreSlowError,
        "25006": StoreUnsafeError,
        "42883": StoreUnknownError,
        "3D000": StoreUnknownError,
        "22000": StoreError,
    }
    for state, wanted in states.items():
        assert type(module._typed(state)) is wanted
    assert module._typed("XX001").code == "disk.corrupt"


def test_a_user_of_postgresql_with_the_documented_rights(postgres: Place) -> None:
    postgres.server.sql(
        "DROP ROLE IF EXISTS gateway; CREATE ROLE gateway LOGIN; GRANT USAGE ON SCHEMA public TO gateway;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON sottovoce_spent, sottovoce_spent_state TO gateway;"
        "GRANT USAGE, SELECT ON sottovoce_spent_count TO gateway;"
        "GRANT EXECUTE ON FUNCTION sottovoce_spend TO gateway"
    )

    async def play() -> None:
        spent = open_spent(postgres.url().replace(f"//{USER}@", "//gateway@"))
        await spent.spend(digest(0), EPOCH)
        with pytest.raises(TokenSpent):
            await spent.spend(digest(0), EPOCH)
        assert await spent.expire(EPOCH + 1) == 1
        await spent.close()

    asyncio.run(play())
    postgres.server.sql("DROP OWNED BY gateway; DROP ROLE gateway")

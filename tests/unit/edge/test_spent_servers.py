"""Stores on servers, where things go wrong: down, slow, restarted, emptied, replaced, set up so that they could forget."""

import asyncio
import datetime as dt
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.edge.database import (
    StoreDownError,
    StoreError,
    StoreFullError,
    StoreSlowError,
    StoreUnknownError,
    StoreUnsafeError,
)
from sottovoce.edge.spent import SpentTokens, open_spent, open_store
from sottovoce.edge.spent_postgres import PostgresSpent
from sottovoce.edge.spent_redis import RedisSpent
from sottovoce.edge.spentstore import TokenSpent
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.simulator.servers import USER, PostgresServer, RedisServer, find_program
from store_kit import EPOCH, SERVERS, Place, digest, empty, place


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


def server_store(url: str) -> RedisSpent | PostgresSpent:
    store = open_store(parse_store_url(url))
    assert isinstance(store, RedisSpent | PostgresSpent)
    return store


async def refused(spent: SpentTokens, number: int) -> str:
    """The code of the error that spending a token ends with."""
    with pytest.raises(StoreError) as caught:
        await spent.spend(digest(number), EPOCH)
    assert str(caught.value)
    assert digest(number).hex() not in repr(caught.value)
    return caught.value.code


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
        spent = open_spent(at.url("seconds=1.5"))
        await spent.spend(digest(0), EPOCH)
        at.server.signal_all(signal.SIGSTOP)
        assert await refused(spent, 1) == "unavailable.store.slow"
        assert (await refused(spent, 2)).startswith("unavailable.store")
        at.server.signal_all(signal.SIGCONT)
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


# Redis and Valkey


@contextmanager
def redis_like(kind: str, **changes: str) -> Iterator[RedisServer]:
    program = find_program(f"{kind}-server")
    if program is None:
        pytest.skip(f"{kind} is not installed here")
    server = RedisServer(program, {name.replace("_", "-"): value for name, value in changes.items()})
    try:
        server.start()
        yield server
    finally:
        server.remove()


def redis_place(request: pytest.FixtureRequest, kind: str, folder: Path) -> Place:
    where = place(request, kind, folder)
    asyncio.run(where.make())
    return where


@pytest.mark.parametrize("kind", ["redis", "valkey"])
@pytest.mark.parametrize(
    "change",
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
    ids=lambda change: change[0],
)
def test_a_server_that_could_forget_is_given_no_token(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, change: tuple[str, str, str]
) -> None:
    name, bad, good = change
    where = redis_place(request, kind, tmp_path)

    async def play() -> None:
        spent = open_spent(where.url())
        where.server.ask("CONFIG", "SET", name, bad)
        try:
            with pytest.raises(StoreUnsafeError) as caught:
                await spent.spend(digest(0), EPOCH)
            assert caught.value.hint == f"set {name} {good}"
            with pytest.raises(StoreUnsafeError):
                await server_store(where.url()).create()
        finally:
            where.server.ask("CONFIG", "SET", name, good)
        await spent.spend(digest(0), EPOCH)
        await spent.close()

    asyncio.run(play())


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_replica_is_given_no_token(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    where = redis_place(request, kind, tmp_path)
    with redis_like(kind, replicaof=f"127.0.0.1 {where.server.port}") as replica:

        async def play() -> None:
            spent = open_spent(replica.url())
            assert await refused(spent, 0) == "unavailable.store.unsafe"
            await spent.close()

        asyncio.run(play())


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_without_memory_refuses_and_keeps_what_it_has(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    where = redis_place(request, kind, tmp_path)

    async def play() -> None:
        spent = open_spent(where.url())
        await spent.spend(digest(0), EPOCH)
        where.server.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreFullError):
                await spent.spend(digest(1), EPOCH)
        finally:
            where.server.ask("CONFIG", "SET", "maxmemory", "0")
        with pytest.raises(TokenSpent):
            await spent.spend(digest(0), EPOCH)
        await spent.spend(digest(1), EPOCH)
        await spent.close()

    asyncio.run(play())


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_that_forgot_its_scripts_is_told_again(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    where = redis_place(request, kind, tmp_path)

    async def play() -> None:
        spent = open_spent(where.url())
        await spent.spend(digest(0), EPOCH)
        where.server.ask("SCRIPT", "FLUSH")
        await spent.spend(digest(1), EPOCH)
        with pytest.raises(TokenSpent):
            await spent.spend(digest(1), EPOCH)
        await spent.close()

    asyncio.run(play())


def test_a_damaged_state_is_an_error_and_no_acceptance(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = redis_place(request, "redis", tmp_path)

    async def play() -> None:
        spent = open_spent(where.url())
        where.server.ask("HSET", "sottovoce:spent:state", "epoch", "canary")
        assert await refused(spent, 0) == "disk"
        where.server.ask("DEL", "sottovoce:spent:state")
        where.server.ask("SET", "sottovoce:spent:state", "canary")
        assert await refused(spent, 0) == "disk"
        await spent.close()

    asyncio.run(play())


def test_a_password_comes_from_its_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary-password\n")
    with redis_like("redis", requirepass="canary-password") as server:

        async def play() -> None:
            url = server.url(f"password_file={file}")
            await server_store(url).create()
            spent = open_spent(url)
            await spent.spend(digest(0), EPOCH)
            await spent.close()
            assert "canary" not in repr(parse_store_url(url))
            file.write_text("another")
            with pytest.raises(StoreDownError) as caught:
                await open_spent(url).spend(digest(1), EPOCH)
            assert "another" not in repr(caught.value)
            file.unlink()
            with pytest.raises(ConfigError):
                await open_spent(url).spend(digest(2), EPOCH)

        asyncio.run(play())


# TLS


def certificate(folder: Path, name: str) -> None:
    """A key and a certificate of its own for `name`: tls.key, tls.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(pem)
    (folder / "tls.key").chmod(0o600)
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(("name", "reached"), [("localhost", True), ("other.example", False)])
def test_tls_is_verified(tmp_path: Path, name: str, *, reached: bool) -> None:
    certificate(tmp_path, name)
    with redis_like("redis") as server:
        server.kill()
        # The same port, now with TLS.
        server.settings |= {
            "port": "0",
            "tls-port": str(server.port),
            "tls-cert-file": str(tmp_path / "tls.crt"),
            "tls-key-file": str(tmp_path / "tls.key"),
            "tls-auth-clients": "no",
        }
        server.start()
        url = f"rediss://localhost:{server.port}/0"

        async def play() -> None:
            trusted = server_store(f"{url}?ca={tmp_path / 'tls.crt'}")
            if reached:
                await trusted.create()
            else:  # a certificate for another name
                with pytest.raises(StoreDownError):
                    await trusted.create()
            with pytest.raises(StoreDownError):  # an authority that nobody knows
                await server_store(url).create()
            with pytest.raises(ConfigError):
                await server_store(f"{url}?ca={tmp_path / 'missing'}").create()

        asyncio.run(play())


# PostgreSQL


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
        spent = open_spent(postgres.url("seconds=0.2"))
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


# The least that the documents say the gateways' user needs


def test_a_user_of_redis_with_the_documented_rights(tmp_path: Path) -> None:
    rights = "~sottovoce:spent:* resetchannels -@all +eval +evalsha +script|load +config|get +role +select"
    inside = "+hget +hmget +hset +hincrby +hdel +hkeys +exists +sismember +sadd +scard +unlink"
    file = tmp_path / "password"
    file.write_text("canary")
    with redis_like("redis") as server:
        assert (
            server.ask("ACL", "SETUSER", "gateway", "on", ">canary", *rights.split(), *inside.split())
            == b"+OK\r\n"
        )
        url = server.url(f"password_file={file}").replace("://", "://gateway@")

        async def play() -> None:
            await server_store(url).create()
            spent = open_spent(url)
            await spent.spend(digest(0), EPOCH)
            assert await spent.expire(EPOCH + 1) == 1
            await spent.close()
            server.ask("ACL", "SETUSER", "gateway", "-config|get")
            with pytest.raises(StoreUnsafeError):
                await server_store(url).describe()

        asyncio.run(play())


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

"""Redis and Valkey as stores: set up so that they could forget, passwords, TLS, and the least rights that a gateway needs."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sottovoce.core.errors import ConfigError
from sottovoce.edge.database import (
    StoreDownError,
    StoreFullError,
    StoreUnsafeError,
)
from sottovoce.edge.spent import open_spent
from sottovoce.edge.spentstore import TokenSpent
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.simulator.servers import RedisServer, find_program
from store_kit import EPOCH, Place, digest, place, refused, server_store


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

"""The real servers of the stores, started once a run on loopback, and thrown away."""

from collections.abc import Iterator
from typing import Any

import pytest

from sottovoce.simulator import servers


def _serve(kind: str) -> Iterator[Any]:
    with servers.running(kind) as server:
        if server is None:
            pytest.skip(
                f"{kind} is not installed here (Debian: apt-get install {kind}-server)".replace(
                    "sql-server", "sql"
                )
            )
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.RedisServer]:
    yield from _serve("redis")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.RedisServer]:
    yield from _serve("valkey")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.PostgresServer]:
    yield from _serve("postgresql")

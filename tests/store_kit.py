"""A store of each kind, empty, on a real server; and what the tests ask of it."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sottovoce.edge.database import StoreError
from sottovoce.edge.spent import SpentTokens, open_store
from sottovoce.edge.spent_postgres import PostgresSpent
from sottovoce.edge.spent_redis import RedisSpent
from sottovoce.edge.spentstore import SpentStore
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.simulator.servers import PostgresServer, RedisServer

KINDS = ("sqlite", "redis", "valkey", "postgresql")
SERVERS = KINDS[1:]
EPOCH = 20000
_FIXTURES = {"redis": "redis_server", "valkey": "valkey_server", "postgresql": "postgres_server"}
_NUMBERS = itertools.count()


def digest(number: int) -> bytes:
    """The digest of a token, by any number."""
    return number.to_bytes(32, "big")


@dataclass(kw_only=True)
class Place:
    """Where a store of one kind is. `url` gives its URL with more options; a write may take a minute, unless they say otherwise."""

    kind: str
    url: Callable[..., str]
    server: Any = None

    async def make(self) -> "Place":
        """Make the store, where that is a step of its own."""
        store = open_store(parse_store_url(self.url()))
        if isinstance(store, RedisSpent | PostgresSpent):
            await store.create()
        return self

    @contextlib.asynccontextmanager
    async def store(self, *options: str) -> AsyncIterator[SpentStore]:
        """The store as one gateway has it; made where there is none."""
        store = open_store(parse_store_url(self.url(*options)))
        try:
            yield store
        finally:
            await store.close()


def place(request: pytest.FixtureRequest, kind: str, folder: Path) -> Place:
    """An empty place for a store of `kind`."""
    if kind == "sqlite":
        number = next(_NUMBERS)

        def url(*options: str) -> str:
            return f"sqlite:{folder}/spent-{number}.db" + ("?" + "&".join(options) if options else "")

        return Place(kind=kind, url=_patient(url))
    server = request.getfixturevalue(_FIXTURES[kind])
    empty(server)
    return Place(kind=kind, url=_patient(server.url), server=server)


def _patient(url: Callable[..., str]) -> Callable[..., str]:
    # The three seconds of a gateway are less than a slow machine's disk may take.
    def with_limit(*options: str) -> str:
        named = any(option.startswith("seconds=") for option in options)
        return url(*options, *([] if named else ["seconds=60"]))

    return with_limit


def empty(server: RedisServer | PostgresServer) -> None:
    """Throw away what a server has."""
    if isinstance(server, RedisServer):
        server.ask("FLUSHALL")
    else:
        server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


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

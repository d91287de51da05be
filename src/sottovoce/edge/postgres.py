"""What the edge's stores in PostgreSQL share: a connection, and typed errors whose texts hold nothing of a statement."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import asyncpg

from sottovoce.edge.database import (
    StoreCorruptError,
    StoreDownError,
    StoreError,
    StoreFullError,
    StoreSlowError,
    StoreUnknownError,
    StoreUnsafeError,
)
from sottovoce.edge.storeurl import StoreUrl

__all__ = ["connection_settings", "dial", "typed_errors"]


@contextlib.contextmanager
def typed_errors() -> Iterator[None]:
    """Turn the driver's errors into `StoreError`s; `TimeoutError` stays."""
    try:
        yield
    except TimeoutError:
        raise
    except asyncpg.PostgresError as error:
        raise _typed(error.sqlstate or "") from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        raise StoreDownError("the store cannot be reached") from None


def _typed(state: str) -> StoreError:
    exact = next((make for states, make in _KINDS if state in states), None)
    if exact is None:
        exact = next((make for start, make in _CLASSES if state.startswith(start)), None)
    return exact() if exact else StoreError("the store took no write")


_KINDS: Final[tuple[tuple[frozenset[str], Callable[[], StoreError]], ...]] = (
    # Statement timeout, lock timeout, deadlock, idle transaction.
    (
        frozenset({"57014", "55P03", "40P01", "25P03"}),
        lambda: StoreSlowError("the store did not answer in time"),
    ),
    # No such table, function, database, schema.
    (
        frozenset({"42P01", "42883", "3D000", "3F000"}),
        lambda: StoreUnknownError("there is no such store", hint="it is made once, with a create command"),
    ),
    (frozenset({"XX001", "XX002"}), lambda: StoreCorruptError("the store is damaged")),
    (
        frozenset({"25006"}),
        lambda: StoreUnsafeError("the store takes no writes", hint="is it a standby?"),
    ),
    (frozenset({"53300"}), lambda: StoreDownError("the store has no connection to spare")),
)
_CLASSES: Final[tuple[tuple[str, Callable[[], StoreError]], ...]] = (
    ("53", lambda: StoreFullError("the store's disk or memory is full", hint="nothing was written")),
    ("08", lambda: StoreDownError("the store cannot be reached")),
    ("28", lambda: StoreDownError("the store does not let us in")),
    ("57", lambda: StoreDownError("the store is stopping or starting")),
)
"""SQLSTATE, five characters, whose first two are its class (PostgreSQL manual, appendix A)."""


def connection_settings(url: StoreUrl) -> dict[str, Any]:
    """Arguments of `asyncpg.connect` for `url`; all are given, so that none comes from the environment.

    Raises:
        ConfigError: the password's or the authorities' file cannot be read.
    """
    limit = str(max(1, int(1000 * url.seconds)))
    return {
        "host": url.socket or url.host,
        "port": url.port or 5432,
        "user": url.user or "sottovoce",
        "password": url.password(),
        "database": url.database,
        "ssl": url.tls_context() or False,
        "timeout": url.seconds,
        "target_session_attrs": "read-write",
        "server_settings": {
            "application_name": "sottovoce",
            "statement_timeout": limit,
            "lock_timeout": limit,
            # A confirmed commit is on the disk; where the server waits for standbys too, that stays so.
            "synchronous_commit": "on",
        },
    }


async def dial(url: StoreUrl) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to the server at `url`.

    Raises:
        StoreError: it cannot be had.
        ConfigError: as `connection_settings`.
    """
    settings = connection_settings(url)
    with typed_errors():
        return await asyncpg.connect(**settings)

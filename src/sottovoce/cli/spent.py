"""`sottovoce spent`: the gateways' store of spent tokens, for whoever runs it."""

import asyncio
from typing import TYPE_CHECKING

import click

from sottovoce.core.errors import UsageError

if TYPE_CHECKING:
    from sottovoce.edge.spent_postgres import PostgresSpent
    from sottovoce.edge.spent_redis import RedisSpent

__all__ = ["spent"]


@click.group()
def spent() -> None:
    """Make or check the gateways' store of spent tokens."""


@spent.command()
@click.argument("url")
def create(url: str) -> None:
    """Make the store at URL (Redis, Valkey or PostgreSQL), once, and print its id for `?store=`."""
    identity = asyncio.run(_open(url).create())
    click.echo(f'Made. Give it to every gateway as: spent = "{_with_store(url, identity)}"')


@spent.command()
@click.argument("url")
def check(url: str) -> None:
    """Whether the store at URL is there, and set up so that it loses no token that it confirmed."""
    found = asyncio.run(_open(url).describe())
    click.echo(
        f"It may be used. store={found['store']}, {found['tokens']} tokens, epochs from {found['epoch']} on."
    )


def _open(text: str) -> "RedisSpent | PostgresSpent":
    from sottovoce.edge.spent import open_store
    from sottovoce.edge.storeurl import parse_store_url

    url = parse_store_url(text)
    if url.kind == "sqlite":
        raise UsageError(
            "a SQLite file needs no making", hint="the gateway makes it, and checks it when it starts"
        )
    return open_store(url)  # type: ignore[return-value]  # of the two kinds that are left


def _with_store(url: str, identity: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}store={identity}"

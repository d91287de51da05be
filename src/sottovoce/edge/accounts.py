"""The issuer's accounts: who may have tokens, and how many they had today. No token, request or time.

    issuer ─ AccountStore ─┬─ edge.accounts_sqlite         one machine, any number of issuer processes
                           └─ edge.accounts_postgres       many machines

Enrolled accounts have a key; an account of an OpenID provider (`edge.oidc`) has only its counts here.
"""

import asyncio
from pathlib import Path

from sottovoce.core.errors import ConfigError
from sottovoce.edge.accounts_sqlite import Accounts, SqliteAccounts
from sottovoce.edge.accountstore import AccountStore
from sottovoce.edge.storeurl import parse_store_url

__all__ = ["enrol", "open_accounts"]


def open_accounts(text: str) -> AccountStore:
    """The store of accounts that `text` names (`edge.storeurl`): SQLite or PostgreSQL.

    Raises:
        ConfigError: another kind of store, a file that cannot be opened, or what talks to the server is not installed.
        StoreError: the file is damaged, locked, or the disk is full.
    """
    url = parse_store_url(text)
    if url.kind == "sqlite":
        return SqliteAccounts(url.path)
    if url.kind != "postgresql":
        raise ConfigError("accounts are kept in SQLite or PostgreSQL")
    try:
        from sottovoce.edge.accounts_postgres import PostgresAccounts  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "what talks to the store is not installed", hint="pip install 'sottovoce[postgresql]'"
        ) from None
    return PostgresAccounts(url)


def enrol(text: Path | str, account: str) -> str:
    """Add an account to the store that `text` names and return its key; see `AccountStore.enrol`.

    For a store on a server it runs an event loop, so it cannot be called inside one.
    """
    url = parse_store_url(str(text))
    if url.kind == "sqlite":
        accounts = Accounts(url.path)
        try:
            return accounts.enrol(account)
        finally:
            accounts.close()

    async def add() -> str:
        store = open_accounts(str(text))
        try:
            return await store.enrol(account)
        finally:
            await store.close()

    return asyncio.run(add())

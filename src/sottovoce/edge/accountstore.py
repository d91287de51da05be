"""What every store of accounts has in common: what it does, whom it refuses, names and keys."""

import hashlib
import re
import secrets
from typing import Final, Protocol

from sottovoce.core.errors import RefusedError, UsageError

__all__ = ["AccountStore", "AccountUnknownError", "QuotaError", "key_hash", "new_key", "require_name"]

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_KEY_BYTES: Final = 32


class AccountUnknownError(RefusedError):
    """The enrolment key, or the ID token, belongs to no account."""

    code = "refused.account"


class QuotaError(RefusedError):
    """The account has had its tokens for today."""

    code = "quota"


class AccountStore(Protocol):
    """What a store of accounts does, for one event loop."""

    async def account_of(self, key: bytes) -> str:
        """The account whose enrolment key is `key`.

        Raises:
            AccountUnknownError: no account has this key.
            StoreError: the store could not be read.
        """

    async def count(self, account: str, day: int, quota: int, tokens: int = 1) -> None:
        """Count `tokens` for `account` on UTC day `day`, all or none, where a crash does not take it away.

        Raises:
            QuotaError: the account would have more than `quota` tokens on this day.
            StoreError: the store took no write.
        """

    async def forget(self, before: int) -> None:
        """Forget the counts of days below `before`.

        Raises:
            StoreError: the store took no write.
        """

    async def enrol(self, account: str) -> str:
        """Add an account and return its key, 43 characters, of which the store keeps a hash only.

        Raises:
            UsageError: the name is taken, or not 1 to 64 letters, digits and `._@+-`.
            StoreError: the store took no write.
        """

    async def remove(self, account: str) -> None:
        """Remove an account; its key is refused from now on. What it had today still counts."""

    async def close(self) -> None:
        """Let go of the file or the connections."""


def require_name(account: str) -> None:
    """Raise unless `account` is a name that may be enrolled.

    Raises:
        UsageError: it is not 1 to 64 letters, digits and `._@+-`.
    """
    if not _ACCOUNT.fullmatch(account):
        raise UsageError("account name outside its grammar", hint="1 to 64 letters, digits and ._@+-")


def new_key() -> str:
    """A fresh enrolment key, 43 characters."""
    return secrets.token_urlsafe(_KEY_BYTES)


def key_hash(key: bytes) -> bytes:
    """What a store keeps of an enrolment key, 32 bytes."""
    # The key has 256 random bits, so a plain hash cannot be reversed by guessing.
    return hashlib.sha256(key).digest()

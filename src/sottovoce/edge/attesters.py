"""Who vouches for an account (RFC 9576 section 3.2.1, the attester): plug-ins between a token request's bearer and the account's name.

An attester says of a bearer whether it is of its kind, and whose it is. The issuer asks the first that takes it, counts the account's
tokens, and signs. What the attester learns never reaches the gateway.
"""

import re
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from sottovoce.core.errors import ConfigError
from sottovoce.edge.accountstore import AccountStore, AccountUnknownError

__all__ = ["Attester", "Attesters", "EnrolmentKeys", "OidcConfig"]

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Attester(Protocol):
    """One way to know an account."""

    def takes(self, bearer: str) -> bool:
        """Whether `bearer` has this attester's form."""

    async def account(self, bearer: str, now: int) -> str:
        """The name under which the account's tokens are counted, at `now` (Unix seconds). It is the same each time.

        Raises:
            AccountUnknownError: the bearer is nobody's.
            SottovoceError: it could not be found out.
        """

    async def close(self) -> None:
        """Let go of connections."""


class OidcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The provider, and who we are for it."""

    issuer: str
    """Its issuer identifier, exactly as in its ID tokens."""
    audience: str
    """The client id that the devices have at it."""
    jwks: str
    """Its keys: an https URL, or the path of a file, with which they are pinned."""
    max_age: int = 3600
    """Seconds since an ID token was made in which it is taken."""


class EnrolmentKeys:
    """The default: a key of 43 characters that the operator gave to the account."""

    def __init__(self, accounts: AccountStore) -> None:
        self._accounts = accounts

    def takes(self, bearer: str) -> bool:
        """As `Attester.takes`."""
        return _KEY.fullmatch(bearer) is not None

    async def account(self, bearer: str, now: int) -> str:  # noqa: ARG002 - a key has no time
        """As `Attester.account`."""
        return await self._accounts.account_of(bearer.encode())

    async def close(self) -> None:
        """The accounts' store is not its own."""


class Attesters:
    """Several attesters, of which the first that takes a bearer decides."""

    def __init__(self, attesters: Sequence[Attester]) -> None:
        """At least one.

        Raises:
            ConfigError: there is none.
        """
        if not attesters:
            raise ConfigError("the issuer knows nobody", hint="set enrolment_keys, or [oidc]")
        self._attesters = tuple(attesters)

    async def account(self, bearer: str, now: int) -> str:
        """As `Attester.account`; a bearer that nobody takes is nobody's."""
        for attester in self._attesters:
            if attester.takes(bearer):
                return await attester.account(bearer, now)
        raise AccountUnknownError("the authorization has no form that is known here")

    async def close(self) -> None:
        """Close all."""
        for attester in self._attesters:
            await attester.close()

"""Who may open a session: whoever spends a token (RFC 9577, protocol section 4). The gateway learns that it is valid, and no more."""

import asyncio
from collections.abc import Mapping
from typing import Final

from sottovoce.core.authscheme import to_base64url
from sottovoce.core.errors import DecodeError, ProtocolError
from sottovoce.core.tokens import (
    Token,
    TokenBindingError,
    TokenChallenge,
    TokenKey,
    accepted_epochs,
    epoch_at,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.database import StoreError
from sottovoce.edge.spent import TokenExpired, open_spent

__all__ = ["Admission", "TokenMalformedError", "TokenMissingError"]

_SPENT_KEPT: Final = 2
"""Epochs before today's whose spent tokens are kept: only yesterday's can still be accepted."""


class TokenMissingError(ProtocolError):
    """A session needs a token."""

    code = "token.missing"


class TokenMalformedError(ProtocolError):
    """The Authorization field holds no token of type 2."""

    code = "token.malformed"


class Admission:
    """Checks a token and spends it. `keys` are the issuer's by epoch."""

    def __init__(self, keys: Mapping[int, TokenKey], challenge: TokenChallenge, spent: str) -> None:
        """Open the store of spent tokens, which `spent` names (`edge.storeurl`). A server is asked when the first token comes.

        Raises:
            ConfigError: the URL is malformed, or the file cannot be opened or made.
            StoreError: the file is damaged, locked, or the disk is full.
        """
        self._keys = dict(keys)
        self._challenge = challenge
        self._spent = open_spent(spent)
        self._epoch = 0
        self._expiry: asyncio.Task[None] | None = None

    async def admit(self, authorization: bytes | None, now: float) -> None:
        """Spend the token in `authorization`; returns once the store has it where a crash does not take it away.

        Raises:
            TokenMissingError, TokenMalformedError: there is no token.
            TokenExpired: it is of another day's key.
            TokenBindingError: it is for another issuer's key or another service.
            TokenSignatureError: the issuer did not sign it.
            TokenSpent: it was spent before, at any gateway.
            StoreError: the store took no write: it is down, slow, full, or could lose it.
        """
        if authorization is None:
            raise TokenMissingError("a session needs a token")
        try:
            token = parse_authorization(authorization)
        except DecodeError:
            raise TokenMalformedError("the authorization holds no token") from None
        epoch = self._epoch_of(token, int(now))
        verified = verify_token(token, self._keys[epoch], self._challenge)
        await self._spent.spend(verified.digest, epoch)
        self._forget_old(epoch_at(int(now)))

    def challenge(self, now: float) -> bytes:
        """What a WWW-Authenticate field asks for (RFC 9577 section 2.1)."""
        value = b'PrivateToken challenge="' + to_base64url(self._challenge.encode()) + b'"'
        key = self._keys.get(epoch_at(int(now)))
        return value if key is None else value + b', token-key="' + to_base64url(key.spki) + b'"'

    async def close(self) -> None:
        """Close the store."""
        if self._expiry is not None:
            self._expiry.cancel()
            await asyncio.wait([self._expiry])
        await self._spent.close()

    def _epoch_of(self, token: Token, now: int) -> int:
        epochs = [epoch for epoch, key in self._keys.items() if key.key_id == token.key_id]
        if not epochs:
            raise TokenBindingError("the token is bound to another key")
        for epoch in epochs:
            if epoch in accepted_epochs(now):
                return epoch
        raise TokenExpired("the token's epoch is not now")

    def _forget_old(self, today: int) -> None:
        """Once a day, beside the requests. Where it fails it is tried again with the next token."""
        if today != self._epoch and (self._expiry is None or self._expiry.done()):
            self._expiry = asyncio.ensure_future(self._expire(today))

    async def _expire(self, today: int) -> None:
        try:
            await self._spent.expire(today - _SPENT_KEPT)
        except StoreError:
            return
        self._epoch = today

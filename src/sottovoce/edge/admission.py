"""Who may open a session: whoever spends a token (RFC 9577, protocol section 4). The gateway learns that it is valid, and no more.

Tokens of type 2 are checked with the issuer's public keys. For type 5 the gateway needs its secret keys, so that who holds the gateway can
mint such tokens; where none are configured they are refused.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sottovoce.core.authscheme import to_base64url
from sottovoce.core.errors import DecodeError, ProtocolError
from sottovoce.core.privatetokens import PrivateTokenKey
from sottovoce.core.tokens import (
    PRIVATE_TOKEN_TYPE,
    TOKEN_TYPE,
    Token,
    TokenBindingError,
    TokenChallenge,
    TokenKey,
    VerificationKey,
    accepted_epochs,
    epoch_at,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.database import StoreError
from sottovoce.edge.spent import open_spent
from sottovoce.edge.spentstore import TokenExpired

__all__ = ["Admission", "TokenMalformedError", "TokenMissingError"]

_SPENT_KEPT: Final = 2
"""Epochs before today's whose spent tokens are kept: only yesterday's can still be accepted."""


class TokenMissingError(ProtocolError):
    """A session needs a token."""

    code = "token.missing"


class TokenMalformedError(ProtocolError):
    """The Authorization field holds no token of type 2 or 5."""

    code = "token.malformed"


class Admission:
    """Checks a token and spends it. `keys` are the issuer's by epoch, `batch_keys` its secret ones of type 5."""

    def __init__(
        self,
        keys: Mapping[int, TokenKey],
        challenge: TokenChallenge,
        spent: str,
        *,
        batch_keys: Mapping[int, PrivateTokenKey] | None = None,
    ) -> None:
        """Open the store of spent tokens, which `spent` names (`edge.storeurl`). A server is asked when the first token comes.

        Raises:
            ConfigError: the URL is malformed, or the file cannot be opened or made.
            StoreError: the file is damaged, locked, or the disk is full.
        """
        self._all: tuple[tuple[int, VerificationKey], ...] = ()
        self.use(keys, batch_keys or {})
        self._challenges = {
            number: replace(challenge, token_type=number) for number in (TOKEN_TYPE, PRIVATE_TOKEN_TYPE)
        }
        self._spent = open_spent(spent)
        self._epoch = 0
        self._expiry: asyncio.Task[None] | None = None

    def use(self, keys: Mapping[int, TokenKey], batch_keys: Mapping[int, PrivateTokenKey]) -> None:
        """Check with these keys from now on."""
        self._keys = dict(keys)
        self._batch_keys = dict(batch_keys)
        self._all = (*self._keys.items(), *self._batch_keys.items())

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
        epoch, key = self._key_of(token, int(now))
        verified = verify_token(token, key, self._challenges[token.token_type])
        await self._spent.spend(verified.digest, epoch)
        self._forget_old(epoch_at(int(now)))

    def challenge(self, now: float) -> bytes:
        """What a WWW-Authenticate field asks for (RFC 9577 section 2.1): a token of type 2, or where it is taken one of type 5."""
        epoch = epoch_at(int(now))
        key, batch_key = self._keys.get(epoch), self._batch_keys.get(epoch)
        value = self._offer(TOKEN_TYPE, None if key is None else key.spki)
        if batch_key is None:
            return value
        return value + b", " + self._offer(PRIVATE_TOKEN_TYPE, batch_key.public.encoded)

    def _offer(self, token_type: int, key: bytes | None) -> bytes:
        value = b'PrivateToken challenge="' + to_base64url(self._challenges[token_type].encode()) + b'"'
        return value if key is None else value + b', token-key="' + to_base64url(key) + b'"'

    async def close(self) -> None:
        """Close the store."""
        if self._expiry is not None:
            self._expiry.cancel()
            await asyncio.wait([self._expiry])
        await self._spent.close()

    def _key_of(self, token: Token, now: int) -> tuple[int, VerificationKey]:
        named = [(epoch, key) for epoch, key in self._all if key.key_id == token.key_id]
        if not named:
            raise TokenBindingError("the token is bound to another key")
        for epoch, key in named:
            if epoch in accepted_epochs(now):
                return epoch, key
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

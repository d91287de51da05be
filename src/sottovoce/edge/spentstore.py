"""What every store of spent tokens has in common: what it does, and why it refuses a token."""

from collections.abc import Sequence
from typing import Protocol

from sottovoce.core.errors import ProtocolError, SottovoceError
from sottovoce.edge.database import StoreError, StoreFullError

__all__ = ["Refusal", "SpentStore", "TokenExpired", "TokenSpent", "refusal"]


class TokenSpent(ProtocolError):  # noqa: N818 - the event has this name in the protocol
    """The token was spent before."""

    code = "token.spent"


class TokenExpired(ProtocolError):  # noqa: N818 - as TokenSpent
    """The token's epoch is over, and its spent tokens are forgotten."""

    code = "token.expired"


Refusal = SottovoceError | None
"""Why a token is refused: `TokenSpent`, `TokenExpired`, `StoreFullError`; None where it is recorded now and was not before."""

_NEW, _SPENT, _EXPIRED, _FULL = 0, 1, 2, 3


def refusal(outcome: int) -> Refusal:
    """What the scripts that run inside a store answer for a token: 0 recorded, 1 spent, 2 expired, 3 no room."""
    if outcome == _NEW:
        return None
    if outcome == _SPENT:
        return TokenSpent("the token was spent before")
    if outcome == _EXPIRED:
        return TokenExpired("the token's epoch is over")
    if outcome == _FULL:
        return StoreFullError("the store holds as many tokens as it may", hint="raise tokens in its URL")
    return StoreError("the store gave an unknown answer")


class SpentStore(Protocol):
    """What a store of spent tokens does. One call of `spend_all` at a time; `expire` may run beside it."""

    async def spend_all(self, tokens: Sequence[tuple[bytes, int]]) -> list[Refusal]:
        """Record tokens, each a digest (32 bytes) and its epoch, and return once they are safe: for each, why it is refused.

        Raises:
            StoreError: none of them may be used.
        """

    async def expire(self, before: int) -> int:
        """Close the epochs below `before` for good, then forget their tokens; returns how many there were.

        Raises:
            StoreError: the store could not; some may be forgotten.
        """

    async def close(self) -> None:
        """Let go of the file or the connection."""

"""Fetching tokens (RFC 9578): the device's authenticated channel to the issuer.

Of which type they are is the environment's choice, the same for all its devices. All tokens of one key take one request.

This is the one place where the device says who it is, so nothing else happens here, and it happens on the wallet's
schedule, never because a token is about to be used.
"""

import asyncio
import re
from pathlib import Path
from typing import Final

from sottovoce.core.challenges import TokenChallenge
from sottovoce.core.errors import ConfigError, ProtocolError, RefusedError, UnavailableError
from sottovoce.core.genericbatch import MAX_GENERIC_RESPONSE
from sottovoce.core.privatetokens import MAX_BATCH_RESPONSE
from sottovoce.core.tokens import PRIVATE_TOKEN_TYPE, TOKEN_TYPE
from sottovoce.device.directory import VerifiedDirectory
from sottovoce.device.environment import Environment
from sottovoce.device.transport import Network
from sottovoce.device.wallet import Wallet

__all__ = ["AccountRefusedError", "QuotaUsedError", "refill"]

_REQUEST_TYPES: Final = {
    TOKEN_TYPE: "application/private-token-generic-batch-request",
    PRIVATE_TOKEN_TYPE: "application/private-token-amortized-batch-request",
}
_LIMITS: Final = {TOKEN_TYPE: MAX_GENERIC_RESPONSE, PRIVATE_TOKEN_TYPE: MAX_BATCH_RESPONSE}
"""Bytes of an answer; a refusal has a few."""
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")
"""An enrolment key, or an ID token."""
_OK, _UNAUTHORISED, _TOO_MANY = 200, 401, 429


class AccountRefusedError(RefusedError):
    """The issuer does not know this device's account."""

    code = "refused.account"


class QuotaUsedError(RefusedError):
    """The account has had its tokens for today."""

    code = "quota"


async def refill(
    wallet: Wallet,
    *,
    environment: Environment,
    network: Network,
    directory: VerifiedDirectory,
    account: Path,
    now: int,
) -> int:
    """Fetch one batch into `wallet`; returns how many tokens it brought. Nothing is kept of a batch that fails.

    `account` is the file with the enrolment key that the issuer gave to this device.

    Raises:
        AccountRefusedError, QuotaUsedError: the issuer says no.
        UnavailableError: it does not answer.
        ConfigError: there is no account key, or no libsodium for tokens of type 5.
        ProtocolError, DecodeError, TokenSignatureError: an answer that is not allowed.
        WalletError: nothing was written.
    """
    key = _account_key(account)
    token_type = environment.token_type
    challenge = TokenChallenge(
        issuer_name=environment.issuer_name.encode(),
        origin_info=environment.service.encode(),
        token_type=token_type,
    )
    keys = directory.batch_token_keys() if token_type == PRIVATE_TOKEN_TYPE else directory.token_keys()
    batch = await asyncio.to_thread(wallet.begin_batch, keys, challenge, now)
    url = environment.issuer.rstrip("/") + "/token-request"
    headers = {"Content-Type": _REQUEST_TYPES[token_type], "Authorization": f"Bearer {key}"}
    responses = []
    for request in batch.requests:
        status, body = await network.post(
            url, request, party="issuer", headers=headers, limit=_LIMITS[token_type]
        )
        if status != _OK:
            raise _refusal(status)
        responses.append(body)
    return await asyncio.to_thread(wallet.finish_batch, batch, responses, now)


def _refusal(status: int) -> Exception:
    if status == _UNAUTHORISED:
        return AccountRefusedError("the issuer does not know this account", hint="enrol this device again")
    if status == _TOO_MANY:
        return QuotaUsedError("the account has had its tokens for today", hint="try again tomorrow")
    if status >= 500:  # noqa: PLR2004 - RFC 9110 section 15.6
        return UnavailableError("the issuer is out of order", party="issuer", hint="Try again later.")
    return ProtocolError("the issuer refused the token request", hint="refresh the directory")


def _account_key(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeError):
        key = ""
    if not _KEY.fullmatch(key):
        raise ConfigError(
            "this device has no account key", hint=f"looked for {path}; `sottovoce up` enrols this device"
        )
    return key

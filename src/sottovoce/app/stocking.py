"""Tokens and the directory, fetched ahead of use."""

import asyncio
import logging
import time
from typing import Final

from sottovoce.app.desk import Desk
from sottovoce.app.words import in_words
from sottovoce.core.errors import SottovoceError

__all__ = ["keep_stocked"]

_LOG: Final = logging.getLogger(__name__)
_TICK: Final = 5.0
_RETRY: Final = 60.0


async def keep_stocked(desk: Desk) -> None:
    """Fetch what is due, as long as private processing is on: so the time of fetching tells nothing of the time of use."""
    while True:
        pause = _TICK
        try:
            if desk.is_on():
                await _stock(desk)
            else:
                desk.tokens = "None are fetched while private processing is off."
        except SottovoceError as error:
            words = in_words(error)
            desk.tokens, pause = f"{words['what']} {words['hint']}", _RETRY
        except Exception as fault:  # noqa: BLE001 - a fault of today must not end what is due tomorrow
            _LOG.error("fetching failed: %s", type(fault).__name__)
            desk.tokens, pause = "They could not be fetched, which is a fault of the app.", _RETRY
        await asyncio.sleep(pause)


async def _stock(desk: Desk) -> None:
    await desk.client.refill_wallet(only_if_due=True)
    # It may have been turned off meanwhile.
    if not desk.is_on():
        return
    await desk.client.refresh_directory()
    stock, due = desk.client.stock()
    minutes = max(0, round((due - time.time()) / 60))
    desk.tokens = (
        f"{stock.ready} can be used now, {stock.waiting} rest until their use cannot be linked to their arrival. "
        f"The next are fetched in about {minutes} min."
    )

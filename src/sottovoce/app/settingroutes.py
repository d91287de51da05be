"""Settings: the opt-in, what is kept on this machine, who sees what."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sottovoce.app.desk import Desk
from sottovoce.app.wire import Change, Page, said_in, text_of
from sottovoce.core.errors import UsageError
from sottovoce.device.settings import CONSENT_TEXT, CONSENT_VERSION
from sottovoce.device.sight import PARTIES

__all__ = ["SettingRoutes"]


class SettingRoutes:
    """The addresses of settings."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def pages(self) -> dict[str, Page]:
        """What is shown."""
        return {"/settings": self._settings, "/about": self._about}

    def changes(self) -> dict[str, Change]:
        """What is changed."""
        return {
            "/settings/enable": self._enable,
            "/settings/disable": self._disable,
            "/settings/keep": self._keep,
            "/settings/unlock": self._unlock,
            "/settings/keep/delete": self._delete_kept,
            "/settings/allow": self._allow,
        }

    async def _settings(self, _: Request) -> Response:
        settings, trouble = self._desk.read_settings()
        vault, vault_trouble = self._desk.vault_state()
        return await self._desk.page(
            "settings.html",
            page="settings",
            trouble=trouble,
            since=settings.enabled.since if settings.enabled else 0,
            consent=CONSENT_TEXT,
            version=CONSENT_VERSION,
            marks=settings.private,
            vault_trouble=vault_trouble,
            tokens=self._desk.tokens,
            **vault,
        )

    async def _about(self, _: Request) -> Response:
        picture = [
            {
                "name": party.name,
                "could": party.could,
                "could_not": party.could_not,
                "sees": "content" if index in (0, 5) else "sealed" if index in (1, 3, 4) else "apart",
            }
            for index, party in enumerate(PARTIES)
        ]
        return await self._desk.page("about.html", page="about", picture=picture)

    async def _enable(self, request: Request) -> Any:
        # Only what the user has read can be agreed to.
        if text_of(await said_in(request), "version") != str(CONSENT_VERSION):
            raise UsageError("the text has changed", hint="read the page again")
        self._desk.settings.enable(now=int(time.time()))

    async def _disable(self, _: Request) -> Any:
        try:
            self._desk.settings.disable()
        finally:
            await self._desk.askings.cancel()

    async def _keep(self, request: Request) -> Any:
        passphrase = text_of(await said_in(request), "passphrase")
        await self._desk.keep(passphrase or None)

    async def _unlock(self, request: Request) -> Any:
        passphrase = text_of(await said_in(request), "passphrase")
        await self._desk.unlock(passphrase or None)

    async def _delete_kept(self, _: Request) -> Any:
        await self._desk.delete_kept()

    async def _allow(self, request: Request) -> Any:
        # By the mark itself: its chat need not be here.
        self._desk.settings.allow(text_of(await said_in(request), "chat"))

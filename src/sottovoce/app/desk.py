"""What the app works with: the device's settings and reports, the chats on the shelf and those that are kept, the requests that run."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sottovoce.app.asking import Askings
from sottovoce.app.pages import render
from sottovoce.app.shelf import Shelf, Shelved
from sottovoce.app.vault import Vault
from sottovoce.app.words import in_words
from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.device.client import Client
from sottovoce.device.environment import Environment
from sottovoce.device.reports import ReportStore
from sottovoce.device.settings import CONSENT_VERSION, Settings, SettingsStore, same_chat

__all__ = ["Desk"]


class Desk:
    """The desk of the device whose state is in `home`; `client` has been entered. `base` is the app's own folder in its addresses."""

    def __init__(self, home: Path, client: Client, base: str) -> None:
        self.client = client
        self.base = base
        self.settings = SettingsStore(home)
        self.reports = ReportStore(home)
        self.shelf = Shelf()
        self.vault = Vault(home)
        self.askings = Askings()
        self._keeping = asyncio.Lock()
        self.tokens = "Not looked at yet."
        """What the wallet holds, in words."""

    async def close(self) -> None:
        """End every session, and let what is kept go."""
        await self.askings.cancel()
        async with self._keeping:
            self.vault.close()

    def shelved(self, request: Request) -> Shelved:
        """The chat that the address names. Raises as `Shelf.get`."""
        return self.shelf.get(request.path_params["id"])

    async def store(self) -> None:
        """Keep what is on the shelf, where the user has it kept. Raises as `Vault.write`."""
        async with self._keeping:
            await self._write()

    async def keep(self, passphrase: str | None) -> None:
        """Keep what is on the shelf from now on. Raises as `Vault.create` and `Vault.write`."""
        async with self._keeping:
            await asyncio.to_thread(self.vault.create, passphrase)
            await self._write()

    async def unlock(self, passphrase: str | None) -> None:
        """Put what was kept back on the shelf, and keep on keeping it. Raises as `Vault.open` and `Vault.write`."""
        async with self._keeping:
            opened = await asyncio.to_thread(self.vault.open, passphrase)
            self.shelf.put_back(opened.kept)
            self.vault.hold(opened)
            await self._write()

    async def delete_kept(self) -> None:
        """Keep nothing, from now on. Raises as `Vault.delete`."""
        async with self._keeping:
            await asyncio.to_thread(self.vault.delete)

    async def _write(self) -> None:
        # Seconds for hundreds of megabytes, in which other pages and answers must go on.
        if self.vault.is_open:
            await asyncio.to_thread(self.vault.write, self.shelf.kept())

    def is_on(self) -> bool:
        """Whether private processing is on. Damaged settings count as off."""
        return _on(self.read_settings()[0])

    def read_settings(self) -> tuple[Settings, dict[str, str] | None]:
        """The settings, and in words why they could not be read: then everything counts as off."""
        try:
            return self.settings.load(), None
        except SottovoceError as error:
            return Settings(), in_words(error)

    def vault_state(self) -> tuple[dict[str, bool], dict[str, str] | None]:
        """What the pages say of the kept chats, and in words what is wrong with them."""
        kept, trouble, by_keyring = self.vault.exists, None, False
        try:
            by_keyring = kept and self.vault.by_keyring
        except SottovoceError as error:
            trouble = in_words(error)
        state = {"kept": kept, "is_open": self.vault.is_open, "locked": kept and not self.vault.is_open}
        return state | {"by_keyring": by_keyring}, trouble

    async def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """The page made by `template`: `values`, and what every page shows."""
        settings, _ = self.read_settings()
        environment = self._environment()
        enabled = _on(settings)
        shared = {
            "base": self.base,
            "page": "",
            "shelf": list(self.shelf),
            "private": {one.id for one in self.shelf if _is_private(one, settings)},
            "enabled": enabled,
            "enrolled": environment is not None,
            "ready": enabled and environment is not None,
            "simulated": environment is not None and environment.simulated,
            "environment": environment.name if environment else "",
        }
        return HTMLResponse(await asyncio.to_thread(render, template, shared | values), status_code=status)

    def _environment(self) -> Environment | None:
        try:
            return self.client.environment
        except ConfigError:
            return None


def _on(settings: Settings) -> bool:
    return settings.enabled is not None and settings.enabled.text_version == CONSENT_VERSION


def _is_private(shelved: Shelved, settings: Settings) -> bool:
    return any(same_chat(mark.chat, shelved.mark) for mark in settings.private)

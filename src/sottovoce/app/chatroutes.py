"""Chats: shown, added, marked, removed."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from sottovoce.app.desk import Desk
from sottovoce.app.pages import rows, saved_lines
from sottovoce.app.shelf import Saved
from sottovoce.app.wire import Change, Page, body_of, said_in, text_of
from sottovoce.core.errors import UsageError
from sottovoce.device.chats import import_chat
from sottovoce.device.client import CONTEXT
from sottovoce.device.settings import same_chat

__all__ = ["STYLES", "ChatRoutes"]

_EXPORT: Final = 128 * 1024 * 1024
"""Bytes of one export. It is held in memory: a temporary file would be a trace."""
STYLES: Final = (
    ("rephrase", "Other words"),
    ("professional", "Professional"),
    ("supportive", "Supportive"),
    ("funny", "Funny"),
    ("shorten", "Shorter"),
    ("proofread", "Proofread"),
)
"""How the writing help names the styles."""


class ChatRoutes:
    """The addresses of chats."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def pages(self) -> dict[str, Page]:
        """What is shown."""
        return {"/": self._index, "/chats/{id}": self._chat}

    def changes(self) -> dict[str, Change]:
        """What is changed."""
        return {
            "/import": self._import,
            "/chats/{id}/marker": self._marker,
            "/chats/{id}/reader": self._reader,
            "/chats/{id}/private": self._private,
            "/chats/{id}/draft": self._draft,
            "/chats/{id}/remove": self._remove,
            "/chats/{id}/forget": self._forget,
            "/forget": self._forget_recap,
        }

    async def _index(self, _: Request) -> Response:
        vault = self._desk.vault_state()[0]
        recaps = [saved_lines(one, self._desk.shelf) for one in self._desk.shelf.recaps]
        return await self._desk.page(
            "index.html", asking=self._desk.askings.several(), recaps=recaps, **vault
        )

    async def _chat(self, request: Request) -> Response:
        shelved = self._desk.shelved(request)
        shown, earlier = await asyncio.to_thread(rows, shelved, request.query_params.get("first", ""))
        asking = self._desk.askings.of(shelved.id)
        return await self._desk.page(
            "chat.html",
            chat=shelved,
            rows=shown,
            earlier=earlier,
            asking=asking,
            saved=[saved_lines(one, self._desk.shelf) for one in shelved.saved],
            styles=STYLES,
            context=CONTEXT,
        )

    async def _import(self, request: Request) -> Any:
        name = Path(request.query_params.get("name", "")).name[:200]
        data = await body_of(request, _EXPORT, "export the chat without media")
        shelved = self._desk.shelf.add(await asyncio.to_thread(import_chat, data, name=name))
        await self._desk.store()
        return {
            "id": shelved.id,
            "title": shelved.title,
            "messages": len(shelved.chat.messages),
            "unparsed": len(shelved.chat.unparsed),
        }

    async def _marker(self, request: Request) -> Any:
        said = await said_in(request)
        self._desk.shelved(request).move_marker(text_of(said, "message"))
        await self._desk.store()

    async def _reader(self, request: Request) -> Any:
        shelved, name = self._desk.shelved(request), text_of(await said_in(request), "name")
        if name and name not in shelved.senders:
            raise UsageError("nobody of that name writes in this chat")
        shelved.reader = name
        await self._desk.store()

    async def _private(self, request: Request) -> Any:
        shelved = self._desk.shelved(request)
        if not text_of(await said_in(request), "on"):
            self._desk.settings.allow(shelved.mark)
            return
        # Those that one mark means are all affected; what runs about them ends, whether or not the mark can be kept.
        affected = [one.id for one in self._desk.shelf if same_chat(one.mark, shelved.mark)]
        try:
            self._desk.settings.mark_private(shelved.mark, title=shelved.chat.title, now=int(time.time()))
        finally:
            await self._desk.askings.cancel(affected)

    async def _draft(self, request: Request) -> Any:
        # In memory alone, for when the page is made anew: browsers write what they keep to the disk.
        self._desk.shelved(request).draft = text_of(await said_in(request), "text")

    async def _remove(self, request: Request) -> Any:
        shelved = self._desk.shelved(request)
        await self._desk.askings.forget(shelved.id)
        self._desk.shelf.remove(shelved.id)
        await self._desk.store()

    async def _forget(self, request: Request) -> Any:
        said = await said_in(request)
        await self._forget_one(self._desk.shelved(request).saved, said)

    async def _forget_recap(self, request: Request) -> Any:
        said = await said_in(request)
        await self._forget_one(self._desk.shelf.recaps, said)

    async def _forget_one(self, saved: list[Saved], said: dict[str, Any]) -> None:
        # By the place where the page showed it, and its time, as another may stand there by now.
        place = text_of(said, "index"), text_of(said, "time")
        found = [at for at, one in enumerate(saved) if (str(at), str(one.time)) == place]
        if not found:
            raise UsageError("this summary is gone")
        del saved[found[0]]
        await self._desk.store()

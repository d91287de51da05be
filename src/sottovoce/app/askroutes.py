"""Requests: begun, watched, stopped, closed, saved."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sottovoce.app.asking import Asking
from sottovoce.app.chatroutes import STYLES
from sottovoce.app.desk import Desk
from sottovoce.app.shelf import Saved
from sottovoce.app.wire import Change, Page, said_in, text_of
from sottovoce.core.errors import UsageError
from sottovoce.device.chats import unread
from sottovoce.device.client import CONTEXT, Unread

__all__ = ["AskRoutes"]

_HEARTBEAT: Final = 15.0


class AskRoutes:
    """The addresses of requests and their answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def pages(self) -> dict[str, Page]:
        """What is shown."""
        return {"/ask/{id}/events": self._events}

    def changes(self) -> dict[str, Change]:
        """What is changed."""
        return {
            "/ask/summary": self._summary,
            "/ask/rewrite": self._rewrite,
            "/ask/{id}/stop": self._stop,
            "/ask/{id}/close": self._close,
            "/ask/{id}/save": self._save,
        }

    async def _summary(self, request: Request) -> Any:
        said = await said_in(request)
        ids = said.get("chats")
        if not isinstance(ids, list) or not ids:
            raise UsageError("choose a chat")
        chats = [self._desk.shelf.get(str(one)) for one in ids]
        if any(not one.unread for one in chats):
            raise UsageError("nothing is unread in this chat", hint="move the marker first")
        quick = bool(said.get("quick"))
        parts = [Unread(chat=one.chat, count=one.unread, reader=one.reader) for one in chats]

        def make() -> Asking:
            return Asking(
                "summary",
                tuple(one.id for one in chats),
                self._desk.client.summarize(*parts, quick=quick),
                simulated=self._desk.client.environment.simulated,
                sent=_worded(parts),
            )

        return {"id": self._desk.askings.begin(make, tuple(one.id for one in chats), "summary").id}

    async def _rewrite(self, request: Request) -> Any:
        said = await said_in(request)
        shelved = self._desk.shelf.get(text_of(said, "chat"))
        draft, style = text_of(said, "draft"), text_of(said, "style")
        if style not in dict(STYLES):
            raise UsageError("there is no such style")
        # Help with a draft for a chat that is never processed would tell of it too.
        self._desk.settings.require_allowed(shelved.mark)
        context = shelved.chat if said.get("context") else None

        def make() -> Asking:
            return Asking(
                "rewrite",
                (shelved.id,),
                self._desk.client.rewrite(draft, style, context=context),
                simulated=self._desk.client.environment.simulated,
                draft=draft.strip(),
                sent=_worded([Unread(chat=context, count=CONTEXT)]) if context else {},
            )

        return {"id": self._desk.askings.begin(make, (shelved.id,), "rewrite").id}

    async def _events(self, request: Request) -> Response:
        asking = self._desk.askings.get(request.path_params["id"])
        since = request.headers.get("last-event-id", "")
        number = int(since) + 1 if since.isascii() and since.isdigit() and len(since) < 10 else 0  # noqa: PLR2004
        return StreamingResponse(_server_sent(asking, number), media_type="text/event-stream")

    async def _stop(self, request: Request) -> Any:
        await self._desk.askings.get(request.path_params["id"]).cancel()

    async def _close(self, request: Request) -> Any:
        await self._desk.askings.close(request.path_params["id"])

    async def _save(self, request: Request) -> Any:
        asking = self._desk.askings.get(request.path_params["id"])
        lines = asking.lines()
        if asking.feature != "summary" or not lines or not asking.over:
            raise UsageError("there is no summary to save yet")
        chats = [self._desk.shelf.get(one) for one in asking.chats]
        if not asking.saved:
            several = tuple(asking.chats) if len(chats) > 1 else ()
            saved = Saved(time=int(time.time()), report=asking.report, lines=lines, chats=several)
            (self._desk.shelf.recaps if several else chats[0].saved).append(saved)
            asking.saved = True
            await self._desk.store()
        return {"kept": self._desk.vault.is_open}


async def _server_sent(asking: Asking, since: int) -> AsyncGenerator[str, None]:
    events = asking.events(since)
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait([upcoming], timeout=_HEARTBEAT)
            if not done:
                # A comment: a browser that has left is noticed when it cannot be written.
                yield ": still here\n\n"
                continue
            if (said := upcoming.result()) is None:
                return
            number, event = said
            yield f"id: {number}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
        await asyncio.wait([upcoming])
        await events.aclose()


def _worded(parts: Sequence[Unread]) -> dict[str, str]:
    """Messages by the ids under which a request sends them."""
    several = len(parts) > 1
    return {
        f"{number}:{one.id}" if several else one.id: f"{one.sender}: {one.text}"
        for number, part in enumerate(parts, 1)
        for one in unread(part.chat, part.count)
    }

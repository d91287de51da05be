"""The application: what each address of the app does."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sottovoce.app.access import Access, Gate
from sottovoce.app.asking import Asking, Askings
from sottovoce.app.pages import compared, render, rows
from sottovoce.app.shelf import NoSuchChat, Saved, Shelf, Shelved
from sottovoce.app.vault import Vault
from sottovoce.app.words import FAULT, in_words
from sottovoce.attest.verdict import gained
from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.device.chats import import_chat, unread
from sottovoce.device.client import CONTEXT, Client, Unread
from sottovoce.device.environment import Environment
from sottovoce.device.http import TooMuchError
from sottovoce.device.recheck import is_empty, recheck
from sottovoce.device.reports import NoSuchReport, Report, ReportStore
from sottovoce.device.settings import (
    CONSENT_TEXT,
    CONSENT_VERSION,
    Settings,
    SettingsStore,
    same_chat,
)
from sottovoce.device.sight import PARTIES

__all__ = ["App", "create_app"]

_LOG: Final = logging.getLogger(__name__)
_EXPORT: Final = 128 * 1024 * 1024
"""Bytes of one export. It is held in memory: a temporary file would be a trace."""
_DOCUMENT: Final = 64 * 1024
_TICK: Final = 5.0
_RETRY: Final = 60.0
_HEARTBEAT: Final = 15.0
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STYLES: Final = (
    ("rephrase", "Other words"),
    ("professional", "Professional"),
    ("supportive", "Supportive"),
    ("funny", "Funny"),
    ("shorten", "Shorter"),
    ("proofread", "Proofread"),
)
_NOT_FOUND: Final = (NoSuchChat, NoSuchReport)
_Answer = Callable[[Request], Awaitable[Response]]


class App:
    """The app over the device's state in `home`; `client` has been entered."""

    def __init__(self, home: Path, client: Client) -> None:
        self._home = home
        self._client = client
        self._settings = SettingsStore(home)
        self._reports = ReportStore(home)
        self._shelf = Shelf()
        self._vault = Vault(home)
        self._askings = Askings()
        self._tokens = "Not looked at yet."
        self.base = "/"

    def routes(self) -> list[Route]:
        """Every address, below the app's own folder."""
        read = [
            ("/", self._index),
            ("/chats/{id}", self._chat),
            ("/settings", self._settings_page),
            ("/reports", self._reports_page),
            ("/reports/export", self._export),
            ("/reports/{id}", self._report_page),
            ("/about", self._about),
            ("/ask/{id}/events", self._events),
            ("/static/{name}", _static),
        ]
        change = [
            ("/import", self._import),
            ("/chats/{id}/marker", self._marker),
            ("/chats/{id}/reader", self._reader),
            ("/chats/{id}/private", self._private),
            ("/chats/{id}/draft", self._draft),
            ("/chats/{id}/remove", self._remove),
            ("/chats/{id}/forget", self._forget),
            ("/ask/summary", self._summary),
            ("/ask/rewrite", self._rewrite),
            ("/ask/{id}/stop", self._stop),
            ("/ask/{id}/close", self._close),
            ("/ask/{id}/save", self._save),
            ("/settings/enable", self._enable),
            ("/settings/disable", self._disable),
            ("/settings/keep", self._keep),
            ("/settings/unlock", self._unlock),
            ("/settings/keep/delete", self._delete_kept),
            ("/reports/{id}/verify", self._verify),
            ("/reports/{id}/delete", self._delete_report),
        ]
        return [
            *(Route(path, self._as_page(answer), methods=["GET"]) for path, answer in read),
            *(Route(path, _as_json(answer), methods=["POST"]) for path, answer in change),
        ]

    async def close(self) -> None:
        """End every session, and let what is kept go."""
        await self._askings.cancel()
        self._vault.close()

    async def keep_stocked(self) -> None:
        """Fetch tokens and the directory when they are due, as long as private processing is on: so their time tells nothing of its use."""
        while True:
            pause = _TICK
            try:
                if self._on(self._settings.load()):
                    await self._stock()
                else:
                    self._tokens = "None are fetched while private processing is off."
            except SottovoceError as error:
                words = in_words(error)
                self._tokens, pause = f"{words['what']} {words['hint']}", _RETRY
            except Exception as fault:  # noqa: BLE001 - a fault of today must not end what is due tomorrow
                _LOG.error("fetching failed: %s", type(fault).__name__)
                self._tokens, pause = "They could not be fetched, which is a fault of the app.", _RETRY
            await asyncio.sleep(pause)

    async def _stock(self) -> None:
        await self._client.refill_wallet(only_if_due=True)
        if not self._on(self._settings.load()):
            return
        await self._client.refresh_directory()
        stock, due = self._client.stock()
        minutes = max(0, round((due - time.time()) / 60))
        self._tokens = (
            f"{stock.ready} can be used now, {stock.waiting} rest until their use cannot be linked to their arrival. "
            f"The next are fetched in about {minutes} min."
        )

    # Pages

    async def _index(self, _: Request) -> Response:
        vault = self._vault_state()[0]
        return self._page("index.html", asking=self._askings.several(), **vault)

    async def _chat(self, request: Request) -> Response:
        shelved = self._shelved(request)
        shown, earlier = rows(shelved, request.query_params.get("first", ""))
        asking = self._askings.of(shelved.id)
        return self._page(
            "chat.html",
            chat=shelved,
            rows=shown,
            earlier=earlier,
            asking=asking,
            styles=_STYLES,
            context=CONTEXT,
        )

    async def _settings_page(self, _: Request) -> Response:
        settings, trouble = self._read_settings()
        vault, vault_trouble = self._vault_state()
        return self._page(
            "settings.html",
            page="settings",
            trouble=trouble,
            since=settings.enabled.since if settings.enabled else 0,
            consent=CONSENT_TEXT,
            version=CONSENT_VERSION,
            marks=settings.private,
            vault_trouble=vault_trouble,
            tokens=self._tokens,
            **vault,
        )

    async def _reports_page(self, request: Request) -> Response:
        feature, outcome = (request.query_params.get(name, "") for name in ("feature", "outcome"))
        trouble = None
        try:
            every = self._reports.list()
        except SottovoceError as error:
            every, trouble = (), in_words(error)
        found = [
            one for one in reversed(every) if feature in ("", one.feature) and outcome in ("", one.outcome)
        ]
        return self._page(
            "reports.html",
            page="reports",
            reports=found,
            feature=feature,
            outcome=outcome,
            features=sorted({one.feature for one in every}),
            outcomes=sorted({one.outcome for one in every}),
            trouble=trouble,
        )

    async def _report_page(self, request: Request) -> Response:
        report = self._reports.get(request.path_params["id"])
        verdict = [
            {**msgspec.to_builtins(line), "gain": gained(line.status, line.risk)} for line in report.verdict
        ]
        return self._page(
            "report.html",
            page="reports",
            report=report,
            verdict=verdict,
            compared=compared(report),
            sent=self._texts(report),
        )

    async def _export(self, request: Request) -> Response:
        name = "sottovoce-reports.json"
        data = self._reports.export(request.query_params.get("id"))
        return Response(
            data,
            media_type="application/json",
            headers={"content-disposition": f'attachment; filename="{name}"'},
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
        return self._page("about.html", page="about", picture=picture)

    # Chats

    async def _import(self, request: Request) -> Any:
        name = Path(request.query_params.get("name", "")).name[:200]
        data = await _body(request, _EXPORT, "export the chat without media")
        shelved = self._shelf.add(await asyncio.to_thread(import_chat, data, name=name))
        self._store()
        return {
            "id": shelved.id,
            "title": shelved.title,
            "messages": len(shelved.chat.messages),
            "unparsed": len(shelved.chat.unparsed),
        }

    async def _marker(self, request: Request) -> Any:
        said = await _said(request)
        self._shelved(request).move_marker(_text(said, "message"))
        self._store()

    async def _reader(self, request: Request) -> Any:
        shelved, name = self._shelved(request), _text(await _said(request), "name")
        if name and name not in shelved.senders:
            raise UsageError("nobody of that name writes in this chat")
        shelved.reader = name
        self._store()

    async def _private(self, request: Request) -> Any:
        shelved = self._shelved(request)
        if not _text(await _said(request), "on"):
            self._settings.allow(shelved.mark)
            return
        # Those that one mark means are all affected; what runs about them ends, whether or not the mark can be kept.
        affected = [one.id for one in self._shelf if same_chat(one.mark, shelved.mark)]
        try:
            self._settings.mark_private(shelved.mark, title=shelved.chat.title, now=int(time.time()))
        finally:
            await self._askings.cancel(affected)

    async def _draft(self, request: Request) -> Any:
        # In memory alone, for when the page is made anew: browsers write what they keep to the disk.
        self._shelved(request).draft = _text(await _said(request), "text")

    async def _remove(self, request: Request) -> Any:
        shelved = self._shelved(request)
        await self._askings.forget(shelved.id)
        self._shelf.remove(shelved.id)
        self._store()

    async def _forget(self, request: Request) -> Any:
        shelved, index = self._shelved(request), _text(await _said(request), "index")
        found = [at for at, _ in enumerate(shelved.saved) if str(at) == index]
        if not found:
            raise UsageError("this summary is gone")
        del shelved.saved[found[0]]
        self._store()

    # Requests

    async def _summary(self, request: Request) -> Any:
        said = await _said(request)
        ids = said.get("chats")
        if not isinstance(ids, list) or not ids:
            raise UsageError("choose a chat")
        chats = [self._shelf.get(str(one)) for one in ids]
        if any(not one.unread for one in chats):
            raise UsageError("nothing is unread in this chat", hint="move the marker first")
        quick = bool(said.get("quick"))
        parts = [Unread(chat=one.chat, count=one.unread, reader=one.reader) for one in chats]

        def make() -> Asking:
            return Asking(
                "summary",
                tuple(one.id for one in chats),
                self._client.summarize(*parts, quick=quick),
                simulated=self._client.environment.simulated,
                sent=_worded(parts),
            )

        return {"id": self._askings.begin(make, tuple(one.id for one in chats), "summary").id}

    async def _rewrite(self, request: Request) -> Any:
        said = await _said(request)
        shelved = self._shelf.get(_text(said, "chat"))
        draft, style = _text(said, "draft"), _text(said, "style")
        if style not in dict(_STYLES):
            raise UsageError("there is no such style")
        # Help with a draft for a chat that is never processed would tell of it too.
        self._settings.require_allowed(shelved.mark)
        context = shelved.chat if said.get("context") else None

        def make() -> Asking:
            return Asking(
                "rewrite",
                (shelved.id,),
                self._client.rewrite(draft, style, context=context),
                simulated=self._client.environment.simulated,
                draft=draft.strip(),
                sent=_worded([Unread(chat=context, count=CONTEXT)]) if context else {},
            )

        return {"id": self._askings.begin(make, (shelved.id,), "rewrite").id}

    async def _events(self, request: Request) -> Response:
        asking = self._askings.get(request.path_params["id"])
        since = request.headers.get("last-event-id", "")
        number = int(since) + 1 if since.isascii() and since.isdigit() and len(since) < 10 else 0  # noqa: PLR2004
        return StreamingResponse(_server_sent(asking, number), media_type="text/event-stream")

    async def _stop(self, request: Request) -> Any:
        await self._askings.get(request.path_params["id"]).cancel()

    async def _close(self, request: Request) -> Any:
        await self._askings.close(request.path_params["id"])

    async def _save(self, request: Request) -> Any:
        asking = self._askings.get(request.path_params["id"])
        lines = asking.lines()
        if asking.feature != "summary" or not lines or len(asking.chats) != 1:
            raise UsageError("there is no summary of one chat to save")
        saved = Saved(time=int(time.time()), report=asking.report, lines=lines)
        self._shelf.get(asking.chats[0]).saved.append(saved)
        self._store()
        return {"kept": self._vault.is_open}

    # Settings and reports

    async def _enable(self, request: Request) -> Any:
        # Only what the user has read can be agreed to.
        if _text(await _said(request), "version") != str(CONSENT_VERSION):
            raise UsageError("the text has changed", hint="read the page again")
        self._settings.enable(now=int(time.time()))

    async def _disable(self, _: Request) -> Any:
        try:
            self._settings.disable()
        finally:
            await self._askings.cancel()

    async def _keep(self, request: Request) -> Any:
        passphrase = _text(await _said(request), "passphrase")
        await asyncio.to_thread(self._vault.create, passphrase or None)
        self._store()

    async def _unlock(self, request: Request) -> Any:
        passphrase = _text(await _said(request), "passphrase")
        opened = await asyncio.to_thread(self._vault.open, passphrase or None)
        # In one step of the loop: whoever stores something in between would store it without these.
        for shelved in opened.chats:
            self._shelf.put(shelved)
        self._vault.hold(opened)
        self._store()

    async def _delete_kept(self, _: Request) -> Any:
        self._vault.delete()

    async def _verify(self, request: Request) -> Any:
        report = self._reports.get(request.path_params["id"])
        if is_empty(report):
            raise UsageError("that session ended before there was anything to verify; nothing was sent")
        environment = self._client.environment
        verdict = await asyncio.to_thread(recheck, report, environment, environment.session_policy())
        return {
            "accepted": verdict.accepted,
            "checks": [{**check.to_json(), "gain": check.gain} for check in verdict.checks],
        }

    async def _delete_report(self, request: Request) -> Any:
        self._reports.delete(request.path_params["id"])

    # What they share

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        settings, _ = self._read_settings()
        environment = self._environment()
        enabled = self._on(settings)
        shared = {
            "base": self.base,
            "page": "",
            "shelf": list(self._shelf),
            "private": {one.id for one in self._shelf if _is_private(one, settings)},
            "enabled": enabled,
            "enrolled": environment is not None,
            "ready": enabled and environment is not None,
            "simulated": environment is not None and environment.simulated,
            "environment": environment.name if environment else "",
        }
        return HTMLResponse(render(template, shared | values), status_code=status)

    def _as_page(self, answer: _Answer) -> _Answer:
        async def page(request: Request) -> Response:
            try:
                return await answer(request)
            except SottovoceError as error:
                status = 404 if isinstance(error, _NOT_FOUND) else 400
                return self._page("trouble.html", status=status, trouble=in_words(error))
            except Exception as fault:  # noqa: BLE001 - an exception's own words may be the user's
                return self._page("trouble.html", status=500, trouble=_fault(fault))

        return page

    def _shelved(self, request: Request) -> Shelved:
        return self._shelf.get(request.path_params["id"])

    def _texts(self, report: Report) -> list[str]:
        """What a report's session sent, as long as its answer is open."""
        for asking in self._askings.all():
            if asking.report == report.id and report.size_class:
                draft = [f"Draft: {asking.draft}"] if asking.draft else []
                return [asking.sent[one] for one in report.messages if one in asking.sent] + draft
        return []

    def _read_settings(self) -> tuple[Settings, dict[str, str] | None]:
        try:
            return self._settings.load(), None
        except SottovoceError as error:
            return Settings(), in_words(error)

    def _vault_state(self) -> tuple[dict[str, bool], dict[str, str] | None]:
        kept, trouble, by_keyring = self._vault.exists, None, False
        try:
            by_keyring = kept and self._vault.by_keyring
        except SottovoceError as error:
            trouble = in_words(error)
        state = {"kept": kept, "is_open": self._vault.is_open, "locked": kept and not self._vault.is_open}
        return state | {"by_keyring": by_keyring}, trouble

    def _environment(self) -> Environment | None:
        try:
            return self._client.environment
        except ConfigError:
            return None

    @staticmethod
    def _on(settings: Settings) -> bool:
        return settings.enabled is not None and settings.enabled.text_version == CONSENT_VERSION

    def _store(self) -> None:
        """Keep the shelf, where the user has it kept."""
        if self._vault.is_open:
            self._vault.write(self._shelf)


def create_app(app: App, access: Access) -> Gate:
    """The ASGI application: `app` behind its gate."""
    app.base = access.base

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stocking = asyncio.create_task(app.keep_stocked())
        try:
            yield
        finally:
            stocking.cancel()
            await asyncio.wait([stocking])
            await app.close()

    return Gate(Starlette(routes=app.routes(), lifespan=lifespan), access)


def _as_json(answer: Callable[[Request], Awaitable[Any]]) -> _Answer:
    async def changed(request: Request) -> Response:
        try:
            return JSONResponse(await answer(request) or {})
        except SottovoceError as error:
            status = 404 if isinstance(error, _NOT_FOUND) else 400
            return JSONResponse(in_words(error), status_code=status)
        except Exception as fault:  # noqa: BLE001 - as above
            return JSONResponse(_fault(fault), status_code=500)

    return changed


def _fault(fault: Exception) -> dict[str, str]:
    _LOG.error("a page failed: %s", type(fault).__name__)
    return FAULT


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


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    for file in (resources.files("sottovoce.app") / "static").iterdir():
        if file.name == name:
            return Response(file.read_bytes(), media_type=_TYPES[name.rpartition(".")[2]])
    return Response(status_code=404)


async def _body(request: Request, limit: int, hint: str) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise TooMuchError("that is more than the app takes", hint=hint)
    return bytes(data)


async def _said(request: Request) -> dict[str, Any]:
    try:
        said = json.loads(await _body(request, _DOCUMENT, "") or b"{}")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UsageError("that is not a request of the app's pages")
    return said


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name, "")
    if not isinstance(value, str):
        raise UsageError("that is not a request of the app's pages")
    return value


def _worded(parts: Sequence[Unread]) -> dict[str, str]:
    """Messages by the ids under which a request sends them."""
    several = len(parts) > 1
    return {
        f"{number}:{one.id}" if several else one.id: f"{one.sender}: {one.text}"
        for number, part in enumerate(parts, 1)
        for one in unread(part.chat, part.count)
    }


def _is_private(shelved: Shelved, settings: Settings) -> bool:
    return any(same_chat(mark.chat, shelved.mark) for mark in settings.private)

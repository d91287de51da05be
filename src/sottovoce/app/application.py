"""The application: every address of the app, behind its gate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sottovoce.app.access import Access, Gate
from sottovoce.app.askroutes import AskRoutes
from sottovoce.app.chatroutes import ChatRoutes
from sottovoce.app.desk import Desk
from sottovoce.app.reportroutes import ReportRoutes
from sottovoce.app.settingroutes import SettingRoutes
from sottovoce.app.stocking import keep_stocked
from sottovoce.app.wire import Page, as_json, fault, static, status_of
from sottovoce.app.words import in_words
from sottovoce.core.errors import SottovoceError

__all__ = ["create_app"]


def create_app(desk: Desk, access: Access) -> Gate:
    """The ASGI application over `desk`."""
    routes = [Route("/static/{name}", static, methods=["GET"])]
    for part in (ChatRoutes(desk), AskRoutes(desk), SettingRoutes(desk), ReportRoutes(desk)):
        routes += [Route(path, _as_page(desk, page), methods=["GET"]) for path, page in part.pages().items()]
        routes += [Route(path, as_json(change), methods=["POST"]) for path, change in part.changes().items()]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stocking = asyncio.create_task(keep_stocked(desk))
        try:
            yield
        finally:
            stocking.cancel()
            await asyncio.wait([stocking])
            await desk.close()

    return Gate(Starlette(routes=routes, lifespan=lifespan), access)


def _as_page(desk: Desk, page: Page) -> Page:
    async def shown(request: Request) -> Response:
        try:
            return await page(request)
        except SottovoceError as error:
            return await desk.page("trouble.html", status=status_of(error), trouble=in_words(error))
        except Exception as found:  # noqa: BLE001 - an exception's own words may be the user's
            return await desk.page("trouble.html", status=500, trouble=fault(found))

    return shown

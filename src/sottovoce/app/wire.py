"""What the pages send and get: requests of the app's own form, and answers that tell of an error in words."""

import json
import logging
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sottovoce.app.words import FAULT, in_words
from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.device.http import TooMuchError

__all__ = ["Change", "Page", "as_json", "body_of", "fault", "said_in", "static", "status_of", "text_of"]

Page = Callable[[Request], Awaitable[Response]]
Change = Callable[[Request], Awaitable[Any]]
_LOG: Final = logging.getLogger(__name__)
_DOCUMENT: Final = 64 * 1024
_NOT_THERE: Final = frozenset({"usage.chat", "usage.report"})
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def as_json(change: Change) -> Page:
    """The answer to a change: what it says, or its error in words."""

    async def changed(request: Request) -> Response:
        try:
            return JSONResponse(await change(request) or {})
        except SottovoceError as error:
            return JSONResponse(in_words(error), status_code=status_of(error))
        except Exception as found:  # noqa: BLE001 - an exception's own words may be the user's
            return JSONResponse(fault(found), status_code=500)

    return changed


def status_of(error: SottovoceError) -> int:
    """The HTTP status for `error`: 404 where something is not there."""
    return 404 if error.code in _NOT_THERE else 400


def fault(found: Exception) -> dict[str, str]:
    """A fault of the app for the page; the log gets its type and nothing else."""
    _LOG.error("the app failed: %s", type(found).__name__)
    return FAULT


async def static(request: Request) -> Response:
    """A file of the app's own."""
    name = request.path_params["name"]
    for file in (resources.files("sottovoce.app") / "static").iterdir():
        if file.name == name:
            return Response(file.read_bytes(), media_type=_TYPES[name.rpartition(".")[2]])
    return Response(status_code=404)


async def body_of(request: Request, limit: int, hint: str) -> bytes:
    """The body, of `limit` bytes at most.

    Raises:
        TooMuchError: it is longer.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise TooMuchError("that is more than the app takes", hint=hint)
    return bytes(data)


async def said_in(request: Request) -> dict[str, Any]:
    """The JSON object that a page sends.

    Raises:
        UsageError: it is none.
    """
    try:
        said = json.loads(await body_of(request, _DOCUMENT, "") or b"{}")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UsageError("that is not a request of the app's pages")
    return said


def text_of(said: dict[str, Any], name: str) -> str:
    """The text under `name`, or an empty one.

    Raises:
        UsageError: something else stands there.
    """
    value = said.get(name, "")
    if not isinstance(value, str):
        raise UsageError("that is not a request of the app's pages")
    return value

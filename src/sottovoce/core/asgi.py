"""What the small services share of ASGI: bounded bodies, plain answers, the lifespan. It does no I/O of its own."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from sottovoce.core.errors import LimitError, SottovoceError, UnavailableError

__all__ = ["App", "Receive", "Scope", "Send", "header", "lifespan", "read_body", "respond", "respond_error"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON: Final = b"application/json"


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of the header `name` (lower case); None where it is absent or given more than once."""
    values: list[bytes] = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body.

    Raises:
        LimitError: longer than `limit` bytes; the rest is not read.
        UnavailableError: the client went away.
    """
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise UnavailableError("the client went away", party="client")
        piece: bytes = message.get("body", b"")
        body += piece
        if len(body) > limit:
            raise LimitError("request longer than its limit")
        if not message.get("more_body", False):
            return body


async def respond(
    send: Send, status: int, body: bytes = b"", *headers: tuple[bytes, bytes], kind: bytes = _JSON
) -> None:
    """Send one whole answer; nothing may cache it unless `headers` say otherwise."""
    fields = [*headers, (b"content-length", str(len(body)).encode())] if status != 204 else [*headers]  # noqa: PLR2004 - RFC 9110 section 8.6: no length with 204
    if body:
        fields.append((b"content-type", kind))
    if not any(name == b"cache-control" for name, _ in headers):
        fields.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def respond_error(
    send: Send, status: int, error: SottovoceError, *headers: tuple[bytes, bytes]
) -> None:
    """Send the error's code and nothing else of it."""
    await respond(send, status, json.dumps({"code": error.code}).encode(), *headers)


async def lifespan(receive: Receive, send: Send, *, shutdown: Callable[[], Awaitable[None] | None]) -> None:
    """Answer the server's start and stop messages; `shutdown` runs, and is awaited, before the second answer."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    waits = shutdown()
    if waits is not None:
        await waits
    await send({"type": "lifespan.shutdown.complete"})

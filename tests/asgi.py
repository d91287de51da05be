"""A client that calls an ASGI application in process: no socket, no server, no time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
Headers = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: Headers
    body: bytes


def _scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> MutableMapping[str, Any]:
    raw_path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def fetch(
    app: App, method: str, path: str, *, headers: Headers | None = None, body: bytes | list[bytes] = b""
) -> Answer:
    """Send one request, its body in one piece or in several, and take the whole answer."""
    pieces = list(body) if isinstance(body, list) else [body]
    sent: list[MutableMapping[str, Any]] = []
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]

    async def receive() -> MutableMapping[str, Any]:
        if not pieces:
            # A client that waits for its answer does not disconnect.
            await asyncio.Event().wait()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(_scope(method, path, raw), receive, send)
    return _answer(sent)


def _answer(sent: list[MutableMapping[str, Any]]) -> Answer:
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert all(message["type"] == "http.response.body" for message in rest)
    assert not rest[-1].get("more_body", False), "the answer has no end"
    return Answer(
        status=start["status"],
        headers={name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in rest),
    )


async def shutdown(app: App) -> None:
    """Run the application's lifespan from its start to its end."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]

"""What the applications of the three roles share: routes, typed JSON in, JSON or lines of JSON out.

An error that is raised before an answer begins becomes its status and `{"code": …}` in `tee.http`; no error ever repeats what it was
about, so a validation error is told by its code alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from sottovoce.core.asgi import Receive, Send, read_body, respond
from sottovoce.core.errors import DecodeError, LimitError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.features.messages import Message
from sottovoce.tee.settings import Settings

__all__ = [
    "Application",
    "Handler",
    "Lines",
    "SentMessage",
    "Strict",
    "decode",
    "respond_json",
    "status",
    "take_messages",
]

Handler = Callable[[bytes, Send], Awaitable[None]]
_T = TypeVar("_T")
_ENCODER: Final = msgspec.json.Encoder()
_NDJSON: Final = b"application/x-ndjson"
_SENDER: Final = 200
_ID: Final = 64
_TIME: Final = 40
_OK, _NOT_FOUND = 200, 404


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document from a peer: unknown names are errors, and `repr` shows nothing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class SentMessage(Strict, frozen=True, kw_only=True):
    """A message as it comes in a request."""

    id: str
    sender: str
    text: str
    time: str = ""


def decode(data: bytes, kind: type[_T]) -> _T:
    """The document of type `kind` in `data`.

    Raises:
        DecodeError: not JSON, or not of this form.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise DecodeError("the request is not of the form that the interface wants") from None


def take_messages(sent: Sequence[SentMessage]) -> list[Message]:
    """The messages of a request, within the limits.

    Raises:
        LimitError: too many, or one that is too long.
        DecodeError: an id that is empty or used twice.
    """
    if len(sent) > LIMITS.messages or any(_is_long(message) for message in sent):
        raise LimitError("more messages, or a longer one, than the limits allow")
    if len({message.id for message in sent}) != len(sent) or any(not message.id for message in sent):
        raise DecodeError("the messages have no ids of their own")
    return [Message(id=one.id, sender=one.sender, text=one.text, time=one.time) for one in sent]


def _is_long(message: SentMessage) -> bool:
    return (
        len(message.text) > LIMITS.message_text
        or len(message.sender) > _SENDER
        or len(message.id) > _ID
        or len(message.time) > _TIME
    )


async def respond_json(send: Send, value: Any) -> None:
    """Answer 200 with `value`, all at once."""
    await respond(send, _OK, _ENCODER.encode(value))


class Lines:
    """An answer of JSON objects, a line each: sent as they come, or `at_once` with the last. Tasks of one session may share it."""

    def __init__(self, send: Send, *, at_once: bool = False) -> None:
        self._send = send
        self._held = bytearray()
        self._at_once = at_once
        self._lock = asyncio.Lock()
        self.begun = False

    async def write(self, value: Any) -> None:
        """Send one object."""
        self._held += _ENCODER.encode(value) + b"\n"
        if not self._at_once:
            await self._release(more=True)

    async def waiting(self, place: int) -> None:
        """Send that others are before this session."""
        await self.write({"event": "waiting", "place": place})

    async def flush(self) -> None:
        """Send what there is."""
        await self._release(more=True)

    async def end(self) -> None:
        """Say that the answer is complete."""
        await self._release(more=False)

    async def _release(self, *, more: bool) -> None:
        async with self._lock:
            if not self.begun:
                self.begun = True
                headers = [(b"content-type", _NDJSON), (b"cache-control", b"no-store")]
                await self._send({"type": "http.response.start", "status": _OK, "headers": headers})
            data = bytes(self._held)
            self._held.clear()
            await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Application:
    """An ASGI application of a few routes, and `GET /v1/status`."""

    def __init__(self, settings: Settings, routes: Mapping[str, Handler]) -> None:
        self._settings = settings
        self._routes = routes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await read_body(receive, LIMITS.request)
        route = f"{scope['method']} {scope['path']}"
        if route == "GET /v1/status":
            await respond_json(send, status(self._settings))
        elif (handler := self._routes.get(route)) is not None:
            await handler(body, send)
        else:
            await respond(send, _NOT_FOUND, b'{"code":"not-found"}')


def status(settings: Settings) -> dict[str, Any]:
    """What this CVM says of itself; the evidence proves it."""
    return {
        "release": {"environment": settings.environment, "version": settings.version},
        "role": settings.role,
        "limits": {
            "messages": LIMITS.messages,
            "message_text": LIMITS.message_text,
            "draft": LIMITS.draft,
            "request": LIMITS.request,
            "answer": LIMITS.answer,
        },
        "simulated": settings.platform.startswith("simulated"),
    }

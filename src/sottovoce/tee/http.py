"""HTTP/1.1 inside the frames of a session, both sides, sans-IO but for running the ASGI application.

A response that is complete in its first piece leaves as one burst, padded to its size class. A streamed one is paced.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

import h11

from sottovoce.core.errors import LimitError, ProtocolError, SottovoceError
from sottovoce.core.frames import FrameReader, encode_message
from sottovoce.core.limits import LIMITS

__all__ = [
    "ASGIApp",
    "Answer",
    "ClientExchange",
    "Head",
    "HttpServer",
    "Piece",
    "Request",
    "run_app",
    "status_of",
]

_Headers = tuple[tuple[bytes, bytes], ...]
ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""ASGI 3.0, scope type `http` only: no lifespan is run, and `receive` gives the whole request body at once."""
_BACKLOG: Final = 64 * 1024
"""Bytes beyond one request that a peer may send ahead."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """One whole request."""

    method: bytes
    target: bytes
    headers: _Headers
    body: bytes


class HttpServer:
    """The server's side of a session: plaintext in, requests out; answers in, bytes out."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER)
        self._frames = FrameReader()
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._unread = 0

    def feed(self, plaintext: bytes) -> None:
        """Take the next bytes of the session.

        Raises:
            DecodeError: a malformed frame.
            LimitError: more than one request and what may be sent ahead.
        """
        data = self._frames.feed(plaintext)
        self._unread += len(data)
        if self._unread > LIMITS.request + _BACKLOG:
            raise LimitError("the peer sends more than the limits allow")
        if data:
            self._http.receive_data(data)

    def next_request(self) -> Request | None:
        """The next request, once it is complete and the one before is answered.

        Raises:
            ProtocolError: not HTTP/1.1.
            LimitError: a body longer than a request may be.
        """
        try:
            while True:
                event: Any = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > LIMITS.request:
                        raise LimitError("the request is longer than the limits allow")
                elif isinstance(event, h11.EndOfMessage):
                    return self._take()
                else:
                    return None
        except h11.RemoteProtocolError:
            raise ProtocolError("the request is not HTTP/1.1") from None

    def _take(self) -> Request:
        head, body = self._head, bytes(self._body)
        self._head, self._body, self._unread = None, bytearray(), 0
        if head is None:
            raise ProtocolError("the request is not HTTP/1.1")
        return Request(
            method=bytes(head.method), target=bytes(head.target), headers=tuple(head.headers), body=body
        )

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The start of the answer."""
        return self._http.send(h11.Response(status_code=status, headers=list(headers))) or b""

    def data(self, data: bytes) -> bytes:
        """A piece of the answer's body."""
        return (self._http.send(h11.Data(data=data)) or b"") if data else b""

    def end(self) -> bytes:
        """The end of the answer."""
        return self._http.send(h11.EndOfMessage()) or b""

    def next_cycle(self) -> bool:
        """Make ready for another request; False where the peer wants none."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True


class Wire(Protocol):
    """Where an answer goes."""

    async def whole(self, data: bytes) -> None:
        """Send an answer that is complete before a part of it has left."""

    def paced(self, data: bytes) -> None:
        """Add data to the paced answer."""

    def end_paced(self) -> None:
        """Say that the paced answer is complete."""


class Answer:
    """The ASGI `send` of one request."""

    def __init__(self, http: HttpServer, wire: Wire) -> None:
        self._http = http
        self._wire = wire
        self._start: MutableMapping[str, Any] | None = None
        self._head_sent = False
        self._size = 0
        self.complete = False

    @property
    def begun(self) -> bool:
        """Whether a part of it has left."""
        return self._head_sent

    def reset(self) -> None:
        """Forget a start that has not left."""
        self._start = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take an ASGI message.

        Raises:
            LimitError: the answer is longer than its strict maximum (protocol section 7).
            ProtocolError: messages in the wrong order.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self.complete:
            await self._piece(bytes(message.get("body", b"")), more=bool(message.get("more_body", False)))
        else:
            raise ProtocolError("the application answers in the wrong order")

    async def _piece(self, body: bytes, *, more: bool) -> None:
        first = not self._head_sent
        if first and more and not body:
            return
        data = self._first() if first else b""
        self._head_sent = True
        data += self._http.data(body)
        if not more:
            data += self._http.end()
        self._size += len(data)
        if self._size > LIMITS.answer:
            raise LimitError("the answer is longer than its strict maximum")
        self.complete = not more
        if first and not more:
            await self._wire.whole(data)
            return
        self._wire.paced(data)
        if not more:
            self._wire.end_paced()

    def _first(self) -> bytes:
        assert self._start is not None  # noqa: S101 - `send` has checked it
        return self._http.head(self._start["status"], self._start.get("headers", ()))


def _scope(request: Request) -> MutableMapping[str, Any]:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method.decode("ascii"),
        "scheme": "https",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": None,
        "server": None,
    }


_STATUS: Final = {
    "peer.limit": 413,
    "peer": 400,
    "unavailable": 503,
    "refused": 403,
    "verification": 503,
}


def status_of(error: SottovoceError) -> int:
    """The HTTP status for an error of ours."""
    code = error.code
    return _STATUS.get(code) or _STATUS.get(code.partition(".")[0]) or 500


async def run_app(
    app: ASGIApp, request: Request, answer: Answer, gone: Callable[[], Awaitable[object]]
) -> None:
    """Run `app` on `request` until its answer is complete; `gone()` ends when the peer has left.

    Raises:
        SottovoceError: the application failed after a part of its answer had left.
    """
    received = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": request.body, "more_body": False}
        await gone()
        return {"type": "http.disconnect"}

    failure: SottovoceError | None = None
    try:
        await app(_scope(request), receive, answer.send)
    except SottovoceError as error:
        failure = error
    except Exception:  # noqa: BLE001 - whatever it is, it may hold content: only its place is told
        failure = SottovoceError("the application failed")
    if answer.complete:
        return
    if answer.begun:
        raise SottovoceError("the application left its answer unfinished")
    await _refuse(answer, failure or SottovoceError("the application did not answer"))


async def _refuse(answer: Answer, error: SottovoceError) -> None:
    body = json.dumps({"code": error.code}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    answer.reset()
    await answer.send({"type": "http.response.start", "status": status_of(error), "headers": headers})
    await answer.send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The status of an answer."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Piece:
    """A piece of an answer's body."""

    data: bytes


class ClientExchange:
    """The client's side of one request and its answer."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._http = h11.Connection(h11.CLIENT)
        self._frames = FrameReader()
        self._received = 0
        self.complete = False

    def request(self, method: str, target: str, body: bytes) -> bytes:
        """The whole request in padded frames.

        Raises:
            LimitError: a body longer than a request may be.
        """
        if len(body) > LIMITS.request:
            raise LimitError("the request is longer than the limits allow")
        headers = [("host", self._host), ("content-length", str(len(body)))]
        if body:
            headers.append(("content-type", "application/json"))
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        data += (self._http.send(h11.Data(data=body)) or b"") if body else b""
        return encode_message(data + (self._http.send(h11.EndOfMessage()) or b""))

    def feed(self, plaintext: bytes) -> list[Head | Piece]:
        """What `plaintext`, the next bytes of the session, brings.

        Raises:
            DecodeError: a malformed frame.
            ProtocolError: not HTTP/1.1.
            LimitError: an answer above the strict maximum.
        """
        data = self._frames.feed(plaintext)
        self._received += len(data)
        if self._received > LIMITS.answer:
            raise LimitError("the answer is longer than its strict maximum")
        events: list[Head | Piece] = []
        try:
            if data:
                self._http.receive_data(data)
            while (event := self._event()) is not None:
                events.append(event)
        except h11.RemoteProtocolError:
            raise ProtocolError("the answer is not HTTP/1.1") from None
        return events

    def _event(self) -> Head | Piece | None:
        event: Any = self._http.next_event()
        if isinstance(event, h11.Response):
            return Head(status=event.status_code)
        if isinstance(event, h11.Data):
            return Piece(data=bytes(event.data))
        self.complete = self.complete or isinstance(event, h11.EndOfMessage)
        return None

"""HTTP/1.1 inside the frames of an attested session, client side, sans-IO."""

from dataclasses import dataclass
from typing import Any, Final

import h11

from sottovoce.core.errors import LimitError, ProtocolError, UsageError
from sottovoce.core.frames import FrameReader, encode_message
from sottovoce.core.limits import LIMITS

__all__ = ["Body", "Head", "HttpExchange", "Over", "TooMuchError"]

_HOST: Final = "orchestrator"


class TooMuchError(UsageError):
    """What the user wants to send is more than the limits allow."""

    code = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The answer's status, and its media type without parameters, in lower case."""

    status: int
    media: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Body:
    """A piece of the answer's body."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The answer is complete."""


class HttpExchange:
    """One request and its answer."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._frames = FrameReader()
        self._received = 0

    def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The whole request in padded frames.

        Raises:
            TooMuchError: the body is longer than a request may be.
        """
        if len(body) > LIMITS.request:
            raise TooMuchError("the request is longer than the limits allow", hint="send fewer messages")
        headers = [("Host", _HOST), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        return encode_message(data)

    def feed(self, plaintext: bytes) -> list[Head | Body | Over]:
        """What `plaintext`, the next bytes of the session, brings.

        Raises:
            DecodeError: a malformed frame.
            ProtocolError: not HTTP, or an answer that is not allowed.
            LimitError: an answer above the strict maximum.
        """
        data = self._frames.feed(plaintext)
        self._received += len(data)
        if self._received > LIMITS.answer:
            raise LimitError("the answer is longer than its strict maximum")
        events: list[Head | Body | Over] = []
        try:
            if data:
                self._http.receive_data(data)
            while (event := self._event()) is not None:
                events.append(event)
        except h11.RemoteProtocolError:
            raise ProtocolError("the service's answer is not HTTP/1.1") from None
        return events

    def _event(self) -> Head | Body | Over | None:
        event: Any = self._http.next_event()
        if isinstance(event, h11.Response):
            media = dict(event.headers).get(b"content-type", b"").decode("latin-1")
            return Head(status=event.status_code, media=media.partition(";")[0].strip().lower())
        if isinstance(event, h11.Data):
            return Body(data=bytes(event.data))
        if isinstance(event, h11.EndOfMessage):
            return Over()
        return None

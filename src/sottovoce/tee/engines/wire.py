"""One connection to an engine's server: HTTP/1.1 by h11, blocking, with a time limit on every read.

Answers are one JSON document or a stream of server-sent events (WHATWG HTML, section 9.2). It must have been opened before a session's
sandbox closes; what is needed later is `sendto`, `recvfrom` and `poll`.
"""

import select
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import h11

from sottovoce.core.limits import LIMITS
from sottovoce.tee.engines import EngineError

__all__ = ["Wire", "WireClosedError"]

_READ: Final = 64 * 1024
_ANSWER: Final = 8 << 20
"""Bytes of one answer, head and body. The longest is the tokens of a text of `LIMITS.request`; a stream takes 500 bytes a token."""
_SILENCE: Final = 60.0
"""Seconds for which an answer may pause: the server may have to work on a whole batch of long texts first."""


class WireClosedError(EngineError):
    """The server closed the connection before it answered."""

    code = "service.engine.closed"


class Wire:
    """A connection; `sock` belongs to it. One request at a time."""

    def __init__(self, sock: socket.socket, *, silence: float = _SILENCE) -> None:
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT)
        self._silence = silence
        self._deadline = 0.0
        self._received = 0

    def close(self) -> None:
        """Close it; a server that is still answering stops."""
        self._sock.close()

    def usable(self) -> bool:
        """Whether another request can be sent. An answer that was left unread is read to its end first."""
        try:
            if self._http.their_state is h11.SEND_BODY:
                for _ in self._body():
                    pass
            # An idle connection has nothing to say: what can be read is its end, or an answer that nobody asked for.
            poll = select.poll()  # the sandbox has no other
            poll.register(self._sock, select.POLLIN)
            speaks = poll.poll(0)
        except (EngineError, OSError, ValueError):
            return False
        return not speaks and {self._http.our_state, self._http.their_state} <= {h11.IDLE, h11.DONE}

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, str]:
        """Send a request, a JSON document or nothing; the status and the content type of the answer.

        Raises:
            WireClosedError: the connection is closed; the server has not answered.
            EngineError: the server was silent for too long, or broke the protocol.
        """
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        self._deadline, self._received = time.monotonic() + LIMITS.session_total, 0
        headers = [("host", "localhost"), ("content-length", str(len(body)))]
        if body:
            headers.append(("content-type", "application/json"))
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        data += (self._http.send(h11.Data(data=body)) or b"") if body else b""
        try:
            self._sock.sendall(data + (self._http.send(h11.EndOfMessage()) or b""))
        except TimeoutError:
            raise EngineError("the engine was silent for too long") from None
        except OSError:
            raise WireClosedError("the engine closed the connection") from None
        while not isinstance(event := self._event(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise EngineError("the engine broke the protocol")
        kind = dict(event.headers).get(b"content-type", b"")
        return event.status_code, kind.partition(b";")[0].strip().lower().decode("latin-1")

    def read(self) -> bytes:
        """The whole body of the answer.

        Raises:
            EngineError: as for `ask`.
        """
        return b"".join(self._body())

    def events(self) -> Iterator[bytes]:
        """The data of each server-sent event of the answer.

        Raises:
            EngineError: as for `ask`, or the stream ends in the middle of an event.
        """
        rest, data = b"", []
        for piece in self._body():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                name, _, value = line.removesuffix(b"\r").partition(b":")
                if name == b"data":
                    data.append(value.removeprefix(b" "))
                elif not line.removesuffix(b"\r") and data:
                    yield b"\n".join(data)
                    data = []
        if data or rest.strip():
            raise EngineError("the engine's answer ends in the middle")

    def _body(self) -> Iterator[bytes]:
        while not isinstance(event := self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise EngineError("the engine broke the protocol")
            yield bytes(event.data)

    def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._recv())
        except h11.RemoteProtocolError:
            if not self._received:
                raise WireClosedError("the engine closed the connection") from None
            raise EngineError("the engine broke the protocol, or left in the middle of an answer") from None
        return event

    def _recv(self) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise EngineError("the engine took too long")
        try:
            self._sock.settimeout(min(self._silence, left))
            data = self._sock.recv(_READ)
        except TimeoutError:
            raise EngineError("the engine was silent for too long") from None
        except OSError:
            data = b""
        self._received += len(data)
        if self._received > _ANSWER:
            raise EngineError("the engine's answer is longer than the limits allow")
        return data

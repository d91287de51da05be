import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, LimitError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.frames import encode_message
from sottovoce.core.limits import LIMITS
from sottovoce.tee.http import Answer, ASGIApp, ClientExchange, Head, HttpServer, Request, run_app
from tee_kit import respond, stream


class Recorder:
    """A wire that keeps what is sent."""

    def __init__(self) -> None:
        self.bursts: list[bytes] = []
        self.stream = b""
        self.ended = False

    async def whole(self, data: bytes) -> None:
        self.bursts.append(encode_message(data))

    def paced(self, data: bytes) -> None:
        self.stream += data

    def end_paced(self) -> None:
        self.ended = True


async def stay() -> None:
    await asyncio.Event().wait()


def ask(app: ASGIApp, method: str = "POST", target: str = "/a%20b?c=d", body: bytes = b"body") -> Recorder:
    exchange, http, wire = ClientExchange("host"), HttpServer(), Recorder()
    http.feed(exchange.request(method, target, body))
    request = http.next_request()
    assert request is not None
    asyncio.run(run_app(app, request, Answer(http, wire), stay))
    return wire


def parse(frames: bytes) -> tuple[int, bytes]:
    pieces = ClientExchangeAfter().feed(frames)
    status = next(piece.status for piece in pieces if isinstance(piece, Head))
    return status, b"".join(piece.data for piece in pieces if not isinstance(piece, Head))


class ClientExchangeAfter(ClientExchange):
    """A client that has sent its request."""

    def __init__(self) -> None:
        super().__init__("host")
        self.request("GET", "/", b"")


def test_the_scope_says_what_was_asked() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        message = await receive()
        assert message == {"type": "http.request", "body": b"body", "more_body": False}
        await respond(send, 200, b"")

    ask(app)
    assert (seen["method"], seen["path"], seen["query_string"]) == ("POST", "/a b", b"c=d")
    assert seen["client"] is None


def test_a_whole_answer_is_one_message() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, 201, b"answer")

    wire = ask(app)
    assert [len(burst) for burst in wire.bursts] == [4096]
    assert parse(wire.bursts[0]) == (201, b"answer")
    assert not wire.stream


def test_a_streamed_answer_is_paced_from_its_first_data() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await stream(send, [b"", b"one", b"two"])

    wire = ask(app)
    assert not wire.bursts
    assert wire.ended
    assert parse(encode_message(wire.stream)) == (200, b"onetwo")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LimitError("x"), 413),
        (DecodeError("x"), 400),
        (UnavailableError("x", party="guard"), 503),
        (SottovoceError("x"), 500),
        (ValueError("words of a user"), 500),
    ],
)
def test_an_error_becomes_its_code_and_nothing_else(error: Exception, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-words", b"of a user")]})
        raise error

    (burst,) = ask(app).bursts
    code = getattr(error, "code", "error")
    assert parse(burst) == (status, b'{"code": "%s"}' % code.encode())
    assert b"of a user" not in burst


def test_an_application_that_says_nothing_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    assert parse(ask(app).bursts[0])[0] == 500


def test_an_answer_that_breaks_off_ends_the_session() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError

    with pytest.raises(SottovoceError, match="unfinished"):
        ask(app)


def test_an_answer_beyond_the_maximum_ends_the_session() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await stream(send, [b"x" * 1000] * 70)

    with pytest.raises(SottovoceError, match="unfinished"):
        ask(app)


def test_requests_beyond_the_limit() -> None:
    with pytest.raises(LimitError):
        ClientExchange("host").request("POST", "/", bytes(LIMITS.request + 1))
    http = HttpServer()
    http.feed(encode_message(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"))
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    for _ in range(8):
        http.feed(encode_message(chunk))
        assert http.next_request() is None
    http.feed(encode_message(chunk))
    with pytest.raises(LimitError):
        http.next_request()


def test_answers_beyond_the_limit() -> None:
    exchange = ClientExchangeAfter()
    exchange.feed(encode_message(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    chunk = b"2000\r\n" + bytes(0x2000) + b"\r\n"
    for _ in range(7):
        exchange.feed(encode_message(chunk))
    with pytest.raises(LimitError):
        exchange.feed(encode_message(chunk))


@given(st.binary(min_size=1, max_size=400))
def test_any_bytes_give_a_request_or_a_typed_error(data: bytes) -> None:
    http = HttpServer()
    http.feed(encode_message(data + b"\r\n\r\n"))
    try:
        request = http.next_request()
    except ProtocolError:
        return
    assert request is None or isinstance(request, Request)


@given(st.binary(min_size=1, max_size=400))
def test_any_answer_gives_events_or_a_typed_error(data: bytes) -> None:
    exchange = ClientExchangeAfter()
    try:
        events = exchange.feed(encode_message(data + b"\r\n\r\n"))
    except (ProtocolError, LimitError):
        return
    assert isinstance(events, list)


def test_next_cycle_needs_a_complete_exchange() -> None:
    http = HttpServer()
    assert not http.next_cycle()

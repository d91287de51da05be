"""Heads, trailers and waiting are bounded, for every service that `sottovoce serve` starts."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop

import virtual_time
from sottovoce.cli import boundedhttp, process
from sottovoce.cli.boundedhttp import MAX_HEAD, BoundedProtocol

OK = b"HTTP/1.1 200 OK\r\n"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter, list[Any]], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(seen: list[Any]) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen.append((scope["path"], dict(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=BoundedProtocol, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = asyncio.ensure_future(server.serve(sockets=[sock]))
        yield sock.getsockname()[1]
        server.should_exit = True
        await running


def run(play: Play) -> list[Any]:
    seen: list[Any] = []

    async def whole() -> None:
        async with serving(seen) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await play(reader, writer, seen)
            writer.close()

    asyncio.run(asyncio.wait_for(whole(), 30))
    return seen


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What still comes before the server ends the connection."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def pour(writer: asyncio.StreamWriter, piece: bytes, total: int) -> int:
    """How many bytes went out before the server ended the connection."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < total:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    return sent


@pytest.mark.parametrize("piece", [b"x" * 4096, b"a: b\r\n" * 512])
@pytest.mark.parametrize(
    "before", [b"", b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"]
)
def test_heads_and_trailers_without_end(before: bytes, piece: bytes) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        writer.write(before or b"GET / HTTP/1.1\r\nlong: ")
        assert await pour(writer, piece, 64 * 1024 * 1024) < 16 * 1024 * 1024
        assert OK not in await ended(reader)

    assert run(play) == []


def test_a_head_that_is_long_and_a_body_that_is_longer_pass() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        for number in range(2):
            head = b"POST /%d HTTP/1.1\r\nlong: %b\r\ncontent-length: 300000\r\n\r\n" % (
                number,
                b"x" * (MAX_HEAD - 200),
            )
            writer.write(head + bytes(300_000))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)

    assert [(path, len(body)) for path, _, body in run(play)] == [("/0", 300_000), ("/1", 300_000)]


def test_many_small_chunks_pass_and_trailers_are_nothing() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        for _piece in range(20_000):
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\nx-mark: 1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)

    ((_, headers, body),) = run(play)
    assert (len(body), b"x-mark" in headers) == (20_000, False)


def test_another_protocol_is_refused_and_its_body_is_no_request() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        hidden = b"GET /hidden HTTP/1.1\r\n\r\n"
        writer.write(
            b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: %d\r\n\r\n"
            % len(hidden)
        )
        await writer.drain()
        await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            writer.write(hidden)
            await writer.drain()
        assert (await ended(reader)).startswith(b"HTTP/1.1 400 ")

    assert run(play) == []


@pytest.mark.parametrize(
    "said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET /again HTTP/1.1\r\nz"]
)
def test_a_head_is_not_waited_for_without_end(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundedhttp, "HEAD_SECONDS", 0.2)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        writer.write(said)
        async with asyncio.timeout(10):
            await ended(reader)

    run(play)


def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundedhttp, "HEAD_SECONDS", 0.2)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: list[Any]) -> None:
        writer.write(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nx")
        await asyncio.sleep(0.6)
        writer.write(b"y")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)

    assert run(play)[0][2] == b"xy"


def test_every_service_is_served_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class AskedError(Exception):
        pass

    def config(*_: Any, **more: Any) -> None:
        asked.update(more)
        raise AskedError

    monkeypatch.setattr(uvicorn, "Config", config)
    with pytest.raises(AskedError), socket.socket() as sock:
        process.run_asgi(None, sock, lambda: None)
    assert asked["http"] is BoundedProtocol


@contextlib.asynccontextmanager
async def answering(app: Any) -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamReader]]:
    """A server, and a client that has asked and reads as little as it can."""
    config = uvicorn.Config(app, http=BoundedProtocol, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.socket() as client:
        running = asyncio.ensure_future(server.serve(sockets=[sock]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, sock.getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=4096)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            yield server, reader
        finally:
            writer.transport.abort()
            server.should_exit = True
            await running


async def say(send: Any, pieces: int, *, end: bool = True) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    if end:
        await send({"type": "http.response.body"})


@pytest.mark.parametrize(("pieces", "end"), [(50, True), (8, True), (8, False)])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_does_not_read_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop], pieces: int, *, end: bool
) -> None:
    """While an answer waits for it, and after an answer that is whole, or left without its end."""
    monkeypatch.setattr(boundedhttp, "READ_SECONDS", 0.2)

    async def play() -> None:
        over = asyncio.Event()

        async def app(_: Any, __: Any, send: Any) -> None:
            await say(send, pieces, end=end)
            over.set()

        async with answering(app) as (server, _):
            await over.wait()
            while server.server_state.connections:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(play(), 20))


def test_who_reads_slowly_has_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shorter than the answer takes.
    monkeypatch.setattr(boundedhttp, "READ_SECONDS", 1.0)

    async def play() -> None:
        async def app(_: Any, __: Any, send: Any) -> None:
            await say(send, 24)

        loop = asyncio.get_running_loop()
        began = loop.time()
        async with answering(app) as (_, reader):
            got = 0
            while not (piece := await reader.read(1 << 16)).endswith(b"0\r\n\r\n"):
                got += len(piece)
                assert piece
                await asyncio.sleep(0.001)
            assert got + len(piece) > 24 << 20
            assert loop.time() - began > 1.0

    virtual_time.run(play())

"""Clients and gateways that do not go on: none holds one of the relay's connections to the gateway for long, and slow ones are not cut off."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import edge_kit
import virtual_time
from http_kit import Answer, Upstream, chunk, reply, upstream
from sottovoce.core.events import EventLog
from sottovoce.thirdparty import relay as relay_module
from sottovoce.thirdparty import upstream as upstream_module
from sottovoce.thirdparty.directorycopies import DirectoryCopies
from sottovoce.thirdparty.relay import Config, create_app

CHUNKED = "message/ohttp-chunked-req"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b"5\r\npiece\r\n"
LIMIT, GAP, ROUNDS = 0.5, 0.04, 20
"""A limit in seconds, and times between pieces that are far below it but above it together."""


@pytest.fixture(autouse=True)
def _asks_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: DirectoryCopies) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DirectoryCopies, "follow", never)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit on waiting is short."""
    monkeypatch.setattr(relay_module, "_READ_TIMEOUT", LIMIT)
    monkeypatch.setattr(relay_module, "_STALL", LIMIT)
    monkeypatch.setattr(upstream_module, "_READ_TIMEOUT", LIMIT)


class Place:
    """A relay with one connection to its gateway, and what it logs."""

    def __init__(self, gateway: Upstream, url: str, lines: list[str]) -> None:
        self.gateway = gateway
        self.url = url
        self.lines = lines

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[edge_kit.Raw]:
        """A client that has sent a streamed request's head."""
        async with edge_kit.raw(self.url) as client:
            await client.start("POST", "/ohttp", content_type=CHUNKED)
            yield client

    async def served(self) -> int:
        """The status that another client gets."""
        async with self.client() as client:
            await client.send(b"sealed")
            await client.send(b"")
            return await client.head()


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Upstream]:
    """A gateway; at the end it has seen that its connections are over."""
    writers: set[asyncio.StreamWriter] = set()

    async def noted(gateway: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        await answer(gateway, reader, writer)

    async with upstream(noted) as gateway:
        yield gateway
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def place(answer: Answer) -> AsyncIterator[Place]:
    lines: list[str] = []
    async with serving(answer) as gateway:
        config = Config(gateway=gateway.url, mirror="http://127.0.0.1:1", connections=1)
        async with edge_kit.serving(create_app(config, log=EventLog(lines.append))) as url:
            yield Place(gateway, url, lines)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(test())


def then(first: Answer) -> Answer:
    """The first request is answered so, all later ones at once."""

    async def answer(gateway: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = first if len(gateway.heads) == 1 else reply(content_type="message/ohttp-res")
        await one(gateway, reader, writer)

    return answer


async def silent(_: Upstream, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read()
    raise ConnectionAbortedError


def test_the_head_of_a_request_holds_nothing() -> None:
    async def play() -> None:
        async with place(reply(content_type="message/ohttp-res")) as there, there.client() as idle:
            assert await there.served() == 200
            await idle.send(b"sealed")
            await idle.send(b"")
            assert await idle.head() == 200

    run(play)


@pytest.mark.usefixtures("_short")
def test_a_request_that_does_not_begin_is_answered_with_a_timeout() -> None:
    async def play() -> None:
        async with place(reply()) as there, there.client() as idle:
            assert await idle.head() == 408
            assert await idle.rest() == b'{"code": "peer.timeout"}'
            assert there.gateway.connections == 0

    run(play)


@pytest.mark.usefixtures("_short")
def test_a_request_that_does_not_go_on_lets_go_of_the_gateway() -> None:
    async def play() -> None:
        async with place(then(silent)) as there, there.client() as idle:
            await idle.send(b"sealed")
            assert await idle.head() == 502
            await there.gateway.closed.wait()
            assert await there.served() == 200

    run(play)


@pytest.mark.usefixtures("_short")
def test_a_client_that_does_not_read_lets_go_of_the_gateway() -> None:
    async def endless(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await chunk(reader)
        writer.write(HEAD)
        while True:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()

    async def play() -> None:
        async with place(then(endless)) as there, there.client() as idle:
            await idle.send(b"sealed")
            await idle.send(b"")
            assert await idle.head() == 200
            idle.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await there.gateway.closed.wait()
            assert await there.served() == 200
        assert json.loads(there.lines[-1])["broken_off"] == 1

    run(play)


@pytest.mark.usefixtures("_short")
def test_an_answer_without_end_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(_: Upstream, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        while True:
            writer.write(PIECE)
            await writer.drain()
            await asyncio.sleep(GAP)

    async def play() -> None:
        async with place(then(drip)) as there, there.client() as client:
            await client.send(b"sealed")
            assert await client.head() == 200
            with pytest.raises(asyncio.IncompleteReadError):
                await client.rest()
            assert await there.served() == 200

    monkeypatch.setattr(upstream_module, "_TOTAL_TIMEOUT", 2 * LIMIT)
    run(play)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("answers", [True, False])
def test_what_goes_on_in_one_direction_at_least_is_not_cut_off(*, asks: bool, answers: bool) -> None:
    """For longer than any limit on waiting: pieces there, pieces back, both, or one of each at last."""

    async def slow(__: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await chunk(reader) == b"piece"
        writer.write(HEAD)
        for _ in range(ROUNDS if answers else 0):
            writer.write(PIECE)
            await asyncio.sleep(GAP)
        while await chunk(reader):
            pass
        writer.write(PIECE + b"0\r\n\r\n")
        await writer.drain()

    async def play() -> None:
        async with place(slow) as there, there.client() as client:
            await client.send(b"piece")
            assert await client.head() == 200
            for _ in range(ROUNDS if asks else 0):
                await client.send(b"piece")
                await asyncio.sleep(GAP)
            if answers:
                assert [await client.chunk() for _ in range(ROUNDS)] == [b"piece"] * ROUNDS
            await client.send(b"")
            assert await client.rest() == b"piece"
            assert there.gateway.connections == 1

    run(play)


@pytest.mark.usefixtures("_short")
def test_a_client_that_reads_slowly_is_not_cut_off() -> None:
    """A limit on each piece, none on an answer; what has piled up is one long piece no more."""
    whole = bytes(1 << 20)

    async def fast(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await chunk(reader)
        writer.write(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole))
        await writer.drain()

    async def play() -> None:
        async with serving(fast) as gateway:
            app = create_app(
                Config(gateway=gateway.url, mirror="http://127.0.0.1:1"), log=EventLog(lambda _: None)
            )
            sent: list[bytes] = []
            asked = [{"type": "http.request", "body": b"sealed", "more_body": False}]

            async def receive() -> dict[str, object]:
                if not asked:
                    await asyncio.Event().wait()
                return asked.pop()

            async def send(message: dict[str, object]) -> None:
                piece = bytes(message.get("body", b""))  # type: ignore[call-overload]
                # 16 KiB in 40 ms: at this pace 256 KiB take longer than the limit.
                await asyncio.sleep(GAP * len(piece) / 16384)
                sent.append(piece)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/ohttp",
                "headers": [(b"content-type", CHUNKED.encode())],
            }
            await app(scope, receive, send)  # type: ignore[arg-type]
            assert b"".join(sent) == whole
            # It starts and stops.
            asked += [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
            await app({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]

    run(play)

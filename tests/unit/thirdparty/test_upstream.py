"""The relay's pool of connections: an answer is read as one to the request that it follows, or not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from http_kit import Upstream as Server
from http_kit import upstream as serving
from sottovoce.thirdparty.upstream import Connection, Upstream, UpstreamError

OK = b"HTTP/1.1 200 OK\r\ncontent-type: kind/one\r\ncontent-length: 3\r\n\r\none"
OTHER = b"HTTP/1.1 404 Not Found\r\ncontent-type: kind/two\r\ncontent-length: 3\r\n\r\ntwo"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: kind/one\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


class Pool:
    """A pool of one connection at a time, and the server's side of the newest one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = Upstream(server.url, limit=1)
        self.writers: list[asyncio.StreamWriter] = []

    async def get(self) -> tuple[int, bytes, bytes]:
        """One exchange: status, media type and body."""
        connection = await self.client.acquire()
        try:
            connection.start(GET, complete=True)
            await connection.head()
            return connection.status, connection.media, await connection.whole(1 << 30)
        finally:
            self.client.release(connection)

    def say(self, data: bytes) -> None:
        """Send at once, without a turn of the event loop in which the client could read it."""
        self.writers[-1].write(data)


@contextlib.asynccontextmanager
async def pool(*answers: bytes) -> AsyncIterator[Pool]:
    """A server that gives these answers, one a request, whatever connection it is on."""
    left = list(answers)

    async def answer(_: Server, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.writers.append(writer)
        writer.write(left.pop(0))
        await writer.drain()

    async with serving(answer) as server:
        there = Pool(server)
        try:
            yield there
        finally:
            there.client.close()
            await ended(there.writers)


async def ended(writers: list[asyncio.StreamWriter]) -> None:
    """The server has seen that its connections are over."""
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def over(connection: Connection) -> None:
    for _ in range(5000):
        if connection.closed:
            return
        await asyncio.sleep(0.001)
    pytest.fail("the connection is still open")


ONE = (200, b"kind/one", b"one")


def test_a_second_answer_to_one_request_is_neither_part_of_the_first_nor_kept() -> None:
    async def play() -> None:
        async with pool(OK + OTHER, OK) as there:
            assert [await there.get(), await there.get()] == [ONE, ONE]
            assert there.server.connections == 2

    run(play)


def test_bytes_on_an_idle_connection_end_it() -> None:
    async def play() -> None:
        async with pool(OK, OK) as there:
            assert await there.get() == ONE
            (idle,) = there.client._idle
            there.say(OTHER)
            await over(idle)
            assert await there.get() == ONE
            assert there.server.connections == 2

    run(play)


@pytest.mark.parametrize("data", [OTHER, b"\r\n", b"H"])
def test_bytes_that_the_event_loop_has_not_read_yet_end_it_too(data: bytes) -> None:
    async def play() -> None:
        async with pool(OK, OK) as there:
            assert await there.get() == ONE
            there.say(data)
            assert await there.get() == ONE
            assert there.server.connections == 2

    run(play)


def test_a_connection_that_the_server_has_just_ended_is_not_used() -> None:
    async def play() -> None:
        async with pool(OK, OK) as there:
            assert await there.get() == ONE
            there.writers[-1].write_eof()
            assert await there.get() == ONE
            assert there.server.connections == 2

    run(play)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_before_the_request_is_none(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """With either event loop: that of the command takes no write to a connection that is closed."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    writers: list[asyncio.StreamWriter] = []

    async def play() -> None:
        server = await asyncio.start_server(early, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        client = Upstream(f"http://{host}:{port}", limit=1)
        connection = await client.acquire()
        await over(connection)
        try:
            connection.start(GET, complete=True)
            with pytest.raises(UpstreamError):
                await connection.head()
        finally:
            client.release(connection)
            await ended(writers)
            server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(play(), 20))


def test_a_connection_is_as_old_as_it_is_when_it_is_wanted() -> None:
    async def play() -> None:
        async with pool(OK, OK, OK) as there:
            await there.get()
            await there.get()
            assert there.server.connections == 1
            (idle,) = there.client._idle
            idle.idle_since -= 51
            assert await there.get() == ONE
            assert there.server.connections == 2
            assert idle.closed

    run(play)


def test_trailers_are_bounded_and_nothing_to_anybody() -> None:
    async def play() -> None:
        async with pool(CHUNKED + b"content-type: kind/two\r\na: b\r\n\r\n") as there:
            assert await there.get() == ONE
        async with pool(CHUNKED + b"a: b\r\n" * 300_000 + b"\r\n") as there:
            with pytest.raises(UpstreamError):
                await there.get()

    run(play)


def test_what_stands_between_two_pieces_is_bounded() -> None:
    async def play() -> None:
        async with pool(CHUNKED[:-3] + b"3;x=" + b"y" * 2_000_000 + b"\r\none\r\n0\r\n\r\n") as there:
            with pytest.raises(UpstreamError):
                await there.get()

    run(play)


def test_a_long_body_in_small_pieces_is_not_counted_with_it() -> None:
    async def play() -> None:
        async with pool(CHUNKED[:-3] + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n") as there:
            assert await there.get() == (200, b"kind/one", b"one" + b"x" * 100_000)
            assert there.server.connections == 1

    run(play)


def test_a_media_type_belongs_to_its_own_answer() -> None:
    async def play() -> None:
        async with pool(OK, b"HTTP/1.1 200\r\ncontent-length: 3\r\n\r\none") as there:
            assert [await there.get(), await there.get()] == [ONE, (200, b"", b"one")]

    run(play)

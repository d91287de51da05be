"""Services on real sockets inside the test's own event loop, a CVM that speaks the link protocol, and a raw HTTP client."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import uvicorn

import asgi
from sottovoce.core.link import END_OF_TURN, LinkReader, link_messages


class _Server(uvicorn.Server):
    """Says when it serves, and stops when it is told, without looking every 100 ms."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serves = asyncio.Event()
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        self.serves.set()
        await self.stop.wait()


@contextlib.asynccontextmanager
async def serving(app: asgi.App) -> AsyncIterator[str]:
    """Serve `app` with its lifespan on a free port; gives its URL."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
    # The protocol is named, as asyncio sends without delay on sockets only that say that they are of TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serve = asyncio.ensure_future(server.serve(sockets=[sock]))
        try:
            async with asyncio.timeout(10):
                await server.serves.wait()
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.stop.set()
            await serve


@dataclass(kw_only=True)
class Turn:
    """One turn of a session, as a fake CVM sees it."""

    messages: "asyncio.Queue[bytes]"
    writer: asyncio.StreamWriter

    async def read(self) -> bytes:
        """The next message; nothing at the end of the turn."""
        return await self.messages.get()

    async def whole(self) -> bytes:
        """All of the turn."""
        data = b""
        while piece := await self.read():
            data += piece
        return data

    async def say(self, data: bytes) -> None:
        """Send one message."""
        self.writer.write(link_messages(data))
        await self.writer.drain()

    async def end(self) -> None:
        """End the answer."""
        self.writer.write(END_OF_TURN)
        await self.writer.drain()


Script = Callable[[Turn], Awaitable[None]]


async def echo(turn: Turn) -> None:
    """Answer each message at once."""
    while piece := await turn.read():
        await turn.say(b"<" + piece + b">")
    await turn.end()


@dataclass(kw_only=True)
class FakeCvm:
    """A CVM: `script` plays each turn. `ended` is set when a connection is over."""

    address: str = ""
    script: Script = echo
    opened: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server = field(init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.opened += 1
        messages: asyncio.Queue[bytes] = asyncio.Queue()
        play = asyncio.ensure_future(self._play(Turn(messages=messages, writer=writer)))
        link = LinkReader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for message in link.feed(data):
                    messages.put_nowait(message)
        play.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await play
        writer.close()
        self.ended.set()

    async def _play(self, turn: Turn) -> None:
        while True:
            await self.script(turn)


@contextlib.asynccontextmanager
async def cvm(script: Script = echo) -> AsyncIterator[FakeCvm]:
    """A fake CVM on a free port."""
    fake = FakeCvm(script=script)
    fake.server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    host, port = fake.server.sockets[0].getsockname()
    fake.address = f"{host}:{port}"
    try:
        yield fake
    finally:
        fake.server.close()


class Raw:
    """An HTTP/1.1 client that sends exactly what it is told, when it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def start(self, method: str, path: str, **headers: str) -> None:
        """Send the head of a chunked request."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", "transfer-encoding: chunked", *lines])
        self.writer.write(head.encode() + b"\r\n\r\n")
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send one chunk; an empty one ends the body."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def head(self) -> int:
        """The answer's status; `headers` are read too."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)
        }
        return self.status

    async def chunk(self) -> bytes:
        """The next chunk of the answer; nothing at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """The rest of the answer's body, in either form."""
        if "content-length" in self.headers:
            return await self.reader.readexactly(int(self.headers["content-length"]))
        data = b""
        while piece := await self.chunk():
            data += piece
        return data

    def close(self) -> None:
        """Leave."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    """A connection to `url`."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = Raw(reader, writer)
    try:
        yield client
    finally:
        client.close()

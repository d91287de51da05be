"""A server that shows every byte it gets and answers with any bytes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answer = Callable[["Upstream", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(kw_only=True)
class Upstream:
    """What a gateway or mirror gets, byte by byte, and what it answers."""

    answer: Answer
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self.answer(self, reader, writer)
        self.open.discard(writer)
        writer.close()
        self.closed.set()

    def headers(self) -> dict[str, str]:
        """The last request's headers."""
        lines = self.heads[-1].decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def body(self, reader: asyncio.StreamReader) -> bytes:
        length = self.headers().get("content-length")
        if length is not None:
            self.bodies.append(await reader.readexactly(int(length)))
            return self.bodies[-1]
        whole = b""
        while "transfer-encoding" in self.headers() and (piece := await chunk(reader)):
            whole += piece
        self.bodies.append(whole)
        return whole


async def chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


def reply(status: int = 200, body: bytes = b"answer", **headers: str) -> Answer:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def answer(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.body(reader)
        writer.write(
            f"HTTP/1.1 {status} Reason\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        await writer.drain()

    return answer


@contextlib.asynccontextmanager
async def upstream(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    fake = Upstream(answer=answer)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    fake.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield fake
    finally:
        server.close()
        # What the other side leaves open, and what came at the last moment, would outlive the loop.
        await asyncio.sleep(0)
        for writer in tuple(fake.open):
            writer.transport.abort()
        await asyncio.sleep(0)


def raw_answer(data: bytes) -> Answer:
    async def answer(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.body(reader)
        writer.write(data)
        await writer.drain()
        raise ConnectionAbortedError

    return answer


KEY_PROBLEM = b'{"type":"https://iana.org/assignments/http-problem-types#ohttp-key"}'
KEY_UNKNOWN = reply(400, KEY_PROBLEM, content_type="application/problem+json")
"""RFC 9458 section 5.3: outside the seal, so anybody on the way can say it."""

"""The server of the app: connections that ask for nothing, faults that must not be printed."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app_kit import Scripted, prepare
from sottovoce.app import serving as module
from sottovoce.app.serving import serve, serving
from sottovoce.core.errors import UsageError


@asynccontextmanager
async def port(home: Path) -> AsyncIterator[int]:
    prepare(home, enabled=True)
    async with serving(home, 0, Scripted) as (link, _):
        yield int(link().split(":")[2].partition("/")[0])


async def status(at: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", at)
    writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{at}\r\nConnection: close\r\n\r\n".encode())
    line = await reader.readline()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return line


def test_a_connection_that_asks_for_nothing_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST", 0.05)

    async def test() -> None:
        async with port(tmp_path) as at:
            for said in (b"", b"GET / HTTP/1.1\r\nHost: 127"):
                reader, writer = await asyncio.open_connection("127.0.0.1", at)
                writer.write(said)
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()
            assert b" 403 " in await status(at)

    asyncio.run(test())


def test_connections_beyond_the_number_are_refused_and_the_others_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECTIONS", 3)

    async def test() -> None:
        async with port(tmp_path) as at:
            held = [await asyncio.open_connection("127.0.0.1", at) for _ in range(3)]
            reader, writer = await asyncio.open_connection("127.0.0.1", at)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
            for _, other in held:
                other.close()
                await other.wait_closed()
            # The server hears of their end a moment later.
            for _ in range(1000):
                if b" 403 " in await status_or_nothing(at):
                    return
            pytest.fail("nobody was served again")

    async def status_or_nothing(at: int) -> bytes:
        try:
            return await status(at)
        except ConnectionError:
            return b""

    asyncio.run(test())


def test_nobody_else_prints_a_fault(tmp_path: Path) -> None:
    async def test() -> None:
        told = asyncio.Event()
        running = asyncio.create_task(serve(tmp_path, 0, lambda _: told.set()))
        await told.wait()
        try:
            assert all(logging.getLogger(name).disabled for name in ("asyncio", "uvicorn.error"))
        finally:
            running.cancel()
            await asyncio.wait([running])

    loggers = [logging.getLogger(name) for name in module._TALKERS]
    before = [one.disabled for one in loggers]
    try:
        asyncio.run(test())
    finally:
        for one, was in zip(loggers, before, strict=True):
            one.disabled = was


def test_a_taken_port_is_no_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot be used"):
        asyncio.run(serve(tmp_path, taken.getsockname()[1], lambda _: None))

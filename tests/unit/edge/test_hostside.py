import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.edge import hostside
from sottovoce.edge.hostside import PAPERS, Config, HostSide
from sottovoce.tee import init
from sottovoce.tee.collectors import simulated
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.settings import VSOCK

STARTED = b'{"event": "Started", "role": "guard", "warm_ms": 1}\n'


@contextlib.asynccontextmanager
async def side(tmp_path: Path, *, wiring: dict[str, str] | None = None) -> AsyncIterator["Side"]:
    papers = tmp_path / "papers"
    papers.mkdir()
    for name in PAPERS:
        (papers / name).write_text(name)
    made = Side(tmp_path, wiring or {})
    await made.host.start(made.listening)
    try:
        yield made
    finally:
        await made.host.stop()


class Side:
    def __init__(self, folder: Path, wiring: dict[str, str]) -> None:
        self.folder = folder
        self.log = b""
        self.listening = socket.create_server(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.health = free.getsockname()[1]
        config = Config(
            sockets=str(folder / "vsock"),
            papers=str(folder / "papers"),
            wiring=wiring,
            health=f"127.0.0.1:{self.health}",
        )
        self.host = HostSide(config, write=self.write)

    def write(self, lines: bytes) -> None:
        self.log += lines

    async def port(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As the CVM connects to a port of its host."""
        return await asyncio.open_unix_connection(self.folder / f"vsock_{number}")

    async def outside(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listening.getsockname()[:2])

    async def is_healthy(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.health)
        except OSError:
            return False
        writer.close()
        return True

    async def becomes(self, *, healthy: bool) -> None:
        for _ in range(500):
            if await self.is_healthy() == healthy:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the port has not changed")


def run(test: Awaitable[None]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(timed())


@contextlib.asynccontextmanager
async def machine(folder: Path, answer: bytes = b"OK 1024\n") -> AsyncIterator[list[bytes]]:
    """What stands where vhost-device-vsock does: it takes the line, and echoes what follows."""
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        # In one piece with what the CVM says first.
        writer.write(answer + b"hello ")
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    async with await asyncio.start_unix_server(serve, folder / "vsock"):
        yield asked


def test_ports_and_words_are_those_of_the_image() -> None:
    ports = (hostside._LISTEN, hostside._WIRING, hostside._PAPERS, hostside._LOG)
    assert ports == (init.LISTEN, init.WIRING, init.PAPERS, init.LOG)
    assert init.HOST == hostside._HOST
    assert bytes([simulated.ENDORSEMENTS]) == hostside._PAPERS_REQUEST
    assert simulated.LENGTH.format == hostside._LENGTH.format
    assert VSOCK == "vsock"


def test_the_cvm_is_told_where_its_back_ends_are_and_reaches_them(tmp_path: Path) -> None:
    async def test() -> None:
        async def back_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.close()

        async with await asyncio.start_server(back_end, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            wiring = {"predictor": "127.0.0.1:1", "guard": f"127.0.0.1:{address[1]}"}
            async with side(tmp_path, wiring=wiring) as host:
                reader, writer = await host.port(9001)
                told = canonical.decode(await reader.read(), limit=1000)
                writer.close()
                assert told == {"guard": "vsock:9100", "predictor": "vsock:9101"}
                reader, writer = await host.port(9100)
                writer.write(b"judge this")
                writer.write_eof()
                assert await reader.read() == b"JUDGE THIS"
                writer.close()
                reader, writer = await host.port(9101)  # nobody is there
                assert await reader.read() == b""
                writer.close()

    run(test())


def test_papers_are_read_anew_for_each_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with side(tmp_path) as host:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(tmp_path / "vsock_9002"))
            channel = simulated.HostChannel(sock)
            first = await asyncio.to_thread(channel.bundle)
            assert first == Bundle.decode(first.encode())
            assert (first.endorsements.vcek, first.host.proof) == (b"vcek.der", b"host.proof")
            (tmp_path / "papers/release.proof").write_bytes(b"newer")
            assert (await asyncio.to_thread(channel.bundle)).release.proof == b"newer"
            (tmp_path / "papers/host.json").unlink()
            with pytest.raises(UnavailableError, match="gone"):
                await asyncio.to_thread(channel.bundle)
            sock.close()
            assert host.log == b""

    run(test())


def test_papers_that_a_cvm_would_not_take_are_refused(tmp_path: Path) -> None:
    for name in PAPERS:
        (tmp_path / name).write_bytes(bytes(10_000))
    with pytest.raises(ConfigError, match="longer"):
        hostside.read_papers(tmp_path)


def test_a_request_that_is_not_for_papers_ends_the_channel(tmp_path: Path) -> None:
    async def test() -> None:
        async with side(tmp_path) as host:
            reader, writer = await host.port(9002)
            writer.write(bytes([simulated.REPORT]) + bytes(64))
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    run(test())


def test_what_the_cvm_logs_is_passed_on_and_it_counts_as_well_once_it_serves(tmp_path: Path) -> None:
    async def test() -> None:
        async with side(tmp_path) as host:
            for _ in range(2):  # the machine is started again
                _, writer = await host.port(9003)
                writer.write(b'{"event": "Other"}\n[1]\nsottovoce: no "Started"\n' + STARTED[:20])
                await writer.drain()
                await asyncio.sleep(0.05)
                assert not await host.is_healthy()
                writer.write(STARTED[20:] + b"{}\n")
                await asyncio.wait_for(host.host.started.wait(), 5)
                await host.becomes(healthy=True)
                writer.close()
                await host.becomes(healthy=False)
            assert host.log.count(STARTED) == 2

    run(test())


def test_connections_are_carried_to_the_cvm(tmp_path: Path) -> None:
    async def test() -> None:
        async with side(tmp_path) as host, machine(tmp_path) as asked:
            reader, writer = await host.outside()
            writer.write(b"there")
            writer.write_eof()
            assert await reader.read() == b"hello there"
            writer.close()
            assert asked == [b"CONNECT 9000\n"]

    run(test())


@pytest.mark.parametrize("answer", [b"", b"\n", b"NO\n", b"x" * 100_000])
def test_a_cvm_that_does_not_listen_ends_the_connection(tmp_path: Path, answer: bytes) -> None:
    async def test() -> None:
        async with side(tmp_path) as host:
            if answer:
                async with machine(tmp_path, answer):
                    reader, writer = await host.outside()
                    assert await reader.read() == b""
            else:
                reader, writer = await host.outside()
                assert await reader.read() == b""
            writer.close()

    run(test())


def test_a_process_before_has_left_its_sockets(tmp_path: Path) -> None:
    async def test() -> None:
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(tmp_path / "vsock_9001"))
        left.close()
        async with side(tmp_path) as host:
            reader, writer = await host.port(9001)
            assert await reader.read() == b"{}"
            writer.close()

    run(test())


@pytest.mark.parametrize(
    "config",
    [
        Config(papers="/p"),
        Config(papers="/p", sockets="/s", cid=3),
        Config(papers="/p", sockets="/s", wiring={"guard": "nowhere"}),
        Config(papers="/p", sockets="/s", health=":"),
    ],
)
def test_what_cannot_be_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError):
        HostSide(config, write=lambda _: None)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        host = HostSide(Config(papers="/p", sockets=str(tmp_path / "no/vsock")), write=lambda _: None)
        with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(UnavailableError):
            await host.start(sock)

    run(test())


def test_as_a_process_it_is_ready_when_the_cvm_serves(tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    config.write_text(f"sockets = '{tmp_path}/vsock'\npapers = '/p'\n")
    says, told = os.pipe()
    command = [sys.executable, "-P", "-m", "sottovoce", "serve", "host", "--config", str(config)]
    with socket.create_server(("127.0.0.1", 0)) as sock:
        fds = ["--fd", str(sock.fileno()), "--ready-fd", str(told)]
        process = subprocess.Popen([*command, *fds], pass_fds=(sock.fileno(), told), stderr=subprocess.PIPE)
    os.close(told)
    try:
        path = tmp_path / "vsock_9003"
        while process.poll() is None and not path.is_socket():
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as log:
            log.connect(str(path))
            log.sendall(STARTED)
            assert os.read(says, 1) == b"1"
    finally:
        os.close(says)
        process.terminate()
        _, written = process.communicate(timeout=30)
    assert process.returncode == 0
    assert written == STARTED


def test_the_kernels_own_sockets(tmp_path: Path) -> None:
    """Where the kernel can connect with itself (vsock_loopback): a stranger is told nothing."""
    if not Path("/sys/module/vsock_loopback").exists():
        pytest.skip("this kernel has no AF_VSOCK that connects with itself")

    async def test() -> None:
        host = HostSide(Config(papers=str(tmp_path), cid=77), write=lambda _: None)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            await host.start(sock)
            stranger = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            stranger.setblocking(False)
            await asyncio.get_running_loop().sock_connect(stranger, (1, 9001))
            reader, writer = await asyncio.open_connection(sock=stranger)
            assert await reader.read() == b""
            writer.close()
            await host.stop()

    run(test())

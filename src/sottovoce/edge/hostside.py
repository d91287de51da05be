"""The host's side of one CVM on real hardware: what its PID 1 asks of a host, and the ways in and out (`tee.init`).

    router ─▶ TCP ─▶ the CVM's port 9000
    the host's port 9001 ─▶ the CVM: where back ends are          9100, 9101, … ─▶ TCP ─▶ a back end each
    the host's port 9002 ─▶ the CVM: papers of its machine        9003 ─▶ what the CVM logs, on standard error

Sockets are those of `vhost-device-vsock` (Unix sockets in a folder) or the kernel's own (AF_VSOCK). Nothing here is trusted by anybody: the CVM verifies what it is given, and what passes through is TLS
between others.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from sottovoce.core import canonical, cbor
from sottovoce.core.errors import ConfigError, UnavailableError

__all__ = ["PAPERS", "Config", "HostSide", "run"]

PAPERS: Final = (
    "vcek.der",
    "ask.der",
    "crl.der",
    "release.json",
    "release.proof",
    "host.json",
    "host.proof",
)
"""Files of a machine's papers: the chip's certificate, its issuer's, the revocation list; the log's entries of release and host, each with its proof."""
_HOST: Final = 2  # linux/vm_sockets.h, VMADDR_CID_HOST
_LISTEN, _WIRING, _PAPERS, _LOG, _BACK_ENDS = 9000, 9001, 9002, 9003, 9100
_PAPERS_REQUEST: Final = b"\x02"
_LENGTH: Final = struct.Struct(">I")
_LIMIT: Final = 64 * 1024
"""Of the papers: a CVM takes no more."""
_PIECE: Final = 64 * 1024
_STARTED: Final = "Started"
_CONNECT: Final = 10.0

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The host's side of one CVM; paths are absolute."""

    papers: str
    """Folder with the files `PAPERS`. They are read for each request, so they may be replaced at any time: proofs are good for a day."""
    sockets: str = ""
    """What `vhost-device-vsock` was given as `uds-path`: the CVM is reached there, and what it connects to is beside it (PATH_PORT)."""
    cid: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    """In its place, the CVM's number on AF_VSOCK: QEMU's `guest-cid`. Then there is one CVM a machine, as the ports are the machine's."""
    wiring: dict[str, str] = {}
    """Role of a back end → "ADDRESS:PORT"."""
    health: str = ""
    """An "ADDRESS:PORT" that can be connected with as long as the CVM serves, and not before."""


class HostSide:
    """One CVM's host; `write` gets what the CVM logs.

    Raises:
        ConfigError: both kinds of sockets or neither, or a malformed address.
    """

    def __init__(self, config: Config, *, write: Callable[[bytes], object]) -> None:
        if bool(config.sockets) == bool(config.cid):
            raise ConfigError("give either `sockets` or `cid`")
        self._config = config
        self._write = write
        self._back_ends = {role: _address(config.wiring[role]) for role in sorted(config.wiring)}
        self._health = _address(config.health) if config.health else None
        self._servers: list[asyncio.Server] = []
        self._healthy: asyncio.Server | None = None
        self.started = asyncio.Event()
        """The CVM has said that it serves."""

    async def start(self, sock: socket.socket) -> None:
        """Serve the CVM's machine, and whoever connects to `sock`.

        Raises:
            UnavailableError: a socket cannot be had.
        """
        try:
            await self._listen(_WIRING, self._give_wiring)
            await self._listen(_PAPERS, self._give_papers)
            await self._listen(_LOG, self._take_log)
            for at, address in enumerate(self._back_ends.values()):
                await self._listen(_BACK_ENDS + at, _carry(_to_tcp(address)))
            self._servers.append(await asyncio.start_server(_guarded(_carry(self._to_cvm)), sock=sock))
        except OSError:
            await self.stop()
            raise UnavailableError("the sockets to the CVM cannot be had", party="kernel") from None

    async def stop(self) -> None:
        """Serve nobody any more."""
        await self._ill()
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _listen(self, port: int, serve: "Callable[[_Stream], Awaitable[None]]") -> None:
        if self._config.sockets:
            path = f"{self._config.sockets}_{port}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - of a process before; nothing to wait for
            self._servers.append(await asyncio.start_unix_server(_guarded(serve), path))
            return
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            sock.bind((_HOST, port))
            self._servers.append(await asyncio.start_server(_guarded(self._ours(serve)), sock=sock))
        except BaseException:
            sock.close()
            raise

    def _ours(self, serve: "Callable[[_Stream], Awaitable[None]]") -> "Callable[[_Stream], Awaitable[None]]":
        async def check(stream: _Stream) -> None:
            peer = stream[1].get_extra_info("peername")
            if isinstance(peer, tuple) and peer[0] == self._config.cid:
                await serve(stream)

        return check

    async def _give_wiring(self, stream: _Stream) -> None:
        names = {role: f"vsock:{_BACK_ENDS + at}" for at, role in enumerate(self._back_ends)}
        stream[1].write(canonical.encode(names))
        await stream[1].drain()

    async def _give_papers(self, stream: _Stream) -> None:
        reader, writer = stream
        while await reader.read(1) == _PAPERS_REQUEST:
            papers = read_papers(Path(self._config.papers))
            writer.write(_LENGTH.pack(len(papers)) + papers)
            await writer.drain()

    async def _take_log(self, stream: _Stream) -> None:
        begun: bytes | None = b""
        try:
            while piece := await stream[0].read(_PIECE):
                self._write(piece)
                if begun is None:
                    continue
                begun = (begun + piece)[-_PIECE:]
                if any(_event(line) == _STARTED for line in begun.split(b"\n")):
                    begun = None
                    await self._well()
        finally:
            await self._ill()

    async def _well(self) -> None:
        self.started.set()
        if self._health is not None and self._healthy is None:
            self._healthy = await asyncio.start_server(lambda _, writer: writer.close(), *self._health)

    async def _ill(self) -> None:
        if self._healthy is not None:
            self._healthy.close()
            self._healthy = None

    async def _to_cvm(self) -> _Stream:
        if self._config.cid:
            sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            sock.setblocking(False)  # noqa: FBT003 - its form
            try:
                await asyncio.get_running_loop().sock_connect(sock, (self._config.cid, _LISTEN))
                return await asyncio.open_connection(sock=sock)
            except BaseException:
                sock.close()
                raise
        reader, writer = await asyncio.open_unix_connection(self._config.sockets)
        try:
            writer.write(b"CONNECT %d\n" % _LISTEN)
            # No byte more than the answer's line is read: what follows is the CVM's.
            answer = await reader.readuntil(b"\n")
            _require_ok(answer)
        except BaseException:
            writer.close()
            raise
        return reader, writer


def read_papers(folder: Path) -> bytes:
    """The papers in `folder`, as a CVM takes them.

    Raises:
        ConfigError: one of the files cannot be read, or all of them are longer than a CVM takes.
    """
    try:
        papers = cbor.encode([(folder / name).read_bytes() for name in PAPERS])
    except OSError:
        raise ConfigError("a paper of the machine cannot be read", hint=f"{', '.join(PAPERS)}") from None
    if len(papers) > _LIMIT:
        raise ConfigError("the machine's papers are longer than a CVM takes")
    return papers


def run(config: Config, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until told to stop; `ready` is called when the CVM says that it serves.

    Raises:
        ConfigError: the configuration cannot be.
        UnavailableError: a socket cannot be had.
    """
    asyncio.run(_run(config, sock, ready))


async def _run(config: Config, sock: socket.socket, ready: Callable[[], None]) -> None:
    side, over, loop = HostSide(config, write=_to_stderr), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    await side.start(sock)
    waiting = asyncio.ensure_future(side.started.wait())
    waiting.add_done_callback(lambda done: None if done.cancelled() else ready())
    await over.wait()
    waiting.cancel()
    await side.stop()


def _require_ok(answer: bytes) -> None:
    if not answer.startswith(b"OK "):
        raise ConnectionRefusedError


def _to_stderr(lines: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, lines)


def _event(line: bytes) -> str:
    try:
        found = json.loads(line)
        return str(found["event"]) if isinstance(found, dict) else ""
    except (ValueError, KeyError, RecursionError):
        return ""


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError("an address is not ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _to_tcp(address: tuple[str, int]) -> Callable[[], Awaitable[_Stream]]:
    return lambda: asyncio.open_connection(*address)


def _carry(connect: Callable[[], Awaitable[_Stream]]) -> Callable[[_Stream], Awaitable[None]]:
    """Join a connection with one that `connect` makes, until both have ended."""

    async def carry(stream: _Stream) -> None:
        async with asyncio.timeout(_CONNECT):
            other = await connect()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(stream[0], other[1]))
                both.create_task(_pump(other[0], stream[1]))
        finally:
            other[1].close()

    return carry


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _guarded(
    serve: Callable[[_Stream], Awaitable[None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """`serve`, and the connection closed after it: a connection that fails is its own end and nobody else's."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve((reader, writer))
        except (OSError, TimeoutError, ConfigError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except ExceptionGroup as group:
            if group.split(OSError)[1] is not None:
                raise
        finally:
            writer.close()

    return guarded

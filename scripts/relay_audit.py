"""Makes the audit in docs/relays.md: what each hop adds to a session's messages, seen by a recording proxy in front of every party.

python scripts/relay_audit.py            the tables of headers and sizes, which a test holds the page to
python scripts/relay_audit.py --times    what each hop adds in time on this machine
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import edge_kit
import ohttp_world
import relay_kit
from sottovoce.core.events import EventLog
from sottovoce.device.ohttp_client import OhttpClient
from sottovoce.device.transport import Network, RelayClient
from sottovoce.edge import gateway, router

HOPS: Final = ("device → relay", "relay → gateway", "gateway → router")
CARRIERS: Final = {"streamed": False, "flights": True}
_HYBRID: Final = 1
"""The key that devices prefer."""
_HELLO: Final = 1500
_FLIGHT: Final = 9900
"""Bytes of a first flight: handshake, certificate, evidence."""
_RECORD: Final = 512 + 22
"""A frame in a TLS record."""
_SESSIONS: Final = ((8, 60), (9, 61), (40, 120))
"""Frames of the request and of the answer: two sessions that differ little, and a longer one."""
_COARSE: Final = 4096
_ROUNDS: Final = 60


@dataclass(kw_only=True)
class Message:
    """A request or an answer as it passed: its start line, headers and the length of its body without its framing."""

    start: str
    headers: tuple[tuple[str, str], ...]
    size: int

    @property
    def names(self) -> str:
        """The headers; their values where all senders have the same."""
        shown = []
        for name, value in sorted(self.headers):
            if name in {"content-length", "transfer-encoding"}:
                shown.append("length or chunks")
            elif name in {"host", "session", "date", "server", "keep-alive"}:
                shown.append(f"`{name}`")
            else:
                shown.append(f"`{name}: {value}`")
        return ", ".join(dict.fromkeys(sorted(shown))) or "none"


def messages(stream: bytes) -> Iterator[Message]:
    """The messages in one direction of a connection, one after the other (RFC 9112)."""
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
        fields, size = dict(headers), 0
        if "content-length" in fields:
            size = int(fields["content-length"])
            stream = stream[size:]
        elif "transfer-encoding" in fields:
            while True:
                line, _, stream = stream.partition(b"\r\n")
                length = int(line, 16)
                stream = stream[length + 2 :]
                size += length
                if not length:
                    break
        yield Message(start=start, headers=headers, size=size)


@dataclass(kw_only=True)
class Tap:
    """A proxy that records what passes, byte by byte, in both directions."""

    target: str = ""
    url: str = ""
    streams: list[tuple[bytearray, bytearray]] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        host, _, port = self.target.removeprefix("http://").partition(":")
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            there, back = bytearray(), bytearray()
            self.streams.append((there, back))
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(reader, far_writer, there))
                    group.create_task(self._copy(far_reader, writer, back))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray
    ) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(65536):
                self.last = time.perf_counter()
                self.first = self.first or self.last
                record += data
                writer.write(data)
                await writer.drain()

    def exchanges(self) -> list[tuple[Message, Message]]:
        """Requests with their answers."""
        return [
            pair
            for there, back in self.streams
            for pair in zip(messages(bytes(there)), messages(bytes(back)), strict=True)
        ]


@contextlib.asynccontextmanager
async def tap() -> AsyncIterator[Tap]:
    """A tap; its `target` is set when there is one."""
    made = Tap()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    made.url = f"http://{host}:{port}"
    try:
        yield made
    finally:
        server.close()


@contextlib.asynccontextmanager
async def tapped(kind: str, folder: Path) -> AsyncIterator[tuple[Network, list[Tap]]]:
    """Relay, gateway, router and a CVM, each behind a tap; the first tap is in front of the relay."""
    log, now = EventLog(lambda _: None), lambda: float(ohttp_world.NOON)

    async def script(turn: edge_kit.Turn) -> None:
        said = await turn.whole()
        frames = {request * _RECORD: answer for request, answer in _SESSIONS}.get(len(said))
        await turn.say(bytes(_FLIGHT) if frames is None else b"")
        for _ in range(frames or 0):
            await turn.say(bytes(_RECORD))
        await turn.end()

    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        taps = [await enter(tap()) for _ in HOPS]
        cvms = [await enter(edge_kit.cvm(script)) for _ in range(2)]
        hosts = [router.HostAddress(id=f"host-{n}", address=cvm.address) for n, cvm in enumerate(cvms, 1)]
        router_config = router.Config(hosts=hosts)
        taps[2].target = await enter(edge_kit.serving(router.create_app(router_config, log=log, clock=now)))
        config = ohttp_world.gateway_config(folder, router=taps[2].url)
        taps[1].target = await enter(edge_kit.serving(gateway.create_app(config, log=log, clock=now)))
        taps[0].target = await enter(relay_kit.relay(kind, gateway=taps[1].url, mirror="http://127.0.0.1:1"))
        yield await enter(Network()), taps


def client(network: Network, relay: str, *, flights: bool) -> OhttpClient:
    """A device."""
    relays = RelayClient(network, [relay], flights=[relay] if flights else ())
    return OhttpClient(relays, ohttp_world.KEYS[_HYBRID].config(), clock=lambda: float(ohttp_world.NOON))


async def session(device: OhttpClient, request: int, answer: int) -> None:
    """A whole session: opened, one turn, closed."""
    name, _ = await device.open_session(bytes(_HELLO), ohttp_world.authorization(), ["host-1", "host-2"])
    got = sum([len(piece) async for piece in device.turn(name, bytes(request * _RECORD))])
    if got != answer * _RECORD:
        raise AssertionError("the answer is not whole")
    await device.close(name)


async def record(kind: str, carrier: str, request: int, answer: int) -> list[list[tuple[Message, Message]]]:
    """For each hop, the session's exchanges in order."""
    with tempfile.TemporaryDirectory() as folder:
        async with tapped(kind, Path(folder)) as (network, taps):
            await session(client(network, taps[0].url, flights=CARRIERS[carrier]), request, answer)
        return [tap.exchanges() for tap in taps]


def _row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


_MESSAGES: Final = ("open", "turn", "close")


def tables(kinds: tuple[str, ...] = relay_kit.KINDS) -> list[str]:
    """The audit's tables, as Markdown."""
    seen = {
        (kind, carrier, frames): asyncio.run(asyncio.wait_for(record(kind, carrier, *frames), 60))
        for kind in kinds
        for carrier in CARRIERS
        for frames in _SESSIONS
    }
    return [*_headers(kinds, seen), "", *_sizes(kinds, seen)]


def _headers(kinds: tuple[str, ...], seen: Any) -> Iterator[str]:
    yield _row("relay", "carrier", "hop", "message", "headers of the request", "headers of the answer")
    yield "|---|---|---|---|---|---|"
    for number, hop in enumerate(HOPS):
        rows: dict[tuple[str, ...], list[str]] = {}
        for kind in kinds:
            for carrier in CARRIERS:
                exchanges = seen[kind, carrier, _SESSIONS[0]][number]
                for message, (request, answer) in zip(_MESSAGES, exchanges, strict=True):
                    # An open and a close are the same with either carrier.
                    row = (carrier if message == "turn" else "both", message, request.names, answer.names)
                    if kind not in rows.setdefault(row, []):
                        rows[row].append(kind)
        for (carrier, message, asked, answered), who in rows.items():
            yield _row("all" if who == list(relay_kit.KINDS) else ", ".join(who), carrier, hop, message, asked, answered)  # fmt: skip


def _sizes(kinds: tuple[str, ...], seen: Any) -> Iterator[str]:
    yield _row("frames asked, answered", "carrier", "message", *(f"{hop}: request, answer" for hop in HOPS))
    yield "|---|---|---|---|---|---|"
    for frames in _SESSIONS:
        for carrier in CARRIERS:
            rows = set()
            for kind in kinds:
                hops = seen[kind, carrier, frames]
                rows.add(tuple(
                    tuple(_pair(message, carrier, *hops[number][at]) for number in range(len(HOPS)))
                    for at, message in enumerate(_MESSAGES)
                ))  # fmt: skip
            if len(rows) != 1:
                raise AssertionError("relays differ in the sizes that they pass on")
            for message, row in zip(_MESSAGES, rows.pop(), strict=True):
                yield _row(f"{frames[0]}, {frames[1]}", carrier, message, *row)


def _pair(message: str, carrier: str, request: Message, answer: Message) -> str:
    # How a stream is cut into chunks is a matter of time, so that its length is known to a few hundred bytes only.
    streamed = message == "turn" and carrier == "streamed"
    back = f"about {round(answer.size / _COARSE) * 4} KiB" if streamed else f"{answer.size:,}"
    return f"{request.size:,}, {back}"


async def times(kind: str) -> list[float]:
    """Milliseconds from a request's first byte to its answer's last, at each hop: the median of sessions that open."""
    rounds: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with tapped(kind, Path(folder)) as (network, taps):
            device = client(network, taps[0].url, flights=False)
            for _ in range(_ROUNDS):
                for one in taps:
                    one.first = one.last = 0.0
                await device.open_session(bytes(_HELLO), ohttp_world.authorization(), ["host-1", "host-2"])
                rounds.append([(one.last - one.first) * 1000 for one in taps])
    return [statistics.median(column) for column in zip(*rounds[5:], strict=True)]


def _times() -> Iterator[str]:
    yield _row("relay", "seen before the relay", "before the gateway", "before the router", "the relay adds")
    yield "|---|---|---|---|---|"
    for kind in relay_kit.KINDS:
        before, middle, after = asyncio.run(times(kind))
        yield _row(
            kind, *(f"{value:.2f} ms" for value in (before, middle, after)), f"{before - middle:.2f} ms"
        )


if __name__ == "__main__":
    print("\n".join(_times() if "--times" in sys.argv else tables()))

"""A relay that fails, in each phase of a request: what is lost, and what is never sent again. Every other party is genuine.

More ways to fail, against the transport alone, are in tests/unit/device/test_transport.py.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.conftest import CHATS, Device, small_model, without
from sottovoce.core.errors import ProtocolError, UnavailableError
from sottovoce.device import transport
from sottovoce.device.chats import read_chat
from sottovoce.device.client import Client
from sottovoce.device.reports import ReportStore
from sottovoce.simulator.processes import bind
from sottovoce.simulator.world import World

CHAT = read_chat(CHATS / "book-club.txt")
WHOLE, CHUNKED = b"message/ohttp-req", b"message/ohttp-chunked-req"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

Behaviour = Callable[["BadRelay", bytes, bytes], Awaitable[bytes]]
"""Gets the media type and the body of a message; gives all bytes of the answer. The connection is closed then."""


@dataclass(kw_only=True)
class BadRelay:
    """A relay of ours in the place of another one, which is stopped."""

    gateway: str
    behaviour: Behaviour
    messages: list[bytes] = field(default_factory=list)
    media: list[bytes] = field(default_factory=list)
    """The media type of each message."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set["asyncio.Task[None] | None"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        self.serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            if head.startswith("post /ohttp "):
                body = await reader.readexactly(int(fields["content-length"]))
                self.messages.append(body)
                self.media.append(fields["content-type"].encode())
                writer.write(await self.behaviour(self, fields["content-type"].encode(), body))
                await writer.drain()
        writer.close()

    async def pass_on(self, media: bytes, body: bytes) -> bytes:
        """What the gateway answers, as the body of an answer."""
        headers = {"Content-Type": media.decode()}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.gateway, data=body, headers=headers) as response,
        ):
            return await response.read()


def ok(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


def says(answer: bytes) -> Behaviour:
    async def behaviour(_: BadRelay, __: bytes, ___: bytes) -> bytes:
        return answer

    return behaviour


async def hangs(relay: BadRelay, _: bytes, __: bytes) -> bytes:
    await relay.over.wait()
    return b""


async def passes_on_and_dies(relay: BadRelay, media: bytes, body: bytes) -> bytes:
    await relay.pass_on(media, body)
    return b""


async def spoils(relay: BadRelay, media: bytes, body: bytes) -> bytes:
    answer = bytearray(await relay.pass_on(media, body))
    answer[-1] ^= 1
    return ok(bytes(answer))


async def dies_with_content(relay: BadRelay, media: bytes, body: bytes) -> bytes:
    """Carries the first trip as it should, and no more."""
    return ok(await relay.pass_on(media, body)) if len(relay.messages) == 1 else b""


async def whole_messages_only(relay: BadRelay, media: bytes, body: bytes) -> bytes:
    """Any relay of RFC 9458, which knows no chunked messages."""
    if media != WHOLE:
        return b"HTTP/1.1 415 Unsupported Media Type\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    return ok(await relay.pass_on(media, body))


@contextlib.asynccontextmanager
async def bad_relay(
    world: World, behaviour: Behaviour | None, place: str = "relay-1"
) -> AsyncIterator[BadRelay]:
    """In the place of `place`, which is stopped. Nobody listens there where there is no `behaviour`."""
    relay = BadRelay(gateway=world.url("gateway") + "/ohttp", behaviour=behaviour or hangs)
    if behaviour is None:
        yield relay
        return
    server = await asyncio.start_server(relay.serve, sock=bind(world.port(place)))
    try:
        yield relay
    finally:
        relay.over.set()
        server.close()
        await asyncio.gather(*filter(None, relay.serving))


@pytest.fixture
def bad_one_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw puts relay-1 in front."""
    first = world.url("relay-1")

    class Pinned(random.SystemRandom):
        def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
            drawn = super().sample(population, k, counts=counts)
            return sorted(drawn, key=lambda url: url != first)

    monkeypatch.setattr(random, "SystemRandom", Pinned)


async def summarize(home: Path) -> tuple[int, int]:
    """Ask for a summary: how many tokens that took, and how often the device went on with another relay."""
    async with Client(home) as client:
        before = client.stock()[0].ready
        steps = []
        try:
            async for event in client.summarize(CHAT, count=6):
                steps.append(getattr(event, "name", ""))  # noqa: PERF401 - an error may come after some
        finally:
            used = before - client.stock()[0].ready
        return used, steps.count("relay")


@pytest.mark.usefixtures("bad_one_first")
@pytest.mark.parametrize(
    "failure",
    [
        ("refuses", None, 1),
        ("garbage", says(b"SSH-2.0-x\r\n"), 1),
        ("hangs", hangs, 1),
        ("passes on and dies", passes_on_and_dies, 2),
        ("spoils the answer", spoils, 2),
    ],
    ids=lambda failure: failure[0],
)
def test_before_content_is_sent_no_request_is_lost(
    world: World,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[str, Behaviour | None, int],
) -> None:
    name, behaviour, tokens = failure

    async def play() -> tuple[int, int]:
        async with bad_relay(world, behaviour) as relay:
            done = await summarize(device.home)
            assert len(relay.messages) == (0 if name == "refuses" else 1)
            return done

    if name == "hangs":
        monkeypatch.setattr(transport, "_ANSWERS_WITHIN", 3.0)
    with without(world, "relay-1"):
        assert asyncio.run(play()) == (tokens, tokens - 1)
    (report,) = ReportStore(device.home).list()
    assert (report.outcome, report.relay) == ("done", "simulated relay 2")


@pytest.mark.usefixtures("bad_one_first")
def test_content_is_sent_once(world: World, device: Device) -> None:
    async def play() -> list[bytes]:
        async with bad_relay(world, dies_with_content) as relay:
            with pytest.raises(UnavailableError) as caught:
                await summarize(device.home)
            assert caught.value.party == "relay"
            return relay.messages

    with without(world, "relay-1"):
        messages = asyncio.run(play())
    # The session's opening and its turn. What ends the session has no content, and may go by the other relay.
    assert len(messages) <= 3
    (report,) = ReportStore(device.home).list()
    assert report.outcome == "unavailable.relay"
    # It says that something was on its way: it may have arrived.
    assert report.size_class > 0


@pytest.fixture
def world_with_flights(tmp_path: Path) -> Iterator[World]:
    """A world of its own, as there is one directory a day: its directory says of relay-2 that it does not stream."""
    world = World(tmp_path / "world", model=small_model(), flights=("relay-2",))
    world.start()
    try:
        yield world
    finally:
        world.stop()


def test_a_whole_request_in_flights(world_with_flights: World, tmp_path: Path) -> None:
    world, device = world_with_flights, Device(tmp_path / "device")
    world.enrol(device.home)
    device.opt_in()
    device.refill()

    async def play() -> list[bytes]:
        async with bad_relay(world, whole_messages_only, "relay-2") as relay:
            assert await summarize(device.home) == (1, 0)
            return relay.media

    with without(world, "relay-1", "relay-2"):
        media = asyncio.run(play())
    # Opening, turn and end at least. Nothing was tried in chunks first: the directory says which relay this is.
    assert len(media) >= 3
    assert set(media) == {WHOLE}
    (report,) = ReportStore(device.home).list()
    assert (report.outcome, report.relay) == ("done", "simulated relay 2")
    assert world.dead() == []


def test_a_relay_of_which_the_directory_does_not_say_so_has_a_turn_streamed(
    world: World, device: Device
) -> None:
    async def play() -> list[bytes]:
        async with bad_relay(world, whole_messages_only, "relay-2") as relay:
            with pytest.raises(ProtocolError):
                await summarize(device.home)
            return relay.media

    with without(world, "relay-1", "relay-2"):
        media = asyncio.run(play())
    assert media[:2] == [WHOLE, CHUNKED]
    # What ends the session may follow; the turn does not, in another form.
    assert CHUNKED not in media[2:]
    assert len(media) <= 3

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

import edge_kit
import ohttp_world
from ohttp_world import TODAY, World, authorization, in_world, opened, said
from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestEncoder
from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device.ohttp_client import (
    CandidatesRefusedError,
    OhttpClient,
    RemoteTokenError,
    RemoteTokenSpentError,
    SessionGoneError,
)
from sottovoce.device.transport import AlreadyArrivedError, GatewayKeyError, Network, RelayClient
from sottovoce.edge import router

DOWN = "http://127.0.0.1:1"


CARRIERS = pytest.mark.parametrize("flights", [False, True], ids=["streamed", "flights"])


@CARRIERS
@pytest.mark.parametrize("key", [0, 1], ids=["x25519", "hybrid"])
def test_a_whole_session(tmp_path: Path, key: int, *, flights: bool) -> None:
    async def play(w: World) -> None:
        client = w.client(key=key, flights=flights)
        session, flight = await client.open_session(b"hello", authorization(), ["host-1", "host-2"])
        assert flight == b"<hello>"
        assert client.relay in w.relays
        for data in (b"records", bytes(200_000)):
            answer = b"".join(await said(client, session, data))
            assert answer.replace(b"><", b"") == b"<" + data + b">"
        await client.close(session)
        await w.cvms[0].ended.wait()
        with pytest.raises(SessionGoneError):
            await said(client, session, b"x")
        await client.close(session)

    in_world(tmp_path, play)


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(60)])
def test_an_answer_that_a_relay_cut_is_one_that_it_changed(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the client goes on with another relay."""

    async def cut(*_: object, **__: object) -> bytes:
        return body

    async def play(w: World) -> None:
        monkeypatch.setattr(RelayClient, "exchange", cut)
        with pytest.raises(hpke.OpenError):
            await opened(w.client())

    in_world(tmp_path, play)


@CARRIERS
def test_an_answer_comes_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, flights: bool
) -> None:
    async def slow(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            for number in range(3):
                await turn.say(b"piece %d" % number)
                # The next piece is not made before the device has this one; in flights it comes with another one.
                await seen.get()
        await turn.end()

    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def play(w: World) -> None:
        client = w.client(flights=flights)
        session = await opened(client)
        got = []
        async for piece in client.turn(session, b"go"):
            got.append(piece)
            seen.put_nowait(piece)
        assert got == [b"piece 0", b"piece 1", b"piece 2"]
        # The next turn begins where this one ended.
        assert await said(client, session, b"x") == []

    monkeypatch.setattr(router, "_FLIGHT_WAIT", 0.05)
    in_world(tmp_path, play, slow)


@CARRIERS
def test_a_device_that_stops_reading_ends_the_session_at_the_cvm(tmp_path: Path, *, flights: bool) -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            await asyncio.Event().wait()
        await turn.end()

    async def play(w: World) -> None:
        client = w.client(flights=flights)
        session = await opened(client)
        async with aclosing(client.turn(session, b"go")) as answer:
            assert await anext(answer) == b"piece"
            # A streamed answer ends with the device; one in flights when the device says so, or after a minute.
            if flights:
                await client.close(session)
        await w.cvms[0].ended.wait()
        with pytest.raises(SessionGoneError):
            await said(client, session, b"x")

    in_world(tmp_path, play, endless)


@CARRIERS
def test_a_cvm_that_breaks_off_is_never_a_whole_answer(tmp_path: Path, *, flights: bool) -> None:
    async def cut(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            turn.writer.write(b"\0\0\0\x10half")
            await turn.writer.drain()
            turn.writer.close()
            await asyncio.Event().wait()
        await turn.end()

    async def play(w: World) -> None:
        client = w.client(flights=flights)
        got: list[bytes] = []

        async def take() -> None:
            async for piece in client.turn(session, b"go"):
                got.append(piece)  # noqa: PERF401 - what came before the error counts

        session = await opened(client)
        with pytest.raises(UnavailableError) as caught:
            await take()
        # What a flight had so far is lost with it.
        assert got == ([] if flights else [b"piece"])
        assert caught.value.party == ("orchestrator" if flights else "relay")

    in_world(tmp_path, play, cut)


def test_tokens(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        client, token = w.client(), authorization()
        await opened(client, token)
        with pytest.raises(RemoteTokenSpentError):
            await opened(client, token)
        another_day = (authorization(TODAY + 1), authorization(TODAY + 2))
        for bad in (b"", b"Bearer x", b"PrivateToken", *another_day):
            with pytest.raises(RemoteTokenError):
                await opened(client, bad)

    in_world(tmp_path, play)


def test_a_token_that_the_message_itself_has_spent(tmp_path: Path) -> None:
    """A relay that dies after it has passed a message on, in front of gateways on several machines."""

    async def play(w: World) -> None:
        token, client = authorization(), w.client(DOWN, w.relays[0])
        await opened(w.client(), token)
        client._relay.failed.add(DOWN)
        with pytest.raises(AlreadyArrivedError):
            await opened(client, token)

    in_world(tmp_path, play)


def test_candidates(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        client = w.client()
        with pytest.raises(CandidatesRefusedError):
            await opened(client, hosts=["elsewhere"])
        token = authorization()
        with pytest.raises(CandidatesRefusedError):
            await opened(client, token, ["a", "b", "c"])
        # What is malformed is refused before the token is spent.
        await opened(client, token)

    in_world(tmp_path, play)


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        for error in (-86400.0, 86400.0):
            client = w.client(clock_error=error)
            session = await opened(client)
            assert await said(client, session, b"x") == [b"<x>"]
            await client.close(session)
            with pytest.raises(SessionGoneError):
                await said(client, session, b"y")

    in_world(tmp_path, play)


def test_a_relay_that_is_down_is_passed_over(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        for _ in range(4):
            client = w.client(DOWN, w.relays[0])
            session = await opened(client)
            assert await said(client, session, b"x") == [b"<x>"]
            assert client.relay == w.relays[0]

    in_world(tmp_path, play)


def test_who_is_down(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        with pytest.raises(UnavailableError) as caught:
            await opened(w.client(DOWN, DOWN + "/ohttp"))
        assert caught.value.party == "relay"
        for fake in w.cvms:
            fake.server.close()
        with pytest.raises(UnavailableError) as caught:
            await opened(w.client(), hosts=["host-1", "host-2"])
        assert caught.value.party == "orchestrator"

    in_world(tmp_path, play)


def test_a_key_that_the_gateway_does_not_have(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        key = ohttp.GatewayKey(key_id=9, private_key=hpke.generate_private_key(hpke.X25519))
        client = OhttpClient(RelayClient(w.network, w.relays), key.config())
        with pytest.raises(GatewayKeyError):
            await opened(client)
        with pytest.raises(GatewayKeyError):
            await said(client, "0" * 32, b"x")
        same_id = ohttp.GatewayKey(key_id=0, private_key=key.private_key)
        client = OhttpClient(RelayClient(w.network, w.relays), same_id.config())
        with pytest.raises(ProtocolError):
            await opened(client)

    in_world(tmp_path, play)


def test_a_request_beyond_the_limit(tmp_path: Path) -> None:
    async def whole(turn: edge_kit.Turn) -> None:
        # As a CVM does. Of an answer that has begun, the end would be missing instead.
        await turn.say(await turn.whole())
        await turn.end()

    async def play(w: World) -> None:
        client = w.client()
        session = await opened(client)
        with pytest.raises(LimitError):
            await said(client, session, bytes(LIMITS.request + 150 * 1024))

    in_world(tmp_path, play, whole)


def test_a_streamed_body_streams(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        client = w.client()
        session = await opened(client)
        sealer = ohttp_chunked.RequestSealer(ohttp_world.X25519)
        path = f"/v1/sessions/{session}".encode()
        request = bhttp.Request(method=b"POST", scheme=b"https", authority=b"gateway", path=path)
        answered = asyncio.Event()

        async def body() -> object:
            yield sealer.header() + sealer.chunk(RequestEncoder.head(request) + RequestEncoder.data(b"one"))
            # The second piece is not sent before the first is answered.
            await answered.wait()
            yield sealer.chunk(RequestEncoder.data(b"two")) + sealer.final(RequestEncoder.end())

        opener, decoder, got = sealer.opener(), bhttp.ResponseDecoder(), []
        async for sealed in RelayClient(w.network, w.relays).stream(body()):  # type: ignore[arg-type]
            for chunk in opener.feed(sealed):
                got += [event for event in decoder.feed(chunk) if isinstance(event, bhttp.Content)]
            if got:
                answered.set()
        decoder.feed(opener.finish())
        decoder.finish()
        assert [event.data for event in got] == [b"<one>", b"<two>"]

    in_world(tmp_path, play)


def test_outside_the_network() -> None:
    with pytest.raises(UnavailableError):
        _ = Network().session

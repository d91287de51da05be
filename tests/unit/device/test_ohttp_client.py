import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

import edge_kit
import ohttp_world
from ohttp_world import TODAY, authorization, world
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
from sottovoce.device.transport import GatewayKeyError, Network, RelayClient

DOWN = "http://127.0.0.1:1"


def run(test: object) -> None:
    asyncio.run(asyncio.wait_for(test, 30))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [0, 1], ids=["x25519", "hybrid"])
def test_a_whole_session(tmp_path: Path, key: int) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client(key=key)
            session, flight = await client.open_session(b"hello", authorization(), ["host-1", "host-2"])
            assert flight == b"<hello>"
            assert client.relay in w.relays
            for data in (b"records", bytes(200_000)):
                answer = b"".join([piece async for piece in client.turn(session, data)])
                assert answer.replace(b"><", b"") == b"<" + data + b">"
            await client.close(session)
            await w.cvms[0].ended.wait()
            with pytest.raises(SessionGoneError):
                [piece async for piece in client.turn(session, b"x")]
            await client.close(session)

    run(play())


def test_an_answer_streams_through_everything(tmp_path: Path) -> None:
    async def slow(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            for number in range(3):
                await turn.say(b"piece %d" % number)
                # The next piece is not made before the device has this one.
                await seen.get()
        await turn.end()

    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def play() -> None:
        async with world(tmp_path, slow) as w:
            client = w.client()
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            got = []
            async for piece in client.turn(session, b"go"):
                got.append(piece)
                seen.put_nowait(piece)
            assert got == [b"piece 0", b"piece 1", b"piece 2"]

    run(play())


def test_a_device_that_stops_reading_ends_the_session_at_the_cvm(tmp_path: Path) -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            await asyncio.Event().wait()
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, endless) as w:
            client = w.client()
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            async with aclosing(client.turn(session, b"go")) as answer:
                assert await anext(answer) == b"piece"
            await w.cvms[0].ended.wait()
            with pytest.raises(SessionGoneError):
                [piece async for piece in client.turn(session, b"x")]

    run(play())


def test_a_cvm_that_breaks_off_is_never_a_whole_answer(tmp_path: Path) -> None:
    async def cut(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            turn.writer.write(b"\0\0\0\x10half")
            await turn.writer.drain()
            turn.writer.close()
            await asyncio.Event().wait()
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, cut) as w:
            client = w.client()
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            async with aclosing(client.turn(session, b"go")) as answer:
                assert await anext(answer) == b"piece"
                with pytest.raises(UnavailableError) as caught:
                    await anext(answer)
            assert caught.value.party == "relay"

    run(play())


def test_tokens(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client, token = w.client(), authorization()
            await client.open_session(b"hello", token, ["host-1"])
            with pytest.raises(RemoteTokenSpentError):
                await client.open_session(b"hello", token, ["host-1"])
            for bad in (
                b"",
                b"Bearer x",
                b"PrivateToken",
                authorization(TODAY + 1),
                authorization(TODAY + 2),
            ):
                with pytest.raises(RemoteTokenError):
                    await client.open_session(b"hello", bad, ["host-1"])

    run(play())


def test_candidates(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client()
            with pytest.raises(CandidatesRefusedError):
                await client.open_session(b"hello", authorization(), ["elsewhere"])
            token = authorization()
            with pytest.raises(CandidatesRefusedError):
                await client.open_session(b"hello", token, ["a", "b", "c"])
            # What is malformed is refused before the token is spent.
            await client.open_session(b"hello", token, ["host-1"])

    run(play())


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            for error in (-86400.0, 86400.0):
                client = w.client(clock_error=error)
                session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
                assert [piece async for piece in client.turn(session, b"x")] == [b"<x>"]
                await client.close(session)
                with pytest.raises(SessionGoneError):
                    [piece async for piece in client.turn(session, b"y")]

    run(play())


def test_a_relay_that_is_down_is_passed_over(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            for _ in range(4):
                client = w.client(DOWN, w.relays[0])
                session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
                assert [piece async for piece in client.turn(session, b"x")] == [b"<x>"]
                assert client.relay == w.relays[0]

    run(play())


def test_who_is_down(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            with pytest.raises(UnavailableError) as caught:
                await w.client(DOWN, DOWN + "/ohttp").open_session(b"hello", b"", ["host-1"])
            assert caught.value.party == "relay"
            for fake in w.cvms:
                fake.server.close()
            with pytest.raises(UnavailableError) as caught:
                await w.client().open_session(b"hello", authorization(), ["host-1", "host-2"])
            assert caught.value.party == "orchestrator"

    run(play())


def test_a_key_that_the_gateway_does_not_have(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            key = ohttp.GatewayKey(key_id=9, private_key=hpke.generate_private_key(hpke.X25519))
            client = OhttpClient(RelayClient(w.network, w.relays), key.config())
            with pytest.raises(GatewayKeyError):
                await client.open_session(b"hello", authorization(), ["host-1"])
            with pytest.raises(GatewayKeyError):
                [piece async for piece in client.turn("0" * 32, b"x")]
            same_id = ohttp.GatewayKey(key_id=0, private_key=key.private_key)
            client = OhttpClient(RelayClient(w.network, w.relays), same_id.config())
            with pytest.raises(ProtocolError):
                await client.open_session(b"hello", authorization(), ["host-1"])

    run(play())


def test_a_request_beyond_the_limit(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client()
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            with pytest.raises(LimitError):
                [piece async for piece in client.turn(session, bytes(LIMITS.request + 150 * 1024))]

    run(play())


def test_a_streamed_body_streams(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client()
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            sealer = ohttp_chunked.RequestSealer(ohttp_world.X25519)
            path = f"/v1/sessions/{session}".encode()
            request = bhttp.Request(method=b"POST", scheme=b"https", authority=b"gateway", path=path)
            answered = asyncio.Event()

            async def body() -> object:
                yield sealer.header() + sealer.chunk(
                    RequestEncoder.head(request) + RequestEncoder.data(b"one")
                )
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

    run(play())


def test_outside_the_network() -> None:
    with pytest.raises(UnavailableError):
        _ = Network().session

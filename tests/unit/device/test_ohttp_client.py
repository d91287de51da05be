import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import edge_kit
import ohttp_world
from ohttp_world import TODAY, authorization, world
from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestEncoder
from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device import ohttp_client
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


def run(test: object) -> None:
    asyncio.run(asyncio.wait_for(test, 30))  # type: ignore[arg-type]


CARRIERS = pytest.mark.parametrize("flights", [False, True], ids=["streamed", "flights"])


@CARRIERS
@pytest.mark.parametrize("key", [0, 1], ids=["x25519", "hybrid"])
def test_a_whole_session(tmp_path: Path, key: int, *, flights: bool) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client(key=key, flights=flights)
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


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(60)])
def test_an_answer_that_a_relay_cut_is_one_that_it_changed(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the client goes on with another relay."""

    async def cut(*_: object, **__: object) -> bytes:
        return body

    async def play() -> None:
        async with world(tmp_path) as w:
            monkeypatch.setattr(RelayClient, "exchange", cut)
            with pytest.raises(hpke.OpenError):
                await w.client().open_session(b"hello", authorization(), ["host-1"])

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


@CARRIERS
def test_a_device_that_stops_reading_ends_the_session_at_the_cvm(tmp_path: Path, *, flights: bool) -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            await asyncio.Event().wait()
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, endless) as w:
            client = w.client(flights=flights)
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            async with aclosing(client.turn(session, b"go")) as answer:
                assert await anext(answer) == b"piece"
                # A streamed answer ends with the device; one in flights when the device says so, or after a minute.
                if flights:
                    await client.close(session)
            await w.cvms[0].ended.wait()
            with pytest.raises(SessionGoneError):
                [piece async for piece in client.turn(session, b"x")]

    run(play())


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

    async def play() -> None:
        async with world(tmp_path, cut) as w:
            client = w.client(flights=flights)
            got: list[bytes] = []

            async def take() -> None:
                async for piece in client.turn(session, b"go"):
                    got.append(piece)  # noqa: PERF401 - what came before the error counts

            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            with pytest.raises(UnavailableError) as caught:
                await take()
            # What a flight had so far is lost with it.
            assert got == ([] if flights else [b"piece"])
            assert caught.value.party == ("orchestrator" if flights else "relay")

    run(play())


def hold_flights(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(router, "_FLIGHT_WAIT", seconds)


def test_an_answer_in_flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            for number in range(3):
                await turn.say(b"piece %d" % number)
                # The next piece is not made before the device has this one, so it comes with another flight.
                await seen.get()
        await turn.end()

    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def play() -> None:
        async with world(tmp_path, slow) as w:
            client = w.client(flights=True)
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            got = []
            async for piece in client.turn(session, b"go"):
                got.append(piece)
                seen.put_nowait(piece)
            assert got == [b"piece 0", b"piece 1", b"piece 2"]
            # The next turn begins where this one ended.
            assert [piece async for piece in client.turn(session, b"x")] == []

    hold_flights(monkeypatch, 0.05)
    run(play())


def test_a_long_answer_takes_several_flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bytes(range(256)) * 8192

    async def long(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(whole)
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, long) as w:
            client = w.client(flights=True)
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            pieces = [piece async for piece in client.turn(session, b"go")]
            assert b"".join(pieces) == whole
            assert len(pieces) > 2
            assert max(map(len, pieces)) < 256 * 1024 + LIMITS.link_message
            monkeypatch.setattr(ohttp_client, "_MAX_FLIGHTS", 2)
            with pytest.raises(LimitError):
                _ = [piece async for piece in client.turn(session, b"go")]

    run(play())


def test_an_answer_whose_cvm_has_closed_is_fetched_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def last(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(bytes(600_000))
            await turn.say(b"last words")
            turn.writer.close()
            await asyncio.Event().wait()
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, last) as w:
            client = w.client(flights=True)
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            pieces = []
            async for piece in client.turn(session, b"go"):
                pieces.append(piece)
                await w.cvms[0].ended.wait()
            assert len(pieces) > 1
            assert b"".join(pieces) == bytes(600_000) + b"last words"
            with pytest.raises(SessionGoneError):
                _ = [piece async for piece in client.turn(session, b"x")]

    run(play())


def test_flights_that_are_out_of_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            await asyncio.Event().wait()
        await turn.end()

    async def play() -> None:
        async with world(tmp_path, endless) as w:
            client = w.client(flights=True)
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            path = f"/v1/sessions/{session}".encode()

            async def refused(content: bytes, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
                response = await client._exchange(b"POST", path, content, headers)
                return response.status, response.content

            more = (b"more", b"?1")
            assert await refused(b"", more) == (400, b'{"code": "peer.protocol.turn"}')
            async with aclosing(client.turn(session, b"go")) as answer:
                assert await anext(answer) == b"piece"
                for streams in (False, True):
                    with pytest.raises(ProtocolError):
                        _ = [piece async for piece in w.client(flights=not streams).turn(session, b"go")]
                assert await refused(b"again") == (409, b'{"code": "peer.protocol.session-busy"}')
                # Who asks for more has nothing to say; the session is over then.
                assert await refused(b"x", more) == (413, b'{"code": "peer.limit"}')
            with pytest.raises(SessionGoneError):
                _ = [piece async for piece in client.turn(session, b"x")]

    hold_flights(monkeypatch, 0.05)
    run(play())


def test_only_what_is_short_has_to_be_whole_soon(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = w.client(flights=True)
            exchange, limits = client._relay.exchange, []

            async def seen(body: bytes, **how: Any) -> bytes:
                limits.append((how["once"], how["within"]))
                return await exchange(body, **how)

            client._relay.exchange = seen  # type: ignore[method-assign]
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            assert [piece async for piece in client.turn(session, b"x")]
            await client.close(session)
            assert limits == [(False, 20.0), (True, LIMITS.session_total), (False, 20.0)]

    run(play())


def test_content_takes_flights_where_no_relay_that_streams_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            client = OhttpClient(
                RelayClient(w.network, [w.relays[0]], flights=[w.relays[0]]),
                ohttp_world.X25519,
                clock=lambda: w.now[0],
            )
            session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
            relays = RelayClient(w.network, [w.relays[0], DOWN], flights=[w.relays[0]], avoid=[w.relays[0]])
            assert relays.streams
            other = OhttpClient(relays, ohttp_world.X25519, clock=lambda: w.now[0])
            assert [piece async for piece in other.turn(session, b"x")] == [b"<x>"]
            assert (other.relay, relays.failed) == (w.relays[0], {DOWN})

    run(play())


def test_flights_show_a_relay_classes_of_size(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w:
            sizes = set()
            for length in (1, 700, 3000):
                client = w.client(flights=True)
                session, _ = await client.open_session(b"hello", authorization(), ["host-1"])
                relay, seen = client._relay, []
                exchange = relay.exchange

                async def counted(body: bytes, **how: Any) -> bytes:
                    answer = await exchange(body, **how)  # noqa: B023 - called before the next round
                    seen.append((len(body), len(answer)))  # noqa: B023
                    return answer

                relay.exchange = counted  # type: ignore[method-assign]
                assert [piece async for piece in client.turn(session, bytes(length))]
                sizes |= set(seen)
            assert len(sizes) == 1

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


def test_a_token_that_the_message_itself_has_spent(tmp_path: Path) -> None:
    """A relay that dies after it has passed a message on, in front of gateways on several machines."""

    async def play() -> None:
        async with world(tmp_path) as w:
            token, client = authorization(), w.client(DOWN, w.relays[0])
            await w.client().open_session(b"hello", token, ["host-1"])
            client._relay.failed.add(DOWN)
            with pytest.raises(AlreadyArrivedError):
                await client.open_session(b"hello", token, ["host-1"])

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

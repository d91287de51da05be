"""Turns through relays that take in messages whole."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import edge_kit
import ohttp_world
from ohttp_world import World, in_world, opened, said
from sottovoce.core.errors import LimitError, ProtocolError
from sottovoce.core.limits import LIMITS
from sottovoce.device import ohttp_client
from sottovoce.device.ohttp_client import OhttpClient, SessionGoneError
from sottovoce.device.transport import RelayClient
from sottovoce.edge import router

DOWN = "http://127.0.0.1:1"


def hold_flights(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(router, "_FLIGHT_WAIT", seconds)


def test_a_long_answer_takes_several_flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bytes(range(256)) * 8192

    async def long(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(whole)
        await turn.end()

    async def play(w: World) -> None:
        client = w.client(flights=True)
        session = await opened(client)
        pieces = await said(client, session, b"go")
        assert b"".join(pieces) == whole
        assert len(pieces) > 2
        assert max(map(len, pieces)) < 256 * 1024 + LIMITS.link_message
        monkeypatch.setattr(ohttp_client, "_MAX_FLIGHTS", 2)
        with pytest.raises(LimitError):
            await said(client, session, b"go")

    in_world(tmp_path, play, long)


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

    async def play(w: World) -> None:
        client = w.client(flights=True)
        session = await opened(client)
        pieces = []
        async for piece in client.turn(session, b"go"):
            pieces.append(piece)
            await w.cvms[0].ended.wait()
        assert len(pieces) > 1
        assert b"".join(pieces) == bytes(600_000) + b"last words"
        with pytest.raises(SessionGoneError):
            await said(client, session, b"x")

    in_world(tmp_path, play, last)


def test_flights_that_are_out_of_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"go":
            await turn.say(b"piece")
            await asyncio.Event().wait()
        await turn.end()

    async def play(w: World) -> None:
        client = w.client(flights=True)
        session = await opened(client)
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
                    await said(w.client(flights=not streams), session, b"go")
            assert await refused(b"again") == (409, b'{"code": "peer.protocol.session-busy"}')
            # Who asks for more has nothing to say; the session is over then.
            assert await refused(b"x", more) == (413, b'{"code": "peer.limit"}')
        with pytest.raises(SessionGoneError):
            await said(client, session, b"x")

    hold_flights(monkeypatch, 0.05)
    in_world(tmp_path, play, endless)


def test_only_what_is_short_has_to_be_whole_soon(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        client = w.client(flights=True)
        exchange, limits = client._relay.exchange, []

        async def seen(body: bytes, **how: Any) -> bytes:
            limits.append((how["once"], how["within"]))
            return await exchange(body, **how)

        client._relay.exchange = seen  # type: ignore[method-assign]
        session = await opened(client)
        assert await said(client, session, b"x")
        await client.close(session)
        assert limits == [(False, 20.0), (True, LIMITS.session_total), (False, 20.0)]

    in_world(tmp_path, play)


def test_content_takes_flights_where_no_relay_that_streams_is_there(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        client = OhttpClient(
            RelayClient(w.network, [w.relays[0]], flights=[w.relays[0]]),
            ohttp_world.X25519,
            clock=lambda: w.now[0],
        )
        session = await opened(client)
        relays = RelayClient(w.network, [w.relays[0], DOWN], flights=[w.relays[0]], avoid=[w.relays[0]])
        assert relays.streams
        other = OhttpClient(relays, ohttp_world.X25519, clock=lambda: w.now[0])
        assert await said(other, session, b"x") == [b"<x>"]
        assert (other.relay, relays.failed) == (w.relays[0], {DOWN})

    in_world(tmp_path, play)


def test_flights_show_a_relay_classes_of_size(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        sizes = set()
        for length in (1, 700, 3000):
            client = w.client(flights=True)
            session = await opened(client)
            relay, seen = client._relay, []
            exchange = relay.exchange

            async def counted(body: bytes, **how: Any) -> bytes:
                answer = await exchange(body, **how)  # noqa: B023 - called before the next round
                seen.append((len(body), len(answer)))  # noqa: B023
                return answer

            relay.exchange = counted  # type: ignore[method-assign]
            assert await said(client, session, bytes(length))
            sizes |= set(seen)
        assert len(sizes) == 1

    in_world(tmp_path, play)

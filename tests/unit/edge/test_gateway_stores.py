"""Gateways and one store of spent tokens, of each kind."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asgi
import token_kit
from ohttp_world import NOON, TODAY, X25519, authorization, gateway_config
from sottovoce.core import bhttp, ohttp
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.tokens import EPOCH_SECONDS, TokenKey
from sottovoce.edge.admission import Admission
from sottovoce.edge.gateway import create_app
from sottovoce.edge.spent import open_store
from sottovoce.edge.storeurl import parse_store_url
from store_kit import KINDS, SERVERS, Place, digest, place


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    where = place(request, request.param, tmp_path)
    asyncio.run(where.make())
    return where


class Gateway:
    """A gateway without a router: a token that it accepts ends in `unavailable`."""

    def __init__(self, folder: Path, spent: str) -> None:
        self.lines: list[str] = []
        config = gateway_config(folder, spent=spent, replays=str(folder / "replays.db"))
        self.app = create_app(config, log=EventLog(self.lines.append), clock=lambda: NOON)

    async def spend(self, token: bytes) -> tuple[int, str]:
        headers = ((b"date", format_http_date(NOON)), (b"candidates", b"host-1"), (b"authorization", token))
        request = bhttp.Request(
            method=b"POST",
            scheme=b"https",
            authority=b"g",
            path=b"/v1/sessions",
            headers=headers,
            content=b"x",
        )
        sealed, opener = ohttp.seal_request(X25519, bhttp.encode_request(request))
        answer = await asgi.fetch(
            self.app, "POST", "/ohttp", headers={"content-type": "message/ohttp-req"}, body=sealed
        )
        response = bhttp.decode_response(opener.open(answer.body))
        return response.status, json.loads(response.content)["code"]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Gateway"]:
        stop = asyncio.Event()
        messages = [{"type": "lifespan.startup"}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(_: object) -> None:
            pass

        task = asyncio.ensure_future(self.app({"type": "lifespan"}, receive, send))
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            stop.set()
            await task


ACCEPTED = (502, "unavailable")
SPENT = (401, "token.spent")


def test_one_token_at_two_gateways(at: Place, tmp_path: Path) -> None:
    async def play() -> None:
        one, two = Gateway(tmp_path, at.url()), Gateway(tmp_path, at.url())
        async with one.running(), two.running():
            token, other = authorization(), authorization()
            assert await one.spend(token) == ACCEPTED
            assert await two.spend(token) == SPENT
            answers = await asyncio.gather(*(gateway.spend(other) for gateway in (one, two) * 4))
            assert sorted(answers) == [SPENT] * 7 + [ACCEPTED]

    asyncio.run(play())


@pytest.mark.parametrize("kind", SERVERS)
def test_a_gateway_without_its_store_opens_no_session_and_says_so(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    where = place(request, kind, tmp_path)
    asyncio.run(where.make())

    async def play() -> None:
        gateway = Gateway(tmp_path, where.url())
        async with gateway.running():
            token = authorization()
            assert await gateway.spend(token) == ACCEPTED
            where.server.kill()
            try:
                assert await gateway.spend(authorization()) == (503, "unavailable.store")
                assert await gateway.spend(token) == (503, "unavailable.store")
            finally:
                where.server.start()
            assert await gateway.spend(token) == SPENT
            assert await gateway.spend(authorization()) == ACCEPTED
        (line,) = map(json.loads, gateway.lines)
        assert (line["store"], line["refused"], line["sessions"]) == (2, 5, 0)

    asyncio.run(play())


def test_what_is_over_is_forgotten_once_a_day(at: Place) -> None:
    tokens = {day: authorization(day) for day in (TODAY, TODAY + 3)}
    keys: dict[int, TokenKey] = {day: token_kit.key(day) for day in tokens}

    async def play() -> None:
        admission = Admission(keys, token_kit.CHALLENGE, at.url())
        for day, token in tokens.items():
            await admission.admit(token, NOON + (day - TODAY) * EPOCH_SECONDS)
            assert admission._expiry is not None
            await admission._expiry
        await admission.close()
        store = open_store(parse_store_url(at.url()))
        refusals = await store.spend_all([(digest(0), TODAY), (digest(0), TODAY + 1)])
        assert [refusal and refusal.code for refusal in refusals] == ["token.expired", None]
        assert await store.expire(TODAY + 1) == 0
        assert await store.expire(TODAY + 4) == 2
        await store.close()

    asyncio.run(play())


def test_a_store_on_a_server_needs_a_file_for_requests_seen(tmp_path: Path) -> None:
    config = gateway_config(tmp_path, spent="redis://127.0.0.1:1/0")
    with pytest.raises(ConfigError, match="requests seen"):
        create_app(config, log=EventLog(lambda _: None))


def test_a_store_whose_url_is_wrong_stops_the_start(tmp_path: Path) -> None:
    for spent in ("redis://store.example/0", "mysql://x", ""):
        config = gateway_config(tmp_path, spent=spent, replays=str(tmp_path / "replays"))
        with pytest.raises(ConfigError):
            create_app(config, log=EventLog(lambda _: None))

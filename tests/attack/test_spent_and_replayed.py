"""Tokens and sealed requests count once, and twice at a gateway that does not write them down."""

import asyncio
import json
from pathlib import Path

import pytest

import edge_kit
from ohttp_world import NOON, X25519, authorization, world
from sottovoce.core import bhttp, ohttp
from sottovoce.core.errors import SottovoceError
from sottovoce.core.httpdate import format_http_date
from sottovoce.edge import replays
from sottovoce.edge.replays import Replays
from sottovoce.edge.spent_sqlite import SqliteSpent


def spend_twice(folder: Path) -> tuple[str, int]:
    """What is said to the second use of a token, and how many sessions a CVM has had."""

    async def play() -> tuple[str, int]:
        async with world(folder) as w:
            token = authorization()
            await w.client().open_session(b"hello", token, ["host-1"])
            try:
                await w.client().open_session(b"hello", token, ["host-1"])
            except SottovoceError as error:
                return error.code, w.cvms[0].opened
            return "", w.cvms[0].opened

    return asyncio.run(play())


def test_a_token_counts_once(tmp_path: Path) -> None:
    assert spend_twice(tmp_path) == ("token.spent", 1)


def test_a_gateway_that_writes_no_token_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteSpent, "_insert", lambda *_: None)
    assert spend_twice(tmp_path) == ("", 2)


def request(moment: float) -> tuple[bytes, ohttp.ResponseOpener]:
    inner = bhttp.Request(
        method=b"DELETE",
        scheme=b"https",
        authority=b"gateway",
        path=b"/v1/sessions/" + b"0" * 32,
        headers=((b"date", format_http_date(int(moment))),),
        content=b"",
    )
    return ohttp.seal_request(X25519, bhttp.encode_request(inner))


def post(folder: Path, moment: float, *, times: int) -> tuple[list[int], str]:
    """The statuses of a sealed request that is posted so often, and the code in the last sealed answer."""

    async def play() -> tuple[list[int], str]:
        sealed, opener = request(moment)
        statuses, inner = [], ""
        async with world(folder) as w, edge_kit.raw(w.gateway) as client:
            for number in range(times):
                await client.start("POST", "/ohttp", content_type="message/ohttp-req")
                await client.send(sealed)
                await client.send(b"")
                statuses.append(await client.head())
                body = await client.rest()
                if not number:
                    inner = json.loads(bhttp.decode_response(opener.open(body)).content)["code"]
        return statuses, inner

    return asyncio.run(play())


def test_a_request_counts_once(tmp_path: Path) -> None:
    assert post(tmp_path, NOON, times=3) == ([200, 425, 425], "peer.protocol.session")


def test_a_gateway_that_writes_no_request_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replays, "_add", lambda _, rows: [True] * len(rows))
    assert post(tmp_path, NOON, times=3)[0] == [200, 200, 200]


def test_a_request_that_was_kept_back(tmp_path: Path) -> None:
    assert post(tmp_path, NOON - 3600, times=1) == ([200], "peer.protocol.date")


def test_a_gateway_without_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "WINDOW", 86400)
    assert post(tmp_path, NOON - 3600, times=1) == ([200], "peer.protocol.session")

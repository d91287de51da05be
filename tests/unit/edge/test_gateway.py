import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asgi
import edge_kit
import token_kit
from ohttp_world import KEYS, NOON, TODAY, X25519, authorization, canary, gateway_config, world
from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked
from sottovoce.core.authscheme import to_base64url
from sottovoce.core.bhttp_requests import RequestEncoder
from sottovoce.core.challenges import TokenChallenge, parse_challenges
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.tokens import Token, TokenRequest, authorization_value, begin
from sottovoce.edge import bodies
from sottovoce.edge.gateway import Config, OhttpKeyFile, TokenKeyEntry, create_app

DATE = (b"date", format_http_date(NOON))
CANDIDATES = (b"candidates", b"host-1")
PLAIN = {"content-type": "message/ohttp-req"}
CHUNKED = {"content-type": "message/ohttp-chunked-req"}


def app(folder: Path, **changes: Any) -> asgi.App:
    return create_app(gateway_config(folder, **changes), log=EventLog(lambda _: None), clock=lambda: NOON)


def inner(
    path: bytes, *headers: tuple[bytes, bytes], method: bytes = b"POST", content: bytes = b"hello"
) -> bhttp.Request:
    return bhttp.Request(
        method=method, scheme=b"https", authority=b"gateway", path=path, headers=headers, content=content
    )


def opening(value: bytes | None = None, *headers: tuple[bytes, bytes]) -> bhttp.Request:
    token = () if value is None else ((b"authorization", value),)
    return inner(b"/v1/sessions", *(headers or (DATE, CANDIDATES)), *token)


@contextlib.asynccontextmanager
async def running(application: asgi.App) -> AsyncIterator[None]:
    """The application between its start and its shutdown, without a socket."""
    stop, started = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if started.is_set():
            await stop.wait()
        return {"type": "lifespan"}

    async def send(_: object) -> None:
        started.set()

    task = asyncio.ensure_future(application({"type": "lifespan"}, receive, send))
    await started.wait()
    try:
        yield
    finally:
        stop.set()
        await task


async def ask(application: asgi.App, request: bhttp.Request | bytes, *, key: int = 0) -> bhttp.Response:
    """What a device gets; the outer exchange must succeed."""
    data = request if isinstance(request, bytes) else bhttp.encode_request(request)
    sealed, opener = ohttp.seal_request(KEYS[key].config(), data)
    answer = await asgi.fetch(application, "POST", "/ohttp", headers=PLAIN, body=sealed)
    assert (answer.status, answer.headers["content-type"]) == (200, "message/ohttp-res")
    return bhttp.decode_response(opener.open(answer.body))


def code(response: bhttp.Response) -> tuple[int, str]:
    return response.status, json.loads(response.content)["code"]


def refusal(folder: Path, request: bhttp.Request | bytes) -> tuple[int, str]:
    async def play() -> bhttp.Response:
        application = app(folder)
        async with running(application):
            return await ask(application, request)

    return code(asyncio.run(play()))


def outer(application: asgi.App, body: bytes | list[bytes], headers: dict[str, str]) -> tuple[int, bytes]:
    answer = asyncio.run(asgi.fetch(application, "POST", "/ohttp", headers=headers, body=body))
    return answer.status, answer.body


# Outside the encryption


def test_the_keys(tmp_path: Path) -> None:
    answer = asyncio.run(asgi.fetch(app(tmp_path), "GET", "/ohttp-keys"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/ohttp-keys")
    assert ohttp.decode_key_configs(answer.body) == [key.config() for key in KEYS]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/healthz", 204), ("GET", "/ohttp", 404), ("POST", "/", 404)])  # fmt: skip
def test_other_resources(tmp_path: Path, method: str, path: str, status: int) -> None:
    assert asyncio.run(asgi.fetch(app(tmp_path), method, path)).status == status


@pytest.mark.parametrize("media", ["", "message/ohttp-res", "message/ohttp-chunked-res", "text/plain", "message/OHTTP-req"])  # fmt: skip
def test_other_media_types(tmp_path: Path, media: str) -> None:
    sealed, _ = ohttp.seal_request(X25519, b"")
    assert outer(app(tmp_path), sealed, {"content-type": media}) == (415, b'{"code": "peer.media-type"}')


@pytest.mark.parametrize("headers", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_a_key_that_is_not_here(tmp_path: Path, headers: dict[str, str]) -> None:
    other = ohttp.GatewayKey(key_id=77, private_key=hpke.generate_private_key(hpke.X25519))
    sealed, _ = ohttp.seal_request(other.config(), b"")
    answer = asyncio.run(asgi.fetch(app(tmp_path), "POST", "/ohttp", headers=headers, body=sealed))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(answer.body)["type"] == "https://iana.org/assignments/http-problem-types#ohttp-key"


@pytest.mark.parametrize("headers", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_what_cannot_be_opened(tmp_path: Path, headers: dict[str, str]) -> None:
    application = app(tmp_path)
    sealed, _ = ohttp.seal_request(X25519, bhttp.encode_request(opening()))
    for body in (b"", sealed[:20], sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        status, answer = outer(application, body, headers)
        assert status in {400, 413}
        assert json.loads(answer)["code"].startswith("peer.")
    assert outer(application, bytes(512 * 1024 + 1), headers)[0] in {400, 413}


# Replays


def chunked(request: bhttp.Request) -> tuple[bytes, ohttp_chunked.ResponseOpener]:
    sealer = ohttp_chunked.RequestSealer(X25519)
    pieces = (RequestEncoder.head(request), RequestEncoder.data(request.content))
    body = sealer.header() + b"".join(map(sealer.chunk, pieces)) + sealer.final(RequestEncoder.end())
    return body, sealer.opener()


@pytest.mark.parametrize("headers", [(DATE, CANDIDATES), (CANDIDATES,)], ids=["dated", "undated"])
@pytest.mark.parametrize("media", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_a_replay(tmp_path: Path, headers: tuple[tuple[bytes, bytes], ...], media: dict[str, str]) -> None:
    request = opening(None, *headers)
    body = (
        ohttp.seal_request(X25519, bhttp.encode_request(request))[0]
        if media is PLAIN
        else chunked(request)[0]
    )
    first, second = app(tmp_path), app(tmp_path)
    assert outer(first, body, media)[0] == 200
    after_a_restart = app(tmp_path)
    for application in (first, second, after_a_restart):
        assert outer(application, body, media) == (425, b'{"code": "peer.protocol.replay"}')


def test_an_opening_whose_content_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token is not spent: it was not asked for yet."""
    monkeypatch.setattr(bodies, "READ_TIMEOUT", 0.2)
    token = authorization()

    async def play() -> None:
        async with world(tmp_path) as w, edge_kit.raw(w.gateway) as client:
            sealer = ohttp_chunked.RequestSealer(X25519)
            await client.start("POST", "/ohttp", content_type="message/ohttp-chunked-req")
            await client.send(sealer.header() + sealer.chunk(RequestEncoder.head(opening(token))))
            for _ in range(20):
                await client.send(sealer.chunk(RequestEncoder.data(b"x")))
                await asyncio.sleep(0.02)
            assert await client.head() == 200
            opener = sealer.opener()
            whole = b"".join([*opener.feed(await client.rest()), opener.finish()])
            assert b"peer.timeout" in whole

    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_replay_of_a_request_with_a_good_token_opens_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w, edge_kit.raw(w.gateway) as client:
            request = bhttp.encode_request(opening(authorization()))
            sealed, _ = ohttp.seal_request(X25519, request)
            for status in (200, 425):
                await client.start("POST", "/ohttp", content_type="message/ohttp-req")
                await client.send(sealed)
                await client.send(b"")
                assert await client.head() == status
                await client.rest()
            assert w.cvms[0].opened == 1

    asyncio.run(play())


def test_a_minute_that_was_forgotten_is_the_gateways_fault(tmp_path: Path) -> None:
    application = app(tmp_path)
    rows = sqlite3.connect(tmp_path / "spent.db-replays")
    rows.executemany("INSERT INTO forgotten VALUES (?)", [(NOON // 60 + minute,) for minute in range(20)])
    rows.commit()
    rows.close()
    refused = code(asyncio.run(ask(application, opening(authorization()))))
    assert refused == (503, "unavailable.store.forgotten")


@pytest.mark.parametrize("offset", [-301, 301, -86400])
def test_a_date_outside_the_window(tmp_path: Path, offset: int) -> None:
    async def play() -> bhttp.Response:
        return await ask(app(tmp_path), opening(None, (b"date", format_http_date(NOON + offset)), CANDIDATES))

    response = asyncio.run(play())
    assert code(response) == (400, "peer.protocol.date")
    assert json.loads(response.content)["type"] == "https://iana.org/assignments/http-problem-types#date"
    assert bhttp.header(response.headers, b"date") == format_http_date(NOON)


# Tokens


def forged() -> bytes:
    token = token_kit.token(TODAY)
    encoded = token.encode()
    return authorization_value(Token.decode(encoded[:-1] + bytes([encoded[-1] ^ 1])))


def for_another_service() -> bytes:
    challenge = TokenChallenge(issuer_name=b"issuer.example", origin_info=b"other.example")
    request, pending = begin(token_kit.key(TODAY), challenge)
    return authorization_value(
        pending.finish(token_kit.signer(TODAY).blind_sign(TokenRequest.decode(request).blinded))
    )


BAD_TOKENS: dict[str, Callable[[], bytes | None]] = {
    "token.missing": lambda: None,
    "token.malformed": lambda: b"PrivateToken token=AAAA",
    "token.binding": for_another_service,
    "token.expired": lambda: authorization(TODAY + 1),
    "token.signature": forged,
}


@pytest.mark.parametrize("expected", BAD_TOKENS)
def test_bad_tokens(tmp_path: Path, expected: str) -> None:
    assert refusal(tmp_path, opening(BAD_TOKENS[expected]())) == (401, expected)


@pytest.mark.parametrize("value", [b"", b"Bearer x", b"PrivateToken", b'PrivateToken token="' + to_base64url(bytes(354)) + b'"', b"\xff" * 10])  # fmt: skip
def test_malformed_tokens(tmp_path: Path, value: bytes) -> None:
    assert refusal(tmp_path, opening(value)) == (401, "token.malformed")


def test_a_token_of_a_key_that_is_not_here(tmp_path: Path) -> None:
    assert refusal(tmp_path, opening(authorization(TODAY + 2))) == (401, "token.binding")


def test_a_refused_token_is_told_the_challenge(tmp_path: Path) -> None:
    response = asyncio.run(ask(app(tmp_path), opening()))
    (offered,) = parse_challenges(bhttp.header(response.headers, b"www-authenticate") or b"")
    assert offered.challenge == token_kit.CHALLENGE.encode()
    assert offered.token_key == token_kit.key(TODAY).spki


def test_two_authorizations(tmp_path: Path) -> None:
    token = (b"authorization", authorization())
    assert refusal(tmp_path, opening(None, DATE, CANDIDATES, token, token)) == (400, "peer.protocol")


def test_a_token_is_spent_once_across_gateways_and_restarts(tmp_path: Path) -> None:
    async def play() -> None:
        token = authorization()
        gateways = [app(tmp_path), app(tmp_path)]
        async with running(gateways[0]), running(gateways[1]):
            # There is no router here: the token is spent before it is asked.
            assert code(await ask(gateways[0], opening(token))) == (502, "unavailable")
            for gateway in (*gateways, app(tmp_path)):
                assert code(await ask(gateway, opening(token))) == (401, "token.spent")

    asyncio.run(play())


def test_many_spend_one_token_at_once(tmp_path: Path) -> None:
    async def play() -> list[tuple[int, str]]:
        gateways = [app(tmp_path), app(tmp_path)]
        token = authorization()
        async with running(gateways[0]), running(gateways[1]):
            answers = await asyncio.gather(*(ask(gateways[n % 2], opening(token)) for n in range(10)))
        return sorted(map(code, answers))

    assert asyncio.run(play()) == [(401, "token.spent")] * 9 + [(502, "unavailable")]


@pytest.mark.parametrize("value", [None, b"", b"a,", b"a, a", b"a, b, c", b"a b"])
def test_malformed_candidates_cost_no_token(tmp_path: Path, value: bytes | None) -> None:
    async def play() -> None:
        gateway, token = app(tmp_path), authorization()
        candidates = () if value is None else ((b"candidates", value),)
        async with running(gateway):
            answer = await ask(gateway, opening(token, DATE, *candidates))
            assert code(answer) == (400, "peer.protocol.candidates")
            assert code(await ask(gateway, opening(token))) == (502, "unavailable")

    asyncio.run(play())


# Inside the encryption


def test_every_configured_key_is_accepted(tmp_path: Path) -> None:
    for key in range(2):
        response = asyncio.run(ask(app(tmp_path), opening(), key=key))
        assert code(response) == (401, "token.missing")


@pytest.mark.parametrize(("method", "path"), [(b"GET", b"/v1/sessions"), (b"POST", b"/"), (b"POST", b"/v1/sessions/x"), (b"POST", b"/unsafe-benchmark-echo"), (b"GET", b"/v1/sessions/" + b"0" * 32)])  # fmt: skip
def test_other_inner_resources(tmp_path: Path, method: bytes, path: bytes) -> None:
    assert refusal(tmp_path, inner(path, DATE, method=method)) == (404, "peer.protocol.path")


def test_a_first_flight_beyond_its_limit(tmp_path: Path) -> None:
    request = inner(b"/v1/sessions", DATE, CANDIDATES, content=bytes(16 * 1024 + 1))
    assert refusal(tmp_path, request) == (413, "peer.limit")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_inner_bytes_give_a_sealed_refusal(tmp_path: Path, data: bytes) -> None:
    response = asyncio.run(ask(SHARED.setdefault(tmp_path, app(tmp_path)), data))
    assert 400 <= response.status < 500
    assert list(json.loads(response.content)) == ["code"]


SHARED: dict[Path, asgi.App] = {}


def test_an_inner_request_that_is_cut_short_is_told_so_inside(tmp_path: Path) -> None:
    async def play() -> None:
        sealer = ohttp_chunked.RequestSealer(X25519)
        body = sealer.header() + sealer.final(RequestEncoder.head(opening())[:30])
        answer = await asgi.fetch(app(tmp_path), "POST", "/ohttp", headers=CHUNKED, body=body)
        assert (answer.status, answer.headers["content-type"]) == (200, "message/ohttp-chunked-res")
        assert answer.headers["incremental"] == "?1"
        opener = sealer.opener()
        whole = b"".join([*opener.feed(answer.body), opener.finish()])
        assert code(bhttp.decode_response(whole)) == (400, "peer.decode")

    asyncio.run(play())


def test_answers_that_open_a_session_have_one_length(tmp_path: Path) -> None:
    async def long_flight(turn: edge_kit.Turn) -> None:
        length = int(await turn.whole())
        await turn.say(bytes(length))
        await turn.end()

    async def play() -> None:
        lengths = set()
        async with world(tmp_path, long_flight) as w, edge_kit.raw(w.gateway) as client:
            for length in (b"1", b"9000", b"9100"):
                request = inner(
                    b"/v1/sessions", CANDIDATES, (b"authorization", authorization()), content=length
                )
                sealed, opener = ohttp.seal_request(X25519, bhttp.encode_request(request))
                await client.start("POST", "/ohttp", content_type="message/ohttp-req")
                await client.send(sealed)
                await client.send(b"")
                assert await client.head() == 200
                answer = await client.rest()
                lengths.add(len(answer))
                assert bhttp.decode_response(opener.open(answer)).content == bytes(int(length))
        assert len(lengths) == 1

    asyncio.run(play())


def test_a_client_that_leaves_while_a_session_opens_ends_it(tmp_path: Path) -> None:
    async def silent(turn: edge_kit.Turn) -> None:
        await turn.whole()
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()

    async def play() -> None:
        async with world(tmp_path, silent) as w:
            async with edge_kit.raw(w.relays[0]) as client:
                sealed, _ = ohttp.seal_request(X25519, bhttp.encode_request(opening(authorization())))
                await client.start("POST", "/ohttp", content_type="message/ohttp-req")
                await client.send(sealed)
                await client.send(b"")
                await begun.wait()
            await w.cvms[0].ended.wait()

    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_turn_may_be_plain_for_relays_that_buffer(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w, edge_kit.raw(w.gateway) as client:

            async def post(request: bhttp.Request) -> bhttp.Response:
                sealed, opener = ohttp.seal_request(X25519, bhttp.encode_request(request))
                await client.start("POST", "/ohttp", content_type="message/ohttp-req")
                await client.send(sealed)
                await client.send(b"")
                assert await client.head() == 200
                return bhttp.decode_response(opener.open(await client.rest()))

            opened = await post(opening(authorization()))
            session = bhttp.header(opened.headers, b"session") or b""
            turn = await post(inner(b"/v1/sessions/" + session, DATE, content=b"records"))
            assert (turn.status, turn.content) == (200, b"<records>")
            assert (await post(inner(b"/v1/sessions/" + session, method=b"DELETE"))).status == 204
            turn = await post(inner(b"/v1/sessions/" + session, DATE, content=b"records"))
            assert code(turn) == (404, "peer.protocol.session")

    asyncio.run(play())


# Configuration


def test_the_echo_is_for_benchmarks_only(tmp_path: Path) -> None:
    for environment in ("test", "production", "Benchmark", ""):
        with pytest.raises(ConfigError):
            app(tmp_path, environment=environment, unsafe_benchmark_echo=True)
    benchmark = app(tmp_path, environment="benchmark", unsafe_benchmark_echo=True)
    response = asyncio.run(ask(benchmark, inner(b"/unsafe-benchmark-echo", DATE)))
    assert (response.status, response.content) == (200, b"hello")
    plain = app(tmp_path, environment="benchmark")
    assert asyncio.run(ask(plain, inner(b"/unsafe-benchmark-echo", DATE))).status == 404


def test_configurations_that_are_refused(tmp_path: Path) -> None:
    config = gateway_config(tmp_path)
    short = tmp_path / "short"
    short.write_bytes(bytes(31))
    file = config.ohttp_keys[0]
    changes: list[dict[str, Any]] = [
        {"ohttp_keys": []},
        {"ohttp_keys": [file, file]},
        {"ohttp_keys": [OhttpKeyFile(key_id=0, kem_id=hpke.X25519, path=str(tmp_path / "absent"))]},
        {"ohttp_keys": [OhttpKeyFile(key_id=0, kem_id=hpke.X25519, path=str(short))]},
        {"ohttp_keys": [OhttpKeyFile(key_id=0, kem_id=9, path=file.path)]},
        {"ohttp_keys": [OhttpKeyFile(key_id=256, kem_id=hpke.X25519, path=file.path)]},
        {"token_keys": []},
        {"token_keys": [TokenKeyEntry(epoch=1, key="AAAA")]},
        {"token_keys": [TokenKeyEntry(epoch=1, key="?")]},
    ]
    for change in changes:
        with pytest.raises(ConfigError):
            app(tmp_path, **change)


def test_a_configuration_in_toml() -> None:
    text = b"""
environment = "test"
service = "service.example"
issuer_name = "issuer.example"
router = "http://router"
spent = "/spent.db"
ohttp_keys = [{ key_id = 1, kem_id = 32, path = "/key" }]
token_keys = [{ epoch = 1, key = "AAAA" }]
"""
    assert msgspec.toml.decode(text, type=Config).replays == ""
    with pytest.raises(msgspec.ValidationError):
        msgspec.toml.decode(text + b'access_log = "x"\n', type=Config)


# Nothing is told


def test_no_canary_in_any_event(tmp_path: Path) -> None:
    async def play() -> list[str]:
        marks = [canary() for _ in range(6)]
        async with world(tmp_path) as w:
            client = w.client()
            session, flight = await client.open_session(
                marks[0].encode(), authorization(), ["host-1", marks[1]]
            )
            assert marks[0].encode() in flight
            answer = [piece async for piece in client.turn(session, marks[2].encode())]
            assert marks[2].encode() in b"".join(answer)
            marks.append(session)
            async with edge_kit.raw(w.relays[0]) as raw:
                sealed, _ = ohttp.seal_request(
                    X25519,
                    bhttp.encode_request(inner(b"/" + marks[3].encode(), (b"x-mark", marks[4].encode()))),
                )
                await raw.start(
                    "POST", "/ohttp", content_type="message/ohttp-req", cookie=marks[5], user_agent=marks[5]
                )
                await raw.send(sealed)
                await raw.send(b"")
                assert await raw.head() == 200
                await raw.rest()
                await raw.start("POST", f"/{marks[5]}", content_type=marks[5])
                await raw.send(b"")
                await raw.head()
            lines = w.lines
        assert len(lines) >= 3
        return [line for line in lines for mark in marks if mark in line]

    assert asyncio.run(play()) == []

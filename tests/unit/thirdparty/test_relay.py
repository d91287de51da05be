import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import asgi
import edge_kit
from http_kit import Answer, Upstream, chunk, raw_answer, reply, upstream
from ohttp_world import canary
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.limits import LIMITS
from sottovoce.thirdparty import upstream as upstream_module
from sottovoce.thirdparty.directorycopies import DirectoryCopies
from sottovoce.thirdparty.relay import Config, create_app

PLAIN, CHUNKED = "message/ohttp-req", "message/ohttp-chunked-req"
DOWN = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _asks_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's own rounds at its mirror are left out: `test_directorycopies.py` has them."""

    async def never(_: DirectoryCopies) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DirectoryCopies, "follow", never)


@contextlib.asynccontextmanager
async def relayed(
    answer: Answer, mirror: Answer | None = None
) -> AsyncIterator[tuple[edge_kit.Raw, Upstream, Upstream, list[str]]]:
    """A client's connection to a relay, the gateway and the mirror behind it, and the relay's log."""
    lines: list[str] = []
    async with upstream(answer) as gateway, upstream(mirror or reply()) as files:
        config = Config(gateway=gateway.url + "/ohttp", mirror=files.url + "/files")
        app = create_app(config, log=EventLog(lines.append))
        async with edge_kit.serving(app) as url, edge_kit.raw(url) as client:
            yield client, gateway, files, lines


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def post(
    client: edge_kit.Raw, body: bytes, *, path: str = "/ohttp", **headers: str
) -> tuple[int, bytes]:
    await client.start("POST", path, **headers)
    if body:
        await client.send(body)
    await client.send(b"")
    status = await client.head()
    return status, await client.rest()


def test_nothing_of_the_client_passes() -> None:
    async def play() -> None:
        mark = canary()
        async with relayed(reply(content_type="message/ohttp-res")) as (client, gateway, _, lines):
            status, body = await post(
                client,
                b"sealed",
                content_type=PLAIN,
                cookie=mark,
                user_agent=mark,
                accept_language=mark,
                x_forwarded_for=mark,
                forwarded=f"for={mark}",
                via=mark,
                authorization=mark,
                origin=mark,
                referer=mark,
                accept_encoding="gzip",
                traceparent=mark,
                path="/ohttp?" + mark,
            )
            assert (status, body) == (200, b"answer")
            assert gateway.heads[0].startswith(b"POST /ohttp HTTP/1.1\r\n")
            assert gateway.headers() == {
                "host": gateway.url.removeprefix("http://"),
                "content-type": PLAIN,
                "content-length": "6",
            }
            assert gateway.bodies == [b"sealed"]
        assert json.loads(lines[-1])["relayed"] == 1
        assert not any(mark in line or "127.0.0.1" in line for line in lines)

    run(play)


def test_two_clients_look_alike_to_the_gateway() -> None:
    async def play() -> None:
        async with relayed(reply(content_type="message/ohttp-chunked-res")) as (client, gateway, _, _):
            for number in range(2):
                await post(client, b"sealed", content_type=CHUNKED, user_agent=f"client-{number}")
            assert gateway.heads[0] == gateway.heads[1]
            assert gateway.headers() == {
                "host": gateway.url.removeprefix("http://"),
                "content-type": CHUNKED,
                "incremental": "?1",
                "transfer-encoding": "chunked",
            }

    run(play)


def test_nothing_but_status_media_type_and_body_comes_back() -> None:
    async def play() -> None:
        mark = canary()
        answer = reply(
            202,
            content_type="message/ohttp-res",
            set_cookie=mark,
            server=mark,
            x_mark=mark,
            etag=mark,
            date=mark,
        )
        async with relayed(answer) as (client, _, _, _):
            assert await post(client, b"sealed", content_type=PLAIN) == (202, b"answer")
            assert client.headers == {
                "content-type": "message/ohttp-res",
                "content-length": "6",
                "cache-control": "no-store",
            }

    run(play)


@pytest.mark.parametrize(
    ("kind", "passes"),
    [("application/problem+json", True), ("application/json", True), ("text/html", False), ("message/ohttp-res; mark=1", False)],
)  # fmt: skip
def test_media_types_of_answers(kind: str, *, passes: bool) -> None:
    async def play() -> None:
        async with relayed(reply(400, content_type=kind)) as (client, _, _, _):
            assert await post(client, b"sealed", content_type=PLAIN) == (400, b"answer")
            assert client.headers.get("content-type") == (kind if passes else None)

    run(play)


def test_a_redirect_is_not_followed() -> None:
    async def play() -> None:
        async with relayed(reply(307, location=DOWN)) as (client, gateway, _, _):
            assert (await post(client, b"sealed", content_type=PLAIN))[0] == 307
            assert "location" not in client.headers
            assert len(gateway.heads) == 1

    run(play)


@pytest.mark.parametrize(
    "kind", ["text/plain", "message/ohttp-res", "message/ohttp-chunked-res", PLAIN + "; x=1"]
)
def test_other_media_types_are_refused(kind: str) -> None:
    async def play() -> None:
        async with relayed(reply()) as (client, gateway, _, _):
            assert await post(client, b"", content_type=kind) == (415, b'{"code": "peer.media-type"}')
            assert await post(client, b"") == (415, b'{"code": "peer.media-type"}')
            assert gateway.heads == []

    run(play)


@pytest.mark.parametrize(("method", "path"), [("GET", "/ohttp"), ("PUT", "/ohttp"), ("POST", "/ohttp/"), ("POST", "/"), ("GET", "/directory/"), ("GET", "/directory/x"), ("GET", "/directory/../ohttp"), ("GET", "/directory/directory-7.note/x"), ("GET", "/directory/directory-07.note"), ("GET", "/directory/directory-7.note.new"), ("GET", "/directory/directory.note"), ("GET", "/directory/directory-7.note%0a"), ("POST", "/directory/directory-7.note")])  # fmt: skip
def test_nothing_else_is_here(method: str, path: str) -> None:
    async def play() -> None:
        async with relayed(reply()) as (client, gateway, files, _):
            await client.start(method, path, content_type=PLAIN)
            await client.send(b"")
            assert await client.head() == 404
            assert gateway.heads == files.heads == []

    run(play)


def test_the_directory_comes_from_the_relays_own_mirror() -> None:
    async def play() -> None:
        mark = canary()
        mirror = reply(body=b"note", set_cookie=mark, content_type="text/html")
        async with relayed(reply(), mirror) as (client, gateway, files, _):
            for name in ("directory-20000.note", "directory-20001.proof"):
                await client.start("GET", f"/directory/{name}?{mark}", cookie=mark)
                await client.send(b"")
                assert await client.head() == 200
                assert await client.rest() == b"note"
                assert mark not in str(client.headers)
                assert files.heads[-1].startswith(f"GET /files/{name} HTTP/1.1\r\n".encode())
                assert list(files.headers()) == ["host"]
            assert gateway.heads == []

    run(play)


def test_limits() -> None:
    async def play() -> None:
        async with relayed(reply(body=bytes(2 * 1024 * 1024), content_type="message/ohttp-res")) as (
            client,
            gateway,
            _,
            _,
        ):
            status, body = await post(client, bytes(LIMITS.request + 256 * 1024 + 1), content_type=PLAIN)
            assert (status, body) == (413, b'{"code": "peer.limit"}')
            assert gateway.heads == []
        async with relayed(reply(body=bytes(2 * 1024 * 1024), content_type="message/ohttp-res")) as (
            client,
            _,
            _,
            _,
        ):
            status, body = await post(client, b"sealed", content_type=PLAIN)
            assert (status, body) == (502, b'{"code": "unavailable.gateway"}')

    run(play)


def test_who_is_down() -> None:
    async def play() -> None:
        lines: list[str] = []
        app = create_app(Config(gateway=DOWN + "/ohttp", mirror=DOWN), log=EventLog(lines.append))
        async with edge_kit.serving(app) as url, edge_kit.raw(url) as client:
            for kind in (PLAIN, CHUNKED):
                status, body = await post(client, b"sealed", content_type=kind)
                assert (status, body) == (502, b'{"code": "unavailable.gateway"}')
            await client.start("GET", "/directory/directory-7.note")
            await client.send(b"")
            assert await client.head() == 502
            assert await client.rest() == b'{"code": "unavailable.directory"}'
        assert json.loads(lines[-1])["failed"] == 3

    run(play)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ntransfer-encoding: chunked\r\n\r\n"


async def echo(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each chunk when it has it."""
    writer.write(HEAD)
    while piece := await chunk(reader):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


def test_both_ways_at_once() -> None:
    async def play() -> None:
        async with relayed(echo) as (client, _, _, _):
            await client.start("POST", "/ohttp", content_type=CHUNKED)
            for piece in (b"one", b"two"):
                await client.send(piece)
                if not client.status:
                    assert await client.head() == 200
                    assert client.headers["incremental"] == "?1"
                # The next piece is not sent before this one has come back.
                assert await client.chunk() == piece
            await client.send(b"")
            assert await client.chunk() == b""

    run(play)


@pytest.mark.parametrize("complete", [True, False])
def test_a_client_that_leaves_cuts_the_gateway_off(*, complete: bool) -> None:
    async def endless(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await chunk(reader)
        writer.write(HEAD + b"5\r\npiece\r\n")
        await writer.drain()
        await reader.read()
        raise ConnectionAbortedError

    async def play() -> None:
        async with relayed(endless) as (client, gateway, _, lines):
            await client.start("POST", "/ohttp", content_type=CHUNKED)
            await client.send(b"sealed")
            if complete:
                await client.send(b"")
            assert await client.head() == 200
            assert await client.chunk() == b"piece"
            client.close()
            await gateway.closed.wait()
        assert json.loads(lines[-1])["broken_off"] == 1

    run(play)


def test_a_client_that_leaves_before_a_whole_answer_cuts_the_gateway_off() -> None:
    async def silent(upstream: Upstream, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await upstream.body(reader)
        begun.set()
        await reader.read()
        raise ConnectionAbortedError

    begun = asyncio.Event()

    async def play() -> None:
        async with relayed(silent) as (client, gateway, _, _):
            await client.start("POST", "/ohttp", content_type=PLAIN)
            await client.send(b"sealed")
            await client.send(b"")
            await begun.wait()
            client.close()
            await gateway.closed.wait()

    run(play)


def test_a_gateway_that_breaks_off_is_never_a_whole_answer() -> None:
    async def cut(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await chunk(reader)
        writer.write(HEAD + b"5\r\npiece\r\n")
        await writer.drain()
        raise ConnectionAbortedError

    async def play() -> None:
        async with relayed(cut) as (client, _, _, lines):
            await client.start("POST", "/ohttp", content_type=CHUNKED)
            await client.send(b"sealed")
            await client.send(b"")
            assert await client.head() == 200
            assert await client.chunk() == b"piece"
            with pytest.raises(asyncio.IncompleteReadError):
                await client.chunk()
        assert json.loads(lines[-1])["failed"] == 1

    run(play)


def test_health_without_a_server() -> None:
    app = create_app(Config(gateway=DOWN, mirror=DOWN), log=EventLog(print))
    assert asyncio.run(asgi.fetch(app, "GET", "/healthz")).status == 204


@pytest.mark.parametrize("url", ["", "gateway", "ftp://gateway/", "http://", "http://g/?x", "http://g/#x", "http://a:b@g/", "http://g:x/"])  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    for config in (Config(gateway=url, mirror=DOWN), Config(gateway=DOWN, mirror=url)):
        with pytest.raises(ConfigError):
            create_app(config, log=EventLog(print))


async def connections(client: edge_kit.Raw, gateway: Upstream, count: int) -> tuple[int, int]:
    """After so many requests: how many were answered, and on how many connections to the gateway."""
    answered = 0
    for _ in range(count):
        answered += (await post(client, b"sealed", content_type=PLAIN))[0] == 200
    return answered, gateway.connections


def test_connections_are_used_again_where_the_gateway_allows() -> None:
    async def play() -> None:
        async with relayed(reply(content_type="message/ohttp-res")) as (client, gateway, _, _):
            assert await connections(client, gateway, 3) == (3, 1)
        async with relayed(reply(connection="close")) as (client, gateway, _, _):
            assert await connections(client, gateway, 3) == (3, 3)

    run(play)


def test_a_connection_that_the_gateway_closed_meanwhile_is_not_used() -> None:
    async def once(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reply()(upstream, reader, writer)
        raise ConnectionAbortedError

    async def play() -> None:
        async with relayed(once) as (client, gateway, _, _):
            for number in range(3):
                assert (await post(client, b"sealed", content_type=PLAIN))[0] == 200
                await gateway.closed.wait()
                gateway.closed.clear()
                await asyncio.sleep(0)
                assert gateway.connections == number + 1

    run(play)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (OK, 200),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, 200),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, 200),
        (b"", 502),
        (b"SSH-2.0-x\r\n", 502),
        (b"HTTP/1.1 200 OK\r\n", 502),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx", 502),
        (b"HTTP/1.1 200 OK\r\n\r\nno framing", 502),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nx: " + bytes([97]) * 100_000, 502),
        (b"HTTP/1.1 599 x\r\ncontent-length: 1\r\n\r\nx", 599),
        (b"HTTP/1.1 600 x\r\ncontent-length: 1\r\n\r\nx", 502),
        (b"HTTP/1.1 999 x\r\ncontent-length: 1\r\n\r\nx", 502),
    ],
)
def test_what_gateways_say(data: bytes, status: int) -> None:
    async def play() -> None:
        async with relayed(raw_answer(data)) as (client, _, _, _):
            assert (await post(client, b"sealed", content_type=PLAIN))[0] == status

    run(play)


def test_a_gateway_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(upstream_: Upstream, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await upstream_.body(reader)
        await reader.read()
        raise ConnectionAbortedError

    async def play() -> None:
        async with relayed(silent) as (client, _, _, _):
            assert (await post(client, b"sealed", content_type=PLAIN))[0] == 502

    monkeypatch.setattr(upstream_module, "_READ_TIMEOUT", 0.01)
    run(play)


def test_more_requests_at_once_than_connections() -> None:
    async def silent(_: Upstream, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await chunk(reader)
        begun.set()
        await reader.read()
        raise ConnectionAbortedError

    begun = asyncio.Event()

    async def play() -> None:
        async with upstream(silent) as gateway:
            config = Config(gateway=gateway.url, mirror=DOWN, connections=1)
            app = create_app(config, log=EventLog(lambda _: None))
            async with edge_kit.serving(app) as url, edge_kit.raw(url) as one, edge_kit.raw(url) as two:
                await one.start("POST", "/ohttp", content_type=CHUNKED)
                await one.send(b"sealed")
                await begun.wait()
                status, body = await post(two, b"sealed", content_type=CHUNKED)
                assert (status, body) == (502, b'{"code": "unavailable.gateway"}')

    run(play)

"""What a relay must do, whatever program it is: ours, nginx, HAProxy, each as deploy/relay configures it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import edge_kit
import relay_kit
from http_kit import Answer, Upstream, chunk, raw_answer, reply, upstream
from ohttp_world import authorization, canary, world
from sottovoce.core.limits import LIMITS
from sottovoce.thirdparty.directorycopies import DirectoryCopies

PLAIN, CHUNKED = "message/ohttp-req", "message/ohttp-chunked-req"
PLAIN_ANSWER, CHUNKED_ANSWER = "message/ohttp-res", "message/ohttp-chunked-res"
DOWN = "http://127.0.0.1:1"
LONGEST = LIMITS.request + 256 * 1024
FRAMING = {"content-length", "transfer-encoding"}
OWN: dict[str, set[str]] = {"ours": set(), "nginx": {"connection"}, "haproxy": set()}
"""What a program adds to its answers itself, and no configuration takes away."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _asks_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's own rounds at its mirror are left out: `test_directorycopies.py` has them."""

    async def never(_: DirectoryCopies) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DirectoryCopies, "follow", never)


@pytest.fixture(params=relay_kit.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if lack := relay_kit.missing(name):
        pytest.skip(lack)
    return name


class Place:
    """A relay, the gateway and the mirror behind it, and what the relay wrote once it has stopped."""

    def __init__(
        self, kind: str, gateway: Upstream, mirror: Upstream, url: str, stack: AsyncExitStack
    ) -> None:
        self.kind, self.gateway, self.mirror, self.url = kind, gateway, mirror, url
        self._stack = stack

    async def client(self) -> edge_kit.Raw:
        """A new client's connection."""
        return await self._stack.enter_async_context(edge_kit.raw(self.url))

    async def post(self, body: bytes = b"sealed", path: str = "/ohttp", **headers: str) -> edge_kit.Raw:
        """A client that has sent a request and read the answer's head."""
        client = await self.client()
        await client.start("POST", path, **headers)
        if body:
            await client.send(body)
        await client.send(b"")
        await client.head()
        return client


def play(
    kind: str, answer: Answer, test: Callable[[Place], Awaitable[None]], mirror: Answer | None = None
) -> list[str]:
    """Run `test` with a relay in front of a gateway that gives `answer`; what the relay wrote."""
    log: list[str] = []

    async def whole() -> None:
        async with (
            upstream(answer) as gateway,
            upstream(mirror or reply()) as files,
            relay_kit.relay(kind, gateway=gateway.url, mirror=files.url, log=log) as url,
            # The client's connections are closed before the relay is told to stop.
            AsyncExitStack() as stack,
        ):
            await test(Place(kind, gateway, files, url, stack))

    asyncio.run(asyncio.wait_for(whole(), 20))
    return log


def marks(mark: str) -> dict[str, str]:
    """Everything that a client could be told by."""
    names = (
        "cookie",
        "user_agent",
        "accept",
        "accept_language",
        "accept_encoding",
        "x_forwarded_for",
        "x_real_ip",
        "via",
        "authorization",
        "origin",
        "referer",
        "traceparent",
        "x_mark",
        "2nd",
        "te",
        "date",
        "if_none_match",
    )
    return dict.fromkeys(names, mark) | {"forwarded": f"for={mark}", "range": "bytes=1-"}


@pytest.mark.parametrize("media", [PLAIN, CHUNKED])
def test_nothing_of_the_client_passes(kind: str, media: str) -> None:
    async def test(place: Place) -> None:
        mark = canary()
        await place.post(b"sealed", "/ohttp?" + mark, content_type=media, **marks(mark))
        await place.post(content_type=media)
        # nginx gives a length to a body that came together with its head, and chunks to others.
        head, plain = (
            re.sub(r"(content-length: 6|transfer-encoding: chunked)\r\n", "", head.decode().lower())
            for head in place.gateway.heads
        )
        # What one client sent with every mark is what another sent with none.
        assert head == plain
        assert head.startswith("post /ohttp http/1.1\r\n")
        assert "127.0.0.1" not in head.replace(place.gateway.url.removeprefix("http://"), "")
        headers = place.gateway.headers()
        assert headers.pop("host") in {"gateway.example", place.gateway.url.removeprefix("http://")}
        assert headers.pop("content-type") == media
        assert headers.pop("incremental", "") == ("?1" if media == CHUNKED else "")
        assert len(headers) == 1
        assert set(headers) <= FRAMING
        assert place.gateway.bodies == [b"sealed"] * 2

    log = play(kind, reply(content_type=PLAIN_ANSWER), test)
    assert not any("127.0.0.1" in line or "canary" in line or "ohttp" in line for line in log)
    assert len(log) <= 1


def test_nothing_but_status_media_type_and_body_comes_back(kind: str) -> None:
    mark = canary()
    names = ("set_cookie", "server", "x_mark", "etag", "date", "via", "alt_svc", "location", "link", "2nd", "content_language", "cache_control", "last_modified", "content_encoding", "connection_mark", "nel", "refresh", "www_authenticate", "x_accel_buffering", "x_accel_limit_rate", "X_UPPER", "Set_Cookie2")  # fmt: skip

    async def test(place: Place) -> None:
        for media in (PLAIN, CHUNKED):
            client = await place.post(content_type=media)
            assert client.status == 202
            assert mark not in str(client.headers)
            assert client.headers["content-type"] == PLAIN_ANSWER
            assert client.headers["cache-control"] == "no-store"
            assert set(client.headers) - FRAMING - OWN[kind] == {"content-type", "cache-control"}
            assert await client.rest() == b"answer"

    play(kind, reply(202, b"answer", content_type=PLAIN_ANSWER, **dict.fromkeys(names, mark)), test)


def test_a_header_with_an_odd_name_comes_back_through_nginx_alone(kind: str) -> None:
    """Its module names headers by their first letter. Devices read none of these."""

    async def test(place: Place) -> None:
        client = await place.post(content_type=PLAIN)
        assert {"~mark", "!mark"} & set(client.headers) == ({"~mark", "!mark"} if kind == "nginx" else set())

    odd = {"~mark": "1", "!mark": "1"}
    play(kind, reply(200, b"answer", content_type=PLAIN_ANSWER, **odd), test)


@pytest.mark.parametrize("length", [True, False])
def test_a_whole_message_that_is_cut_is_never_whole(kind: str, *, length: bool) -> None:
    """Ours has taken it in and says so with a status; the others have begun to pass it on."""
    framing = b"content-length: 9\r\n\r\ncut" if length else b"transfer-encoding: chunked\r\n\r\n3\r\ncut\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\n"

    async def test(place: Place) -> None:
        client = await place.post(content_type=PLAIN)
        assert client.status == (502 if kind == "ours" else 200)
        if kind != "ours":
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.rest()

    play(kind, raw_answer(head + framing), test)


@pytest.mark.parametrize("media", ["mEssage/oHttp-rEs", f"{PLAIN_ANSWER}\r\ncontent-type: mark/1"])
def test_a_media_type_is_spelled_one_way(kind: str, media: str) -> None:
    """A mark could stand in its case, or in a second one."""

    async def test(place: Place) -> None:
        client = await place.post(content_type=PLAIN)
        assert client.headers.get("content-type") in {None, PLAIN_ANSWER}

    play(kind, reply(200, b"answer", content_type=media), test)


def test_the_gateway_has_the_relay_ask_nobody(kind: str) -> None:
    """nginx would take such a header as an order to fetch something else, at a time that the gateway chooses."""

    async def test(place: Place) -> None:
        client = await place.post(content_type=PLAIN)
        assert (client.status, await client.rest()) == (200, b"answer")
        assert place.mirror.heads == []

    order = {"x_accel_redirect": "/directory/directory-7.note"}
    play(kind, reply(200, b"answer", content_type=PLAIN_ANSWER, **order), test)


@pytest.mark.parametrize(
    ("media", "passes"),
    [
        (PLAIN_ANSWER, True),
        (CHUNKED_ANSWER, True),
        ("application/problem+json", True),
        ("application/json", True),
        ("text/html", False),
        ("message/ohttp-res; mark=1", False),
        ("message/ohttp-res, mark-1", False),
    ],
)
def test_media_types_of_answers(kind: str, media: str, *, passes: bool) -> None:
    async def test(place: Place) -> None:
        client = await place.post(content_type=PLAIN)
        assert client.status == 400
        assert client.headers.get("content-type") == (media if passes else None)
        assert client.headers.get("incremental") == ("?1" if media == CHUNKED_ANSWER else None)
        assert await client.rest() == b"answer"

    play(kind, reply(400, content_type=media), test)


def test_other_requests_are_refused(kind: str) -> None:
    async def test(place: Place) -> None:
        for media in ("text/plain", PLAIN_ANSWER, CHUNKED_ANSWER, PLAIN + "; x=1", "", "message/ohttp-reqs"):
            client = await place.post(b"", content_type=media)
            assert client.status == 415
        for method, path in (
            ("GET", "/ohttp"),
            ("PUT", "/ohttp"),
            ("OPTIONS", "/ohttp"),
            ("POST", "/ohttp/"),
            ("POST", "/ohttp/x"),
            ("POST", "/"),
            ("GET", "/"),
            ("GET", "/directory/"),
            ("GET", "/directory/x"),
            ("GET", "/directory/directory.note"),
            ("GET", "/directory/directory-7.note/x"),
            ("GET", "/directory/directory-7.notes"),
            ("GET", "/directory/directory-07.note"),
            ("GET", "/directory/directory-7xnote"),
            ("GET", "/directory/directory-12345678.note"),
            ("POST", "/directory/directory-7.note"),
            ("HEAD", "/directory/directory-7.note"),
            ("POST", "//ohttp"),
            ("GET", "/directory//directory-7.note"),
            ("GET", "/directory/directory-7.note%0A"),
        ):
            client = await place.client()
            await client.start(method, path, content_type=PLAIN)
            await client.send(b"")
            assert await client.head() == 404, (method, path)
        assert place.gateway.heads == place.mirror.heads == []

    play(kind, reply(), test)


def test_the_directory_comes_from_the_relays_own_mirror(kind: str) -> None:
    mark = canary()

    async def test(place: Place) -> None:
        for name in ("directory-0.note", "directory-20784.note", "directory-20784.proof"):
            client = await place.client()
            lines = "".join(
                f"{name.replace('_', '-')}: {mark}\r\n" for name in ("cookie", "user_agent", "if_none_match")
            )
            client.writer.write(f"GET /directory/{name}?{mark} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
            assert await client.head() == 200
            assert await client.rest() == b"note"
            assert mark not in str(client.headers)
            assert client.headers["content-type"] == "application/octet-stream"
            head = place.mirror.heads[-1].decode()
            assert re.match(rf"GET /(files/)?{re.escape(name)} HTTP/1.1\r\n", head)
            assert mark not in head
            assert set(place.mirror.headers()) - FRAMING == {"host"}
        assert place.gateway.heads == []

    play(kind, reply(), test, reply(body=b"note", set_cookie=mark, etag=mark, content_type="text/html"))


def test_what_comes_with_a_request_for_the_directory_goes_nowhere(kind: str) -> None:
    mark = canary()

    async def test(place: Place) -> None:
        for framing, body in (
            (f"content-length: {len(mark)}", mark),
            ("transfer-encoding: chunked", f"{len(mark):x}\r\n{mark}\r\n0\r\n\r\n"),
        ):
            client = await place.client()
            client.writer.write(
                f"GET /directory/directory-7.note HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{body}".encode()
            )
            # Refused, or asked for as if nothing had come with it.
            assert await client.head() in (200, 404)
        assert mark not in str(place.mirror.heads)
        assert all(b"length" not in head and b"chunked" not in head for head in place.mirror.heads)

    play(kind, reply(), test, reply(body=b"note"))


async def directory(place: Place, name: str, **headers: str) -> bytes:
    """What a new client gets."""
    client = await place.client()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    client.writer.write(f"GET /directory/{name} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
    assert await client.head() == 200
    return await client.rest()


def test_nginx_answers_from_copies_that_its_mirror_cannot_change_for_one_device() -> None:
    """Ours is tested in `test_directorycopies.py`."""
    if lack := relay_kit.missing("nginx"):
        pytest.skip(lack)
    note, proof = "directory-7.note", "directory-7.proof"
    # The mirror does not say how long a copy is good.
    mirror = reply(
        body=b"first", cache_control="no-store", expires="0", set_cookie="a=b", vary="*", etag='"1"'
    )

    async def test(place: Place) -> None:
        assert [await directory(place, name) for name in (note, proof)] == [b"first"] * 2
        assert len(place.mirror.heads) == 2
        place.mirror.answer = reply(body=b"for this device alone")
        for _ in range(3):
            assert [await directory(place, name) for name in (note, proof)] == [b"first"] * 2
        part = {
            "range": "bytes=1-",
            "if-none-match": '"1"',
            "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT",
        }
        assert await directory(place, note, **part) == b"first"
        assert len(place.mirror.heads) == 2, "no device's request was passed on"
        # A proof is old: who asks gets the old one, and those who come later get the new one.
        await asyncio.sleep(2.1)
        assert await directory(place, proof) == b"first"
        while await directory(place, proof) == b"first":  # noqa: ASYNC110 - the copy comes by itself
            await asyncio.sleep(0.02)
        assert await directory(place, note) == b"first"
        assert [head.split()[1] for head in place.mirror.heads[2:]] == [f"/{proof}".encode()]
        # A mirror that is gone takes nothing away.
        place.mirror.answer = reply(404)
        await asyncio.sleep(2.1)
        for _ in range(2):
            assert await directory(place, proof) == b"for this device alone"

    assert play("nginx", reply(), test, mirror) == []


def test_a_request_beyond_the_limit(kind: str) -> None:
    async def test(place: Place) -> None:
        client = await place.client()
        head = f"POST /ohttp HTTP/1.1\r\nhost: x\r\ncontent-type: {PLAIN}\r\ncontent-length: {LONGEST + 1}\r\n\r\n"
        client.writer.write(head.encode())
        assert await client.head() == 413
        assert place.gateway.heads == []
        # The longest that is allowed passes.
        assert (await place.post(bytes(LONGEST - 1024), content_type=CHUNKED)).status == 200
        assert len(place.gateway.bodies[-1]) == LONGEST - 1024

    play(kind, reply(content_type=PLAIN_ANSWER), test)


def test_a_request_of_unknown_length_beyond_the_limit(kind: str) -> None:
    """HAProxy counts no body that it passes on piece by piece; there the gateway's own limit is the one that holds."""

    async def test(place: Place) -> None:
        client = await place.client()
        await client.start("POST", "/ohttp", content_type=CHUNKED)
        await client.send(bytes(LONGEST))
        await client.send(b"more")
        await client.send(b"")
        assert await client.head() == (200 if kind == "haproxy" else 413)
        assert (len(place.gateway.bodies) == 1) == (kind == "haproxy")

    play(kind, reply(content_type=PLAIN_ANSWER), test)


async def first_piece(gateway: Upstream, reader: asyncio.StreamReader) -> bytes:
    """The first piece of a body, which nginx sends with a length where it came whole."""
    length = gateway.headers().get("content-length")
    return await chunk(reader) if length is None else await reader.readexactly(int(length))


async def echo(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each chunk when it has it."""
    writer.write(HEAD)
    while piece := await chunk(reader):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


def test_both_ways_at_once(kind: str) -> None:
    async def test(place: Place) -> None:
        client = await place.client()
        await client.start("POST", "/ohttp", content_type=CHUNKED)
        for piece in (b"one", b"two", b"x" * 5000, b"four"):
            await client.send(piece)
            if not client.status:
                assert await client.head() == 200
                assert client.headers["incremental"] == "?1"
            # The next piece is not sent before this one has come back, so nobody in between can have waited for more.
            back = b""
            while len(back) < len(piece):
                back += await client.chunk()
            assert back == piece
        await client.send(b"")
        assert await client.chunk() == b""

    play(kind, echo, test)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_leaves_cuts_the_gateway_off(kind: str, *, complete: bool, begun: bool) -> None:
    """A gateway that is not told would have a CVM go on with work that nobody wants."""
    arrived = asyncio.Event()

    async def endless(gateway: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await first_piece(gateway, reader) == b"sealed"
        if begun:
            writer.write(HEAD + b"5\r\npiece\r\n")
            await writer.drain()
        arrived.set()
        await reader.read()
        raise ConnectionAbortedError

    async def test(place: Place) -> None:
        client = await place.client()
        await client.start("POST", "/ohttp", content_type=CHUNKED)
        await client.send(b"sealed")
        if complete:
            await client.send(b"")
        await arrived.wait()
        if begun:
            assert await client.head() == 200
            assert await client.chunk() == b"piece"
        client.close()
        await place.gateway.closed.wait()

    play(kind, endless, test)


def test_a_gateway_that_breaks_off_is_never_a_whole_answer(kind: str) -> None:
    async def cut(gateway: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await first_piece(gateway, reader)
        writer.write(HEAD + b"5\r\npiece\r\n")
        await writer.drain()
        raise ConnectionAbortedError

    async def test(place: Place) -> None:
        client = await place.client()
        await client.start("POST", "/ohttp", content_type=CHUNKED)
        await client.send(b"sealed")
        assert await client.head() == 200
        assert await client.chunk() == b"piece"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.chunk()

    play(kind, cut, test)


def test_a_message_is_sent_once(kind: str) -> None:
    """Only the device knows whether it may be sent again."""

    async def test(place: Place) -> None:
        for number, media in enumerate((PLAIN, CHUNKED), 1):
            assert (await place.post(content_type=media)).status == 502
            assert place.gateway.connections == number

    log = play(kind, raw_answer(b""), test)
    assert not any("127.0.0.1" in line for line in log)


def test_a_gateway_that_is_down(kind: str) -> None:
    log: list[str] = []

    async def test() -> None:
        async with relay_kit.relay(kind, gateway=DOWN, mirror=DOWN, log=log) as url:
            for media in (PLAIN, CHUNKED):
                async with edge_kit.raw(url) as client:
                    await client.start("POST", "/ohttp", content_type=media)
                    await client.send(b"")
                    assert await client.head() in {502, 503}

    asyncio.run(asyncio.wait_for(test(), 40))
    assert not any("127.0.0.1" in line for line in log)


@pytest.mark.parametrize("flights", [False, True], ids=["streamed", "flights"])
def test_a_whole_session(kind: str, tmp_path: Path, *, flights: bool) -> None:
    async def test() -> None:
        async with world(tmp_path) as w, relay_kit.relay(kind, gateway=w.gateway, mirror=DOWN) as url:
            client = w.client(url, flights=flights)
            session, flight = await client.open_session(b"hello", authorization(), ["host-1", "host-2"])
            assert flight == b"<hello>"
            answer = b"".join([piece async for piece in client.turn(session, bytes(200_000))])
            assert answer.replace(b"><", b"") == b"<" + bytes(200_000) + b">"
            await client.close(session)
            assert client.relay == url

    asyncio.run(asyncio.wait_for(test(), 40))


def test_the_configuration_as_it_is(kind: str, tmp_path: Path) -> None:
    """Elsewhere here TLS is left out; its lines are at least ones that the program takes."""
    if kind == "ours":
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    pem = certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    done = relay_kit.check(kind, tmp_path, pem)
    assert done.returncode == 0, done.stderr
    assert b"warn" not in done.stderr.lower()

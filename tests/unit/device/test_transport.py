import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from http_kit import raw_answer, reply, upstream
from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.device.transport import GatewayKeyError, Network, RelayClient

DOWN = "http://127.0.0.1:1"
SEALED = reply(content_type="message/ohttp-res", body=b"sealed answer")
KEY_PROBLEM = b'{"type":"https://iana.org/assignments/http-problem-types#ohttp-key"}'


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def in_order() -> random.Random:
    """A source of randomness that leaves the relays in the order given."""

    class InOrder(random.Random):
        def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
            return list(population)[:k]

    return InOrder()


def test_every_device_sends_the_same_headers() -> None:
    async def play() -> None:
        async with upstream(SEALED) as relay, Network() as one, Network() as two:
            for network in (one, two):
                assert await RelayClient(network, [relay.url]).exchange(b"sealed") == b"sealed answer"
            assert relay.heads[0] == relay.heads[1]
            assert relay.heads[0].startswith(b"POST /ohttp HTTP/1.1\r\n")
            assert relay.headers() == {
                "host": relay.url.removeprefix("http://"),
                "content-type": "message/ohttp-req",
                "content-length": "6",
            }

    run(play)


def test_a_cookie_is_not_kept() -> None:
    async def play() -> None:
        answer = reply(content_type="message/ohttp-chunked-res", set_cookie="id=1; path=/")
        async with upstream(answer) as relay, Network() as network:
            client = RelayClient(network, [relay.url + "/ohttp"])
            for _ in range(2):
                assert [piece async for piece in client.stream(b"sealed")] == [b"answer"]
            assert relay.headers() == {
                "host": relay.url.removeprefix("http://"),
                "content-type": "message/ohttp-chunked-req",
                "incremental": "?1",
                "content-length": "6",
            }

    run(play)


def test_another_relay_is_taken_before_anything_is_answered() -> None:
    async def play() -> None:
        refused = raw_answer(b"")
        async with upstream(SEALED) as good, upstream(refused) as dead, upstream(reply(502)) as cut_off:
            for bad in (DOWN, dead.url, cut_off.url):
                async with Network() as network:
                    client = RelayClient(network, [bad, good.url], rng=in_order())
                    assert await client.exchange(b"sealed") == b"sealed answer"
                    assert client.used == good.url
                    # The one that was down is not asked first again.
                    before = len(dead.heads) + len(cut_off.heads)
                    await client.exchange(b"sealed")
                    assert len(dead.heads) + len(cut_off.heads) == before

    run(play)


def test_a_stream_that_may_have_been_read_is_not_sent_again() -> None:
    async def body() -> object:
        yield b"sealed"

    async def play() -> None:
        good_answer = reply(content_type="message/ohttp-chunked-res")
        async with upstream(good_answer) as good, upstream(raw_answer(b"")) as dead, Network() as network:
            client = RelayClient(network, [DOWN, good.url], rng=in_order())
            assert [piece async for piece in client.stream(body())] == [b"answer"]  # type: ignore[arg-type]
            client = RelayClient(network, [dead.url, good.url], rng=in_order())
            with pytest.raises(UnavailableError):
                [piece async for piece in client.stream(body())]  # type: ignore[arg-type]
            assert len(good.heads) == 1

    run(play)


def test_who_is_unavailable() -> None:
    async def play() -> None:
        async with upstream(reply(503)) as relay, Network() as network:
            for relays, party in (
                ([DOWN, DOWN + "/"], "relay"),
                ([relay.url, DOWN], "gateway"),
                ([], "relay"),
            ):
                with pytest.raises(UnavailableError) as caught:
                    await RelayClient(network, relays).exchange(b"sealed")
                assert caught.value.party == party

    run(play)


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (400, "application/problem+json", KEY_PROBLEM, GatewayKeyError),
        (400, "application/problem+json", b"{}", ProtocolError),
        (200, "text/html", b"<html>", ProtocolError),
        (200, "message/ohttp-chunked-res", b"x", ProtocolError),
        (302, "message/ohttp-res", b"x", ProtocolError),
        (425, "application/json", b'{"code":"peer.protocol.replay"}', ProtocolError),
        (400, "application/problem+json", bytes(5000), LimitError),
    ],
)
def test_refusals(status: int, kind: str, body: bytes, error: type[Exception]) -> None:
    async def play() -> None:
        answer = reply(status, body, content_type=kind, location=DOWN)
        async with upstream(answer) as relay, Network() as network:
            with pytest.raises(error) as caught:
                await RelayClient(network, [relay.url]).exchange(b"sealed")
            assert type(caught.value) is error
            assert len(relay.heads) == 1

    run(play)


def test_an_answer_that_is_cut() -> None:
    async def play() -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 9\r\n\r\ncut"
        async with upstream(raw_answer(head)) as relay, Network() as network:
            with pytest.raises(UnavailableError) as caught:
                await RelayClient(network, [relay.url]).exchange(b"sealed")
            assert caught.value.party == "relay"

    run(play)


def test_the_directory_through_a_relay() -> None:
    async def play() -> None:
        async with upstream(reply(body=b"note")) as relay, Network() as network:
            client = RelayClient(network, [DOWN, relay.url + "/ohttp"])
            assert await client.directory("directory.note") == b"note"
            assert relay.heads == [
                b"GET /directory/directory.note HTTP/1.1\r\nHost: %b\r\n\r\n" % relay.url[7:].encode()
            ]
            with pytest.raises(UnavailableError):
                await RelayClient(network, [DOWN]).directory("directory.note")

    run(play)


def test_files_and_posts() -> None:
    async def play() -> None:
        async with upstream(reply(body=b"12345")) as host, Network() as network:
            assert await network.get(host.url + "/a", party="directory", limit=5) == b"12345"
            with pytest.raises(LimitError):
                await network.get(host.url + "/a", party="directory", limit=4)
            answer = await network.post(host.url, b"x", party="issuer", headers={"A": "b"}, limit=5)
            assert answer == (200, b"12345")
            with pytest.raises(LimitError):
                await network.post(host.url, b"x", party="issuer", headers={}, limit=4)
        async with upstream(reply(404)) as host, Network() as network:
            for url in (host.url, DOWN):
                with pytest.raises(UnavailableError) as caught:
                    await network.get(url, party="directory", limit=5)
                assert caught.value.party == "directory"
            with pytest.raises(UnavailableError):
                await network.post(DOWN, b"", party="issuer", headers={}, limit=5)

    run(play)

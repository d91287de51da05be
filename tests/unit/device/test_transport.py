import asyncio
import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import virtual_time
from http_kit import KEY_PROBLEM, KEY_UNKNOWN, Upstream, raw_answer, reply, upstream
from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device import transport
from sottovoce.device.transport import (
    AlreadyArrivedError,
    GatewayKeyError,
    Network,
    NotSentError,
    RelayClient,
)

DOWN = "http://127.0.0.1:1"
SEALED = reply(content_type="message/ohttp-res", body=b"sealed answer")


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(test())


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


async def hang(fake: Upstream, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Takes the message and says nothing."""
    await fake.body(reader)
    await reader.read()
    raise ConnectionAbortedError


async def drips(fake: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never silent for long, and never done."""
    await fake.body(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 900\r\n\r\n")
    gone = asyncio.ensure_future(reader.read())
    while not gone.done():
        writer.write(b".")
        await asyncio.wait([gone], timeout=0.05)
    raise ConnectionAbortedError


async def body_only_begins(
    fake: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """An answer that is cut in its body."""
    await raw_answer(b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 9\r\n\r\ncut")(
        fake, reader, writer
    )


FAILURES = {
    "closes early": raw_answer(b""),
    "garbage": raw_answer(b"SSH-2.0-x\r\n"),
    "hangs": hang,
    "cut in the head": raw_answer(b"HTTP/1.1 200 OK\r\n"),
    "cut in the body": body_only_begins,
    "502": reply(502),
    "404": reply(404),
    "an unknown key": KEY_UNKNOWN,
    "a page of somebody else's": reply(200, b"<html>", content_type="text/html"),
    "a redirect": reply(302, location=DOWN),
    "too long": reply(200, bytes(2000), content_type="message/ohttp-res"),
}


def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed at once, and answers are short."""
    monkeypatch.setattr(transport, "_ANSWERS_WITHIN", 0.2)
    monkeypatch.setattr(transport, "_SILENCE", 0.2)
    monkeypatch.setattr(transport, "LIMITS", dataclasses.replace(LIMITS, stream=1000))


@pytest.mark.parametrize("failure", ["refuses", *FAILURES])
def test_a_message_without_content_goes_to_another_relay(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    async def play() -> None:
        async with upstream(SEALED) as good, upstream(FAILURES.get(failure, hang)) as bad, Network() as net:
            first = DOWN if failure == "refuses" else bad.url
            client = RelayClient(net, [first, good.url], rng=in_order())
            assert await client.exchange(b"sealed") == b"sealed answer"
            assert (client.used, client.failed) == (good.url, {first})
            # The same bytes: whoever gets them twice can tell, and takes them once.
            assert good.bodies == [b"sealed"]
            # The one that failed is not asked first again.
            before = len(bad.heads)
            await client.exchange(b"sealed")
            assert len(bad.heads) == before

    short_limits(monkeypatch)
    run(play)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("carrier", ["flight", "stream"])
def test_a_message_with_content_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, carrier: str, failure: str
) -> None:
    async def play() -> None:
        async with upstream(SEALED) as good, upstream(FAILURES[failure]) as bad, Network() as net:
            client = RelayClient(net, [bad.url, good.url], rng=in_order())

            async def send() -> None:
                if carrier == "flight":
                    await client.exchange(b"content", once=True)
                else:
                    _ = [piece async for piece in client.stream(b"content")]

            with pytest.raises((UnavailableError, ProtocolError, LimitError)) as caught:
                await send()
            assert not isinstance(caught.value, NotSentError)
            assert bad.connections == 1
            assert good.heads == []

    short_limits(monkeypatch)
    run(play)


def test_content_that_no_relay_has_seen_goes_to_one_that_is_there() -> None:
    async def play() -> None:
        streamed = reply(content_type="message/ohttp-chunked-res")
        async with upstream(SEALED) as whole, upstream(streamed) as good, Network() as net:
            client = RelayClient(net, [DOWN, whole.url], rng=in_order())
            assert await client.exchange(b"content", once=True) == b"sealed answer"
            client = RelayClient(net, [DOWN, good.url], rng=in_order())
            assert [piece async for piece in client.stream(b"content")] == [b"answer"]
            assert client.used == good.url

    run(play)


def test_a_relay_that_drips_is_passed_over() -> None:
    async def play() -> None:
        async with upstream(SEALED) as good, upstream(drips) as bad, Network() as net:
            client = RelayClient(net, [bad.url, good.url], rng=in_order())
            assert await client.exchange(b"sealed", within=0.3) == b"sealed answer"
            assert (client.used, client.failed) == (good.url, {bad.url})
            client = RelayClient(net, [bad.url, good.url], rng=in_order())
            with pytest.raises(UnavailableError) as caught:
                await client.exchange(b"content", once=True, within=0.3)
            assert not isinstance(caught.value, NotSentError)
            assert good.bodies == [b"sealed"]

    run(play)


def test_a_stream_goes_to_relays_that_stream_only() -> None:
    async def play() -> None:
        streamed = reply(content_type="message/ohttp-chunked-res")
        async with upstream(streamed) as good, upstream(hang) as flights, Network() as net:
            client = RelayClient(
                net, [flights.url, good.url], flights=[flights.url + "/ohttp"], rng=in_order()
            )
            assert not client.streams
            assert [piece async for piece in client.stream(b"content")] == [b"answer"]
            client = RelayClient(net, [DOWN, flights.url], flights=[flights.url], rng=in_order())
            assert client.streams
            with pytest.raises(NotSentError):
                _ = [piece async for piece in client.stream(b"content")]
            assert not client.streams
            assert flights.heads == []

    run(play)


def test_a_message_that_had_arrived_is_not_sent_a_third_time() -> None:
    async def play() -> None:
        early = reply(425, b'{"code":"peer.protocol.replay"}', content_type="application/json")
        async with upstream(raw_answer(b"")) as lost, upstream(early) as good, upstream(SEALED) as third:
            async with Network() as net:
                client = RelayClient(net, [lost.url, good.url, third.url], rng=in_order())
                with pytest.raises(AlreadyArrivedError):
                    await client.exchange(b"sealed")
                assert (client.used, client.failed) == (good.url, {lost.url})
            assert third.heads == []

    run(play)


@pytest.mark.parametrize("others", [[], [DOWN], [reply(503)], [KEY_UNKNOWN]])
@pytest.mark.parametrize("first", [True, False])
def test_an_unknown_key_is_believed_where_no_other_relay_brings_an_answer(
    others: list[Any], *, first: bool
) -> None:
    """Whatever the order: a relay can write it, and a gateway says it through every relay."""

    async def play() -> None:
        async with contextlib.AsyncExitStack() as stack, Network() as net:
            enter = stack.enter_async_context
            urls = [one if one == DOWN else (await enter(upstream(one))).url for one in others]
            says = await enter(upstream(KEY_UNKNOWN))
            urls = [says.url, *urls] if first else [*urls, says.url]
            client = RelayClient(net, urls, rng=in_order())
            with pytest.raises(GatewayKeyError):
                await client.exchange(b"sealed")
            assert len(says.heads) == 1

    run(play)


def test_relays_are_drawn_uniformly_and_those_that_failed_come_last() -> None:
    relays = [f"https://relay-{number}.example" for number in range(4)]
    rng = random.Random(9458)  # noqa: S311 - the same every time; what a device draws with is the next test
    first: Counter[str] = Counter()
    for _ in range(4000):
        client = RelayClient(Network(), relays, rng=rng)
        first[client._relays[0]] += 1
    # 1000 each: five standard deviations of a binomial count are 137.
    assert set(first) == set(relays)
    assert all(abs(count - 1000) < 137 for count in first.values())
    late: Counter[str] = Counter()
    for _ in range(400):
        client = RelayClient(Network(), relays, avoid=[relays[0] + "/ohttp"], rng=rng)
        assert client._relays[-1] == relays[0]
        late[client._relays[0]] += 1
    assert set(late) == set(relays[1:])


def test_the_draw_knows_nothing_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    class Recorded(random.SystemRandom):
        def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
            drawn.append((list(population), k))
            return super().sample(population, k, counts=counts)

    monkeypatch.setattr(random, "SystemRandom", Recorded)
    monkeypatch.setattr(random, "random", None)
    for _ in range(3):
        # A client has no more to go by than the list and the system's randomness, and each draws anew.
        RelayClient(Network(), ["https://a.example", "https://b.example/ohttp"])
    assert drawn == [(["https://a.example", "https://b.example"], 2)] * 3


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
        (425, "application/json", b'{"code":"peer.protocol.replay"}', AlreadyArrivedError),
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
            assert await client.directory("directory-7.note") == b"note"
            assert relay.heads == [
                b"GET /directory/directory-7.note HTTP/1.1\r\nHost: %b\r\n\r\n" % relay.url[7:].encode()
            ]
            with pytest.raises(UnavailableError):
                await RelayClient(network, [DOWN]).directory("directory-7.note")

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

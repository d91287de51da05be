import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
import uvloop

import edge_kit
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.limits import LIMITS
from sottovoce.edge.candidates import CandidatesError, parse_candidates
from sottovoce.edge.router import Config, HostAddress, Router, create_app


@dataclass(kw_only=True)
class Office:
    """A router with two hosts, on a real socket, and a client."""

    router: Router
    url: str
    cvms: list[edge_kit.FakeCvm]
    http: aiohttp.ClientSession
    lines: list[str]
    now: list[float] = field(default_factory=lambda: [1000.0])

    async def open(self, candidates: str = "host-1, host-2", flight: bytes = b"hello") -> tuple[str, bytes]:
        headers = {"Candidates": candidates}
        async with self.http.post(f"{self.url}/sessions", data=flight, headers=headers) as response:
            assert response.status == 201
            return response.headers["Session"], await response.read()

    async def code(self, method: str, path: str, data: bytes = b"", **headers: str) -> tuple[int, str]:
        async with self.http.request(method, self.url + path, data=data, headers=headers) as response:
            body = await response.read()
            return response.status, json.loads(body)["code"] if body else ""

    def event(self) -> dict[str, object]:
        return {name: value for name, value in json.loads(self.lines[-1]).items() if value}


@contextlib.asynccontextmanager
async def office(
    script: edge_kit.Script = edge_kit.echo, *, max_sessions: int = 100
) -> AsyncIterator[Office]:
    lines: list[str] = []
    now = [1000.0]
    async with edge_kit.cvm(script) as one, edge_kit.cvm(script) as two, aiohttp.ClientSession() as http:
        hosts = [HostAddress(id=f"host-{n}", address=fake.address) for n, fake in ((1, one), (2, two))]
        config = Config(hosts=hosts, max_sessions=max_sessions)
        router = create_app(config, log=EventLog(lines.append), clock=lambda: now[0])
        async with edge_kit.serving(router) as url:
            yield Office(router=router, url=url, cvms=[one, two], http=http, lines=lines, now=now)


def run(test: Awaitable[None], *, loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_in_time(test))


async def _in_time(test: Awaitable[None]) -> None:
    await asyncio.wait_for(test, 20)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_session_from_its_beginning_to_its_end(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def play() -> None:
        async with office() as o:
            name, flight = await o.open()
            assert len(name) == 32
            assert flight == b"<hello>"
            for data in (b"records", b"more"):
                async with o.http.post(f"{o.url}/sessions/{name}", data=data) as response:
                    assert response.status == 200
                    assert await response.read() == b"<" + data + b">"
            assert await o.code("DELETE", f"/sessions/{name}") == (204, "")
            await o.cvms[0].ended.wait()
            for method in ("POST", "DELETE"):
                assert await o.code(method, f"/sessions/{name}") == (404, "peer.protocol.session")
        assert o.event() == {"event": "Routed", "opened": 1, "turns": 2, "closed": 1, "refused": 2}

    run(play(), loop=loop)


def test_ids_differ_and_say_nothing_about_the_host() -> None:
    async def play() -> None:
        async with (
            office() as o,
            o.http.post(f"{o.url}/sessions", headers={"Candidates": "host-1"}) as response,
        ):
            names = {(await o.open("host-1"))[0] for _ in range(3)}
            assert len(names) == 3
            assert {name.lower() for name in response.headers} == {
                "session",
                "content-length",
                "cache-control",
            }

    run(play())


def test_the_candidate_with_fewer_sessions_is_taken() -> None:
    async def play() -> None:
        async with office() as o:
            for candidates in (
                "host-2",
                "host-2, host-1",
                "host-1, host-2",
                "host-1,host-2",
                "host-2, elsewhere",
            ):
                await o.open(candidates)
            assert [fake.opened for fake in o.cvms] == [2, 3]

    run(play())


def test_a_candidate_that_is_down_is_passed_over() -> None:
    async def play() -> None:
        async with office() as o:
            config = Config(hosts=[
                HostAddress(id="down", address="127.0.0.1:1"),
                HostAddress(id="up", address=o.cvms[0].address),
            ])  # fmt: skip
            async with edge_kit.serving(create_app(config, log=EventLog(o.lines.append))) as url:
                o.url = url
                assert (await o.open("down, up"))[1] == b"<hello>"
                assert await o.code("POST", "/sessions", Candidates="down") == (502, "unavailable.cvm")

    run(play())


@pytest.mark.parametrize(
    "value", ["", "a,", ",a", "a, a", "a, b, c", "a b", "-a", "a;b", "a" * 65, "\u00e4", "a\tb"]
)
def test_candidates_outside_the_grammar(value: str) -> None:
    with pytest.raises(CandidatesError):
        parse_candidates(value.encode("latin-1"))


def test_candidates() -> None:
    assert parse_candidates(b"host-1") == ("host-1",)
    assert parse_candidates(b"host-1 ,\thost-2") == ("host-1", "host-2")
    with pytest.raises(CandidatesError):
        parse_candidates(None)


def test_refusals() -> None:
    async def play() -> None:
        async with office(max_sessions=1) as o:
            assert await o.code("POST", "/sessions") == (421, "peer.protocol.candidates")
            assert await o.code("POST", "/sessions", Candidates="other") == (421, "peer.protocol.candidates")
            long = bytes(LIMITS.first_flight + 1)
            assert await o.code("POST", "/sessions", long, Candidates="host-1") == (413, "peer.limit")
            await o.open()
            assert await o.code("POST", "/sessions", Candidates="host-1") == (503, "unavailable.full")
            assert await o.code("POST", "/sessions/" + "0" * 32) == (404, "peer.protocol.session")
            assert await o.code("POST", "/sessions/x") == (404, "")
            assert await o.code("GET", "/healthz") == (204, "")

    run(play())


def test_both_ways_at_once() -> None:
    async def play() -> None:
        async with office() as o:
            name, _ = await o.open()
            async with edge_kit.raw(o.url) as client:
                await client.start("POST", f"/sessions/{name}")
                await client.send(b"first")
                assert await client.head() == 200
                assert await client.chunk() == b"<first>"
                assert await o.code("POST", f"/sessions/{name}") == (409, "peer.protocol.session-busy")
                await client.send(b"second")
                assert await client.chunk() == b"<second>"
                await client.send(b"")
                assert await client.chunk() == b""
            async with o.http.post(f"{o.url}/sessions/{name}", data=b"third") as response:
                assert await response.read() == b"<third>"

    run(play())


def test_a_client_that_leaves_ends_the_session_at_the_cvm() -> None:
    async def endless(turn: edge_kit.Turn) -> None:
        await turn.whole()
        await turn.say(b"piece")
        if o_script:
            await asyncio.Event().wait()
        await turn.end()

    o_script: list[int] = []

    async def play() -> None:
        for complete in (True, False):
            o_script.clear()
            async with office(endless) as o:
                name, _ = await o.open("host-1")
                o_script.append(1)
                async with edge_kit.raw(o.url) as client:
                    await client.start("POST", f"/sessions/{name}")
                    await client.send(b"question")
                    if complete:
                        await client.send(b"")
                        await client.head()
                        assert await client.chunk() == b"piece"
                await o.cvms[0].ended.wait()
                assert await o.code("POST", f"/sessions/{name}") == (404, "peer.protocol.session")
            assert o.event()["broken_off"] == 1

    run(play())


def test_a_client_that_leaves_during_the_first_flight() -> None:
    async def silent(turn: edge_kit.Turn) -> None:
        await turn.whole()
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()

    async def play() -> None:
        async with office(silent) as o:
            async with edge_kit.raw(o.url) as client:
                await client.start("POST", "/sessions", candidates="host-1")
                await client.send(b"hello")
                await client.send(b"")
                await begun.wait()
            await o.cvms[0].ended.wait()

    run(play())


def test_a_cvm_that_closes() -> None:
    async def fickle(turn: edge_kit.Turn) -> None:
        data = await turn.whole()
        if data == b"hello":
            await turn.end()
        elif data == b"cut":
            await turn.say(b"part")
            turn.writer.write(b"\0\0\0\x10half")
            await turn.writer.drain()
            turn.writer.close()
        elif data == b"last":
            await turn.say(b"the end")
            turn.writer.close()
        else:
            turn.writer.close()

    async def play() -> None:
        async with office(fickle) as o:
            assert await o.code("POST", "/sessions", b"?", Candidates="host-1") == (502, "unavailable.cvm")
            name, _ = await o.open()
            assert await o.code("POST", f"/sessions/{name}", b"?") == (502, "unavailable.cvm")
            assert await o.code("POST", f"/sessions/{name}", b"?") == (404, "peer.protocol.session")
            name, _ = await o.open()
            async with o.http.post(f"{o.url}/sessions/{name}", data=b"last") as response:
                assert await response.read() == b"the end"
            name, _ = await o.open()
            async with o.http.post(f"{o.url}/sessions/{name}", data=b"cut") as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()

    run(play())


def test_a_cvm_that_does_not_speak_the_protocol() -> None:
    async def babble(turn: edge_kit.Turn) -> None:
        await turn.whole()
        turn.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.Event().wait()

    async def play() -> None:
        async with office(babble) as o:
            assert await o.code("POST", "/sessions", b"?", Candidates="host-1") == (502, "unavailable.cvm")

    run(play())


def test_a_session_ends_when_idle_and_after_ten_minutes() -> None:
    async def play() -> None:
        async with office() as o:
            idle, _ = await o.open("host-1")
            o.now[0] += LIMITS.session_idle - 1
            o.router.sweep()
            busy, _ = await o.open("host-2")
            o.now[0] += 1
            o.router.sweep()
            assert await o.code("POST", f"/sessions/{idle}") == (404, "peer.protocol.session")
            await o.cvms[0].ended.wait()
            born = o.now[0] - 1
            while o.now[0] + 50 - born < LIMITS.session_total:
                o.now[0] += 50
                o.router.sweep()
                async with o.http.post(f"{o.url}/sessions/{busy}", data=b"x") as response:
                    assert response.status == 200
            o.now[0] = born + LIMITS.session_total
            o.router.sweep()
            assert await o.code("POST", f"/sessions/{busy}") == (404, "peer.protocol.session")
        assert o.event()["idle"] == o.event()["too_long"] == 1

    run(play())


def test_a_cvm_waits_for_a_slow_client() -> None:
    sent = [0]
    limit = 32 * 1024 * 1024

    async def flood(turn: edge_kit.Turn) -> None:
        if await turn.whole() == b"hello":
            await turn.end()
        while sent[0] < limit:
            await turn.say(bytes(65536))
            sent[0] += 65536

    async def play() -> None:
        async with office(flood) as o:
            name, _ = await o.open()
            async with edge_kit.raw(o.url) as client:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await client.start("POST", f"/sessions/{name}")
                await client.send(b"go")
                await client.send(b"")
                before = -1
                while sent[0] != before or before <= 0:
                    before = sent[0]
                    await asyncio.sleep(0.1)
                assert sent[0] < limit

    run(play())


def test_no_canary_reaches_the_log() -> None:
    async def play() -> None:
        canary = "canary-5b1c"
        async with office() as o:
            name, _ = await o.open(flight=canary.encode())
            await o.code("POST", "/sessions", canary.encode(), Candidates=canary)
            async with o.http.post(f"{o.url}/sessions/{name}", data=canary.encode()) as response:
                assert canary.encode() in await response.read()
        assert o.lines
        assert not any(canary in line or name in line or "host-" in line for line in o.lines)

    run(play())


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:x"])
def test_a_malformed_address(address: str) -> None:
    with pytest.raises(ConfigError):
        create_app(Config(hosts=[HostAddress(id="a", address=address)]), log=EventLog(print))

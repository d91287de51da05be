"""A relay answers for the directory from copies of its own, so that its mirror does not learn when a device asks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import edge_kit
from http_kit import Upstream, raw_answer, reply, upstream
from sottovoce.core.errors import UsageError
from sottovoce.core.events import EventLog
from sottovoce.core.tokenkeys import EPOCH_SECONDS
from sottovoce.thirdparty.directorycopies import DirectoryCopies, MirrorUnreachableError
from sottovoce.thirdparty.relay import Config, create_app
from sottovoce.thirdparty.upstream import Upstream as Client
from sottovoce.tlog.directoryfiles import file_epoch, note_name, proof_name

TODAY = 20_000
NOTE, PROOF = note_name(TODAY), proof_name(TODAY)


def noon() -> float:
    return (TODAY + 0.5) * EPOCH_SECONDS


class Mirror:
    """A mirror that says something else each time, and what it was asked for."""

    def __init__(self, server: Upstream) -> None:
        self.server = server
        self.client = Client(server.url + "/files", limit=8)
        self.copies = DirectoryCopies(self.client, seconds=0.01, clock=noon)

    @property
    def asked(self) -> list[str]:
        return [head.split(b" ")[1].decode().removeprefix("/files/") for head in self.server.heads]

    @contextlib.contextmanager
    def saying(self, body: bytes, status: int = 200):  # type: ignore[no-untyped-def]  # noqa: ANN201
        before, self.server.answer = self.server.answer, reply(status, body=body)
        yield
        self.server.answer = before


@contextlib.asynccontextmanager
async def mirror() -> AsyncIterator[Mirror]:
    async with upstream(reply(body=b"first")) as server:
        there = Mirror(server)
        yield there
        there.client.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 100))


def test_a_document_stays_as_it_first_came_and_a_proof_until_the_next_round() -> None:
    async def play() -> None:
        async with mirror() as there:
            assert [await there.copies.get(name) for name in (NOTE, PROOF)] == [b"first", b"first"]
            with there.saying(b"for this device alone"):
                assert [await there.copies.get(name) for name in (NOTE, PROOF)] == [b"first", b"first"]
                assert there.asked == [NOTE, PROOF]
                await there.copies.look()
            assert await there.copies.get(NOTE) == b"first"
            assert await there.copies.get(PROOF) == b"for this device alone"
            assert there.asked.count(NOTE) == 1

    run(play)


def test_a_round_brings_what_devices_will_ask_for() -> None:
    async def play() -> None:
        async with mirror() as there:
            await there.copies.look()
            names = [name(TODAY + ahead) for ahead in (0, 1) for name in (note_name, proof_name)]
            assert there.asked == names
            for name in names:
                assert await there.copies.get(name) == b"first"
            assert there.asked == names, "no device's request was passed on"

    run(play)


def test_many_that_ask_at_once_are_one_request() -> None:
    async def play() -> None:
        async with mirror() as there:
            found = await asyncio.gather(*(there.copies.get(NOTE) for _ in range(20)))
            assert set(found) == {b"first"}
            assert there.asked == [NOTE]

    run(play)


def test_one_that_leaves_does_not_take_the_others_answer_along() -> None:
    async def play() -> None:
        async with mirror() as there:
            one, other = (asyncio.ensure_future(there.copies.get(NOTE)) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            assert await other == b"first"

    run(play)


def test_what_is_not_there_is_asked_for_again_and_what_is_there_outlives_the_mirror() -> None:
    async def play() -> None:
        async with mirror() as there:
            with there.saying(b"", 404), pytest.raises(MirrorUnreachableError):
                await there.copies.get(NOTE)
            assert await there.copies.get(NOTE) == b"first"
            there.server.answer = raw_answer(b"")
            await there.copies.look()
            assert await there.copies.get(NOTE) == b"first"

    run(play)


def test_the_days_nearest_to_today_are_kept_whatever_is_asked_for() -> None:
    async def play() -> None:
        async with mirror() as there:
            await there.copies.look()
            for epoch in range(100):
                await there.copies.get(note_name(epoch))
            before = len(there.asked)
            for name in (NOTE, PROOF, note_name(TODAY + 1)):
                assert await there.copies.get(name) == b"first"
            assert len(there.asked) == before
            assert len(there.copies._files) <= 2 * 8

    run(play)


def test_a_running_relay_asks_on_its_own_time() -> None:
    async def play() -> None:
        async with mirror() as there:
            config = Config(
                gateway="http://127.0.0.1:1/ohttp", mirror=there.server.url + "/files", directory_seconds=0.02
            )
            app = create_app(config, log=EventLog(lambda _: None), clock=noon)
            async with edge_kit.serving(app) as url, edge_kit.raw(url) as client:
                while there.asked.count(PROOF) < 3:  # noqa: ASYNC110 - the mirror tells nobody
                    await asyncio.sleep(0.01)
                assert there.asked.count(NOTE) == 1
                with there.saying(b"another"):
                    await client.start("GET", f"/directory/{NOTE}")
                    await client.send(b"")
                    assert await client.head() == 200
                    assert await client.rest() == b"first"

    run(play)


def test_without_another_clock_it_goes_by_the_days_of_the_world() -> None:
    async def play() -> None:
        async with mirror() as there:
            config = Config(gateway="http://127.0.0.1:1/ohttp", mirror=there.server.url + "/files")
            async with edge_kit.serving(create_app(config, log=EventLog(lambda _: None))):
                while not there.asked:  # noqa: ASYNC110 - the mirror tells nobody
                    await asyncio.sleep(0.01)
            today = int(time.time()) // EPOCH_SECONDS
            assert set(there.asked) & {note_name(today), note_name(today - 1)}

    run(play)


def test_names_that_are_none() -> None:
    with pytest.raises(UsageError):
        file_epoch("directory.consistency")

import asyncio
import contextlib
import json
import os
from pathlib import Path

import pytest

import asgi
from http_kit import Answer, Upstream, reply, upstream
from log_world import (
    BEARER,
    DOWN,
    NOW,
    ORIGIN,
    World,
    append,
    entries,
    head,
    prove,
    run,
    until,
    witnessed,
)
from sottovoce.core.errors import ConfigError
from sottovoce.thirdparty import cosigners as cosigners_module
from sottovoce.thirdparty import log as log_module
from sottovoce.thirdparty import stores
from sottovoce.thirdparty.files import StorageError, write_whole
from sottovoce.thirdparty.log import WitnessAddress
from sottovoce.thirdparty.sequencer import Sequencer
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note
from sottovoce.tlog.policy import QuorumError
from sottovoce.tlog.proof import verify_proof


def test_nothing_is_published_that_too_few_have_seen(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(quorum=2) as app:
            await append(app, b"first")
            world.witnesses[1].up = False
            assert await append(app, b"second") == {"index": 1, "cosignatures": 1}
            assert (await world.checkpoint(app)).size == 1
            verify_proof(await prove(app, b"first"), b"first", world.policy(), now=NOW)
            answer = await asgi.fetch(app, "GET", f"/proof?hash={merkle.leaf_hash(b'second').hex()}")
            assert (answer.status, answer.body) == (503, b'{"code": "unavailable.witnesses"}')
            world.witnesses[1].up = True
            assert await append(app, b"third") == {"index": 2, "cosignatures": 2}
            verify_proof(await prove(app, b"second"), b"second", world.policy(), now=NOW)

    run(play())


def test_a_quorum_larger_than_the_witnesses_is_refused(world: World) -> None:
    for quorum in (1, -1):
        with pytest.raises(ConfigError, match="quorum"):
            world.app(quorum=quorum)


@pytest.mark.usefixtures("brief")
def test_a_slow_witness_holds_up_nothing_beyond_the_quorum_and_its_cosignature_comes_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The slow witness is never given up: whoever waited for it would not come back.
    monkeypatch.setattr(cosigners_module, "_TIMEOUT", 3600.0)

    async def play() -> None:
        async with witnessed(world, 3), world.serving(quorum=2) as app:
            slow = world.witnesses[2]
            slow.wait.clear()
            assert await append(app, b"first") == {"index": 0, "cosignatures": 2}
            # While it is still being asked, nobody waits for it, however long further witnesses are waited for.
            monkeypatch.setattr(cosigners_module, "_GRACE", 3600.0)
            for entry in entries(5):
                assert (await append(app, entry))["cosignatures"] == 2
            assert (await world.checkpoint(app)).size == 6
            slow.wait.set()

            async def whole() -> bool:
                await append(app, os.urandom(8))
                note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
                return note.cosigned_at(slow.key.verifier) is not None

            await until(whole)

    run(play())


@pytest.mark.usefixtures("brief")
def test_a_cosignature_that_comes_late_is_published_with_the_others(world: World) -> None:
    async def play() -> None:
        async with witnessed(world, 2), world.serving(quorum=1) as app:
            slow = world.witnesses[1]
            slow.wait.clear()
            assert (await append(app, b"entry"))["cosignatures"] == 1
            slow.wait.set()

            async def whole() -> bool:
                with contextlib.suppress(QuorumError):
                    return (await world.checkpoint(app, quorum=2)).size == 1
                return False

            await until(whole)

    run(play())


def test_a_witness_that_is_needed_is_waited_for(world: World) -> None:
    async def play() -> None:
        async with witnessed(world, 2), world.serving(quorum=2) as app:
            slow = world.witnesses[1]
            slow.wait.clear()
            asked = asyncio.ensure_future(append(app, b"entry"))
            await asyncio.sleep(0.1)
            assert not asked.done()
            assert (await head(app)).size == 0
            slow.wait.set()
            assert await asked == {"index": 0, "cosignatures": 2}

    run(play())


def test_a_witness_that_lies_about_our_size_proves_nothing(world: World) -> None:
    """It says that it saw more, and shows a tree head of its own making, or of another log, or none."""

    async def play() -> None:
        text = Checkpoint(origin=ORIGIN, size=99, root=bytes(32)).encode()
        forged = sign_note(text, [SigningKey.generate(ORIGIN)]).encode()
        other = sign_note(text.replace(ORIGIN, "log.example/other"), [world.key]).encode()
        for shown in (forged, other, b"noise", b""):
            asked: list[bytes] = []

            async def lie(
                fake: Upstream,
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                shown: bytes = shown,
                asked: list[bytes] = asked,
            ) -> None:
                await fake.body(reader)
                asked.append(fake.heads[-1].split()[0])
                status, body = ("200 OK", shown) if asked[-1] == b"GET" else ("409 Conflict", b"99\n")
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()

            assert (await with_witness(world, KEY, lie))[0] == 0
            assert asked[:2] == [b"POST", b"GET"]

    run(play())


def test_a_witness_that_is_down_is_left_out_and_the_operator_is_told(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            world.witnesses[1].url = DOWN
            async with world.serving() as app:
                assert await append(app, b"entry") == {"index": 0, "cosignatures": 1}
                proof = await prove(app, b"entry")
                assert verify_proof(proof, b"entry", world.policy(quorum=1), now=NOW).index == 0
                with pytest.raises(QuorumError):
                    verify_proof(proof, b"entry", world.policy(quorum=2), now=NOW)

    run(play())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log waits 50 ms for witnesses beyond the quorum."""
    monkeypatch.setattr(cosigners_module, "_GRACE", 0.05)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log looks every 10 ms whether its tree head needs cosignatures."""
    monkeypatch.setattr(log_module, "_LOOK", 0.01)


@pytest.mark.usefixtures("eager")
def test_a_witness_that_comes_back_is_asked_at_the_next_look(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            await append(app, b"first")
            world.witnesses[1].up = False
            assert (await append(app, b"second"))["cosignatures"] == 1
            with pytest.raises(QuorumError):
                await world.checkpoint(app)
            world.witnesses[1].up = True

            async def cosigned() -> bool:
                with contextlib.suppress(QuorumError):
                    return (await world.checkpoint(app)).size == 2
                return False

            await until(cosigned)

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_refresh_gives_newer_times_to_the_same_tree(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            before = await world.checkpoint(app)
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app)).time == NOW + 50_000

            await until(newer)
            after = await world.checkpoint(app)
            assert (after.size, after.root) == (before.size, before.root)
            assert verify_proof(await prove(app, b"entry"), b"entry", world.policy(), now=int(world.now))

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_refresh_without_a_witness_keeps_its_older_cosignature(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            world.witnesses[1].up = False
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app, quorum=1)).time == NOW + 50_000

            await until(newer)
            assert (await world.checkpoint(app, quorum=2)).time == NOW
            note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
            assert len(note.signatures) == 3

    run(play())


def test_a_tree_head_is_cosigned_anew_when_the_log_starts(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                await append(app, b"entry")
            world.now += 80_000
            async with world.serving() as app:

                async def newer() -> bool:
                    return (await world.checkpoint(app)).time == NOW + 80_000

                await until(newer)

    run(play())


@pytest.mark.usefixtures("eager")
def test_a_full_disk_does_not_end_the_refreshing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Path] = []

    def full_once(path: Path, data: bytes) -> None:
        if not failed:
            failed.append(path)
            raise StorageError("full")
        write_whole(path, data)

    async def play() -> None:
        async with witnessed(world), world.serving(refresh=0) as app:
            await append(app, b"entry")
            monkeypatch.setattr(stores, "write_whole", full_once)
            world.now += 50_000

            async def newer() -> bool:
                return (await world.checkpoint(app)).time == NOW + 50_000

            await until(newer)
            assert failed

    run(play())


def test_a_log_whose_files_were_rolled_back_is_told_so_and_stops(world: World, tmp_path: Path) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
            async with world.serving(folder=str(tmp_path / "rewritten")) as app:
                for _ in range(2):
                    answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"rewritten")
                    assert (answer.status, answer.body) == (503, b'{"code": "log.rolled-back"}')
                assert (await head(app)).size == 0
        assert json.loads(world.lines[-1]) == {"event": "RolledBack", "size": 0}

    run(play())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_log_that_was_rewritten_is_told_so_before_it_signs_more(
    world: World, tmp_path: Path, count: int
) -> None:
    rewritten = Sequencer(stores.Folder(tmp_path / "rewritten"), world.key, ORIGIN)
    rewritten.add(entries(count, "rewritten"))

    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
            async with world.serving(folder=str(tmp_path / "rewritten"), quorum=1) as app:
                answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"more")
                assert (answer.status, answer.body) == (503, b'{"code": "log.rolled-back"}')
                assert (await head(app)).size == 0
        assert Sequencer(stores.Folder(tmp_path / "rewritten"), world.key, ORIGIN).tree.size == count

    run(play())


def cosigning(key: SigningKey, *, cut: int = 0, padding: bytes = b"") -> Answer:
    """A witness that signs everything; its answer comes in two pieces, the second from byte `cut` on."""

    async def answer(fake: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = Note.parse((await fake.body(reader)).partition(b"\n\n")[2]).text
        line = key.cosign(text, time=NOW).line().encode() + padding
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(line) + line[:cut])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(line[cut:])
        await writer.drain()

    return answer


async def with_witness(world: World, key: SigningKey, answer: Answer) -> tuple[int, int]:
    """How many cosignatures a log takes from a witness with `key` that answers so, and requests it made: the first is about
    the empty tree.
    """
    async with upstream(answer) as fake:
        address = WitnessAddress(key=str(key.verifier), url=fake.url)
        async with world.serving(witnesses=[address]) as app:
            told = await append(app, b"entry")
            note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
            assert len(note.signatures) == 1 + told["cosignatures"]
            return told["cosignatures"], len(fake.heads)


KEY = SigningKey.generate("witness.example/w", COSIGNATURE)


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_a_cosignature_that_comes_in_pieces_is_taken(world: World, cut: int) -> None:
    async def play() -> None:
        other = "\u2014 witness.example/other AAAAAAAA\n".encode()
        assert await with_witness(world, KEY, cosigning(KEY, cut=cut, padding=other)) == (1, 2)

    run(play())


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b""),
        reply(200, b"noise\n"),
        reply(200, b"\xff" * 10_000),
        reply(200, KEY.cosign("another text\n", time=NOW).line().encode()),
        reply(404),
        reply(500),
        reply(409, b"-1\n"),
        reply(409, b"3\n"),
        reply(409, b"noise"),
        reply(409, b"9" * 18 + b"\n"),
        cosigning(SigningKey.generate("witness.example/w", COSIGNATURE)),
        cosigning(KEY, padding=f"\u2014 {'n' * 20_000} AAAAAAAA\n".encode()),
    ],
)
def test_what_is_no_cosignature_of_the_witness_is_not_taken(world: World, answer: Answer) -> None:
    async def play() -> None:
        assert (await with_witness(world, KEY, answer))[0] == 0

    run(play())


def test_a_witness_cannot_send_the_log_elsewhere(world: World) -> None:
    async def play() -> None:
        async with upstream(cosigning(KEY)) as elsewhere:
            taken, _ = await with_witness(world, KEY, reply(307, location=elsewhere.url))
            assert (taken, elsewhere.heads) == (0, [])

    run(play())


def test_a_witness_that_says_nothing_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(fake: Upstream, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await fake.body(reader)
        await reader.read()
        raise ConnectionAbortedError

    async def play() -> None:
        assert (await with_witness(world, KEY, silent))[0] == 0

    monkeypatch.setattr(cosigners_module, "_TIMEOUT", 0.05)
    run(play())

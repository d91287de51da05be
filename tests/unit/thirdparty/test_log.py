import asyncio
import gzip
import hmac
import json
from pathlib import Path

import pytest

import asgi
from log_world import (
    BEARER,
    DOWN,
    NOW,
    ORIGIN,
    SECRET,
    World,
    append,
    batch,
    entries,
    head,
    prove,
    run,
    witnessed,
)
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.thirdparty import log as log_module
from sottovoce.thirdparty import stores
from sottovoce.thirdparty.files import StorageError
from sottovoce.thirdparty.log import WitnessAddress, create_app
from sottovoce.thirdparty.stores import OtherWriterError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.note import COSIGNATURE, SigningKey
from sottovoce.tlog.proof import verify_proof

# Appending


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", SECRET, f"Basic {SECRET}", f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}x", "Bearer \u00e9"],
)  # fmt: skip
def test_who_lacks_the_secret_gets_401_and_appends_nothing(world: World, value: str | None) -> None:
    async def play() -> None:
        app = world.app()
        headers = {} if value is None else {"Authorization": value}
        answer = await asgi.fetch(app, "POST", "/entries", headers=headers, body=b"entry")
        assert (answer.status, answer.body) == (401, b'{"code": "refused.operator"}')
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await head(app)).size == 0

    run(play())


def test_the_secret_is_compared_in_constant_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def spy(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return False

    monkeypatch.setattr(hmac, "compare_digest", spy)
    answer = asyncio.run(asgi.fetch(world.app(), "POST", "/entries", headers=BEARER, body=b"entry"))
    assert answer.status == 401
    assert compared == [(BEARER["Authorization"].encode(), BEARER["Authorization"].encode())]


@pytest.mark.parametrize("secret", [b"", b"\n", b" " * 40, b"x" * 15])
def test_a_log_without_a_real_secret_does_not_start(world: World, secret: bytes) -> None:
    config = world.config()
    Path(config.secret).write_bytes(secret)
    with pytest.raises(ConfigError):
        create_app(config, log=EventLog(world.lines.append))


def test_an_entry_gets_an_index_and_a_proof_that_a_quorum_of_witnesses_saw(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for number, entry in enumerate(entries(5)):
                assert await append(app, entry) == {"index": number, "cosignatures": 2}
            for number, entry in enumerate(entries(5)):
                logged = verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)
                assert (logged.index, logged.checkpoint.size) == (number, 5)
                assert logged.checkpoint.time == NOW
        assert [json.loads(line)["size"] for line in world.lines] == [1, 2, 3, 4, 5]
        assert not any("entry" in line.replace("event", "") for line in world.lines)

    run(play())


def test_the_same_entry_twice_keeps_its_index(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for entry in entries(3):
                await append(app, entry)
            assert await append(app, b"entry 1") == {"index": 1, "cosignatures": 2}
            assert (await head(app)).size == 3

    run(play())


def test_entries_at_once_get_different_indexes_in_one_history(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            told = await asyncio.gather(*(append(app, entry) for entry in entries(8)))
            assert sorted(one["index"] for one in told) == list(range(8))
            for entry in entries(8):
                verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)

    run(play())


def test_an_entry_of_the_largest_size_is_taken_and_a_larger_one_is_refused(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            largest = bytes(tiles.MAX_ENTRY)
            assert (await append(app, largest))["index"] == 0
            body = [largest, b"x"]
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=body)
            assert (answer.status, answer.body) == (400, b'{"code": "peer.limit"}')
            assert (await head(app)).size == 1
        async with world.serving() as app:
            verify_proof(await prove(app, largest), largest, world.policy(), now=NOW)

    run(play())


# Proofs and public files


@pytest.mark.parametrize(
    "query",
    ["", "?", "?hash=", "?hash=zz", "?hash=00", "?hash=" + "00" * 32, "?hash=" + "0" * 63, "?other=00"],
)
def test_an_unknown_hash_is_404(world: World, query: str) -> None:
    answer = asyncio.run(asgi.fetch(world.app(), "GET", "/proof" + query))
    assert (answer.status, answer.body) == (404, b'{"code": "peer.no-entry"}')


def test_the_checkpoint_is_text_and_the_tiles_are_bytes(world: World) -> None:
    # tlog-tiles, "Checkpoints" and "Merkle Tree"
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            answer = await asgi.fetch(app, "GET", "/checkpoint")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            answer = await asgi.fetch(app, "GET", "/tile/0/000.p/1")
            assert answer.headers["content-type"] == "application/octet-stream"

    run(play())


def test_the_tiles_that_are_served_give_the_signed_tree(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            for size, entry in enumerate(entries(4), start=1):
                await append(app, entry)
                seen = await world.checkpoint(app)
                hashes = tiles.read_tile((await asgi.fetch(app, "GET", f"/tile/0/000.p/{size}")).body)
                bundle = (await asgi.fetch(app, "GET", f"/tile/entries/000.p/{size}")).body
                assert merkle.tree_head(hashes) == seen.root
                assert tiles.decode_bundle(bundle) == entries(size)
                assert list(map(merkle.leaf_hash, entries(size))) == hashes

    run(play())


@pytest.mark.parametrize(
    "path",
    ["/", "/key", "/tile", "/tile/", "/tile/0", "/tile/entries", "/tile/0/000", "/tile/0/000.p/2", "/tile/0/000.p/01", "/tile/1/000.p/1",
     "/tile/64/000.p/1", "/tile/00/000.p/1", "/tile/0/000.p/1.new", "/tile/0/../0/000.p/1", "/tile/../checkpoint", "/tile/../../key",
     "/tile/0//000.p/1", "/tile/0/000.p/1/", "/checkpoint/", "/checkpoint.new", "/log/checkpoint", "/entries"],
)  # fmt: skip
def test_nothing_but_the_checkpoint_and_its_tiles_is_served(world: World, path: str) -> None:
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            for name in ("checkpoint.new", "tile/0/000.p/1.new"):
                (world.folder / "log" / name).write_bytes(b"half")
            assert (await asgi.fetch(app, "GET", "/tile/0/000.p/1")).status == 200
            answer = await asgi.fetch(app, "GET", path)
            assert (answer.status, answer.body) == (404, b"")

    run(play())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_public_files_can_only_be_fetched(world: World, method: str) -> None:
    app = world.app()
    for path in ("/checkpoint", "/proof", "/tile/0/000"):
        assert asyncio.run(asgi.fetch(app, method, path, headers=BEARER)).status == 404


def test_health(world: World) -> None:
    assert asyncio.run(asgi.fetch(world.app(), "GET", "/healthz")).status == 204


# Restarts and damage


def test_a_restart_keeps_the_tree_and_continues_it(world: World) -> None:
    async def play() -> None:
        async with witnessed(world):
            async with world.serving() as app:
                for entry in entries(3):
                    await append(app, entry)
                before = await world.checkpoint(app)
            async with world.serving() as app:
                assert await world.checkpoint(app) == before
                assert await append(app, b"entry 3") == {"index": 3, "cosignatures": 2}
                after = await world.checkpoint(app)
                path = merkle.consistency_proof(list(map(merkle.leaf_hash, entries(4))), 3)
                merkle.verify_consistency(
                    old_size=3, old_root=before.root, size=after.size, root=after.root, path=path
                )
                for number, entry in enumerate(entries(4)):
                    logged = verify_proof(await prove(app, entry), entry, world.policy(), now=NOW)
                    assert logged.index == number

    run(play())


def test_a_new_log_signs_the_empty_tree_and_can_be_started_again(world: World) -> None:
    first, second = (asyncio.run(head(world.app())) for _ in range(2))
    assert first == second
    assert (first.origin, first.size, first.root) == (ORIGIN, 0, merkle.EMPTY_ROOT)


def test_a_full_disk_is_503_and_the_entry_can_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("full")

    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            await append(app, b"first")
            monkeypatch.setattr(stores, "write_whole", full)
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=b"second")
            assert (answer.status, answer.body) == (503, b'{"code": "disk"}')
            assert (await world.checkpoint(app)).size == 1
            monkeypatch.undo()
            assert await append(app, b"second") == {"index": 1, "cosignatures": 2}

    run(play())


def test_a_log_needs_a_note_key_and_witnesses_keys(world: World) -> None:
    note_key = str(world.key.verifier)
    for key in (note_key, "no key", ""):
        with pytest.raises(ConfigError):
            world.app(witnesses=[WitnessAddress(key=key, url=DOWN)])
    for name in ("key", "secret"):
        with pytest.raises(ConfigError):
            world.app(**{name: str(world.folder / "none")})
    (world.folder / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        world.app(key=str(world.folder / "bytes"))
    world.key = SigningKey.generate(ORIGIN, COSIGNATURE)
    with pytest.raises(ConfigError):
        world.app()


# Batches


def test_a_batch_is_appended_in_one_step(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            assert await batch(app, entries(300)) == {"indexes": list(range(300)), "cosignatures": 2}
            assert (await world.checkpoint(app)).size == 300
            assert await batch(app, [b"new", b"entry 7"]) == {"indexes": [300, 7], "cosignatures": 2}
            assert await batch(app, []) == {"indexes": [], "cosignatures": 2}
        assert [json.loads(line)["size"] for line in world.lines] == [300, 301]

    run(play())


def test_entries_that_come_at_once_share_a_step(world: World) -> None:
    async def play() -> None:
        async with witnessed(world), world.serving() as app:
            told = await asyncio.gather(*(append(app, entry) for entry in entries(60)))
            assert sorted(one["index"] for one in told) == list(range(60))
        assert len(world.lines) < 10

    run(play())


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\x00", "peer.decode"), (b"\x00\x02x", "peer.decode"), (bytes(2 * 4097), "peer.decode"), (bytes(4 << 20) + b"x", "peer.limit")],
)  # fmt: skip
def test_a_batch_that_is_malformed_or_too_large_is_refused(world: World, body: bytes, code: str) -> None:
    async def play() -> None:
        async with world.serving() as app:
            answer = await asgi.fetch(app, "POST", "/batch", headers=BEARER, body=body)
            assert (answer.status, json.loads(answer.body)) == (400, {"code": code})
            assert (await asgi.fetch(app, "POST", "/batch", body=body)).status == 401
            assert (await head(app)).size == 0

    run(play())


def test_more_than_may_wait_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with world.serving() as app:
            monkeypatch.setattr(log_module, "_MAX_WAITING", 500)
            answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=bytes(437))
            assert (answer.status, answer.body) == (503, b'{"code": "unavailable.log"}')
            assert (await append(app, bytes(436)))["index"] == 0

    run(play())


def test_a_second_log_on_the_same_files_does_not_start(world: World) -> None:
    async def play() -> None:
        async with world.serving():
            with pytest.raises(OtherWriterError):
                await asgi.shutdown(world.app())

    run(play())


def test_the_files_are_in_one_place(world: World) -> None:
    s3 = stores.S3Settings(bucket="b", endpoint="http://x", region="r", access_key_id="a", secret="none")
    for changes in ({"folder": ""}, {"s3": s3}):
        with pytest.raises(ConfigError, match="in a folder or"):
            world.app(**changes)


def test_what_never_changes_may_be_kept_and_what_does_may_not(world: World) -> None:
    # tlog-tiles: "Checkpoints", "Merkle Tree", "Log entries"
    async def play() -> None:
        async with world.serving() as app:
            await append(app, b"entry")
            for path in ("/tile/0/000.p/1", "/tile/entries/000.p/1"):
                answer = await asgi.fetch(app, "GET", path)
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            packed = await asgi.fetch(app, "GET", path, headers={"Accept-Encoding": "gzip, br"})
            assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
            assert gzip.decompress(packed.body) == answer.body == tiles.encode_bundle([b"entry"])
            shown = await asgi.fetch(app, "GET", "/checkpoint")
            assert shown.headers["cache-control"] == "public, max-age=2"
            missing = await asgi.fetch(app, "GET", "/tile/0/000.p/2")
            assert (missing.status, missing.headers["cache-control"]) == (404, "no-store")

    run(play())

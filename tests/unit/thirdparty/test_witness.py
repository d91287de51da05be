import asyncio
import base64
import copy
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import asgi
import edge_kit
from device_kit import no_file_above
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.thirdparty import witness as witness_module
from sottovoce.thirdparty.files import write_whole
from sottovoce.thirdparty.witness import Config, create_app
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, NoteSignature, SigningKey, sign_note

ORIGIN = "log.example/test"
NOW = 1_800_000_000


@dataclass(kw_only=True)
class World:
    """A witness, the log that it follows, and what it wrote."""

    folder: Path
    log: MemoryLog = field(default_factory=lambda: MemoryLog(ORIGIN))
    key: SigningKey = field(default_factory=lambda: SigningKey.generate("witness.example/w", COSIGNATURE))
    now: float = NOW
    lines: list[str] = field(default_factory=list)

    def app(self, *others: MemoryLog, key: SigningKey | None = None) -> asgi.App:
        """The witness, started anew on the same folder."""
        path = self.folder / "key"
        path.write_text((key or self.key).secret())
        logs = [str(log.key.verifier) for log in (self.log, *others)]
        config = Config(key=str(path), state=str(self.folder / "state"), logs=logs)
        return create_app(config, log=EventLog(self.lines.append), clock=lambda: self.now)

    def record(self) -> bytes:
        """The text of the tree head that the witness keeps."""
        return Note.parse(self.file().read_bytes()).text.encode()

    def file(self) -> Path:
        (path,) = (one for one in (self.folder / "state").iterdir() if one.is_file())
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path)


def grow(log: MemoryLog, size: int, *, word: str = "entry") -> MemoryLog:
    for number in range(len(log.leaves), size):
        log.append(f"{word} {number}".encode())
    return log


def fork(log: MemoryLog, keep: int, size: int) -> MemoryLog:
    """The same log's key over another history from entry `keep` on."""
    other = copy.copy(log)
    other.leaves = log.leaves[:keep]
    return grow(other, size, word="rewritten")


def request(log: MemoryLog, old: int, path: Sequence[bytes] | None = None) -> bytes:
    """A submission of the log's newest tree head, with its own proof or with `path`."""
    proof = merkle.consistency_proof(log.leaves, min(old, len(log.leaves))) if path is None else path
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + log.checkpoint(now=NOW).encode()


def submit(app: asgi.App, body: bytes) -> asgi.Answer:
    return asyncio.run(asgi.fetch(app, "POST", "/add-checkpoint", body=body))


def cosigned_at(world: World, log: MemoryLog, answer: asgi.Answer) -> int | None:
    text = log.checkpoint(now=NOW).text
    return Note.parse(text.encode() + b"\n" + answer.body).cosigned_at(world.key.verifier)


def test_a_first_tree_head_is_cosigned_at_the_witnesss_own_time(world: World) -> None:
    answer = submit(world.app(), request(grow(world.log, 3), 0))
    assert answer.status == 200
    assert cosigned_at(world, world.log, answer) == NOW
    assert answer.body.count(b"\n") == 1
    assert json.loads(world.lines[-1]) == {"event": "Cosigned", "size": 3}


@pytest.mark.parametrize(("old", "size"), [(0, 1), (1, 2), (3, 7), (4, 8), (5, 5), (6, 300)])
def test_a_larger_tree_that_continues_is_cosigned_and_recorded(world: World, old: int, size: int) -> None:
    app = world.app()
    assert submit(app, request(grow(world.log, old), 0)).status == 200
    answer = submit(app, request(grow(world.log, size), old))
    assert (answer.status, cosigned_at(world, world.log, answer)) == (200, NOW)
    assert Checkpoint.parse(world.record().decode()).size == size


def test_the_same_tree_head_again_gets_a_newer_time(world: World) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 3), 0))
    world.now += 1000
    answer = submit(app, request(world.log, 3))
    assert (answer.status, cosigned_at(world, world.log, answer)) == (200, NOW + 1000)


def test_an_unknown_log_is_404(world: World) -> None:
    other = grow(MemoryLog("log.example/other"), 1)
    answer = submit(world.app(), request(other, 0))
    assert (answer.status, answer.body) == (404, b'{"code": "peer.witness.unknown-log"}')
    assert json.loads(world.lines[-1]) == {"event": "RefusedToCosign", "status": 404}


def test_a_tree_head_signed_by_another_key_is_403(world: World) -> None:
    impostor = grow(MemoryLog(ORIGIN), 1)
    assert submit(world.app(), request(impostor, 0)).status == 403
    assert not (world.folder / "state").exists()


def test_a_signature_in_the_logs_name_that_does_not_verify_is_403(world: World) -> None:
    signed = grow(world.log, 1).checkpoint(now=NOW)
    text = fork(world.log, 0, 1).checkpoint(now=NOW).text
    body = b"old 0\n\n" + Note(text=text, signatures=signed.signatures).encode()
    assert submit(world.app(), body).status == 403


def test_an_old_size_above_the_new_one_is_400(world: World) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    world.log.leaves = world.log.leaves[:3]
    assert submit(app, request(world.log, 5)).status == 400


@pytest.mark.parametrize("old", [0, 1, 3, 4])
def test_a_rollback_is_409_with_the_size_that_was_seen(world: World, old: int) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    world.log.leaves = world.log.leaves[:4]
    answer = submit(app, request(world.log, old))
    assert (answer.status, answer.body) == (409, b"5\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"


@pytest.mark.parametrize("old", [0, 4, 6, 7])
def test_a_wrong_old_size_is_409_with_the_right_one(world: World, old: int) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    answer = submit(app, request(grow(world.log, 7), old))
    assert (answer.status, answer.body) == (409, b"5\n")
    assert submit(app, request(world.log, 5)).status == 200


def test_an_old_size_where_nothing_was_seen_is_409_with_zero(world: World) -> None:
    answer = submit(world.app(), request(grow(world.log, 2), 1))
    assert (answer.status, answer.body) == (409, b"0\n")


@pytest.mark.parametrize("keep", [0, 3, 4])
def test_another_tree_of_the_same_size_is_422_and_kept_as_proof(world: World, keep: int) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    forked = fork(world.log, keep, 5)
    for _ in range(2):
        answer = submit(app, request(forked, 5))
        assert (answer.status, answer.body) == (422, b'{"code": "peer.witness.fork"}')
        assert json.loads(world.lines[-1]) == {"event": "RefusedToCosign", "status": 422}
    assert world.record() == world.log.checkpoint(now=NOW).text.encode()
    (proof,) = world.file().with_name(world.file().name + ".forks").iterdir()
    kept = Note.parse(proof.read_bytes())
    assert kept.text == forked.checkpoint(now=NOW).text
    assert kept.signed_by(world.log.key.verifier)


def test_a_log_that_lies_without_end_fills_no_disk(world: World) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    for number in range(20):
        other = grow(fork(world.log, 0, 0), 5, word=f"history {number}")
        assert submit(app, request(other, 5)).status == 422
    assert len(list(world.file().with_name(world.file().name + ".forks").iterdir())) == 16


def test_an_empty_tree_with_another_root_is_422_after_all_else(world: World) -> None:
    # C2SP tlog-witness, "add-checkpoint"
    def signed(key: SigningKey, origin: str = ORIGIN) -> bytes:
        return sign_note(f"{origin}\n0\n{HASH.decode()}\n", [key]).encode()

    app = world.app()
    submission = b"old 0\n\n" + signed(world.log.key)
    assert submit(app, submission).body == b'{"code": "peer.witness.empty-tree"}'
    assert submit(app, submission).status == 422
    assert submit(app, b"old 0\n\n" + signed(SigningKey.generate(ORIGIN))).status == 403
    assert submit(app, b"old 0\n\n" + signed(world.log.key, "log.example/other")).status == 404
    submit(app, request(grow(world.log, 2), 0))
    assert submit(app, submission).body == b"2\n"


def monitored(app: asgi.App, origin: str) -> asgi.Answer:
    name = hashlib.sha256(origin.encode()).hexdigest()
    return asyncio.run(asgi.fetch(app, "GET", f"/{name}/checkpoint"))


def test_a_monitor_reads_what_was_cosigned_last(world: World) -> None:
    # C2SP tlog-witness, "Monitor Retrieval Mechanism"
    app = world.app()
    assert monitored(app, ORIGIN).status == 404
    submit(app, request(grow(world.log, 3), 0))
    assert submit(app, request(fork(world.log, 0, 3), 3)).status == 422
    answer = monitored(world.app(), ORIGIN)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    note = Note.parse(answer.body)
    assert (note.signed_by(world.log.key.verifier), note.cosigned_at(world.key.verifier)) == (True, NOW)
    assert len(note.signatures) == 2
    assert monitored(app, "log.example/other").status == 404
    assert asyncio.run(asgi.fetch(app, "GET", "/" + "A" * 64 + "/checkpoint")).status == 404
    world.file().write_bytes(b"noise")
    assert monitored(app, ORIGIN).body == b'{"code": "config"}'


def test_a_log_may_have_two_keys_and_either_will_do(world: World) -> None:
    second = grow(MemoryLog(ORIGIN), 3)
    app = world.app(second)
    assert submit(app, request(grow(world.log, 2), 0)).status == 200
    assert submit(app, request(second, 2)).status == 200
    text = grow(world.log, 4).checkpoint(now=NOW).text
    both = sign_note(text, [world.log.key, second.key])
    first, other = both.signatures
    spoiled = NoteSignature(name=other.name, key_id=other.key_id, signature=bytes(64))
    head = b"old 3\n" + b"".join(
        base64.b64encode(node) + b"\n" for node in merkle.consistency_proof(world.log.leaves, 3)
    )
    assert submit(app, head + b"\n" + Note(text=text, signatures=(first, spoiled)).encode()).status == 403
    assert submit(app, head + b"\n" + both.encode()).status == 200


def test_two_witnesses_never_use_the_same_records(world: World) -> None:
    async def play() -> None:
        async with edge_kit.serving(world.app()):
            with pytest.raises(ConfigError, match="another witness"):
                await asgi.shutdown(world.app())
        async with edge_kit.serving(world.app()):
            pass

    asyncio.run(play())


def test_a_submission_that_is_given_up_is_recorded_before_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves while the record is being written; a later tree must not be overwritten by it."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: Path, data: bytes) -> None:
        begun.set()
        go_on.wait()
        write_whole(path, data)

    async def play() -> None:
        app = world.app()
        first = asyncio.ensure_future(
            asgi.fetch(app, "POST", "/add-checkpoint", body=request(grow(world.log, 2), 0))
        )
        await asyncio.to_thread(begun.wait)
        first.cancel()
        later = asyncio.ensure_future(
            asgi.fetch(app, "POST", "/add-checkpoint", body=request(grow(world.log, 7), 2))
        )
        await asyncio.sleep(0.05)
        assert not later.done()
        go_on.set()
        assert (await later).status == 200

    monkeypatch.setattr(witness_module, "write_whole", slow)
    asyncio.run(play())
    assert Checkpoint.parse(world.record().decode()).size == 7


@pytest.mark.parametrize("keep", [0, 2, 4])
def test_a_larger_tree_of_another_history_is_422(world: World, keep: int) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    forked = fork(world.log, keep, 9)
    for path in (None, merkle.consistency_proof(grow(world.log, 9).leaves, 5)):
        answer = submit(app, request(forked, 5, path))
        assert (answer.status, answer.body) == (422, b'{"code": "peer.crypto.consistency"}')


def _proofs() -> list[tuple[str, list[bytes]]]:
    leaves = grow(MemoryLog(ORIGIN), 9).leaves
    path = merkle.consistency_proof(leaves, 5)
    return [
        ("none", []),
        ("short", path[:-1]),
        ("long", [*path, bytes(32)]),
        ("changed", [*path[:-1], bytes(32)]),
        ("reversed", path[::-1]),
        ("of another size", merkle.consistency_proof(leaves, 6)),
        ("cut hash", [path[0][:31], *path[1:]]),
    ]


@pytest.mark.parametrize("path", [path for _, path in _proofs()], ids=[name for name, _ in _proofs()])
def test_a_proof_that_does_not_verify_is_422_and_changes_nothing(world: World, path: list[bytes]) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    before = world.record()
    assert submit(app, request(grow(world.log, 9), 5, path)).status == 422
    assert world.record() == before
    assert submit(app, request(world.log, 5)).status == 200


def test_a_proof_between_equal_sizes_or_from_the_empty_tree_must_be_empty(world: World) -> None:
    app = world.app()
    assert submit(app, request(grow(world.log, 2), 0, [bytes(32)])).status == 422
    assert submit(app, request(world.log, 0)).status == 200
    assert submit(app, request(world.log, 2, [bytes(32)])).status == 422


def test_what_was_seen_survives_a_restart(world: World) -> None:
    submit(world.app(), request(grow(world.log, 5), 0))
    again = world.app()
    assert submit(again, request(fork(world.log, 2, 5), 5)).status == 422
    assert submit(again, request(fork(world.log, 2, 8), 5)).status == 422
    assert submit(again, request(fork(world.log, 0, 1), 0)).body == b"5\n"
    assert submit(again, request(grow(world.log, 8), 5)).status == 200


def test_what_cannot_be_recorded_is_not_cosigned(world: World) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    with no_file_above(10):
        answer = submit(app, request(grow(world.log, 9), 5))
    assert (answer.status, answer.body) == (503, b'{"code": "disk"}')
    assert submit(app, request(world.log, 5)).status == 200


def test_of_two_continuations_at_once_one_is_cosigned(world: World) -> None:
    async def both(app: asgi.App, *logs: MemoryLog) -> list[asgi.Answer]:
        bodies = [request(log, 3) for log in logs]
        asked = [asgi.fetch(app, "POST", "/add-checkpoint", body=[body[:9], body[9:]]) for body in bodies]
        return await asyncio.gather(*asked)

    app = world.app()
    submit(app, request(grow(world.log, 3), 0))
    logs = [fork(world.log, 3, 5), fork(world.log, 3, 6)]
    logs[1].leaves[3:] = [merkle.leaf_hash(b"third history %d" % number) for number in range(3)]
    answers = asyncio.run(both(app, *logs))
    assert sorted(answer.status for answer in answers) == [200, 409]
    winner = next(log for log, answer in zip(logs, answers, strict=True) if answer.status == 200)
    assert world.record() == winner.checkpoint(now=NOW).text.encode()


def test_two_logs_are_followed_apart(world: World) -> None:
    other = grow(MemoryLog("log.example/second"), 7)
    app = world.app(other)
    assert submit(app, request(grow(world.log, 3), 0)).status == 200
    assert submit(app, request(other, 0)).status == 200
    assert submit(app, request(grow(world.log, 5), 3)).status == 200
    assert submit(app, request(other, 3)).body == b"7\n"


def test_signatures_of_unknown_keys_are_ignored(world: World) -> None:
    log = grow(world.log, 1)
    note = sign_note(log.checkpoint(now=NOW).text, [SigningKey.generate(ORIGIN), log.key])
    assert submit(world.app(), b"old 0\n\n" + note.encode()).status == 200


HEAD = grow(MemoryLog(ORIGIN), 1).checkpoint(now=NOW).encode()
HASH = base64.b64encode(bytes(32))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n\n",
        b"\n\n" + HEAD,
        b"old 0\n" + HEAD[:40],
        b"old\n\n" + HEAD,
        b"old 00\n\n" + HEAD,
        b"old 01\n\n" + HEAD,
        b"old -1\n\n" + HEAD,
        b"old +1\n\n" + HEAD,
        b"old 1 \n\n" + HEAD,
        b"old  1\n\n" + HEAD,
        b"Old 1\n\n" + HEAD,
        "old \u0661\n\n".encode() + HEAD,
        b"old 1" + b"0" * 30 + b"\n\n" + HEAD,
        b"old 0\r\n\r\n" + HEAD,
        b"old 0\nnot base64!\n\n" + HEAD,
        b"old 0\nAAA\n\n" + HEAD,
        b"old 0\n\xff\xff\n\n" + HEAD,
        "old 0\n\u00e9\n\n".encode() + HEAD,
        b"old 0\n" + (HASH + b"\n") * 64 + b"\n" + HEAD,
        b"old 0\n\n" + HEAD[:-1],
        b"old 0\n\n\xff" + HEAD,
        b"old 0\n\n" + HEAD.replace(b"\n1\n", b"\n01\n"),
        b"old 0\n\n" + HEAD + b"x" * 65536,
    ],
)
def test_a_malformed_request_is_400(world: World, body: bytes) -> None:
    answer = submit(world.app(), body)
    assert answer.status == 400
    assert not (world.folder / "state").exists()


def test_sixty_three_proof_lines_are_read(world: World) -> None:
    body = request(grow(world.log, 1), 0, [bytes(32)] * 63)
    assert submit(world.app(), body).status == 422


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"log.example/test\n5\n", b"log.example/test\nfive\nAAAA\n"]
)
def test_a_damaged_record_refuses_to_start(world: World, data: bytes) -> None:
    app = world.app()
    submit(app, request(grow(world.log, 5), 0))
    world.file().write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        world.app()
    # A witness that runs while it happens cosigns nothing either, and does not blame the log.
    answer = submit(app, request(fork(world.log, 0, 9), 0))
    assert (answer.status, answer.body) == (503, b'{"code": "config"}')


def test_the_record_of_another_log_refuses_to_start(world: World) -> None:
    submit(world.app(), request(grow(world.log, 5), 0))
    other = grow(MemoryLog("log.example/second"), 1)
    world.file().write_bytes(other.checkpoint(now=NOW).encode())
    with pytest.raises(ConfigError, match="another log"):
        world.app()


def test_a_witness_needs_its_own_kind_of_key_and_a_log(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        world.app(key=SigningKey.generate("witness.example/w"))
    log = EventLog(world.lines.append)
    for path, logs in (
        ("none", [str(world.log.key.verifier)]),
        ("key", []),
        ("key", ["no key"]),
        ("bytes", []),
    ):
        (tmp_path / "bytes").write_bytes(b"\xff")
        with pytest.raises(ConfigError):
            create_app(Config(key=str(tmp_path / path), state=str(tmp_path), logs=logs), log=log)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 204), ("GET", "/add-checkpoint", 404), ("POST", "/", 404), ("GET", "/state", 404)],
)
def test_nothing_else_is_here(world: World, method: str, path: str, status: int) -> None:
    assert asyncio.run(asgi.fetch(world.app(), method, path)).status == status


def test_it_starts_and_stops(world: World) -> None:
    asyncio.run(asgi.shutdown(world.app()))

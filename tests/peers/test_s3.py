"""A log in an S3-like store: the Versity S3 Gateway, a server that keeps to conditional writes."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import golang
from sottovoce.core.errors import ConfigError
from sottovoce.thirdparty.files import StorageError
from sottovoce.thirdparty.sequencer import Sequencer
from sottovoce.thirdparty.stores import ImmutableError, OtherWriterError, S3Settings, S3Store
from sottovoce.tlog import tiles
from sottovoce.tlog.note import SigningKey
from sottovoce.tlog.tree import Tree

pytestmark = pytest.mark.peer
pytest.importorskip("obstore", reason="needs obstore, of the extra `server`")

ORIGIN = "log.example/test"
KEY = SigningKey.generate(ORIGIN)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[S3Settings]:
    """A bucket of its own in a new server."""
    gateway, port = golang.program("versitygw"), golang.free_port()
    (tmp_path / "root/bucket").mkdir(parents=True)
    try:
        # With its other way to keep versions, files of their own, this server shows for a moment an old object with its new version.
        os.setxattr(tmp_path, "user.sottovoce", b"1")
    except OSError:
        pytest.skip("the temporary folder's file system has no extended attributes")
    (tmp_path / "secret").write_text("correct horse battery staple\n")
    environment = {
        "ROOT_ACCESS_KEY": "operator",
        "ROOT_SECRET_KEY": "correct horse battery staple",
        "VGW_PORT": f"127.0.0.1:{port}",
        "VGW_QUIET": "true",
    }
    with golang.serving(gateway, "posix", tmp_path / "root", port=port, environment=environment):
        yield S3Settings(
            bucket="bucket",
            endpoint=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="operator",
            secret=str(tmp_path / "secret"),
            prefix="logs/test",
        )


def entries(count: int, word: str = "entry") -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(count)]


def test_a_log_is_kept_and_continued(settings: S3Settings, tmp_path: Path) -> None:
    sequencer = Sequencer(S3Store(settings), KEY, ORIGIN)
    sequencer.add(entries(300))
    sequencer.publish()
    again = Sequencer(S3Store(settings), KEY, ORIGIN)
    assert again.published == sequencer.published
    assert again.add(entries(520))[-1] == 519
    again.publish()
    assert Sequencer(S3Store(settings), KEY, ORIGIN).tree.root() == Tree.over(entries(520)).root()
    # The objects are where the specification has them, so that the bucket can be served as it is.
    folder = tmp_path / "root/bucket/logs/test"
    assert (folder / "checkpoint").read_bytes() == again.published.encode()
    assert tiles.decode_bundle((folder / "tile/entries/000").read_bytes()) == entries(256)
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in (folder / "tile").rglob("*")
        if path.is_file() and "entries" not in path.parts
    }
    tree = Tree.over(entries(520))
    assert found == dict(tree.changed_tiles(0, 300)) | dict(tree.changed_tiles(300))


def test_an_immutable_object_is_never_changed(settings: S3Settings) -> None:
    store = S3Store(settings)
    store.create({"tile/0/000": b"one"})
    store.create({"tile/0/000": b"one"})
    with pytest.raises(ImmutableError):
        store.create({"tile/0/000": b"other"})
    assert store.read("tile/0/000") == b"one"
    assert store.read("tile/0/001") is None
    assert store.holds("tile")
    assert not store.holds("elsewhere")


def test_of_two_writers_one_is_stopped(settings: S3Settings) -> None:
    one, other = (Sequencer(S3Store(settings), KEY, ORIGIN) for _ in range(2))
    assert one.add([b"of one"]) == [0]
    for _ in range(2):
        with pytest.raises(OtherWriterError):
            other.add([b"of the other"])
    assert other.tree.size == 0
    assert one.add([b"of one again"]) == [1]
    assert Sequencer(S3Store(settings), KEY, ORIGIN).tree.size == 2


def test_writers_that_race_never_make_two_histories(settings: S3Settings) -> None:
    """Three writers at once, each opening the log anew when it has lost: every index that was told is of its entry."""
    told: dict[int, bytes] = {}
    refused = []
    draw = random.Random(1)  # noqa: S311 - when to try again
    opened = threading.Barrier(3)

    def write(name: int) -> None:
        log: Sequencer | None = Sequencer(S3Store(settings), KEY, ORIGIN)
        opened.wait()  # all three have the empty log, and two of them lose
        for number in range(3):
            entry = b"writer %d, entry %d" % (name, number)
            while True:
                try:
                    used, log = log or Sequencer(S3Store(settings), KEY, ORIGIN), None
                    (index,) = used.add([entry])
                except (OtherWriterError, ConfigError):
                    refused.append(name)
                    time.sleep(draw.random() / 20)
                    continue
                told[index] = entry
                break

    Sequencer(S3Store(settings), KEY, ORIGIN)
    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == list(range(9))
    assert (
        Sequencer(S3Store(settings), KEY, ORIGIN).tree.root()
        == Tree.over([told[index] for index in range(9)]).root()
    )
    assert refused


def test_a_store_that_refuses_or_is_down_is_an_error_that_says_nothing_of_it(
    settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    wrong = S3Settings(
        bucket="bucket",
        endpoint=settings.endpoint,
        region="us-east-1",
        access_key_id="operator",
        secret=str(tmp_path / "wrong"),
    )
    store = S3Store(wrong)
    for attempt in (
        lambda: store.read("checkpoint"),
        lambda: store.replace("checkpoint", b"x"),
        lambda: store.holds("tile"),
    ):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert "127.0.0.1" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(ConfigError):
        Sequencer(S3Store(wrong), KEY, ORIGIN)
    with pytest.raises(ConfigError):
        S3Store(S3Settings(bucket="b", endpoint="http://x", region="r", access_key_id="a", secret="/none"))

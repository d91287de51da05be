import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.thirdparty import sequencer as sequencer_module
from sottovoce.thirdparty.files import StorageError
from sottovoce.thirdparty.sequencer import MAX_BATCH, NoEntryError, NotPublishedError, Sequencer
from sottovoce.thirdparty.stores import Folder, ImmutableError, OtherWriterError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note
from sottovoce.tlog.tree import Tree

ORIGIN = "log.example/test"
KEY = SigningKey.generate(ORIGIN)
WITNESS = SigningKey.generate("witness.example/w", COSIGNATURE)


def entries(count: int, word: str = "entry") -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(count)]


def opened(folder: Path, key: SigningKey = KEY, origin: str = ORIGIN) -> Sequencer:
    return Sequencer(Folder(folder), key, origin)


def head(note: Note) -> Checkpoint:
    return Checkpoint.parse(note.text)


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize(
    "sizes", [[1] * 5, [255, 1, 1], [256, 256], [300, 500, 1, 223], [0, 3, 0], [4096, 70]]
)
def test_batches_make_one_tree_and_the_tiles_of_each_size_that_was_signed(
    tmp_path: Path, sizes: list[int]
) -> None:
    sequencer, all_entries = opened(tmp_path), entries(sum(sizes))
    done, wanted = 0, dict[str, bytes]()
    for size in sizes:
        assert sequencer.add(all_entries[done : done + size]) == list(range(done, done + size))
        tree = Tree.over(all_entries[: done + size])
        assert head(sequencer.note) == Checkpoint(origin=ORIGIN, size=done + size, root=tree.root())
        wanted |= dict(tree.changed_tiles(done))
        done += size
        again = opened(tmp_path)
        assert (again.tree.root(), again.note.text) == (sequencer.tree.root(), sequencer.note.text)
        sequencer = again
    found = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "tile").rglob("*")
        if path.is_file()
    }
    bundles = {path: found.pop(path) for path in list(found) if path.startswith("tile/entries/")}
    assert found == wanted
    read = [
        entry
        for index in range(done // 256)
        for entry in tiles.decode_bundle(bundles[tiles.tile_path("entries", index)])
    ]
    if done % 256:
        read += tiles.decode_bundle(bundles[tiles.tile_path("entries", done // 256, done % 256)])
    assert read == all_entries


def test_what_is_there_already_keeps_its_index_and_what_comes_twice_is_one(tmp_path: Path) -> None:
    sequencer = opened(tmp_path)
    assert sequencer.add([b"a", b"b", b"a"]) == [0, 1, 0]
    before = sequencer.note
    assert sequencer.add([b"b", b"a"]) == [1, 0]
    assert sequencer.note == before
    assert opened(tmp_path).add([b"c", b"b"]) == [2, 1]


def test_our_own_mistakes(tmp_path: Path) -> None:
    sequencer = opened(tmp_path)
    for batch in ([b""] * (MAX_BATCH + 1), [bytes(tiles.MAX_ENTRY + 1)]):
        with pytest.raises(UsageError):
            sequencer.add(batch)
    with pytest.raises(UsageError):
        opened(tmp_path / "other", SigningKey.generate(ORIGIN, COSIGNATURE))
    assert sequencer.add([]) == []


def test_an_entry_is_proved_under_the_published_head_only(tmp_path: Path) -> None:
    sequencer = opened(tmp_path)
    sequencer.add(entries(3))
    leaves = [merkle.leaf_hash(entry) for entry in entries(5)]
    with pytest.raises(NoEntryError):
        sequencer.locate(leaves[3])
    with pytest.raises(NotPublishedError):
        sequencer.locate(leaves[0])
    sequencer.publish()
    sequencer.add(entries(5))
    index, path, shown = sequencer.locate(leaves[1])
    assert (index, head(shown).size) == (1, 3)
    merkle.verify_inclusion(leaf=leaves[1], index=1, size=3, path=path, root=head(shown).root)
    with pytest.raises(NotPublishedError):
        sequencer.locate(leaves[4])


def test_cosignatures_are_kept_until_a_newer_one_of_the_same_key_or_a_new_head(tmp_path: Path) -> None:
    sequencer = opened(tmp_path)
    sequencer.add(entries(1))
    other = SigningKey.generate("witness.example/v", COSIGNATURE)
    text = sequencer.note.text
    sequencer.cosign([WITNESS.cosign(text, time=1), other.cosign(text, time=1)])
    sequencer.cosign([WITNESS.cosign(text, time=2)])
    assert (sequencer.note.cosigned_at(WITNESS.verifier), sequencer.note.cosigned_at(other.verifier)) == (
        2,
        1,
    )
    assert head(sequencer.published).size == 0
    sequencer.publish()
    assert opened(tmp_path).note == sequencer.note == sequencer.published
    sequencer.add(entries(2))
    assert len(sequencer.note.signatures) == 1
    assert opened(tmp_path).published == sequencer.published


# Stops


class StoppedError(SottovoceError):
    """The process ends here."""


class Stopping:
    """A folder whose writes stop after `left` of them, in the middle of a batch of files too."""

    def __init__(self, folder: Path, left: int) -> None:
        self._folder = Folder(folder)
        self.left = left

    def read(self, path: str) -> bytes | None:
        return self._folder.read(path)

    def holds(self, folder: str) -> bool:
        return self._folder.holds(folder)

    def create(self, files: Mapping[str, bytes]) -> None:
        for path, data in files.items():
            self._count()
            self._folder.create({path: data})

    def replace(self, path: str, data: bytes) -> None:
        self._count()
        self._folder.replace(path, data)

    def hold(self) -> None:
        self._folder.hold()

    def release(self) -> None:
        self._folder.release()

    def _count(self) -> None:
        if not self.left:
            raise StoppedError("stopped")
        self.left -= 1


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Every text that a sequencer signs, by its size; two texts of one size fail the test."""
    texts: dict[int, str] = {}

    def watched(text: str, keys: list[SigningKey]) -> Note:
        assert texts.setdefault(Checkpoint.parse(text).size, text) == text
        return sign_note(text, keys)

    monkeypatch.setattr(sequencer_module, "sign_note", watched)
    return texts


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300])
@pytest.mark.parametrize("batch", [1, 2, 300])
@pytest.mark.parametrize("stop", range(9))
def test_a_stop_between_any_two_writes_signs_one_history(
    tmp_path: Path, signed: dict[int, str], size: int, batch: int, stop: int
) -> None:
    first = opened(tmp_path)
    first.add(entries(size))
    first.publish()
    store = Stopping(tmp_path, stop)
    stopped = Sequencer.__new__(Sequencer)
    told: list[int] = []
    try:
        # Opening again writes nothing that is not there.
        Sequencer.__init__(stopped, store, KEY, ORIGIN)
        told = stopped.add(entries(batch, "lost or not"))
        stopped.publish()
    except StoppedError:
        pass
    again = opened(tmp_path)
    kept = again.tree.size - size
    assert kept in {0, batch}
    if told:
        assert kept == batch
    # Another batch in the place of a lost one is a second history only if the first was ever signed.
    assert again.add(entries(7, "another")) == list(range(size + kept, size + kept + 7))
    last = opened(tmp_path)
    for number, text in signed.items():
        assert Checkpoint.parse(text).root == last.tree.root(number)


def test_a_failed_write_leaves_the_log_as_it_was_and_the_next_batch_takes_its_place(
    tmp_path: Path, signed: dict[int, str]
) -> None:
    store = Stopping(tmp_path, 99)
    sequencer = Sequencer(store, KEY, ORIGIN)
    sequencer.add(entries(3))
    store.left = 0
    with pytest.raises(StoppedError):
        sequencer.add([b"refused"])
    assert (sequencer.tree.size, head(sequencer.note).size) == (3, 3)
    store.left = 2  # the record, and one of the tiles: it is decided, and not finished
    with pytest.raises(StoppedError):
        sequencer.add([b"decided"])
    assert 4 not in signed
    store.left = 99
    assert sequencer.add([b"next", b"decided"]) == [4, 3]
    assert opened(tmp_path).tree.root() == sequencer.tree.root()


@pytest.mark.parametrize("restart", [False, True])
def test_a_record_that_may_be_lost_is_not_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: dict[int, str], restart: bool
) -> None:
    """The last step of the record's write fails: it is on the disk, and a power cut could undo that."""

    def failing(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder and Path(f"/proc/self/fd/{descriptor}").samefile(tmp_path / "sequencer"):
            raise OSError

    sequencer = opened(tmp_path)
    sequencer.add([b"first"])
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError):
        sequencer.add([b"second"])
    assert sorted(signed) == [0, 1]
    monkeypatch.setattr(os, "fsync", lambda _: None)
    if restart:
        sequencer = opened(tmp_path)
    assert sequencer.add([b"third"]) == [2 if restart else 1]
    assert opened(tmp_path).tree.root() == sequencer.tree.root()


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.hold()
    with pytest.raises(OtherWriterError):
        other.hold()
    one.add([b"entry"])
    one.release()
    with pytest.raises(OtherWriterError, match="start again"):
        other.hold()
    other.release()
    opened(tmp_path).hold()


# Damage


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _published(folder: Path, key: SigningKey, *, origin: str = ORIGIN, size: int = 3) -> None:
    text = Checkpoint(origin=origin, size=size, root=Tree.over(entries(size)).root()).encode()
    (folder / "checkpoint").write_bytes(sign_note(text, [key]).encode())


def _rewritten(folder: Path) -> None:
    text = Checkpoint(origin=ORIGIN, size=2, root=Tree.over(entries(2, "other")).root()).encode()
    (folder / "checkpoint").write_bytes(sign_note(text, [KEY]).encode())


def _folder_for_head(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    (folder / "checkpoint").mkdir()


RECORD, BUNDLE, TILE = "sequencer/head", "tile/entries/000.p/3", "tile/0/000.p/4"


def _both_lost(folder: Path) -> None:
    (folder / RECORD).unlink()
    (folder / "checkpoint").unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "record lost": lambda folder: (folder / RECORD).unlink(),
    "record and head lost": _both_lost,
    "record empty": lambda folder: (folder / RECORD).write_bytes(b""),
    "record cut": lambda folder: os.truncate(folder / RECORD, 90),
    "record's batch changed": lambda folder: _flip(folder / RECORD),
    "record's size changed": lambda folder: (folder / RECORD).write_bytes(
        (folder / RECORD).read_bytes().replace(b"v1\n3\n", b"v1\n2\n")
    ),
    "record of another key": lambda folder: (
        opened(folder.with_name("b"), SigningKey.generate(ORIGIN))
        and (folder / RECORD).write_bytes((folder.with_name("b") / RECORD).read_bytes())
    ),
    "record of another log": lambda folder: (
        opened(folder.with_name("b"), origin="log.example/other")
        and (folder / RECORD).write_bytes((folder.with_name("b") / RECORD).read_bytes())
    ),
    "head lost": lambda folder: (folder / "checkpoint").unlink(),
    "head empty": lambda folder: (folder / "checkpoint").write_bytes(b""),
    "head is noise": lambda folder: (folder / "checkpoint").write_bytes(b"\xff\n\n"),
    "head cut": lambda folder: os.truncate(folder / "checkpoint", 60),
    "head is a folder": _folder_for_head,
    "head of another key": lambda folder: _published(folder, SigningKey.generate(ORIGIN)),
    "head of another log": lambda folder: _published(folder, KEY, origin="log.example/other"),
    "head of a larger tree": lambda folder: _published(folder, KEY, size=5),
    "head of another history": _rewritten,
    "entry changed": lambda folder: _flip(folder / BUNDLE),
    "entries cut": lambda folder: os.truncate(folder / BUNDLE, 12),
    "entries empty": lambda folder: os.truncate(folder / BUNDLE, 0),
    "entries lost": lambda folder: (folder / BUNDLE).unlink(),
    "entries of two": lambda folder: (folder / BUNDLE).write_bytes(tiles.encode_bundle(entries(2))),
    "newest entries changed": lambda folder: _flip(folder / "tile/entries/000.p/4"),
    "newest tile changed": lambda folder: _flip(folder / TILE),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_folder_refuses_to_start(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = tmp_path / "a"
    sequencer = opened(folder)
    sequencer.add(entries(3))
    sequencer.add(entries(4))
    sequencer.publish()
    assert opened(folder).tree.root() == sequencer.tree.root()
    damage(folder)
    with pytest.raises(ConfigError):
        opened(folder)


def test_who_holds_the_store_cannot_give_the_log_a_head_to_sign(tmp_path: Path) -> None:
    """The record's tag is made with the log's key: an entry of somebody else's is never taken from there."""
    sequencer = opened(tmp_path)
    sequencer.add([b"entry"])
    forged = opened(tmp_path / "forged", SigningKey.generate(ORIGIN))
    forged.add([b"not the operator's"])
    (tmp_path / RECORD).write_bytes((tmp_path / "forged" / RECORD).read_bytes())
    with pytest.raises(ConfigError, match="another key"):
        opened(tmp_path)


def test_an_immutable_file_is_never_changed(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    store.create({"tile/0/000": b"one", "tile/1/000": b"two"})
    store.create({"tile/0/000": b"one"})
    with pytest.raises(ImmutableError):
        store.create({"tile/0/000": b"other"})
    assert store.read("tile/0/000") == b"one"
    assert not list(tmp_path.rglob("*.new"))

"""The operator's client of the log, shown files that are cut short, too many, too long or signed by somebody else."""

from collections.abc import Mapping

import pytest

from log_kit import FilesLog
from sottovoce.core.errors import DecodeError, LimitError, UnavailableError
from sottovoce.core.limits import LIMITS, Limits
from sottovoce.edge import logclient
from sottovoce.edge.logclient import LogClient, NotInLogError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import Note, NoteSignature, SignatureError, SigningKey, sign_note
from sottovoce.tlog.policy import OriginError

NOW = 1_000_000
TEN = FilesLog(entries=[b"entry %d" % number for number in range(10)])
POLICY = TEN.policy()
BUNDLE, TILE = "tile/entries/000.p/10", "tile/0/000.p/10"


class Client(LogClient):
    """Reads from a mapping in place of the network."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__("https://log.example", "")
        self.files = files
        self.asked: list[str] = []

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        assert (method, body, headers) == ("GET", None, {})
        self.asked.append(path.removeprefix("/"))
        # A client that does not end must not hold up all other tests.
        assert len(self.asked) < 20, "it asks without end"
        if self.asked[-1] not in self.files:
            raise NotInLogError("the log has no such file", party="log")
        return self.files[self.asked[-1]]


def shown(**changed: bytes) -> Client:
    """A client of the log of ten entries, with its tile or bundle changed."""
    names = {"bundle": BUNDLE, "tile": TILE, "checkpoint": "checkpoint"}
    return Client(TEN.files(now=NOW) | {names[name]: data for name, data in changed.items()})


def head(size: int, key: SigningKey = TEN.key, *, origin: str = TEN.origin, root: bytes = bytes(32)) -> bytes:
    """A tree head of the log, which says what it wants."""
    return sign_note(Checkpoint(origin=origin, size=size, root=root).encode(), [key]).encode()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_all_entries_of_a_log_of_any_size_are_read(size: int) -> None:
    log = FilesLog(entries=[b"entry %d" % number for number in range(size)])
    client = Client(log.files(now=NOW))
    assert client.entries(log.policy()) == log.entries
    if size:
        history = client.history(log.origin, size, [1, size - 1, size])
        assert (history.head.size, history.head.root) == (size, merkle.tree_head(log.leaves))
        assert list(history.paths) == sorted({1, size - 1} - {0, size})
    # Each file once.
    assert len(client.asked) == len(set(client.asked)) == 1 + 2 * -(-size // tiles.WIDTH)


def test_a_full_file_in_the_place_of_a_partial_one_is_taken() -> None:
    later = FilesLog(entries=[b"entry %d" % number for number in range(tiles.WIDTH)])
    files = TEN.files(now=NOW) | {
        name: later.files(now=NOW)[name] for name in ("tile/entries/000", "tile/0/000")
    }
    del files[BUNDLE], files[TILE]
    client = Client(files)
    assert client.entries(POLICY) == TEN.entries
    assert client.history(TEN.origin, 10, []).head.root == merkle.tree_head(TEN.leaves)


@pytest.mark.parametrize("held", [0, 1, 9, 11])
def test_a_bundle_with_another_number_of_entries_is_refused(held: int) -> None:
    bundle = tiles.encode_bundle([*TEN.entries, b"one more"][:held])
    client = shown(bundle=bundle)
    with pytest.raises(DecodeError, match="another number of items"):
        client.entries(POLICY)
    assert client.asked == ["checkpoint", BUNDLE]


@pytest.mark.parametrize("held", [1, 9, 11])
def test_a_tile_with_another_number_of_hashes_is_refused(held: int) -> None:
    client = shown(tile=b"".join([*TEN.leaves, bytes(32)][:held]))
    with pytest.raises(DecodeError, match="another number of items"):
        client.history(TEN.origin, 10, [])
    assert client.asked == [TILE]


def test_a_full_file_that_is_none_is_refused() -> None:
    files = TEN.files(now=NOW)
    files |= {"tile/entries/000": files.pop(BUNDLE), "tile/0/000": files.pop(TILE)}
    with pytest.raises(DecodeError, match="another number of items"):
        Client(files).entries(POLICY)
    with pytest.raises(DecodeError, match="another number of items"):
        Client(files).history(TEN.origin, 10, [])


def test_a_file_that_is_not_there_is_asked_for_by_its_two_names_and_no_more() -> None:
    files = TEN.files(now=NOW)
    del files[BUNDLE]
    client = Client(files)
    with pytest.raises(NotInLogError):
        client.entries(POLICY)
    assert client.asked == ["checkpoint", BUNDLE, "tile/entries/000"]
    client = Client({})
    with pytest.raises(NotInLogError):
        client.history(TEN.origin, tiles.WIDTH, [])
    assert client.asked == ["tile/0/000"]


@pytest.mark.parametrize("size", [LIMITS.log_entries + 1, 1 << 50, (1 << 63) - 1])
def test_a_tree_head_of_too_many_entries_is_refused_before_anything_is_fetched(size: int) -> None:
    client = shown(checkpoint=head(size), bundle=b"")
    with pytest.raises(LimitError, match="more entries than are read"):
        client.entries(POLICY)
    assert client.asked == ["checkpoint"]
    with pytest.raises(LimitError, match="more entries than are read"):
        client.history(TEN.origin, size, [])
    assert client.asked == ["checkpoint"]


def test_the_limit_is_the_last_size_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "LIMITS", Limits(log_entries=10))
    assert shown().entries(POLICY) == TEN.entries
    assert shown().history(TEN.origin, 10, []).head.size == 10
    monkeypatch.setattr(tiles, "LIMITS", Limits(log_entries=9))
    with pytest.raises(LimitError):
        shown().entries(POLICY)
    with pytest.raises(LimitError):
        shown().history(TEN.origin, 10, [])


def test_entries_that_are_too_long_in_all_are_refused_at_the_first_bundle_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = FilesLog(entries=[bytes(10)] * 1000)
    for limit, read in ((10_000, 4), (9_999, 4), (5_119, 2)):
        monkeypatch.setattr(logclient, "LIMITS", Limits(log_bytes=limit))
        client = Client(log.files(now=NOW))
        if limit == 10_000:
            assert client.entries(log.policy()) == log.entries
        else:
            with pytest.raises(LimitError, match="longer than what is read"):
                client.entries(log.policy())
        assert len(client.asked) == 1 + read


def test_a_tree_head_that_the_log_has_not_signed_is_refused() -> None:
    stranger, root = SigningKey.generate(TEN.origin), merkle.tree_head(TEN.leaves)
    good = Note.parse(head(10, root=root))
    forged = NoteSignature(
        name=good.signatures[0].name, key_id=good.signatures[0].key_id, signature=bytes(64)
    )
    for checkpoint, error in (
        (head(10, stranger, root=root), OriginError),
        # Witnesses alone: what they have signed, the log has not.
        (Note(text=good.text, signatures=TEN.checkpoint(now=NOW).signatures[1:]).encode(), OriginError),
        (head(10, origin="log.example/other", root=root), OriginError),
        (Note(text=good.text, signatures=(forged,)).encode(), SignatureError),
        (good.text.encode(), DecodeError),
        (b"", DecodeError),
    ):
        client = shown(checkpoint=checkpoint)
        with pytest.raises(error):
            client.entries(POLICY)
        assert client.asked == ["checkpoint"]
    # Signed by the log, and by no witness yet: this is what it holds.
    assert shown(checkpoint=good.encode()).entries(POLICY) == TEN.entries


def test_entries_that_are_not_those_of_the_tree_head_are_refused() -> None:
    with pytest.raises(UnavailableError, match="not those of its tree head"):
        shown(checkpoint=head(10)).entries(POLICY)
    with pytest.raises(UnavailableError, match="not those of its tree head"):
        shown(bundle=tiles.encode_bundle([*TEN.entries[:9], b"another"])).entries(POLICY)

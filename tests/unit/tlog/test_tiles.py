import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.tlog import merkle, tiles

ENTRIES = st.lists(st.binary(max_size=40), max_size=20)


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % number) for number in range(count)]


# C2SP tlog-tiles, "Merkle Tree": the path of index 1234067.
@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        (0, 0, 256, "tile/0/000"),
        (0, 0, 1, "tile/0/000.p/1"),
        (1, 999, 255, "tile/1/999.p/255"),
        (2, 1000, 256, "tile/2/x001/000"),
        ("entries", 1_000_000, 7, "tile/entries/x001/x000/000.p/7"),
    ],
)
def test_paths_are_those_of_the_specification(level: int | str, index: int, width: int, path: str) -> None:
    assert tiles.tile_path(level, index, width) == path


@pytest.mark.parametrize(
    ("size", "paths"),
    [
        (0, set()),
        (1, {"tile/0/000.p/1"}),
        (255, {"tile/0/000.p/255"}),
        # C2SP tlog-tiles, "Partial Tiles": a tree of 256 is one full tile, and a partial one of width 1 above it.
        (256, {"tile/0/000", "tile/1/000.p/1"}),
        (257, {"tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"}),
        (600, {"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"}),
    ],
)
def test_a_tree_has_the_tiles_of_the_specification(size: int, paths: set[str]) -> None:
    assert {path for path, _ in tiles.changed_tiles(leaves(size), 0)} == paths


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    # C2SP tlog-tiles, "Partial Tiles"
    paths = [path for path, _ in tiles.changed_tiles([bytes(32)] * 70_000, 0)]
    full = [path for path in paths if ".p/" not in path]
    assert [sum(path.startswith(f"tile/{level}/") for path in full) for level in range(3)] == [273, 1, 0]
    assert [path for path in paths if ".p/" in path] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]


@pytest.mark.parametrize("old", [0, 1, 254, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("grown", [0, 1, 2, 256, 257])
def test_exactly_the_tiles_that_changed_are_given(old: int, grown: int) -> None:
    before = dict(tiles.changed_tiles(leaves(old), 0))
    after = dict(tiles.changed_tiles(leaves(old + grown), 0))
    changed = {path: data for path, data in after.items() if before.get(path) != data}
    assert dict(tiles.changed_tiles(leaves(old + grown), old)) == changed


def test_each_hash_above_is_the_head_of_a_full_tile_below() -> None:
    tree = leaves(600)
    found = dict(tiles.changed_tiles(tree, 0))
    above = tiles.read_tile(found["tile/1/000.p/2"])
    assert above == [merkle.tree_head(tree[:256]), merkle.tree_head(tree[256:512])]
    assert above[1] == merkle.tree_head(tiles.read_tile(found["tile/0/001"]))
    assert len(found["tile/0/000"]) == 8192


@given(ENTRIES)
def test_a_bundle_gives_its_entries_back(entries: list[bytes]) -> None:
    assert tiles.decode_bundle(tiles.encode_bundle(entries)) == entries


def test_a_bundle_is_lengths_and_entries() -> None:
    # C2SP tlog-tiles, "Log entries"
    assert tiles.encode_bundle([b"ab", b""]) == b"\x00\x02ab\x00\x00"


@given(ENTRIES.filter(bool), st.data())
def test_a_bundle_that_is_cut_is_refused_or_shorter_by_whole_entries(
    entries: list[bytes], data: st.DataObject
) -> None:
    whole = tiles.encode_bundle(entries)
    ends = {len(tiles.encode_bundle(entries[:count])): count for count in range(len(entries))}
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut in ends:
        assert tiles.decode_bundle(whole[:cut]) == entries[: ends[cut]]
        return
    with pytest.raises(DecodeError):
        tiles.decode_bundle(whole[:cut])


def test_the_largest_entry_fits_and_a_larger_one_is_our_own_mistake() -> None:
    largest = bytes(tiles.MAX_ENTRY)
    assert tiles.decode_bundle(tiles.encode_bundle([largest, b"x"])) == [largest, b"x"]
    with pytest.raises(UsageError):
        tiles.encode_bundle([largest + b"x"])


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 257 * 32])
def test_a_tile_of_broken_hashes_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        tiles.read_tile(bytes(length))


def test_a_bundle_of_more_entries_than_a_tile_has_hashes_is_refused() -> None:
    assert len(tiles.decode_bundle(bytes(512))) == 256
    with pytest.raises(DecodeError, match="too many"):
        tiles.decode_bundle(bytes(514))
    assert len(tiles.decode_bundle(bytes(514), limit=257)) == 257

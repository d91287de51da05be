import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import UsageError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.tree import Tree

LEAVES = [hashlib.sha256(b"leaf %d" % number).digest() for number in range(300)]


@given(st.data())
def test_heads_and_proofs_are_those_of_the_recursive_definition(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(LEAVES)))
    tree, size = Tree(LEAVES[:count]), data.draw(st.integers(0, count))
    old = data.draw(st.integers(0, size))
    assert (tree.size, tree.root(size)) == (count, merkle.tree_head(LEAVES[:size]))
    assert tree.consistency_proof(old, size) == merkle.consistency_proof(LEAVES[:size], old)
    if size:
        index = data.draw(st.integers(0, size - 1))
        assert tree.inclusion_proof(index, size) == merkle.inclusion_proof(LEAVES[:size], index)
        assert tree.leaf(index) == LEAVES[index]


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_changed_tiles_are_those_of_the_whole_list(one: int, other: int) -> None:
    old, size = sorted((one, other))
    assert list(Tree(LEAVES).changed_tiles(old, size)) == list(tiles.changed_tiles(LEAVES[:size], old))


def test_a_tree_of_several_tile_levels() -> None:
    leaves = [number.to_bytes(32, "big") for number in range(66_000)]
    tree = Tree(leaves)
    assert tree.root() == merkle.tree_head(leaves)
    assert dict(tree.changed_tiles(65_000)) == dict(tiles.changed_tiles(leaves, 65_000))
    path = tree.consistency_proof(65_001)
    merkle.verify_consistency(
        old_size=65_001, old_root=tree.root(65_001), size=66_000, root=tree.root(), path=path
    )


def test_entries_give_their_leaf_hashes() -> None:
    assert Tree.over([b"one", b"two"]).root() == merkle.tree_head(
        [merkle.leaf_hash(b"one"), merkle.leaf_hash(b"two")]
    )


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_tree_that_was_cut_back_grows_again_like_any_other(one: int, other: int) -> None:
    kept, count = sorted((one, other))
    tree = Tree(LEAVES[:count])
    tree.truncate(kept)
    assert (tree.size, tree.root()) == (kept, merkle.tree_head(LEAVES[:kept]))
    for leaf in LEAVES[kept:]:
        tree.append(leaf)
    assert tree.root() == merkle.tree_head(LEAVES)


def test_our_own_mistakes() -> None:
    tree = Tree(LEAVES[:3])
    for mistake in (
        lambda: tree.append(b"short"),
        lambda: tree.leaf(3),
        lambda: tree.leaf(-1),
        lambda: tree.root(4),
        lambda: tree.root(-1),
        lambda: tree.inclusion_proof(3),
        lambda: tree.inclusion_proof(2, 2),
        lambda: tree.consistency_proof(3, 2),
        lambda: tree.consistency_proof(1, 4),
        lambda: tree.truncate(4),
    ):
        with pytest.raises(UsageError):
            mistake()

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import UsageError
from sottovoce.tlog import merkle

SIZES = st.integers(1, 70)


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(n).encode()) for n in range(count)]


# RFC 6962 section 2.1: the shape of a seven-leaf tree, written out.
def test_seven_leaves() -> None:
    a, b, c, d, e, f, g = leaves(7)
    left = merkle.node_hash(merkle.node_hash(a, b), merkle.node_hash(c, d))
    right = merkle.node_hash(merkle.node_hash(e, f), g)
    assert merkle.tree_head(leaves(7)) == merkle.node_hash(left, right)


def test_hashes_are_domain_separated() -> None:
    assert merkle.leaf_hash(b"") == hashlib.sha256(b"\0").digest()
    assert merkle.tree_head([]) == hashlib.sha256(b"").digest()


@given(SIZES, st.data())
def test_inclusion_proofs_verify_and_no_other_index_does(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree = leaves(size)
    path, root = merkle.inclusion_proof(tree, index), merkle.tree_head(tree)
    merkle.verify_inclusion(leaf=tree[index], index=index, size=size, path=path, root=root)
    for other in set(range(size)) - {index}:
        with pytest.raises(merkle.InclusionError):
            merkle.verify_inclusion(leaf=tree[index], index=other, size=size, path=path, root=root)


@given(SIZES, SIZES)
def test_consistency_proofs_verify_and_a_fork_does_not(one: int, other: int) -> None:
    old, size = sorted((one, other))
    tree = leaves(size)
    path = merkle.consistency_proof(tree, old)
    root, old_root = merkle.tree_head(tree), merkle.tree_head(tree[:old])
    merkle.verify_consistency(old_size=old, old_root=old_root, size=size, root=root, path=path)
    forked = merkle.tree_head([merkle.leaf_hash(b"rewritten"), *tree[1:]])
    with pytest.raises(merkle.ConsistencyError):
        merkle.verify_consistency(old_size=old, old_root=old_root, size=size, root=forked, path=path)


def test_our_own_mistakes() -> None:
    with pytest.raises(UsageError):
        merkle.inclusion_proof(leaves(2), 2)
    with pytest.raises(UsageError):
        merkle.consistency_proof(leaves(2), 3)

"""Merkle trees of RFC 6962: hashes, and the building and checking of proofs.

Verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2, which give the same trees as RFC 6962 with iterative algorithms.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from sottovoce.core.errors import CryptoError, UsageError

__all__ = [
    "EMPTY_ROOT",
    "HASH",
    "ConsistencyError",
    "InclusionError",
    "consistency_proof",
    "inclusion_proof",
    "inclusion_proofs",
    "leaf_hash",
    "node_hash",
    "root_from_path",
    "tree_head",
    "verify_consistency",
    "verify_inclusion",
]

HASH: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"


class InclusionError(CryptoError):
    """An inclusion proof does not lead to the tree head."""

    code = "peer.crypto.inclusion"


class ConsistencyError(CryptoError):
    """A consistency proof does not connect two tree heads: the log was rewritten, or the proof is wrong."""

    code = "peer.crypto.consistency"


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(_NODE + left + right).digest()


def _split(size: int) -> int:
    # The largest power of two smaller than `size`.
    return 1 << (size - 1).bit_length() - 1


def tree_head(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes (RFC 6962 section 2.1)."""
    if not leaves:
        return EMPTY_ROOT
    # Full subtrees are merged as they arise, so this takes one pass.
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, root = 1, leaf
        while stack and stack[-1][0] == size:
            root = node_hash(stack.pop()[1], root)
            size *= 2
        stack.append((size, root))
    root = stack.pop()[1]
    while stack:
        root = node_hash(stack.pop()[1], root)
    return root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` (RFC 6962 section 2.1.1), from the leaf's sibling up.

    Raises:
        UsageError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise UsageError("no leaf with this index")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), tree_head(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), tree_head(leaves[:split])]


def inclusion_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The root over leaf hashes, and the audit path of every leaf, from its sibling up.

    For n leaves this hashes n - 1 times, where n calls of `inclusion_proof` hash about n² times.

    Raises:
        UsageError: there are no leaves.
    """
    if not leaves:
        raise UsageError("a tree without leaves has no proofs")
    # A node without a sibling goes up unchanged, which gives the trees of RFC 6962: full subtrees on the left.
    levels = [list(leaves)]
    while len(below := levels[-1]) > 1:
        pairs = [node_hash(*pair) for pair in zip(below[::2], below[1::2], strict=False)]
        levels.append(pairs + below[len(pairs) * 2 :])
    paths = [
        tuple(level[at] for depth, level in enumerate(levels) if (at := index >> depth ^ 1) < len(level))
        for index in range(len(leaves))
    ]
    return levels[-1][0], paths


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the tree of the first `old_size` leaves is a prefix (RFC 6962 section 2.1.2).

    Raises:
        UsageError: the old tree is larger than this one.
    """
    if not 0 <= old_size <= len(leaves):
        raise UsageError("the old tree is larger than the new one")
    return [] if old_size in {0, len(leaves)} else _subproof(old_size, leaves, whole=True)


def _subproof(old_size: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [tree_head(leaves)]
    split = _split(len(leaves))
    if old_size <= split:
        return [*_subproof(old_size, leaves[:split], whole=whole), tree_head(leaves[split:])]
    return [*_subproof(old_size - split, leaves[split:], whole=False), tree_head(leaves[:split])]


def verify_inclusion(*, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is number `index` of the tree of `size` leaves with head `root` (RFC 9162 section 2.1.3.2).

    Raises:
        InclusionError: it is not.
    """
    if len(leaf) != HASH or root_from_path(leaf=leaf, index=index, size=size, path=path) != root:
        raise InclusionError("the inclusion proof does not lead to the tree head")


def root_from_path(*, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The tree head that an inclusion proof leads to.

    Raises:
        InclusionError: the proof has the wrong length or form.
    """
    first, last, root = index, size - 1, leaf
    if not 0 <= index < size:
        raise InclusionError("the index is outside the tree")
    for sibling in path:
        if len(sibling) != HASH or last == 0:
            raise InclusionError("the inclusion proof has the wrong length")
        if first & 1 or first == last:
            root = node_hash(sibling, root)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        first, last = first >> 1, last >> 1
    if last:
        raise InclusionError("the inclusion proof has the wrong length")
    return root


def verify_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the old tree is a prefix of the new one (RFC 9162 section 2.1.4.2).

    Raises:
        ConsistencyError: it is not, or the proof has the wrong form.
    """
    # Any tree continues the empty one, so a proof from size 0 says nothing; callers decide about it themselves.
    if not 1 <= old_size <= size:
        raise ConsistencyError("the tree sizes are out of range")
    if old_size == size:
        if path or old_root != root:
            raise ConsistencyError("two tree heads of one size differ, or the proof is not empty")
        return
    _verify_growth(old_size, old_root, size, root, list(path))


def _verify_growth(old_size: int, old_root: bytes, size: int, root: bytes, path: list[bytes]) -> None:
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path or any(len(node) != HASH for node in path):
        raise ConsistencyError("the consistency proof has the wrong length")
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            raise ConsistencyError("the consistency proof has the wrong length")
        if first & 1 or first == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new = node_hash(new, node)
        first, last = first >> 1, last >> 1
    if last or old != old_root or new != root:
        raise ConsistencyError("the consistency proof does not connect the two tree heads")

"""A Merkle tree of RFC 6962 that grows, and gives heads, proofs and tiles without hashing anything twice.

Every complete node is kept, level by level: 64 bytes an entry.
"""

from collections.abc import Iterable, Iterator

from sottovoce.core.errors import UsageError
from sottovoce.tlog.merkle import EMPTY_ROOT, HASH, leaf_hash, node_hash
from sottovoce.tlog.tiles import WIDTH, tile_path

__all__ = ["Tree"]

_TILE_HEIGHT = 8


class Tree:
    """The tree over the leaf hashes that were appended. Sizes are numbers of leaves; every hash has 32 bytes."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    @classmethod
    def over(cls, entries: Iterable[bytes]) -> "Tree":
        """The tree over `entries`."""
        return cls(map(leaf_hash, entries))

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0]) // HASH

    def append(self, leaf: bytes) -> int:
        """Append a leaf hash; its index.

        Raises:
            UsageError: not 32 bytes.
        """
        if len(leaf) != HASH:
            raise UsageError("a leaf hash has 32 bytes")
        index, node = self.size, leaf
        for level in range(index.bit_length() + 1):
            if level == len(self._levels):
                self._levels.append(bytearray())
            nodes = self._levels[level]
            nodes += node
            if (index >> level) % 2 == 0:
                break
            node = node_hash(bytes(nodes[-2 * HASH : -HASH]), node)
        return index

    def truncate(self, size: int) -> None:
        """Forget all but the first `size` leaves.

        Raises:
            UsageError: the tree is smaller.
        """
        self._within(size)
        for level, nodes in enumerate(self._levels):
            del nodes[(size >> level) * HASH :]

    def leaf(self, index: int) -> bytes:
        """The leaf hash of entry `index`.

        Raises:
            UsageError: there is none.
        """
        if not 0 <= index < self.size:
            raise UsageError("no leaf with this index")
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The tree head over the first `size` leaves, by default all of them (RFC 6962 section 2.1).

        Raises:
            UsageError: the tree is smaller.
        """
        size = self._within(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The audit path of leaf `index` in the tree of `size` leaves, from its sibling up (RFC 6962 section 2.1.1).

        Raises:
            UsageError: there is no such leaf, or the tree is smaller.
        """
        size = self._within(size)
        if not 0 <= index < size:
            raise UsageError("no leaf with this index")
        start, end, path = 0, size, list[bytes]()
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return path[::-1]

    def consistency_proof(self, old: int, size: int | None = None) -> list[bytes]:
        """The proof that the tree of `old` leaves is a prefix of the one of `size` (RFC 6962 section 2.1.2).

        Raises:
            UsageError: the old tree is larger than the new one, or the new one than this.
        """
        size = self._within(size)
        if not 0 <= old <= size:
            raise UsageError("the old tree is larger than the new one")
        if old in {0, size}:
            return []
        start, end, path = 0, size, list[bytes]()
        while end != old:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        # The old tree's own head is known to who asks, where it is one whole subtree.
        if start:
            path.append(self._range(start, end))
        return path[::-1]

    def changed_tiles(self, old: int, size: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Path and content of every hash tile of the tree of `size` leaves that the tree of `old` has not."""
        size = self._within(size)
        level = 0
        while (count := size >> level * _TILE_HEIGHT) > (before := old >> level * _TILE_HEIGHT):
            nodes = self._levels[level * _TILE_HEIGHT]
            for index in range(before // WIDTH, -(-count // WIDTH)):
                width = min(WIDTH, count - index * WIDTH)
                start = index * WIDTH * HASH
                yield tile_path(level, index, width), bytes(nodes[start : start + width * HASH])
            level += 1

    def _within(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise UsageError("the tree is smaller")
        return size

    def _node(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH : (index + 1) * HASH])

    def _range(self, start: int, end: int) -> bytes:
        # `start` is a multiple of the largest power of two that is not larger than the width.
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._node(level, start >> level)
        middle = start + _split(width)
        return node_hash(self._range(start, middle), self._range(middle, end))


def _split(size: int) -> int:
    # The largest power of two smaller than `size`.
    return 1 << (size - 1).bit_length() - 1

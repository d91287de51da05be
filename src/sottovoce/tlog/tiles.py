"""Where a log's files are (C2SP tlog-tiles): tiles of 256 hashes, bundles of 256 entries, and partial ones.

tile/<level>/<index>[.p/<width>]     width * 32 bytes
tile/entries/<index>[.p/<width>]     width * (u16 length ‖ entry)
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from sottovoce.core.errors import DecodeError, LimitError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.merkle import HASH, tree_head

__all__ = [
    "WIDTH",
    "changed_tiles",
    "decode_bundle",
    "encode_bundle",
    "read_tile",
    "require_count",
    "tile_path",
]

WIDTH: Final = 256
_LENGTH: Final = struct.Struct(">H")
MAX_ENTRY: Final = (1 << 16) - 1


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """The path of tile `index` at `level` (or "entries"), partial if it holds fewer than 256 items."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def require_count(count: int) -> None:
    """Refuse to read so many entries, or their hashes: a tree head's size is only what its signer wrote.

    Raises:
        LimitError: more than `LIMITS.log_entries`.
    """
    if count > LIMITS.log_entries:
        raise LimitError("the log has more entries than are read at one time")


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle.

    Raises:
        UsageError: an entry longer than 65,535 bytes.
    """
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise UsageError("a log entry has at most 65,535 bytes")
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_bundle(data: bytes, *, limit: int = WIDTH) -> list[bytes]:
    """The entries of a bundle, at most `limit`.

    Raises:
        DecodeError: cut short, or with more entries.
    """
    entries, at = list[bytes](), 0
    while at < len(data):
        start = at + _LENGTH.size
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise DecodeError("the entry bundle is cut short")
        if len(entries) == limit:
            raise DecodeError("the entry bundle has too many entries")
        entries.append(data[start:at])
    return entries


def changed_tiles(leaves: Sequence[bytes], old_size: int) -> Iterator[tuple[str, bytes]]:
    """Path and content of every hash tile that differs between the tree of `old_size` leaves and this one."""
    level, hashes, old = 0, list(leaves), old_size
    while len(hashes) > old:
        for index in range(old // WIDTH, -(-len(hashes) // WIDTH)):
            tile = hashes[index * WIDTH : (index + 1) * WIDTH]
            yield tile_path(level, index, len(tile)), b"".join(tile)
        full = len(hashes) // WIDTH
        hashes = [tree_head(hashes[at * WIDTH : (at + 1) * WIDTH]) for at in range(full)]
        level, old = level + 1, old // WIDTH


def read_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile.

    Raises:
        DecodeError: not a whole number of hashes, none, or more than 256.
    """
    if len(data) % HASH or not 0 < len(data) <= WIDTH * HASH:
        raise DecodeError("the tile is cut short or too long")
    return [data[at : at + HASH] for at in range(0, len(data), HASH)]

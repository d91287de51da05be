"""A volume that nobody can change unseen: a file, and behind it the hash tree by which the kernel checks each block when it is read (dm-verity).

    file, padded to whole blocks │ the tree: its top block first, the hashes of the file's blocks last

The form is version 1 of the kernel's (Documentation/admin-guide/device-mapper/verity.rst), with SHA-256, blocks of 4,096 bytes, without salt and without a superblock: what could stand there
is in the image, which is measured. There is no file system in it, so none is read from what the host has given.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from sottovoce.core.errors import ConfigError
from sottovoce.tee.volume import BLOCK, Volume

__all__ = ["measure", "write"]

_DIGEST: Final = 32


def measure(path: Path, name: str) -> Volume:
    """What the image says of the volume that holds the file `path` as `name`.

    Raises:
        ConfigError: the file is empty or cannot be read.
    """
    root, _ = _tree(path)
    return Volume(name=name, size=path.stat().st_size, root=root)


def write(path: Path, name: str, out: Path) -> Volume:
    """Write the volume of the file `path` to `out`; the same bytes for the same file. Returns and raises as `measure`."""
    root, levels = _tree(path)
    try:
        with path.open("rb") as file, out.open("wb") as volume:
            for block in _blocks(file):
                volume.write(block)
            for level in reversed(levels):
                volume.write(level)
    except OSError:
        raise ConfigError("the volume cannot be written", hint=f"is there room beside {out}?") from None
    return Volume(name=name, size=path.stat().st_size, root=root)


def _tree(path: Path) -> tuple[str, list[bytes]]:
    """The root in hex, and the levels of the tree, each padded to whole blocks: that above the file first, that of one block last. A file of one block has none."""
    try:
        with path.open("rb") as file:
            hashes = _hashes(_blocks(file))
    except OSError:
        raise ConfigError("the file for the volume cannot be read") from None
    if not hashes:
        raise ConfigError("the file for the volume is empty")
    levels: list[bytes] = []
    while len(hashes) > _DIGEST:
        level = hashes + bytes(-len(hashes) % BLOCK)
        levels.append(level)
        hashes = _hashes(level[at : at + BLOCK] for at in range(0, len(level), BLOCK))
    return hashes.hex(), levels


def _hashes(blocks: Iterable[bytes]) -> bytes:
    return b"".join(hashlib.sha256(block).digest() for block in blocks)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block + bytes(BLOCK - len(block))

"""A log whose files are in memory, with witnesses, and a reader of them: for the monitor and what compares tree heads."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sottovoce.core.errors import LimitError, UnavailableError
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.thirdparty.logreader import LogReader, MissingError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.note import Note

ORIGIN = "log.example/test"


class Files(LogReader):
    """Reads from a mapping in place of the network."""

    def __init__(self, files: dict[str, bytes], *, url: str = "https://log.example") -> None:
        super().__init__(url)
        self.files = files
        self.down = False
        self.asked: list[str] = []

    async def get(self, path: str, *, limit: int) -> bytes:
        self.asked.append(path)
        if self.down:
            raise UnavailableError("the log does not answer", party="log")
        if path not in self.files:
            raise MissingError("the log does not have the file", party="log")
        if len(self.files[path]) > limit:
            raise LimitError("a file of the log is longer than its limit")
        return self.files[path]


@dataclass
class FilesLog(MemoryLog):
    """The log of `simulator.log_memory` with entries and files; `cosigning` are the witnesses that sign."""

    origin: str = ORIGIN
    entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.origin)
        self.leaves = []
        for entry in self.entries:
            self.leaves.append(merkle.leaf_hash(entry))
        self.cosigning = 2

    def add(self, *entries: bytes) -> None:
        """Append."""
        self.entries += entries
        self.leaves += map(merkle.leaf_hash, entries)

    def fork(self, size: int, *entries: bytes) -> "FilesLog":
        """Another history from `size` on, with the same keys."""
        other = FilesLog(entries=[*self.entries[:size], *entries])
        other.key, other.witnesses = self.key, self.witnesses
        return other

    def checkpoint(self, *, now: int) -> Note:
        """As signed by the log and by as many witnesses as sign."""
        note = super().checkpoint(now=now)
        return Note(text=note.text, signatures=note.signatures[: 1 + self.cosigning])

    def files(self, *, now: int) -> dict[str, bytes]:
        """Every file that it serves."""
        files = dict(tiles.changed_tiles(self.leaves, 0))
        files["checkpoint"] = self.checkpoint(now=now).encode()
        for index in range(-(-len(self.entries) // tiles.WIDTH)):
            bundle = self.entries[index * tiles.WIDTH : (index + 1) * tiles.WIDTH]
            files[tiles.tile_path("entries", index, len(bundle))] = tiles.encode_bundle(bundle)
        return files

    def reader(self, *, now: int) -> Files:
        """A reader of it as it is now."""
        return Files(self.files(now=now))


def blobs(contents: Iterable[bytes]) -> dict[str, bytes]:
    """Public files as a mirror has them."""
    return {f"sha256-{hashlib.sha256(data).hexdigest()}": data for data in contents}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()

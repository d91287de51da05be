"""Puts entries into one order, and never into two (protocol section 10).

1. The batch, with the tree head that it leads to, replaces `sequencer/head`. This one write decides.
2. Entry bundles and hash tiles are created. They follow from step 1 alone, and none of them is ever changed.
3. The tree head is signed.
4. The tree head, with its cosignatures, replaces `checkpoint`.

A stop before step 1 is done leaves the log as it was, and nothing of the batch was signed or shown. A stop after it is
made good by doing steps 2 to 4 again from the record: the signature comes out the same, as Ed25519 is deterministic.
So there is one tree head of each size that is ever signed, and what is told after step 3 is never lost.
"""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import (
    ConfigError,
    DecodeError,
    PeerError,
    SottovoceError,
    UnavailableError,
    UsageError,
)
from sottovoce.thirdparty.files import StorageError
from sottovoce.thirdparty.stores import ImmutableError, OtherWriterError, Store
from sottovoce.tlog import tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import leaf_hash
from sottovoce.tlog.note import ED25519, Note, NoteSignature, SigningKey, sign_note
from sottovoce.tlog.tree import Tree

__all__ = ["CHECKPOINT", "MAX_BATCH", "NoEntryError", "NotPublishedError", "Sequencer"]

CHECKPOINT: Final = "checkpoint"
_HEAD: Final = "sequencer/head"
MAX_BATCH: Final = 4096
"""Entries in one batch."""
_LABEL: Final = b"sottovoce log head v1"
# sottovoce-log-head/v1 ␊ <old size> ␊ <checkpoint: origin ␊ size ␊ root ␊> <HMAC-SHA256, hex> ␊ <batch, as an entry bundle>
_RECORD: Final = re.compile(
    rb"sottovoce-log-head/v1\n(0|[1-9][0-9]{0,18})\n((?:[^\n]+\n){3})([0-9a-f]{64})\n(.*)", re.DOTALL
)


class NoEntryError(PeerError):
    """The log has no such entry."""

    code = "peer.no-entry"


class NotPublishedError(UnavailableError):
    """The entry is in the log, and too few witnesses have seen it yet."""

    code = "unavailable.witnesses"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What step 1 writes: the batch, the size before it, and the tree head after it."""

    old: int
    head: Checkpoint
    batch: tuple[bytes, ...]

    def encode(self, key: bytes) -> bytes:
        start = b"sottovoce-log-head/v1\n%d\n" % self.old + self.head.encode().encode()
        batch = tiles.encode_bundle(self.batch)
        return start + _tag(key, start, batch) + b"\n" + batch

    @classmethod
    def decode(cls, data: bytes, key: bytes) -> "_Record":
        match = _RECORD.fullmatch(data)
        # The tag keeps who holds the store from giving the log a head of their own to sign.
        if not match or not hmac.compare_digest(match[3], _tag(key, data[: match.start(3)], match[4])):
            raise DecodeError("the record of the log's head is damaged")
        batch = tuple(tiles.decode_bundle(match[4], limit=MAX_BATCH))
        return cls(old=int(match[1]), head=Checkpoint.parse(match[2].decode()), batch=batch)


def _tag(key: bytes, start: bytes, batch: bytes) -> bytes:
    return hmac.digest(key, start + batch, "sha256").hex().encode()


class Sequencer:
    """The one writer of a log.

    Its methods block. `published` and `locate` may be used from another thread meanwhile.

    Attributes:
        tree: all entries in their order, published or not.
        note: the newest tree head, signed by the log, with the cosignatures on it.
        published: what `checkpoint` holds.
    """

    def __init__(self, store: Store, key: SigningKey, origin: str) -> None:
        """Read the log back, and finish what a stop left unfinished.

        Raises:
            ConfigError: the files are damaged, lost or of another log; going on could sign a second history.
            StorageError, OtherWriterError: the files cannot be written.
        """
        if key.kind != ED25519:
            raise UsageError("a log signs with a plain note key")
        self._store = store
        self._key = key
        self._origin = origin
        self._tag_key = hmac.digest(key.private.private_bytes_raw(), _LABEL, "sha256")
        self._indexes: dict[bytes, int] = {}
        # The entries from number `_first` on: those of bundles that are not full.
        self._first, self._rest = 0, list[bytes]()
        self._owed: _Record | None = None
        self._written: bytes = b""
        self.tree = Tree()
        self.note, self.published = self._open()

    def hold(self) -> None:
        """Become the log's only writer, until `release`.

        Raises:
            OtherWriterError: there is another one, or was since this object was made.
        """
        self._store.hold()
        if self._store.read(_HEAD) != self._written:
            raise OtherWriterError("another process has written to the log; start again")

    def release(self) -> None:
        """Let another writer in."""
        self._store.release()

    def _open(self) -> tuple[Note, Note]:
        try:
            data, published = self._store.read(_HEAD), self._store.read(CHECKPOINT)
        except StorageError:
            raise ConfigError("the log's tree head cannot be read") from None
        if data is None:
            return self._begin(published)
        try:
            record = _Record.decode(data, self._tag_key)
        except DecodeError:
            raise ConfigError("the record of the log's tree head is damaged, or of another key") from None
        if record.head.origin != self._origin:
            raise ConfigError("the log's files are of another log")
        self._written = data
        self._read_back(record)
        return self._finished(record, published)

    def _begin(self, published: bytes | None) -> tuple[Note, Note]:
        # The record is there before the first tile, so tiles without one are a record that was lost. A log that began
        # anew then would sign a second history.
        if published is not None or self._store.holds("tile"):
            raise ConfigError("the log's tree head is lost; it must not go on")
        record = _Record(old=0, head=self._head(), batch=())
        self._record(record)
        return self._finished(record, None)

    def _record(self, record: _Record) -> None:
        data = record.encode(self._tag_key)
        self._store.replace(_HEAD, data)
        self._written = data

    def _read_back(self, record: _Record) -> None:
        self._first = record.old // tiles.WIDTH * tiles.WIDTH
        try:
            for entry in self._entries(record.old):
                self._index(leaf_hash(entry))
                if self.tree.size > self._first:
                    self._rest.append(entry)
        except (StorageError, DecodeError):
            raise ConfigError("the log's entries are damaged; it must not go on") from None
        if self.tree.size != record.old:
            raise ConfigError("the log's entries are damaged; it must not go on")
        for entry in record.batch:
            self._index(leaf_hash(entry))
        self._rest += record.batch
        if self._head() != record.head:
            raise ConfigError("the log's files do not give its tree head; it must not go on")

    def _entries(self, size: int) -> Iterable[bytes]:
        for index in range(-(-size // tiles.WIDTH)):
            width = min(tiles.WIDTH, size - index * tiles.WIDTH)
            data = self._store.read(tiles.tile_path("entries", index, width))
            yield from tiles.decode_bundle(data or b"")

    def _index(self, leaf: bytes) -> None:
        self._indexes.setdefault(leaf, self.tree.append(leaf))

    def _finished(self, record: _Record, published: bytes | None) -> tuple[Note, Note]:
        try:
            self._lay_out(record)
        except ImmutableError:
            raise ConfigError("the log's tiles do not follow from its entries; it must not go on") from None
        note = sign_note(record.head.encode(), [self._key])
        if published is not None:
            shown = self._known(published)
            return (shown if shown.text == note.text else note), shown
        if record.head.size:
            raise ConfigError("the log's published tree head is lost; it must not go on")
        # The empty tree is shown at once; any other head first goes to the witnesses.
        self._store.replace(CHECKPOINT, note.encode())
        return note, note

    def _known(self, published: bytes) -> Note:
        try:
            note = Note.parse(published)
            head = Checkpoint.parse(note.text)
            signed = note.signed_by(self._key.verifier)
        except PeerError:
            raise ConfigError("the log's published tree head is damaged; it must not go on") from None
        if head.origin != self._origin or not signed:
            raise ConfigError("the log's files are of another log")
        if head.size > self.tree.size or head.root != self.tree.root(head.size):
            raise ConfigError("the log has published what its files do not give; it must not go on")
        return note

    def _head(self) -> Checkpoint:
        return Checkpoint(origin=self._origin, size=self.tree.size, root=self.tree.root())

    def add(self, entries: Sequence[bytes]) -> list[int]:
        """Append durably, in one step, and sign; each entry's index. One that is there already keeps its index.

        Raises:
            UsageError: an entry longer than 65,535 bytes, or more than `MAX_BATCH`.
            StorageError, ImmutableError: nothing new was signed or shown. The entries may come to be in the log.
            OtherWriterError: as above, and this process must stop.
        """
        if len(entries) > MAX_BATCH or any(len(entry) > tiles.MAX_ENTRY for entry in entries):
            raise UsageError("the batch is too large")
        self._settle()
        leaves = list(map(leaf_hash, entries))
        new = {leaf: entry for leaf, entry in zip(leaves, entries, strict=True) if leaf not in self._indexes}
        if new:
            self._commit(new)
        return [self._indexes[leaf] for leaf in leaves]

    def _commit(self, new: Mapping[bytes, bytes]) -> None:
        old = self.tree.size
        for leaf in new:
            self.tree.append(leaf)
        record = _Record(old=old, head=self._head(), batch=tuple(new.values()))
        try:
            self._record(record)  # step 1
        except SottovoceError:
            self.tree.truncate(old)
            raise
        self._indexes.update(zip(new, range(old, self.tree.size), strict=True))
        self._rest += record.batch
        self._owed = record
        self._settle()

    def _settle(self) -> None:
        if self._owed is not None:
            self._lay_out(self._owed)  # step 2
            self.note = sign_note(self._owed.head.encode(), [self._key])  # step 3
            self._owed = None

    def _lay_out(self, record: _Record) -> None:
        size = record.head.size
        if size > record.old:
            files = dict(self._bundles(record.old, size))
            files.update(self.tree.changed_tiles(record.old))
            self._store.create(files)
        full = size // tiles.WIDTH * tiles.WIDTH
        del self._rest[: full - self._first]
        self._first = full

    def _bundles(self, old: int, size: int) -> Iterable[tuple[str, bytes]]:
        for index in range(old // tiles.WIDTH, -(-size // tiles.WIDTH)):
            start, end = index * tiles.WIDTH, min((index + 1) * tiles.WIDTH, size)
            entries = self._rest[start - self._first : end - self._first]
            yield tiles.tile_path("entries", index, end - start), tiles.encode_bundle(entries)

    def cosign(self, cosignatures: Iterable[NoteSignature]) -> None:
        """Keep new cosignatures on the newest tree head; one that none replaces stays."""
        given = list(cosignatures)
        made = {(item.name, item.key_id) for item in given}
        kept = [item for item in self.note.signatures if (item.name, item.key_id) not in made]
        self.note = Note(text=self.note.text, signatures=(*kept, *given))

    def publish(self) -> None:
        """Show the newest tree head with its cosignatures.

        Raises:
            StorageError, OtherWriterError: what is shown is as it was.
        """
        note = self.note
        self._store.replace(CHECKPOINT, note.encode())  # step 4
        self.published = note

    def locate(self, leaf: bytes) -> tuple[int, list[bytes], Note]:
        """The index of the entry with this leaf hash, and its audit path under the published tree head, with that head.

        Raises:
            NoEntryError: there is none.
            NotPublishedError: it is not under that head yet.
        """
        index, head = self._indexes.get(leaf), self.published
        if index is None:
            raise NoEntryError("the log has no such entry")
        size = Checkpoint.parse(head.text).size
        if index >= size:
            raise NotPublishedError("too few witnesses have seen the entry yet", party="witness")
        return index, self.tree.inclusion_proof(index, size), head

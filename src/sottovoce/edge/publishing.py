"""Publishing directories: into the log, seen by witnesses, then onto the mirrors, ahead of their day, under the names of their epochs.

    enter in the log ─▶ prove, with the witnesses' quorum ─▶ consistency files ─▶ proofs ─▶ the document, last

A document appears at a mirror when everything that a device needs with it is there. A device holds what one mirror has against what a relay
has from another, so each step is done at all mirrors before the next one begins: whichever of them it asks has the file that connects the
two. Each step may be done twice, so after a crash or a refusal the same command is given again. The mirrors' folders are all the state
that there is.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.core.errors import ConfigError, PeerError, SottovoceError
from sottovoce.core.tokens import GRACE, epoch_at
from sottovoce.edge.directories import open_directory
from sottovoce.edge.files import locked, write_whole
from sottovoce.edge.logclient import LogClient
from sottovoce.tlog.directoryfiles import (
    HISTORY,
    history_name,
    history_size,
    note_epoch,
    note_name,
    proof_name,
)
from sottovoce.tlog.history import MAX_HEADS, History
from sottovoce.tlog.note import VerifierKey
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint
from sottovoce.tlog.proof import verify_proof

__all__ = ["Mirror", "NotSeenError", "Publisher", "SecondDirectoryError"]

_PUBLIC: int = 0o644
"""Mode of what anybody may read."""
_BEHIND: int = 7
"""Days for which a directory that is over stays: the next one is compared with it, though the operator be late."""


class SecondDirectoryError(SottovoceError):
    """The epoch has a directory already, and it is another one. There is one document an epoch, the same for everybody."""

    code = "directory.second"


class NotSeenError(SottovoceError):
    """What the log shows is not what a device would accept: nothing was published."""

    code = "directory.not-logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The folder from which a mirror serves."""

    folder: Path

    def notes(self) -> dict[int, bytes]:
        """The documents that are there, by epoch.

        Raises:
            ConfigError: the folder cannot be read.
        """
        try:
            paths = list(self.folder.iterdir())
            numbered = {epoch: path for path in paths if (epoch := note_epoch(path.name)) is not None}
            return {epoch: numbered[epoch].read_bytes() for epoch in sorted(numbered)}
        except OSError:
            raise ConfigError(
                "the mirror's folder cannot be read", hint=f"looked for {self.folder}"
            ) from None

    def sizes(self) -> list[int]:
        """The sizes of the tree heads that were published, the smallest first."""
        sizes = (history_size(path.name) for path in self.folder.glob("consistency-*"))
        return sorted(size for size in sizes if size is not None)

    def put(self, name: str, data: bytes) -> None:
        """Replace a file; raises StorageError."""
        write_whole(self.folder / name, data, mode=_PUBLIC)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)


class Publisher:
    """Publishes to all mirrors of a directory. `key` signs directories; `policy` is what devices demand of the log."""

    def __init__(
        self,
        log: LogClient,
        mirrors: Sequence[Mirror],
        *,
        key: VerifierKey,
        policy: LogPolicy,
        progress: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._log = log
        self._mirrors = list({mirror.folder.resolve(): mirror for mirror in mirrors}.values())
        self._key = key
        self._policy = policy
        self._progress = progress

    def notes(self) -> dict[int, bytes]:
        """The documents that are at a mirror, by epoch.

        Raises:
            ConfigError: a folder cannot be read.
            SecondDirectoryError: two mirrors have different ones for an epoch.
        """
        found = dict[int, bytes]()
        for mirror in self._mirrors:
            for epoch, note in mirror.notes().items():
                if found.setdefault(epoch, note) != note:
                    hint = f"epoch {epoch}, {mirror.folder}: which one is in the log?"
                    raise SecondDirectoryError(
                        "two mirrors have different directories for one day", hint=hint
                    )
        return found

    def publish(self, note: bytes, now: int, *, unsafe_replace: bool = False) -> int:
        """Publish one signed directory, with fresh proofs for all that are there; returns its epoch.

        `unsafe_replace` lets an epoch have a second document: the attack lab's operator does that.

        Raises:
            ConfigError: not signed by the directory's key, or over already.
            SecondDirectoryError: its epoch has another one.
            NotSeenError: the log's proof, or its tiles, would not be accepted by a device.
            UnavailableError: the log does not take it, or does not answer.
            DecodeError, LimitError: its answers are malformed, or it has more entries than are read.
            FolderBusyError: another command is at work at a mirror.
            StorageError: a mirror's disk is full.
        """
        directory = open_directory(note, self._key)
        if now >= directory.not_after:
            raise ConfigError("the directory's day is over", hint="prepare the next one")
        with self._alone():
            notes = self.notes()
            if notes.get(directory.epoch) not in {None, note} and not unsafe_replace:
                raise SecondDirectoryError(
                    "this epoch has another directory already", hint="nothing was published"
                )
            self._log.append(directory.encode())
            self._progress("logged")
            self._show({**notes, directory.epoch: note}, now)
        return directory.epoch

    def refresh(self, now: int) -> list[int]:
        """Fresh proofs for every directory that a device may ask for, and for the newest one: it takes none older than a day. The epochs.

        Raises:
            SecondDirectoryError, NotSeenError, UnavailableError, DecodeError, LimitError, StorageError: as `publish`.
        """
        with self._alone():
            return self._show(self.notes(), now)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            for mirror in self._mirrors:
                held.enter_context(locked(mirror.folder))
            yield

    def _show(self, notes: Mapping[int, bytes], now: int) -> list[int]:
        proofs, heads, first = self._prove_all(notes, now)
        wanted = {epoch: notes[epoch] for epoch in sorted(proofs)}
        self._progress("proved")
        self._write_histories(heads)
        for mirror in self._mirrors:
            for epoch in wanted:
                mirror.put(proof_name(epoch), proofs[epoch])
        self._progress("proofs")
        for mirror in self._mirrors:
            there = mirror.notes()
            for epoch, note in wanted.items():
                if there.get(epoch) != note:
                    mirror.put(note_name(epoch), note)
        self._progress("published")
        for mirror in self._mirrors:
            for epoch in (epoch for epoch in notes if epoch < first - _BEHIND):
                for name in (note_name(epoch), proof_name(epoch)):
                    mirror.remove(name)
        return list(wanted)

    def _prove_all(
        self, notes: Mapping[int, bytes], now: int
    ) -> tuple[dict[int, bytes], set[tuple[int, bytes]], int]:
        """Proofs, by epoch, of every document that a device may ask for, and of the newest one.

        And sizes and roots of their tree heads, and the first epoch that counts.
        """
        proofs, heads, first = dict[int, bytes](), set[tuple[int, bytes]](), _first(now)
        for epoch in sorted(notes, reverse=True):
            # The newest one is proved though it may be over: where this clock is wrong, the witnesses' are not.
            if proofs and epoch < first:
                break
            proofs[epoch], head = self._prove(notes[epoch], now)
            heads.add((head.size, head.root))
            # What devices ask for by the witnesses' time is neither left out nor removed, though this clock be ahead.
            first = min(first, epoch, _first(head.time))
        return proofs, heads, first

    def _prove(self, note: bytes, now: int) -> tuple[bytes, VerifiedCheckpoint]:
        """The proof of a document, checked as a device does, and its tree head."""
        entry = open_directory(note, self._key).encode()
        proof = self._log.prove(entry).proof
        try:
            logged = verify_proof(proof, entry, self._policy, now=now)
        except PeerError as error:
            raise NotSeenError(
                f"no device would accept the log's proof: {error}",
                hint="are enough witnesses up, and is this machine's clock right? Try again.",
            ) from None
        return proof, logged.checkpoint

    def _write_histories(self, heads: set[tuple[int, bytes]]) -> None:
        """The consistency files of the tree heads with these sizes and roots, from every head that was published at a mirror, before the heads themselves are."""
        sizes = {size for size, _ in heads}.union(*(mirror.sizes() for mirror in self._mirrors))
        # All are checked before the first is written: a device refuses both the file of another tree head and the proof beside it.
        histories = [self._history(size, root, sizes).encode() for size, root in sorted(heads)]
        for (size, _), history in zip(sorted(heads), histories, strict=True):
            for mirror in self._mirrors:
                mirror.put(history_name(size), history)
        for mirror in self._mirrors if histories else ():
            mirror.put(HISTORY, histories[-1])
        self._progress("consistency")
        for mirror in self._mirrors:
            for old in mirror.sizes()[: -MAX_HEADS - 1]:
                mirror.remove(history_name(old))

    def _history(self, size: int, root: bytes, earlier: set[int]) -> History:
        """The consistency file of a tree head, from tiles that give it: they come from the log, or from a cache before it, and nobody signs them."""
        history = self._log.history(self._policy.origin, size, earlier)
        if (history.head.size, history.head.root) != (size, root):
            raise NotSeenError(
                "the log's tiles do not give the tree head of its proof",
                hint="a file of the log, or of a cache before it, is damaged or old: nothing was published",
            )
        return history


def _first(now: int) -> int:
    """The oldest epoch whose directory a device could still ask for."""
    return epoch_at(now - GRACE)

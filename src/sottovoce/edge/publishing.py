"""Publishing directories: into the log, seen by witnesses, then onto the mirror, ahead of their day, under the names of their epochs.

    enter in the log ─▶ prove, with the witnesses' quorum ─▶ consistency files ─▶ proofs ─▶ the document, last

A document appears at the mirror when everything that a device needs with it is there. Each step may be done twice, so after a crash or a
refusal the same command is given again. The mirror's folder is all the state that there is.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sottovoce.core.errors import ConfigError, PeerError, SottovoceError
from sottovoce.core.tokens import GRACE, epoch_at
from sottovoce.edge.directories import open_directory
from sottovoce.edge.files import write_whole
from sottovoce.edge.logclient import LogClient
from sottovoce.tlog.directoryfiles import (
    HISTORY,
    history_name,
    history_size,
    note_epoch,
    note_name,
    proof_name,
)
from sottovoce.tlog.history import MAX_HEADS
from sottovoce.tlog.note import VerifierKey
from sottovoce.tlog.policy import LogPolicy
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
    """Publishes to one mirror. `key` signs directories; `policy` is what devices demand of the log."""

    def __init__(
        self,
        log: LogClient,
        mirror: Mirror,
        *,
        key: VerifierKey,
        policy: LogPolicy,
        progress: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._log = log
        self._mirror = mirror
        self._key = key
        self._policy = policy
        self._progress = progress

    def publish(self, note: bytes, now: int, *, unsafe_replace: bool = False) -> int:
        """Publish one signed directory, with fresh proofs for all that are there; returns its epoch.

        `unsafe_replace` lets an epoch have a second document: the attack lab's operator does that.

        Raises:
            ConfigError: not signed by the directory's key, or over already.
            SecondDirectoryError: its epoch has another one.
            NotSeenError: the log's proof would not be accepted by a device.
            UnavailableError: the log does not take it, or does not answer.
            StorageError: the mirror's disk is full.
        """
        directory = open_directory(note, self._key)
        if now >= directory.not_after:
            raise ConfigError("the directory's day is over", hint="prepare the next one")
        notes = self._mirror.notes()
        there = notes.get(directory.epoch)
        if there not in {None, note} and not unsafe_replace:
            raise SecondDirectoryError("this epoch has another directory already")
        self._log.append(directory.encode())
        self._progress("logged")
        self._show({**notes, directory.epoch: note}, now)
        return directory.epoch

    def refresh(self, now: int) -> list[int]:
        """Fresh proofs for every directory that is there: a device takes none older than a day. The epochs.

        Raises:
            NotSeenError, UnavailableError, StorageError: as `publish`.
        """
        notes = self._mirror.notes()
        self._show(notes, now)
        return [epoch for epoch in notes if epoch >= _first(now)]

    def _show(self, notes: Mapping[int, bytes], now: int) -> None:
        wanted = {epoch: note for epoch, note in notes.items() if epoch >= _first(now)}
        proofs, heads = dict[int, bytes](), set[int]()
        for epoch, note in wanted.items():
            proofs[epoch], size = self._prove(note, now)
            heads.add(size)
        self._progress("proved")
        self._write_histories(heads)
        for epoch, proof in proofs.items():
            self._mirror.put(proof_name(epoch), proof)
        self._progress("proofs")
        for epoch, note in wanted.items():
            if self._mirror.notes().get(epoch) != note:
                self._mirror.put(note_name(epoch), note)
        self._progress("published")
        for epoch in (epoch for epoch in notes if epoch < _first(now) - _BEHIND):
            for name in (note_name(epoch), proof_name(epoch)):
                self._mirror.remove(name)

    def _prove(self, note: bytes, now: int) -> tuple[bytes, int]:
        """The proof of a document, checked as a device does, and the size of its tree head."""
        entry = open_directory(note, self._key).encode()
        proof = self._log.prove(entry).proof
        try:
            logged = verify_proof(proof, entry, self._policy, now=now)
        except PeerError as error:
            raise NotSeenError(
                f"no device would accept the log's proof: {error}", hint="are enough witnesses up? Try again."
            ) from None
        return proof, logged.checkpoint.size

    def _write_histories(self, heads: set[int]) -> None:
        """The consistency files of these tree heads, from every head that was published, before the heads themselves are."""
        for size in sorted(heads):
            sizes = self._mirror.sizes()
            history = self._log.history(self._policy.origin, size, sizes).encode()
            self._mirror.put(history_name(size), history)
            if size == max(heads):
                self._mirror.put(HISTORY, history)
        self._progress("consistency")
        for old in self._mirror.sizes()[: -MAX_HEADS - 1]:
            self._mirror.remove(history_name(old))


def _first(now: int) -> int:
    """The oldest epoch whose directory a device could still ask for."""
    return epoch_at(now - GRACE)

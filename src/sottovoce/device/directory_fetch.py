"""Getting the directory (protocol section 3): from a mirror and through a relay, then kept until its next refresh.

What is kept is verified again each time it is read, so a changed file is no different from a changed answer.

    fetched ─▶ kept ── 2 to 5 hours, drawn ─▶ fetched anew
                └──── would be after the end of its day ─▶ within 45 minutes after that end, drawn: the old one is valid for an hour more

So all devices come to the next day's document spread over that time, and when one comes says nothing about its user. A mirror that
is late or down then costs nothing: the kept one is used while it passes every check.
"""

import asyncio
import base64
import binascii
import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import LimitError, PeerError, SottovoceError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, epoch_at
from sottovoce.device.directory import (
    DirectoryRefused,
    LastSeen,
    LogForked,
    VerifiedDirectory,
    accept,
    check_usable,
    load_last_seen,
    save_last_seen,
)
from sottovoce.device.environment import Environment
from sottovoce.device.files import DiskError, exclusive, write_private
from sottovoce.device.schedule import Draw
from sottovoce.device.transport import Network, RelayClient
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.directoryfiles import HISTORY, history_name, note_name, proof_name
from sottovoce.tlog.history import History
from sottovoce.tlog.proof import Proof

__all__ = ["DirectorySource", "refresh_time"]

_REFRESH: Final = (2 * 3600, 5 * 3600)
"""Seconds until the next fetch, drawn anew each time, so that the time of a fetch says nothing about use."""
_ROTATION: Final = (0, GRACE * 3 // 4)
"""Seconds after the end of the document's day, for a fetch that would be later. What is left of the grace is for trying again."""
_RETRY: Final = (300, 900)
"""Seconds from a fetch that found nobody to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptDirectory:
    accepted: VerifiedDirectory
    is_due: bool
    """Whether it is time for a fresh one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What came by the two ways, and the consistency file; nothing is verified yet."""

    note: bytes
    second: bytes
    proof: bytes
    second_proof: bytes
    history: bytes | None


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    note: str
    proof: str
    history: str = ""
    refresh: int


def refresh_time(epoch: int, now: int, draw: Draw) -> int:
    """Unix seconds of the fetch after the one at `now`, which brought the document of `epoch`."""
    planned, end = now + draw.randint(*_REFRESH), (epoch + 1) * EPOCH_SECONDS
    return planned if planned < end else end + draw.randint(*_ROTATION)


class DirectorySource:
    """The directory of one environment, for the device whose state is in `home`."""

    def __init__(
        self, environment: Environment, network: Network, home: Path, *, draw: random.Random | None = None
    ) -> None:
        self._environment = environment
        self._network = network
        self._kept = home / "directory.json"
        self._seen = home / "last-directory.json"
        self._fork = home / "fork.json"
        self._draw = draw or random.SystemRandom()

    async def get(self, now: int, *, fresh: bool = False) -> tuple[VerifiedDirectory, bool]:
        """The accepted directory, and whether it was fetched now. `fresh` does not use what is kept.

        Raises:
            LogForked: the log has two histories, or a mirror's consistency file is wrong; what was shown is kept in `fork.json`.
            DirectoryRefused: another rule of section 3 does not hold.
            UnavailableError: no mirror or no relay has it, and none is kept that is still valid.
            ConfigError: the record of the last directory is damaged.
            DiskError: the disk is full.
        """
        last = load_last_seen(self._seen)
        kept = None if fresh else self._read(now, last)
        if kept is not None and not kept.is_due:
            return kept.accepted, False
        try:
            answers = await self._fetch(now)
        except UnavailableError:
            if kept is None:
                raise
            # Every check of it was made again just now; it has a few hours at most.
            self._write(kept.accepted, now + self._draw.randint(*_RETRY))
            return kept.accepted, False
        # Another process of this device may have accepted one while this one waited for the network.
        with exclusive(self._kept.parent):
            accepted = self._judged(answers, now, load_last_seen(self._seen))
            save_last_seen(self._seen, accepted)
            self._write(accepted, refresh_time(accepted.directory.epoch, now, self._draw))
        return accepted, True

    async def _fetch(self, now: int) -> "_Answers":
        epoch, relay = epoch_at(now), RelayClient(self._network, self._environment.relays)
        mirrored = asyncio.ensure_future(self._mirror(epoch))
        ways = [asyncio.ensure_future(relay.directory(name(epoch))) for name in (note_name, proof_name)]
        try:
            # Where both ways fail, it is the mirror's failure that is told.
            note, proof, shown = await mirrored
            second, second_proof = [await way for way in ways]
        finally:
            for task in (mirrored, *ways):
                task.cancel()
            await asyncio.gather(mirrored, *ways, return_exceptions=True)
        sizes = {size for one in (proof, second_proof) if (size := _size(one))}
        # It came with the others, whether this device needs it or not: who asks for it says nothing about when he was here last.
        # Where the one way is behind the other, or the files were changed meanwhile, the right one has a name of its own.
        newest = max(sizes, default=0)
        history = None
        if newest:
            history = shown if _head(shown) == newest else await self._history(newest)
        return _Answers(note=note, second=second, proof=proof, second_proof=second_proof, history=history)

    def _judged(self, answers: "_Answers", now: int, last: LastSeen | None) -> VerifiedDirectory:
        try:
            accepted = self._accept(
                answers.note,
                answers.second,
                answers.proof,
                now,
                last,
                second_proof=answers.second_proof,
                history=answers.history,
            )
        except LogForked as error:
            kept = self._keep_fork(answers, now, proved=error.proved)
            raise LogForked(str(error), proved=error.proved, hint=kept) from None
        if accepted.directory.epoch != epoch_at(now):
            raise DirectoryRefused("the directory is of another epoch than its name says")
        return accepted

    def _keep_fork(self, answers: _Answers, now: int, *, proved: bool) -> str:
        """Keep what was shown now, beside what was accepted last; what proves a fork is not replaced. Says where it is."""
        before = b""
        unreadable = (OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error)
        with suppress(*unreadable):
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            before = base64.b64decode(kept.proof, validate=True)
        there = None
        with suppress(*unreadable):
            there = msgspec.json.decode(self._fork.read_bytes(), type=dict[str, object])
        try:
            if there is None or (proved and not there.get("proved")):
                shown = {"accepted": before, "mirror": answers.proof, "relay": answers.second_proof}
                texts = {name: base64.b64encode(data).decode() for name, data in shown.items()}
                write_private(self._fork, msgspec.json.encode({"time": now, "proved": proved, **texts}))
        except DiskError:
            return "The signed tree heads could not be kept: the disk is full."
        if proved:
            return f"{self._fork} has the signed tree heads: they prove it to anybody"
        return f"{self._fork} has the signed tree heads. `sottovoce log compare` tells a fork from a mirror's wrong file."

    def _accept(
        self,
        first: bytes,
        second: bytes,
        proof: bytes,
        now: int,
        last: LastSeen | None,
        *,
        second_proof: bytes | None = None,
        history: bytes | None = None,
    ) -> VerifiedDirectory:
        environment = self._environment
        accepted = accept(
            first,
            second,
            proof,
            key=environment.directory_verifier(),
            log=environment.log_policy(),
            now=now,
            last=last,
            second_proof=second_proof,
            history=history,
        )
        check_usable(accepted)
        return accepted

    async def _history(self, size: int) -> bytes | None:
        """The consistency file of the tree head of this size; None if no mirror has it."""
        for mirror in self._mirrors():
            with suppress(UnavailableError):
                return await self._file(mirror, history_name(size))
        return None

    async def _optional(self, mirror: str, name: str) -> bytes:
        try:
            return await self._file(mirror, name)
        except UnavailableError:
            return b""

    async def _file(self, mirror: str, name: str) -> bytes:
        url = f"{mirror.rstrip('/')}/{name}"
        return await self._network.get(url, party="directory", limit=LIMITS.directory)

    def _mirrors(self) -> list[str]:
        return self._draw.sample(self._environment.mirrors, len(self._environment.mirrors))

    async def _mirror(self, epoch: int) -> tuple[bytes, bytes, bytes]:
        """The three files of one mirror; the consistency file is empty where it has none."""
        for mirror in self._mirrors():
            with suppress(UnavailableError):
                note, proof, history = await asyncio.gather(
                    self._file(mirror, note_name(epoch)),
                    self._file(mirror, proof_name(epoch)),
                    self._optional(mirror, HISTORY),
                )
                return note, proof, history
        raise UnavailableError(
            "no mirror has the directory of today",
            party="directory",
            hint="Try again later. Is this device's clock right?",
        )

    def _read(self, now: int, last: LastSeen | None) -> "_KeptDirectory | None":
        try:
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            # A plan beyond the longest range was made by a clock that has been set back since.
            is_due = not 0 < kept.refresh - now <= _REFRESH[1] + _ROTATION[1]
            texts = (kept.note, kept.proof, kept.history)
            note, proof, history = (base64.b64decode(text, validate=True) for text in texts)
            accepted = self._accept(note, note, proof, now, last, history=history or None)
            return _KeptDirectory(accepted=accepted, is_due=is_due)
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error, SottovoceError):
            # Expired, damaged or of another environment: the network has the right one.
            return None

    def _write(self, accepted: VerifiedDirectory, refresh: int) -> None:
        history = accepted.history.encode() if accepted.history else b""
        texts = (accepted.note, accepted.proof, history)
        note, proof, links = (base64.b64encode(data).decode() for data in texts)
        kept = _Kept(note=note, proof=proof, history=links, refresh=refresh)
        if len(accepted.note) > LIMITS.directory:
            raise LimitError("the directory is longer than its limit")
        write_private(self._kept, msgspec.json.encode(kept))


def _size(proof: bytes) -> int:
    """The size of the tree head in a proof that nobody has verified yet; 0 if it has none."""
    try:
        return Checkpoint.parse(Proof.parse(proof).note.text).size
    except PeerError:
        return 0


def _head(history: bytes) -> int:
    """The size of the tree head to which a consistency file leads; 0 if it is none."""
    try:
        return History.parse(history).head.size
    except PeerError:
        return 0

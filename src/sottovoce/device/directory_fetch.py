"""Getting the directory (protocol section 3): from a mirror and through a relay, then kept until its next refresh.

What is kept is verified again each time it is read, so a changed file is no different from a changed answer.
"""

import asyncio
import base64
import binascii
import random
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import LimitError, PeerError, SottovoceError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device.directory import (
    LastSeen,
    LogForked,
    VerifiedDirectory,
    accept,
    check_usable,
    load_last_seen,
    save_last_seen,
)
from sottovoce.device.environment import Environment
from sottovoce.device.files import write_private
from sottovoce.device.transport import Network, RelayClient
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.history import History
from sottovoce.tlog.proof import Proof

__all__ = ["DirectorySource"]

_NOTE, _PROOF, _HISTORY = "directory.note", "directory.proof", "directory.consistency"
_REFRESH: Final = (2 * 3600, 5 * 3600)
"""Seconds until the next fetch, drawn anew each time, so that the time of a fetch says nothing about use."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    note: str
    proof: str
    history: str = ""
    refresh: int


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
            LogForked: the log has two histories; what was shown of both is kept in `fork.json`.
            DirectoryRefused: another rule of section 3 does not hold.
            UnavailableError: no mirror or no relay has it.
            ConfigError: the record of the last directory is damaged.
            DiskError: the disk is full.
        """
        last = load_last_seen(self._seen)
        kept = None if fresh else self._read(now, last)
        if kept is not None:
            return kept, False
        relay = RelayClient(self._network, self._environment.relays)
        mirrored, second, second_proof = await asyncio.gather(
            self._mirror(), relay.directory(_NOTE), relay.directory(_PROOF)
        )
        note, proof, shown = mirrored
        sizes = {size for one in (proof, second_proof) if (size := _size(one))}
        # It came with the others, whether this device needs it or not: who asks for it says nothing about when he was here last.
        # Where the one way is behind the other, or the files were changed meanwhile, the right one has a name of its own.
        newest = max(sizes, default=0)
        history = None
        if newest:
            history = shown if _head(shown) == newest else await self._history(newest)
        try:
            accepted = self._accept(
                note, second, proof, now, last, second_proof=second_proof, history=history
            )
        except LogForked as error:
            self._keep_fork(proof, second_proof, now)
            hint = f"{self._fork} has the signed tree heads: they prove it to anybody"
            raise LogForked(str(error), hint=hint) from None
        save_last_seen(self._seen, accepted)
        self._write(accepted, now)
        return accepted, True

    def _keep_fork(self, proof: bytes, second_proof: bytes, now: int) -> None:
        """What was shown now, beside what was accepted last; the first such file stays."""
        before = b""
        with suppress(OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error):
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            before = base64.b64decode(kept.proof, validate=True)
        if not self._fork.exists():
            shown = {"accepted": before, "mirror": proof, "relay": second_proof}
            texts = {name: base64.b64encode(data).decode() for name, data in shown.items()}
            write_private(self._fork, msgspec.json.encode({"time": now, **texts}))

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
                return await self._file(mirror, f"consistency-{size}")
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

    async def _mirror(self) -> tuple[bytes, bytes, bytes]:
        """The three files of one mirror; the consistency file is empty where it has none."""
        for mirror in self._mirrors():
            with suppress(UnavailableError):
                note, proof, history = await asyncio.gather(
                    self._file(mirror, _NOTE), self._file(mirror, _PROOF), self._optional(mirror, _HISTORY)
                )
                return note, proof, history
        raise UnavailableError("no mirror has the directory", party="directory", hint="Try again later.")

    def _read(self, now: int, last: LastSeen | None) -> VerifiedDirectory | None:
        try:
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            if not kept.refresh - _REFRESH[1] <= now < kept.refresh:
                return None
            texts = (kept.note, kept.proof, kept.history)
            note, proof, history = (base64.b64decode(text, validate=True) for text in texts)
            return self._accept(note, note, proof, now, last, history=history or None)
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error, SottovoceError):
            # Expired, damaged or of another environment: the network has the right one.
            return None

    def _write(self, accepted: VerifiedDirectory, now: int) -> None:
        history = accepted.history.encode() if accepted.history else b""
        texts = (accepted.note, accepted.proof, history)
        note, proof, links = (base64.b64encode(data).decode() for data in texts)
        kept = _Kept(note=note, proof=proof, history=links, refresh=now + self._draw.randint(*_REFRESH))
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

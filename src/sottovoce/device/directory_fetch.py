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

from sottovoce.core.errors import LimitError, SottovoceError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device.directory import (
    LastSeen,
    VerifiedDirectory,
    accept,
    check_usable,
    load_last_seen,
    save_last_seen,
)
from sottovoce.device.environment import Environment
from sottovoce.device.files import write_private
from sottovoce.device.transport import Network, RelayClient

__all__ = ["DirectorySource"]

_NOTE, _PROOF = "directory.note", "directory.proof"
_REFRESH: Final = (2 * 3600, 5 * 3600)
"""Seconds until the next fetch, drawn anew each time, so that the time of a fetch says nothing about use."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    note: str
    proof: str
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
        self._draw = draw or random.SystemRandom()

    async def get(self, now: int, *, fresh: bool = False) -> tuple[VerifiedDirectory, bool]:
        """The accepted directory, and whether it was fetched now. `fresh` does not use what is kept.

        Raises:
            DirectoryRefused: a rule of section 3 does not hold.
            UnavailableError: no mirror or no relay has it.
            ConfigError: the record of the last directory is damaged.
            DiskError: the disk is full.
        """
        last = load_last_seen(self._seen)
        kept = None if fresh else self._read(now, last)
        if kept is not None:
            return kept, False
        relay = RelayClient(self._network, self._environment.relays)
        mirrored, second = await asyncio.gather(self._mirror(), relay.directory(_NOTE))
        note, proof = mirrored
        accepted = self._accept(note, second, proof, now, last)
        save_last_seen(self._seen, accepted)
        self._write(accepted, now)
        return accepted, True

    def _accept(
        self, first: bytes, second: bytes, proof: bytes, now: int, last: LastSeen | None
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
        )
        check_usable(accepted)
        return accepted

    async def _mirror(self) -> tuple[bytes, bytes]:
        mirrors = self._draw.sample(self._environment.mirrors, len(self._environment.mirrors))
        for mirror in mirrors:
            with suppress(UnavailableError):
                note, proof = await asyncio.gather(
                    *(
                        self._network.get(
                            f"{mirror.rstrip('/')}/{name}", party="directory", limit=LIMITS.directory
                        )
                        for name in (_NOTE, _PROOF)
                    )
                )
                return note, proof
        raise UnavailableError("no mirror has the directory", party="directory", hint="Try again later.")

    def _read(self, now: int, last: LastSeen | None) -> VerifiedDirectory | None:
        try:
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            if not kept.refresh - _REFRESH[1] <= now < kept.refresh:
                return None
            note, proof = (base64.b64decode(text, validate=True) for text in (kept.note, kept.proof))
            return self._accept(note, note, proof, now, last)
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error, SottovoceError):
            # Expired, damaged or of another environment: the network has the right one.
            return None

    def _write(self, accepted: VerifiedDirectory, now: int) -> None:
        note, proof = (base64.b64encode(data).decode() for data in (accepted.note, accepted.proof))
        kept = _Kept(note=note, proof=proof, refresh=now + self._draw.randint(*_REFRESH))
        if len(accepted.note) > LIMITS.directory:
            raise LimitError("the directory is longer than its limit")
        write_private(self._kept, msgspec.json.encode(kept))

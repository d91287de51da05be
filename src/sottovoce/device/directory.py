"""Accepting the directory (protocol section 3): the same document for everybody, or none.

1. both copies, from a mirror and through a relay, are the same bytes
2. signed by the pinned directory key
3. a directory, of the pinned log, of the current epoch (an hour of grace on each side)
4. entered in the log, seen by a quorum of witnesses, by a fresh checkpoint
5. not older than the last one accepted, and its checkpoint continues the last one seen
"""

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sottovoce.core.errors import ConfigError, DecodeError, PeerError, SottovoceError
from sottovoce.core.ohttp import KeyConfig, decode_key_configs, select_config
from sottovoce.core.tokens import TokenKey
from sottovoce.tlog.entries import Directory, Host
from sottovoce.tlog.note import Note, VerifierKey
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint
from sottovoce.tlog.proof import verify_proof

__all__ = [
    "DirectoryRefused",
    "LastSeen",
    "VerifiedDirectory",
    "accept",
    "check_usable",
    "draw_candidates",
    "load_last_seen",
    "save_last_seen",
]

_CANDIDATES: Final = 2
_TOKEN_TYPE: Final = 2


class DirectoryRefused(SottovoceError):  # noqa: N818 - it says what was done
    """The directory is not the one that everybody gets, or not the one of today. Nothing was sent."""

    code = "directory.refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """What this device accepted last."""

    epoch: int
    checkpoint: VerifiedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDirectory:
    """A directory that passed every rule. Only `accept` makes it."""

    directory: Directory
    note: bytes
    proof: bytes
    index: int
    checkpoint: VerifiedCheckpoint

    @property
    def ohttp_config(self) -> KeyConfig:
        """The gateway's key configuration to use.

        Raises:
            DecodeError: none is usable.
        """
        return select_config(decode_key_configs(base64.b64decode(self.directory.ohttp_key_configs)))

    def token_keys(self) -> Mapping[int, TokenKey]:
        """The issuer's public keys by epoch.

        Raises:
            TokenKeyError: one of them is malformed.
        """
        keys = (key for key in self.directory.token_keys if key.token_type == _TOKEN_TYPE)
        return {key.epoch: TokenKey.parse(base64.b64decode(key.key)) for key in keys}

    def hosts(self, role: str) -> tuple[Host, ...]:
        """The hosts that may run CVMs of `role`, without the revoked ones."""
        revoked = self.directory.revocations.hosts
        return tuple(h for h in self.directory.hosts if h.role == role and h.id not in revoked)


def accept(
    first: bytes,
    second: bytes,
    proof: bytes,
    *,
    key: VerifierKey,
    log: LogPolicy,
    now: int,
    last: LastSeen | None,
) -> VerifiedDirectory:
    """The directory in two copies of `directory.note` and its proof.

    Raises:
        DirectoryRefused: a rule does not hold; the text says which.
    """
    if first != second:
        raise DirectoryRefused("the mirror and the relay gave different directories")
    try:
        note = Note.parse(first)
        signed = note.signed_by(key)
        entry = note.text.removesuffix("\n").encode()
        directory = Directory.parse(entry)
        logged = verify_proof(proof, entry, log, now=now)
    except PeerError as error:
        raise DirectoryRefused(f"the directory does not verify: {error}") from None
    if not signed:
        raise DirectoryRefused("the directory is not signed by the pinned key")
    _check(directory, log, now)
    checkpoint = logged.checkpoint
    if last is not None:
        _continues(directory, checkpoint, last)
    return VerifiedDirectory(
        directory=directory, note=first, proof=proof, index=logged.index, checkpoint=checkpoint
    )


def _check(directory: Directory, log: LogPolicy, now: int) -> None:
    if directory.log_origin != log.origin:
        raise DirectoryRefused("the directory names another log")
    if not directory.not_before <= now < directory.not_after:
        raise DirectoryRefused(
            "the directory is expired, or not valid yet", hint="is this device's clock right?"
        )


def _continues(directory: Directory, checkpoint: VerifiedCheckpoint, last: LastSeen) -> None:
    if directory.epoch < last.epoch:
        raise DirectoryRefused("the directory is older than the last one")
    seen = last.checkpoint
    rolled_back = checkpoint.origin == seen.origin and checkpoint.size < seen.size
    forked = checkpoint.size == seen.size and checkpoint.root != seen.root
    if rolled_back or forked:
        raise DirectoryRefused("the log was rolled back or forked since this device last saw it")


def draw_candidates(
    hosts: tuple[Host, ...], *, rng: Callable[[int], int] = secrets.randbelow
) -> tuple[str, ...]:
    """Two different hosts, drawn uniformly by the device; one, if there is only one.

    Raises:
        DirectoryRefused: there is none.
    """
    if not hosts:
        raise DirectoryRefused("the directory lists no host for this role")
    pool = [host.id for host in hosts]
    return tuple(pool.pop(rng(len(pool))) for _ in range(min(_CANDIDATES, len(pool))))


def load_last_seen(path: Path) -> LastSeen | None:
    """What this device accepted last; None if it never did.

    Raises:
        ConfigError: the file is damaged. It is not ignored, as that would forget what was seen.
    """
    try:
        data: Any = json.loads(path.read_bytes())
        checkpoint = VerifiedCheckpoint(
            origin=str(data["origin"]),
            size=int(data["size"]),
            root=bytes.fromhex(data["root"]),
            time=int(data["time"]),
        )
        return LastSeen(epoch=int(data["epoch"]), checkpoint=checkpoint)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError("the record of the last directory is damaged", hint=f"look at {path}") from None


def save_last_seen(path: Path, accepted: VerifiedDirectory) -> None:
    """Remember an accepted directory; the file is whole at any moment.

    Raises:
        ConfigError: it cannot be written.
    """
    seen = accepted.checkpoint
    data = {
        "epoch": accepted.directory.epoch,
        "origin": seen.origin,
        "size": seen.size,
        "root": seen.root.hex(),
        "time": seen.time,
    }
    staged = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError:
        raise ConfigError("the record of the last directory cannot be written") from None


def check_usable(accepted: VerifiedDirectory) -> None:
    """Parse everything that will be used, so that a malformed part is found before a token is spent.

    Raises:
        DirectoryRefused: a key in it is malformed.
    """
    try:
        accepted.ohttp_config  # noqa: B018 - parsed for its errors
        accepted.token_keys()
    except (DecodeError, ValueError):
        raise DirectoryRefused("the directory holds a malformed key") from None

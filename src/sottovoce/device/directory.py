"""Accepting the directory (protocol section 3): the same document for everybody, or none.

1. both copies, from a mirror and through a relay, are the same bytes
2. signed by the pinned directory key
3. a directory, of the pinned log, valid for one epoch (an hour of grace on each side), which is the current one
4. entered in the log, seen by a quorum of witnesses, by a fresh checkpoint
5. not older than the last one accepted, nor its checkpoint than the last one seen; that a larger tree continues the
   smaller one is what the witnesses vouch for
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from sottovoce.core.errors import ConfigError, DecodeError, PeerError, SottovoceError
from sottovoce.core.ohttp import KeyConfig, decode_key_configs, select_config
from sottovoce.core.privatetokens import PublicTokenKey
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey
from sottovoce.device.files import write_private
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
        """The issuer's public keys of type 2 by epoch.

        Raises:
            TokenKeyError: one of them is malformed.
        """
        return {epoch: TokenKey.parse(key) for epoch, key in self._keys_of_type(TOKEN_TYPE)}

    def batch_token_keys(self) -> Mapping[int, PublicTokenKey]:
        """The issuer's public keys of type 5 by epoch; raises as `token_keys`."""
        keys = self._keys_of_type(PRIVATE_TOKEN_TYPE)
        return {epoch: PublicTokenKey(encoded=key) for epoch, key in keys}

    def _keys_of_type(self, token_type: int) -> list[tuple[int, bytes]]:
        keys = (key for key in self.directory.token_keys if key.token_type == token_type)
        return [(key.epoch, base64.b64decode(key.key)) for key in keys]

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
    except PeerError as error:
        raise DirectoryRefused(f"the directory does not verify: {error}") from None
    if not signed:
        raise DirectoryRefused("the directory is not signed by the pinned key")
    _check(directory, log, now)
    try:
        logged = verify_proof(proof, entry, log, now=now)
    except PeerError as error:
        raise DirectoryRefused(f"the directory does not verify: {error}") from None
    checkpoint = logged.checkpoint
    if last is not None:
        _continues(directory, checkpoint, last)
    return VerifiedDirectory(
        directory=directory, note=first, proof=proof, index=logged.index, checkpoint=checkpoint
    )


def _check(directory: Directory, log: LogPolicy, now: int) -> None:
    if directory.log_origin != log.origin:
        raise DirectoryRefused("the directory names another log")
    start = directory.epoch * EPOCH_SECONDS
    if (directory.not_before, directory.not_after) != (start - GRACE, start + EPOCH_SECONDS + GRACE):
        raise DirectoryRefused("the directory is valid for another time than its epoch's")
    if not directory.not_before <= now < directory.not_after:
        raise DirectoryRefused(
            "the directory is expired, or not valid yet", hint="is this device's clock right?"
        )


def _continues(directory: Directory, checkpoint: VerifiedCheckpoint, last: LastSeen) -> None:
    if directory.epoch < last.epoch:
        raise DirectoryRefused("the directory is older than the last one")
    seen = last.checkpoint
    rolled_back = checkpoint.size < seen.size
    forked = checkpoint.size == seen.size and checkpoint.root != seen.root
    if checkpoint.origin == seen.origin and (rolled_back or forked):
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


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    epoch: _Count
    origin: Annotated[str, msgspec.Meta(min_length=1)]
    size: _Count
    root: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    time: _Count


def load_last_seen(path: Path) -> LastSeen | None:
    """What this device accepted last; None if it never did.

    Raises:
        ConfigError: the file is damaged. It is not ignored, as that would forget what was seen.
    """
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError("the record of the last directory is damaged", hint=f"look at {path}") from None
    checkpoint = VerifiedCheckpoint(
        origin=record.origin, size=record.size, root=bytes.fromhex(record.root), time=record.time
    )
    return LastSeen(epoch=record.epoch, checkpoint=checkpoint)


def save_last_seen(path: Path, accepted: VerifiedDirectory) -> None:
    """Remember an accepted directory; the file is whole at any moment.

    Raises:
        DiskError: it cannot be written; what was remembered before is as it was.
    """
    seen = accepted.checkpoint
    record = _Record(
        epoch=accepted.directory.epoch,
        origin=seen.origin,
        size=seen.size,
        root=seen.root.hex(),
        time=seen.time,
    )
    write_private(path, msgspec.json.encode(record))


def check_usable(accepted: VerifiedDirectory) -> None:
    """Parse everything that will be used, so that a malformed part is found before a token is spent.

    Raises:
        DirectoryRefused: a key in it is malformed.
    """
    try:
        accepted.ohttp_config  # noqa: B018 - parsed for its errors
        accepted.token_keys()
        accepted.batch_token_keys()
    except (DecodeError, ValueError):
        raise DirectoryRefused("the directory holds a malformed key") from None

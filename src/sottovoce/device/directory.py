"""Accepting the directory (protocol section 3): the same document for everybody, or none.

1. both copies, from a mirror and through a relay, are the same bytes
2. signed by the pinned directory key
3. a directory, of the pinned log, valid for one epoch (an hour of grace on each side), which is the current one
4. entered in the log, seen by a quorum of witnesses, by a fresh checkpoint
5. not older than the last one accepted; its log is the one that this device saw last, proved by the consistency file that comes
   with it; and the two ways show one log. A tree head that is another log's is named as a fork, whoever has cosigned it
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from sottovoce.core.errors import ConfigError, DecodeError, PeerError, SottovoceError
from sottovoce.core.ohttp import KeyConfig, decode_key_configs, select_config
from sottovoce.core.privatetokens import PublicTokenKey
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey
from sottovoce.device.files import write_private
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.entries import Directory, Host
from sottovoce.tlog.history import (
    ForkError,
    History,
    NotListedError,
    TreeHead,
    UnprovedForkError,
    require_one_log,
)
from sottovoce.tlog.note import Note, VerifierKey
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint
from sottovoce.tlog.proof import Proof, verify_proof

__all__ = [
    "DirectoryRefused",
    "LastSeen",
    "LogForked",
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


class LogForked(DirectoryRefused):
    """The log has signed two histories, and this device holds a tree head of each.

    Attributes:
        proved: whether the two heads alone prove it, as they are of one size. Else the mirror's consistency file could be wrong.
    """

    code = "directory.fork"

    def __init__(self, message: str, *, proved: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.proved = proved


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """What this device accepted last: the epoch, SHA-256 of the document (empty in records of before), and the tree head."""

    epoch: int
    checkpoint: VerifiedCheckpoint
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDirectory:
    """A directory that passed every rule. Only `accept` makes it."""

    directory: Directory
    note: bytes
    proof: bytes
    index: int
    checkpoint: VerifiedCheckpoint
    history: History | None
    """How earlier tree heads lead to this checkpoint; None if nothing needed it and none was given."""

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
    second_proof: bytes | None = None,
    history: bytes | None = None,
) -> VerifiedDirectory:
    """The directory in two copies of its note, its proof by both ways, and the consistency file.

    `second_proof` is None for a directory that was kept: its two ways were compared when it came.

    Raises:
        LogForked: the log has signed two histories.
        DirectoryRefused: another rule does not hold; the text says which.
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
    proofs = [proof] if second_proof is None else [proof, second_proof]
    links = _history(history)
    _one_log(proofs, log, last, links)
    try:
        found = {one: verify_proof(one, entry, log, now=now) for one in proofs}
    except PeerError as error:
        raise DirectoryRefused(f"the directory does not verify: {error}") from None
    newest, logged = max(found.items(), key=lambda pair: pair[1].checkpoint.size)
    checkpoint = logged.checkpoint
    for other in found.values():
        _linked(other.checkpoint, checkpoint, links, "the mirror and the relay show")
    if last is not None:
        _continues(directory, checkpoint, last, links)
    return VerifiedDirectory(
        directory=directory,
        note=first,
        proof=newest,
        index=logged.index,
        checkpoint=checkpoint,
        history=links,
    )


def _history(data: bytes | None) -> History | None:
    try:
        return None if data is None else History.parse(data)
    except PeerError as error:
        raise DirectoryRefused(f"the directory does not verify: {error}") from None


def _one_log(proofs: Sequence[bytes], log: LogPolicy, last: LastSeen | None, history: History | None) -> None:
    """Name a fork before anything else is asked of a tree head: the log's own signature on both is the proof of it."""
    heads: list[TreeHead] = [head for proof in proofs if (head := _signed_head(proof, log)) is not None]
    if last is not None and last.checkpoint.origin == log.origin:
        heads.append(last.checkpoint)
    for number, one in enumerate(heads):
        for other in heads[number + 1 :]:
            try:
                if one.size == other.size:
                    require_one_log(one, other, ())
                elif history is not None and history.head.origin == log.origin:
                    history.require(one, other)
            except ForkError as error:
                raise LogForked(str(error), proved=not isinstance(error, UnprovedForkError)) from None
            except NotListedError:
                continue  # what must be proved and is not is refused below


def _signed_head(proof: bytes, log: LogPolicy) -> Checkpoint | None:
    with suppress(PeerError):
        note = Proof.parse(proof).note
        head = Checkpoint.parse(note.text)
        if head.origin == log.origin and note.signed_by(log.log_key):
            return head
    return None


def _linked(one: TreeHead, other: TreeHead, history: History | None, who: str) -> None:
    if (one.size, one.root) == (other.size, other.root):
        return
    try:
        if history is None:
            raise NotListedError("there is no consistency file")
        history.require(one, other)
    except PeerError as error:
        raise DirectoryRefused(
            f"{who} two tree heads of the log that are not proved to be of one history: {error}",
            hint="Try again later.",
        ) from None


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


def _continues(
    directory: Directory, checkpoint: VerifiedCheckpoint, last: LastSeen, history: History | None
) -> None:
    if directory.epoch < last.epoch:
        raise DirectoryRefused(
            "the directory is older than the last one",
            hint="Was this device's clock ahead? Then it holds tomorrow's, and today's is refused until then.",
        )
    if directory.epoch == last.epoch and last.digest not in {"", _digest(directory)}:
        raise DirectoryRefused("the directory is a second one for its day: there is one for everybody")
    seen = last.checkpoint
    if checkpoint.origin != seen.origin:
        return  # what this device pins has changed
    if checkpoint.size < seen.size:
        raise DirectoryRefused("the log was rolled back since this device last saw it")
    _linked(seen, checkpoint, history, "this device has seen and is shown")


def _digest(directory: Directory) -> str:
    return hashlib.sha256(directory.encode()).hexdigest()


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
    digest: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""


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
    return LastSeen(epoch=record.epoch, checkpoint=checkpoint, digest=record.digest)


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
        digest=_digest(accepted.directory),
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

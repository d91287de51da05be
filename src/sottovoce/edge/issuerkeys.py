"""The issuer's key folder: made, read, and what is public of it (`keyfolder`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.privatetokens import PrivateTokenKey
from sottovoce.core.tokens import PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey, epoch_at
from sottovoce.edge.batchkeys import generate_batch_key, load_batch_key
from sottovoce.edge.files import make_new
from sottovoce.edge.keyfolder import EpochKey, PublicKeys, delete, epoch_files
from sottovoce.edge.rsa import BlindSigner, generate_token_key, load_token_key

__all__ = ["IssuerFolder", "forget_issuer_keys", "make_issuer_keys", "read_issuer_folder"]

_TOKEN: Final = re.compile(r"token-([0-9]{1,7})\.pem")
_BATCH: Final = re.compile(r"batch-([0-9]{1,7})\.key")
_NEAR: Final = 3
"""Epochs apart: an issuer signs with yesterday's, today's and tomorrow's key. A request names its key by one byte, so that no two of
these may share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerFolder:
    """What an issuer's folder holds, by epoch: keys of type 2, and of type 5."""

    signing: Mapping[int, tuple[BlindSigner, TokenKey]]
    batch: Mapping[int, PrivateTokenKey]


def read_issuer_folder(folder: Path) -> IssuerFolder:
    """Every key in an issuer's folder.

    Raises:
        ConfigError: the folder or a key in it cannot be read.
    """
    return IssuerFolder(
        signing={int(match[1]): load_token_key(path) for path, match in epoch_files(folder, _TOKEN)},
        batch={int(match[1]): load_batch_key(path) for path, match in epoch_files(folder, _BATCH)},
    )


def make_issuer_keys(folder: Path, epoch: int, *, type_5: bool) -> PublicKeys:
    """Make the issuer's keys of `epoch`, those that are missing, and return the public halves of all that are there.

    Raises:
        ConfigError: a key cannot be read, was just made by another command, or libsodium is not here for type 5.
        StorageError: a file cannot be written.
    """
    there = read_issuer_folder(folder)
    if epoch not in there.signing:
        near = [key for number, (_, key) in there.signing.items() if abs(number - epoch) <= _NEAR]
        taken = [key.truncated_id for key in near]
        make_new(folder / f"token-{epoch}.pem", lambda staged: generate_token_key(staged, taken=taken))
    if type_5 and epoch not in there.batch:
        others = [k.public.truncated_id for number, k in there.batch.items() if abs(number - epoch) <= _NEAR]
        make_new(folder / f"batch-{epoch}.key", lambda staged: generate_batch_key(staged, taken=others))
    there = read_issuer_folder(folder)
    keys = [EpochKey.of(epoch, TOKEN_TYPE, there.signing[epoch][1].spki)]
    if epoch in there.batch:
        keys.append(EpochKey.of(epoch, PRIVATE_TOKEN_TYPE, there.batch[epoch].public.encoded))
    return PublicKeys(party="issuer", epoch=epoch, token_keys=keys)


def forget_issuer_keys(folder: Path, now: int, *, made: int) -> int:
    """Delete the keys of the days before yesterday; how many.

    `made` is the epoch for which keys were made, two days ahead: what is not old by it either stays, as a clock that is wrong must not
    cost a key that devices count on.

    Raises:
        ConfigError: the folder cannot be read, or a key not be deleted.
    """
    found = [*epoch_files(folder, _TOKEN), *epoch_files(folder, _BATCH)]
    over = [path for path, match in found if int(match[1]) < min(epoch_at(now) - 1, made - 3)]
    return delete(over)

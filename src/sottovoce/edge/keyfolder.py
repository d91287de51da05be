"""Key folders of the issuer and of a gateway: a file for each key and epoch, so that a new day's keys are laid beside the old ones.

    issuer    token-<epoch>.pem           RSA, signs tokens of type 2: secret         (`issuerkeys`)
              batch-<epoch>.key           signs tokens of type 5, 32 bytes: secret
    gateway   ohttp-<epoch>-<KEM>.key     opens requests, 32 bytes: secret            (`gatewaykeys`)
              token-<epoch>.spki          the issuer's public key of type 2
              batch-<epoch>.key           the issuer's key of type 5: secret

Who holds the secrets makes them, here. What the directory needs of them leaves as one public file an epoch and party (`PublicKeys`).
A file appears whole or not at all, and none is ever changed: made again, a day's keys stay as they are.
"""

import asyncio
import base64
import re  # noqa: TC003 - it would be the only one of its kind
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final, Literal

import msgspec

from sottovoce.core.errors import ConfigError, DecodeError, SottovoceError, UsageError
from sottovoce.core.ohttp import decode_key_configs
from sottovoce.core.privatetokens import PublicTokenKey
from sottovoce.core.tokens import PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey
from sottovoce.edge.database import StoreError

__all__ = [
    "LOOK",
    "EpochKey",
    "Fault",
    "PublicKeys",
    "delete",
    "epoch_files",
    "is_there",
    "keep_looking",
    "listing",
]

_LIMIT: Final = 64 * 1024
LOOK: Final = 60.0
"""Seconds between two looks of a running party at its key folder; a SIGHUP has it look at once."""


class Fault(Enum):
    """Why keys were not taken: a word for a log, and nothing of the file."""

    NONE = "none"
    FILE = "file"
    """A file is wrong or missing, or the folder cannot be read."""
    STORE = "store"
    """A store of the party's did not take the new keys."""
    UNEXPECTED = "unexpected"
    """A fault of the program's."""

    @classmethod
    def of(cls, error: Exception) -> "Fault":
        """The word for `error`."""
        if isinstance(error, StoreError):
            return cls.STORE
        return cls.FILE if isinstance(error, SottovoceError | OSError) else cls.UNEXPECTED


class EpochKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A public token key in base64, as it stands in a directory."""

    epoch: int
    token_type: int
    key: str

    @classmethod
    def of(cls, epoch: int, token_type: int, key: bytes) -> "EpochKey":
        """The entry of the encoded key `key`."""
        return cls(epoch=epoch, token_type=token_type, key=base64.b64encode(key).decode())


class PublicKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What issuer or gateway give to whoever prepares the directory: one epoch's public keys, one JSON file."""

    party: Literal["issuer", "gateway"]
    epoch: int
    ohttp_key_configs: str = ""
    """base64 of `application/ohttp-keys` (RFC 9458 section 3.2)."""
    token_keys: list[EpochKey] = []

    @classmethod
    def parse(cls, data: bytes) -> "PublicKeys":
        """Parse the file; each key in it is parsed too.

        Raises:
            ConfigError: malformed, or not what such a party has.
        """
        try:
            keys = msgspec.json.decode(data[: _LIMIT + 1], type=cls)
            keys.check()
        except (RecursionError, DecodeError, UsageError, ValueError):
            # msgspec's errors, base64's and those of text are values' errors.
            raise ConfigError("a file of public keys is malformed") from None
        return keys

    def check(self) -> None:
        """Parse each key; raises DecodeError, UsageError or ValueError."""
        if self.party == "gateway":
            decode_key_configs(base64.b64decode(self.ohttp_key_configs, validate=True))
        elif self.ohttp_key_configs:
            raise DecodeError("an issuer has no OHTTP key")
        for one in self.token_keys:
            key = base64.b64decode(one.key, validate=True)
            if one.token_type == TOKEN_TYPE:
                TokenKey.parse(key)
            elif one.token_type == PRIVATE_TOKEN_TYPE:
                PublicTokenKey(encoded=key)
            else:
                raise DecodeError("a token key of an unknown type")
        types = [one.token_type for one in self.token_keys]
        if (self.party == "issuer") != (TOKEN_TYPE in types) or len(set(types)) < len(types):
            raise DecodeError("an issuer has one key of type 2, and a gateway has none")
        if any(one.epoch != self.epoch for one in self.token_keys):
            raise DecodeError("a key of another epoch")

    def encode(self) -> bytes:
        """The file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def epoch_files(folder: Path, pattern: "re.Pattern[str]") -> list[tuple[Path, "re.Match[str]"]]:
    """The files in `folder` whose whole names match.

    Raises:
        ConfigError: the folder cannot be read, or something in it is named so and is no file.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        raise ConfigError("the key folder cannot be read", hint=f"looked for {folder}") from None
    found = [(path, match) for path in paths if (match := pattern.fullmatch(path.name))]
    for path, _ in found:
        is_there(path)
    return found


def is_there(path: Path) -> bool:
    """Whether there is a key file of this name.

    Raises:
        ConfigError: something else has the name, such as a folder.
    """
    try:
        if path.is_file():
            return True
        there = path.is_symlink() or path.exists()
    except OSError:
        there = True
    if there:
        raise ConfigError("something that is no file has a key's name", hint=f"take it away: {path}")
    return False


def delete(paths: Sequence[Path]) -> int:
    """Delete key files; how many.

    Raises:
        ConfigError: one cannot be deleted.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            raise ConfigError("an old key cannot be deleted", hint=f"looked for {path}") from None
    return len(paths)


async def keep_looking(reload: Callable[[], None]) -> None:
    """Call `reload` every `LOOK` seconds, for good: whatever one call ends with, the next one comes."""
    while True:
        await asyncio.sleep(LOOK)
        # It says itself why it took no keys. That not even this could be written, as the disk is full, is no reason to stop either.
        with suppress(Exception):
            reload()


def listing(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and lengths in `folder`: equal as long as nothing has changed. Empty where it cannot be read."""
    try:
        return tuple((path.name, *_stamp(path)) for path in sorted(folder.iterdir()))
    except OSError:
        return ()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        # A link that leads nowhere, as some editors make. It must not hide what is beside it.
        return 0, 0
    return stat.st_mtime_ns, stat.st_size

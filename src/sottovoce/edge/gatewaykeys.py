"""A gateway's keys: from its configuration, or from a key folder that it reads again while it runs (`keyfolder`).

Keys of a folder are each of one epoch. An OHTTP key is taken as soon as it is there, and until `OHTTP_KEPT` seconds after its day.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import hpke
from sottovoce.core.errors import ConfigError, DecodeError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.core.ohttp import GatewayKey, encode_key_configs
from sottovoce.core.privatetokens import PrivateTokenKey
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, TOKEN_TYPE, TokenKey, epoch_at
from sottovoce.edge.batchkeys import load_batch_key
from sottovoce.edge.files import write_new
from sottovoce.edge.keyfolder import PublicKeys, delete, epoch_files, is_there

__all__ = [
    "OHTTP_KEPT",
    "BatchKeyFile",
    "GatewayKeys",
    "OhttpKey",
    "OhttpKeyFile",
    "TokenKeyEntry",
    "forget_gateway_keys",
    "lay_token_keys",
    "load_keys",
    "make_gateway_keys",
    "read_gateway_folder",
]

_KEMS: Final = (hpke.MLKEM768_X25519, hpke.X25519)
_OHTTP: Final = re.compile(r"ohttp-([0-9]{1,7})-([0-9a-f]{4})\.key")
_TOKEN: Final = re.compile(r"token-([0-9]{1,7})\.spki")
_BATCH: Final = re.compile(r"batch-([0-9]{1,7})\.key")
_IDS: Final = 256
_CLOCKS: Final = 300
"""Seconds by which a device's clock may differ from a gateway's."""
OHTTP_KEPT: Final = GRACE + int(LIMITS.session_total) + _CLOCKS
"""Seconds after the end of its epoch until an OHTTP key is not taken any more: a session that began in the last moment of the grace goes on
for ten minutes, and what was sent in it cannot be tried again."""
_LATE: Final = 3600
"""Seconds more until the file goes: no gateway takes the key then, whenever it has read its folder."""


class OhttpKeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key pair: the file holds the private key, 32 bytes."""

    key_id: int
    kem_id: int
    path: str


class TokenKeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The issuer's public key of one epoch, base64 of its SPKI."""

    epoch: int
    key: str


class BatchKeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The issuer's secret key of one epoch for tokens of type 5: the file holds 32 bytes. Who has it can mint tokens."""

    epoch: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OhttpKey:
    """A key pair, and the epoch whose directory names it; None where the configuration names it for as long as it stands there."""

    epoch: int | None
    key: GatewayKey

    @property
    def name(self) -> bytes:
        """As it begins a request: u8 key id, u16 KEM (RFC 9458 section 4.3)."""
        return bytes([self.key.key_id]) + self.key.private_key.kem_id.to_bytes(2, "big")

    def is_taken(self, now: float) -> bool:
        """Whether requests sealed to it are opened at `now`, unix seconds. Ahead of its day they are: clocks differ."""
        return self.epoch is None or now < (self.epoch + 1) * EPOCH_SECONDS + OHTTP_KEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKeys:
    """What a gateway opens requests and checks tokens with; token keys by epoch."""

    ohttp: tuple[OhttpKey, ...]
    tokens: Mapping[int, TokenKey]
    batch: Mapping[int, PrivateTokenKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ohttp or len({one.name for one in self.ohttp}) < len(self.ohttp):
            raise ConfigError("the gateway needs an OHTTP key, and no two with one id")
        if not self.tokens:
            raise ConfigError("the gateway needs a token key")

    def opening(self, now: float) -> list[GatewayKey]:
        """The OHTTP keys that are taken at `now`, unix seconds."""
        return [one.key for one in self.ohttp if one.is_taken(now)]

    def configs(self, now: float) -> bytes:
        """Their public halves, `application/ohttp-keys`."""
        return encode_key_configs([key.config() for key in self.opening(now)])


def load_keys(
    ohttp: list[OhttpKeyFile], tokens: list[TokenKeyEntry], batch: list[BatchKeyFile], folder: str
) -> GatewayKeys:
    """The keys that a configuration names, one by one or by their folder.

    Raises:
        ConfigError: both ways at once, or a key that is missing or malformed.
    """
    if folder:
        if ohttp or tokens or batch:
            raise ConfigError("keys are named one by one, or by their folder", hint="leave one of both out")
        return read_gateway_folder(Path(folder))
    return GatewayKeys(
        ohttp=tuple(
            OhttpKey(epoch=None, key=_key_pair(Path(file.path), file.key_id, file.kem_id)) for file in ohttp
        ),
        tokens={entry.epoch: _token_key(entry) for entry in tokens},
        batch={entry.epoch: load_batch_key(entry.path) for entry in batch},
    )


def read_gateway_folder(folder: Path) -> GatewayKeys:
    """Every key in a gateway's folder.

    Raises:
        ConfigError: the folder or a key in it cannot be read, or there is none of a kind.
    """
    return GatewayKeys(
        ohttp=tuple(
            _ohttp_key(path, int(match[1]), int(match[2], 16)) for path, match in epoch_files(folder, _OHTTP)
        ),
        tokens={int(match[1]): _public_key(path) for path, match in epoch_files(folder, _TOKEN)},
        batch={int(match[1]): load_batch_key(path) for path, match in epoch_files(folder, _BATCH)},
    )


def make_gateway_keys(folder: Path, epoch: int) -> PublicKeys:
    """Make a gateway's OHTTP keys of `epoch`, one a KEM, those that are missing, and return the public halves.

    Raises:
        ConfigError: a key that is there cannot be read.
        StorageError: a file cannot be written.
    """
    keys = []
    for kem in _KEMS:
        path = folder / f"ohttp-{epoch}-{kem:04x}.key"
        if not is_there(path):
            write_new(path, hpke.generate_private_key(kem).private_bytes())
        keys.append(_ohttp_key(path, epoch, kem).key)
    configs = encode_key_configs([key.config() for key in keys])
    return PublicKeys(party="gateway", epoch=epoch, ohttp_key_configs=base64.b64encode(configs).decode())


def lay_token_keys(folder: Path, issuer: PublicKeys, *, secrets: Path | None = None) -> None:
    """Lay the issuer's public key into a gateway's folder; for type 5 the secret too, out of the issuer's folder `secrets`.

    Raises:
        ConfigError: a key of this epoch is there and is another one, or the secret cannot be read.
        StorageError: a file cannot be written.
    """
    for one in issuer.token_keys:
        if one.token_type == TOKEN_TYPE:
            _lay(folder / f"token-{one.epoch}.spki", base64.b64decode(one.key))
        elif secrets is not None:
            name = f"batch-{one.epoch}.key"
            _lay(folder / name, load_batch_key(secrets / name).secret_bytes())


def forget_gateway_keys(folder: Path, now: float, *, made: int) -> int:
    """Delete OHTTP keys that no gateway takes any more, and token keys of the days before yesterday; how many.

    Nobody can then open what was sealed to them. `made` is the epoch for which keys were made, a day ahead: as with the issuer's, what is
    not old by it either stays.

    Raises:
        ConfigError: the folder cannot be read, or a key not be deleted.
    """
    ohttp, tokens = epoch_files(folder, _OHTTP), [*epoch_files(folder, _TOKEN), *epoch_files(folder, _BATCH)]
    over = [
        path
        for path, match in ohttp
        if now >= (int(match[1]) + 1) * EPOCH_SECONDS + OHTTP_KEPT + _LATE and int(match[1]) < made - 1
    ]
    over += [path for path, match in tokens if int(match[1]) < min(epoch_at(int(now)) - 1, made - 2)]
    return delete(over)


def _ohttp_key(path: Path, epoch: int, kem: int) -> OhttpKey:
    if kem not in _KEMS:
        raise ConfigError("an OHTTP key file names an unknown KEM", hint=f"looked for {path}")
    # Another id for each KEM, and the same again after 128 days: the earlier key is long gone.
    number = (len(_KEMS) * epoch + _KEMS.index(kem)) % _IDS
    return OhttpKey(epoch=epoch, key=_key_pair(path, number, kem))


def _key_pair(path: Path, key_id: int, kem: int) -> GatewayKey:
    try:
        private = hpke.PrivateKey.from_bytes(kem, path.read_bytes())
    except (OSError, UsageError):
        raise ConfigError("an OHTTP key file is missing or malformed", hint=f"looked for {path}") from None
    if not 0 <= key_id < _IDS:
        raise ConfigError("an OHTTP key's id is one byte")
    return GatewayKey(key_id=key_id, private_key=private)


def _token_key(entry: TokenKeyEntry) -> TokenKey:
    try:
        return TokenKey.parse(base64.b64decode(entry.key, validate=True))
    except (DecodeError, ValueError):
        raise ConfigError("a token key is malformed") from None


def _public_key(path: Path) -> TokenKey:
    try:
        return TokenKey.parse(path.read_bytes())
    except (OSError, DecodeError):
        raise ConfigError("a token key is missing or malformed", hint=f"looked for {path}") from None


def _lay(path: Path, data: bytes) -> None:
    if not is_there(path):
        write_new(path, data)
        return
    try:
        same = path.read_bytes() == data
    except OSError:
        raise ConfigError("a token key cannot be read", hint=f"looked for {path}") from None
    if not same:
        raise ConfigError(
            "the gateway has another token key of this epoch", hint=f"which one is right? see {path}"
        )

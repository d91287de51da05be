"""What a world keeps from start to start: every party's secrets, its ports, and the day's keys."""

import base64
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import hpke, ristretto
from sottovoce.core.errors import ConfigError
from sottovoce.core.ohttp import GatewayKey
from sottovoce.core.privatetokens import PublicTokenKey
from sottovoce.core.tokens import TokenKey, epoch_at
from sottovoce.edge import issuer
from sottovoce.edge.batchkeys import generate_batch_key
from sottovoce.simulator.accelerator import SimulatedGpuVendor
from sottovoce.simulator.pki import SimulatedChip, SimulatedVendor
from sottovoce.tlog.note import COSIGNATURE, ED25519, SigningKey

__all__ = ["KEMS", "WorldState", "write_secret"]

KEMS: Final = {1: hpke.MLKEM768_X25519, 2: hpke.X25519}
"""The gateway's key ids and their KEMs."""
_VENDOR_BITS: Final = 3072
"""AMD's keys have 4,096; making those takes seconds."""
_FOLDERS: Final = ("keys", "chips", "configs", "bundles", "mirror", "settings", "releases", "directories")
_PUBLISHERS: Final = ("publisher-1", "publisher-2")
"""In a simulation one folder holds the keys of both people."""
_WITNESSES: Final = ("witness-1", "witness-2")
_WEEK: Final = 7 * 86400


class _Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    ports: dict[str, int] = {}
    token_keys: dict[int, str] = {}
    """Epoch → base64 of the SPKI."""
    batch_token_keys: dict[int, str] = {}
    """Epoch → base64 of the public key of type 5; none where there is no libsodium."""
    revocation_list: int = 0
    """When the vendor's list was made."""


class WorldState:
    """The secrets and the record of the world in `folder`; what is missing is made.

    Attributes:
        ports: party → port.
        gpu_vendor, gpu_manifests: of the simulated accelerators that the world's devices would believe; no machine has one.
    """

    def __init__(self, folder: Path, *, now: int) -> None:
        """Open or begin.

        Raises:
            ConfigError: a file is damaged.
        """
        for name in _FOLDERS:
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._now = now
        self._record = self._load()
        self.ports = self._record.ports
        self.log = self._signing_key("log", ED25519)
        self.directory = self._signing_key("directory", ED25519)
        self.publishers = tuple(self._signing_key(name, ED25519) for name in _PUBLISHERS)
        self.witnesses = {name: self._signing_key(name, COSIGNATURE) for name in _WITNESSES}
        self.gateway = tuple(self._gateway_key(number, kem) for number, kem in KEMS.items())
        self.secret = self._secret()
        self.vendor = self._vendor()
        self.gpu_vendor, self.gpu_manifests = self._gpus()

    def path(self, name: str) -> Path:
        """The file of the key called `name`."""
        return self._folder / "keys" / name

    def chip(self, machine: str) -> SimulatedChip:
        """The processor of a simulated machine."""
        path = self._folder / "chips" / machine
        if not path.exists():
            self.vendor.make_chip(now=self._now).save(path)
        return SimulatedChip.load(path)

    @property
    def token_keys(self) -> dict[int, bytes]:
        """The issuer's public keys (SPKI) by epoch."""
        return {epoch: base64.b64decode(key) for epoch, key in sorted(self._record.token_keys.items())}

    @property
    def batch_token_keys(self) -> dict[int, bytes]:
        """The issuer's public keys of type 5 by epoch."""
        return {epoch: base64.b64decode(key) for epoch, key in sorted(self._record.batch_token_keys.items())}

    def batch_token_path(self, epoch: int) -> Path:
        """The file of the secret key of type 5 of this epoch."""
        return self.path(f"batch-token-{epoch}.key")

    def renew(self, now: int) -> bool:
        """Make what the day asks for: token keys of today and tomorrow, a revocation list; whether there is a new token key.

        Yesterday's token key is kept for its hour of grace.
        """
        record, today = self._record, epoch_at(now)
        kept = {epoch: key for epoch, key in record.token_keys.items() if epoch >= today - 1}
        missing = [epoch for epoch in (today, today + 1) if epoch not in kept]
        for epoch in missing:
            taken = [TokenKey.parse(base64.b64decode(key)).truncated_id for key in kept.values()]
            path = self.path(f"token-{epoch}.pem")
            path.unlink(missing_ok=True)
            kept[epoch] = base64.b64encode(issuer.generate_token_key(path, taken=taken)).decode()
        record.token_keys = kept
        missing += self._renew_batch_keys(today)
        if now - record.revocation_list > _WEEK:
            crl = SimulatedVendor.revocation_list(self.vendor.ark_key, now=now)
            self.vendor, record.revocation_list = replace(self.vendor, crl=crl), now
            self.vendor.save(self._folder / "vendor")
        return bool(missing)

    def _renew_batch_keys(self, today: int) -> list[int]:
        kept = {epoch: key for epoch, key in self._record.batch_token_keys.items() if epoch >= today - 1}
        missing = [epoch for epoch in (today, today + 1) if epoch not in kept and ristretto.is_available()]
        for epoch in missing:
            taken = [PublicTokenKey(encoded=base64.b64decode(key)).truncated_id for key in kept.values()]
            path = self.batch_token_path(epoch)
            path.unlink(missing_ok=True)
            kept[epoch] = base64.b64encode(generate_batch_key(path, taken=taken)).decode()
        self._record.batch_token_keys = kept
        return missing

    def save(self) -> None:
        """Write the record."""
        self._record.ports = self.ports
        write_secret(self._folder / "world.json", msgspec.json.encode(self._record))

    def _load(self) -> _Record:
        try:
            return msgspec.json.decode((self._folder / "world.json").read_bytes(), type=_Record)
        except FileNotFoundError:
            return _Record(id=secrets.token_hex(4))
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError):
            hint = f"remove {self._folder} to begin anew"
            raise ConfigError("the world's state is damaged", hint=hint) from None

    def _secret(self) -> str:
        path = self.path("log.secret")
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32).encode())
        return path.read_text()

    def _vendor(self) -> SimulatedVendor:
        folder = self._folder / "vendor"
        if not folder.exists():
            vendor = SimulatedVendor.create(now=self._now, bits=_VENDOR_BITS)
            folder.mkdir(mode=0o700)
            vendor.save(folder)
        return SimulatedVendor.load(folder)

    def _gpus(self) -> tuple[SimulatedGpuVendor, tuple[bytes, ...]]:
        """The vendor of accelerators, and its manifests (XML) of its driver and firmware."""
        folder = self._folder / "gpu-vendor"
        files = [folder / f"{part}.xml" for part in ("driver", "vbios")]
        if not all(file.exists() for file in files):
            vendor = SimulatedGpuVendor.create(now=self._now)
            vendor.save(folder)
            device = vendor.make_device(now=self._now)
            for file in files:
                file.write_bytes(vendor.manifest(device, file.stem))
        return SimulatedGpuVendor.load(folder), tuple(file.read_bytes() for file in files)

    def _signing_key(self, name: str, kind: int) -> SigningKey:
        path = self.path(f"{name}.key")
        if not path.exists():
            # Each world has names of its own: nothing of one is taken in another.
            full = f"{name.replace('publisher-', 'publisher.')}.{self._record.id}.simulated.invalid"
            write_secret(path, SigningKey.generate(full, kind).secret().encode())
        return SigningKey.parse(path.read_text())

    def _gateway_key(self, key_id: int, kem: int) -> GatewayKey:
        path = self.path(f"ohttp-{key_id}.key")
        if not path.exists():
            write_secret(path, hpke.generate_private_key(kem).private_bytes())
        return GatewayKey(key_id=key_id, private_key=hpke.PrivateKey.from_bytes(kem, path.read_bytes()))


def write_secret(path: Path, data: bytes) -> None:
    """Replace `path` with mode 0600."""
    staged = path.with_name(path.name + ".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    staged.replace(path)

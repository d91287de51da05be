"""What a world keeps from start to start: every party's secrets, its ports, and the day's keys."""

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import ristretto
from sottovoce.core.errors import ConfigError
from sottovoce.core.tokens import epoch_at
from sottovoce.edge.gatewaykeys import forget_gateway_keys, lay_token_keys, make_gateway_keys
from sottovoce.edge.issuerkeys import forget_issuer_keys, make_issuer_keys
from sottovoce.edge.keyfolder import PublicKeys, listing
from sottovoce.simulator.accelerator import SimulatedGpuVendor
from sottovoce.simulator.pki import SimulatedChip, SimulatedVendor
from sottovoce.tlog.note import COSIGNATURE, ED25519, SigningKey

__all__ = ["WorldState", "write_secret"]

_VENDOR_BITS: Final = 3072
"""AMD's keys have 4,096; making those takes seconds."""
_FOLDERS: Final = (
    "keys",
    "issuer-keys",
    "gateway-keys",
    "chips",
    "configs",
    "bundles",
    "mirror",
    "settings",
    "releases",
    "directories",
)
_PUBLISHERS: Final = ("publisher-1", "publisher-2")
"""In a simulation one folder holds the keys of both people."""
_WITNESSES: Final = ("witness-1", "witness-2")
_WEEK: Final = 7 * 86400


class _Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    ports: dict[str, int] = {}
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
    def issuer_keys(self) -> Path:
        """The issuer's key folder."""
        return self._folder / "issuer-keys"

    @property
    def gateway_keys(self) -> Path:
        """The gateway's key folder."""
        return self._folder / "gateway-keys"

    def token_keys(self, epoch: int) -> PublicKeys:
        """The issuer's public keys of this epoch; made, if they are not there, and laid into the gateway's folder."""
        public = make_issuer_keys(self.issuer_keys, epoch, type_5=ristretto.is_available())
        lay_token_keys(self.gateway_keys, public, secrets=self.issuer_keys)
        return public

    def ohttp_keys(self, epoch: int) -> PublicKeys:
        """The gateway's public keys of this epoch; made, if they are not there."""
        return make_gateway_keys(self.gateway_keys, epoch)

    def renew(self, now: int) -> bool:
        """Make what the day asks for: keys of the directories of today and tomorrow, a revocation list; whether there is a new key.

        Yesterday's are kept for their hour of grace and the sessions in it.
        """
        record, today = self._record, epoch_at(now)
        before = listing(self.issuer_keys), listing(self.gateway_keys)
        for epoch in (today, today + 1, today + 2):
            self.token_keys(epoch)
        for epoch in (today, today + 1):
            self.ohttp_keys(epoch)
        forget_issuer_keys(self.issuer_keys, now, made=today + 2)
        forget_gateway_keys(self.gateway_keys, now, made=today + 1)
        if now - record.revocation_list > _WEEK:
            crl = SimulatedVendor.revocation_list(self.vendor.ark_key, now=now)
            self.vendor, record.revocation_list = replace(self.vendor, crl=crl), now
            self.vendor.save(self._folder / "vendor")
        return before != (listing(self.issuer_keys), listing(self.gateway_keys))

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


def write_secret(path: Path, data: bytes) -> None:
    """Replace `path` with mode 0600."""
    staged = path.with_name(path.name + ".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    staged.replace(path)

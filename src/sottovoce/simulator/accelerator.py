"""GPUs and switches in software: a vendor with its two roots, devices that answer SPDM requests, and reference manifests.

    vendor = SimulatedGpuVendor.create(now=now)
    gpu = vendor.make_device(now=now)
    evidence = evidence_json([gpu], nonce)                     # what NVIDIA's tools would write
    rims = [vendor.manifest(gpu, "driver"), vendor.manifest(gpu, "vbios")]

Shaped like NVIDIA's to the byte, so that the verifier runs the same lines; every name says "Simulated", and only the roots differ.
Nothing here protects anything: the keys are in this process.
"""

import base64
import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sottovoce.attest.nvidia.opaque import DISABLED
from sottovoce.attest.nvidia.policy import NvidiaRoots
from sottovoce.core.errors import UsageError
from sottovoce.simulator.gpu_manifest import manifest_text, sign_manifest
from sottovoce.simulator.gpu_pki import Signer, sign_raw

__all__ = ["SimulatedDevice", "SimulatedGpuVendor", "State", "evidence_json"]

_CHIPS: Final = {"HOPPER": "GH100", "BLACKWELL": "GB100", "LS10": "LS_10"}
_DIGEST: Final = 48
_BLOCKS: Final = 64
_COMPOSITE: Final = x509.ObjectIdentifier("2.23.133.5.4.1")
_TCB_INFO: Final = x509.ObjectIdentifier("2.23.133.5.4.1.1")
_SHA384_FWID: Final = bytes.fromhex("303d06096086480165030402020430")
DRIVER_PART: Final = frozenset(range(33, 49))
"""The measurements (from 1) that the driver's manifest is about; the firmware's is about 1 to 16."""
VBIOS_PART: Final = frozenset(range(1, 17))


def _measured(name: str) -> bytes:
    return hashlib.sha384(f"simulated {name}".encode()).digest()


def _good_measurements() -> Mapping[int, bytes]:
    return {index: _measured(f"measurement {index}") for index in range(1, _BLOCKS + 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a device reports. Fields that are None are left out; `feature` needs `opaque_version` 1.

    `flags` stand in a Blackwell's certificate.
    """

    driver: str | None = "590.12"
    vbios: str | None = "96.00.A5.00.01"
    nvdec0: int | None = DISABLED
    firmware_id: bytes | None = field(default_factory=lambda: _measured("firmware"))
    protected_pcie: int | None = DISABLED
    opaque_version: int | None = 1
    feature: int | None = 0
    links: tuple[bytes, ...] = ()
    pdi: bytes | None = None
    locked: int | None = None
    measurements: Mapping[int, bytes] = field(default_factory=_good_measurements)
    extra: tuple[tuple[int, bytes], ...] = ()
    flags: int = 0x80

    def opaque(self, *, switch: bool) -> bytes:
        """The fields as bytes."""
        entries = [
            (6, self.vbios and (self.vbios.encode() if switch else _gpu_vbios(self.vbios))),
            (3, self.driver and f"{self.driver}\0".encode()),
            (11, _byte(self.nvdec0)),
            (20, self.firmware_id),
            (21, _byte(self.protected_pcie)),
            (22, self.pdi if switch else b"".join(self.links) or None),
            (26, b"".join(self.links) + bytes(8 * (8 - len(self.links))) if switch else None),
            (25, None if self.locked is None else struct.pack("<H", self.locked)),
            (34, None if self.opaque_version is None else struct.pack("<H", self.opaque_version)),
            (36, None if self.feature is None else struct.pack("<H", self.feature)),
            *self.extra,
        ]
        return b"".join(
            struct.pack("<HH", kind, len(value)) + value
            for kind, value in entries
            if value is not None and value != ""
        )


def _byte(value: int | None) -> bytes | None:
    return None if value is None else bytes([value])


def _gpu_vbios(version: str) -> bytes:
    first, second, third, fourth, last = (int(part, 16) for part in version.split("."))
    return bytes([fourth, third, second, first, last, 0, 0, 0])


SWITCH_STATE: Final = State(
    driver=None,
    vbios="96.10.55.00.01",
    nvdec0=None,
    firmware_id=None,
    protected_pcie=None,
    opaque_version=None,
    feature=None,
    locked=1,
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedDevice:
    """A GPU or switch: the key of its firmware, the certificates above it (DER), and what it reports."""

    architecture: str
    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]
    state: State

    def report(self, nonce: bytes, *, state: State | None = None) -> bytes:
        """The request with `nonce` (32 bytes), and this device's signed answer."""
        shown = state or self.state
        record = b"".join(
            struct.pack("<BBHBH", index, 1, len(value) + 3, 1, len(value)) + value
            for index, value in sorted(shown.measurements.items())
        )
        opaque = shown.opaque(switch=self.architecture == "LS10")
        signed = b"".join(
            (
                b"\x11\xe0\x01\xff" + nonce + b"\0",
                b"\x11\x60\0\0" + bytes([len(shown.measurements)]) + len(record).to_bytes(3, "little"),
                record + os.urandom(32) + struct.pack("<H", len(opaque)) + opaque,
            )
        )
        return signed + sign_raw(self.key, signed)


def evidence_json(devices: Sequence[SimulatedDevice], nonce: bytes) -> bytes:
    """The JSON list that NVIDIA's tools write for these devices."""
    return json.dumps([member(device, device.report(nonce)) for device in devices]).encode()


def member(device: SimulatedDevice, report: bytes) -> dict[str, str]:
    """One device's member of that list, with the report given; `nonce` is the report's."""
    pem = b"".join(
        x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
        for certificate in device.chain
    )
    return {
        "arch": device.architecture,
        "nonce": report[4:36].hex(),
        "evidence": base64.b64encode(report).decode(),
        "certificate": base64.b64encode(pem).decode(),
    }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedGpuVendor:
    """The vendor's authorities: one line over devices, one over the signers of manifests."""

    device_root: Signer
    provisioner: Signer
    manifest_root: Signer
    manifest_authority: Signer
    manifest_signer: Signer

    @classmethod
    def create(cls, *, now: int) -> "SimulatedGpuVendor":
        """A new vendor."""
        device_root = Signer.root("Simulated NVIDIA Device Identity CA", now=now)
        manifest_root = Signer.root("Simulated NVIDIA CoRIM signing Root CA", now=now)
        authority = manifest_root.issue(
            "Simulated NVIDIA Reference Value L3", now=now, authority=True, path_length=0
        )
        return cls(
            device_root=device_root,
            provisioner=device_root.issue("Simulated NVIDIA Provisioner ICA", now=now, authority=True),
            manifest_root=manifest_root,
            manifest_authority=authority,
            manifest_signer=authority.issue("Simulated RIM L4 Signer", now=now, authority=False),
        )

    def save(self, folder: Path) -> None:
        """Write the vendor's keys and certificates."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for authority in fields(self):
            getattr(self, authority.name).save(folder / f"{authority.name}.json")

    @classmethod
    def load(cls, folder: Path) -> "SimulatedGpuVendor":
        """Read a vendor.

        Raises:
            ConfigError: there is none, or it is malformed.
        """
        return cls(**{one.name: Signer.load(folder / f"{one.name}.json") for one in fields(cls)})

    @property
    def roots(self) -> NvidiaRoots:
        """What a test environment's device pins."""
        return NvidiaRoots(
            devices=self.device_root.chain[0], manifests=self.manifest_root.chain[0], simulated=True
        )

    def make_device(
        self, *, now: int, architecture: str = "HOPPER", state: State | None = None
    ) -> SimulatedDevice:
        """A new device of this vendor, whose key was derived with the firmware that its state names."""
        if architecture not in _CHIPS:
            raise UsageError("there is no simulated device of this architecture")
        switch = architecture == "LS10"
        shown = state or (replace(SWITCH_STATE, pdi=os.urandom(8)) if switch else State())
        chip = f"Simulated {_CHIPS[architecture]} A01 {'FSP' if switch else 'GSP'}"
        rom = self.provisioner.issue(f"{chip} BROM", now=now, authority=True)
        firmware = rom.issue(
            f"{chip} FMC LF",
            now=now,
            authority=False,
            extensions=_derived_with(shown, architecture),
        )
        return SimulatedDevice(architecture=architecture, key=firmware.key, chain=firmware.chain, state=shown)

    def manifest(
        self,
        device: SimulatedDevice,
        part: str,
        *,
        active: Mapping[int, Sequence[bytes]] | None = None,
        version: str | None = None,
        product: str | None = None,
        signer: Signer | None = None,
    ) -> bytes:
        """The signed manifest of a device's "driver" or "vbios": all alternatives by index, from 1; by default what it measures."""
        state, indexes = device.state, DRIVER_PART if part == "driver" else VBIOS_PART
        golden = active or {index: (state.measurements[index],) for index in sorted(indexes)}
        named = version or (state.driver if part == "driver" else state.vbios) or ""
        chip = product or _CHIPS[device.architecture].replace("_", "")
        return sign_manifest(manifest_text(chip, named, golden), signer or self.manifest_signer)


def _derived_with(state: State, architecture: str) -> Mapping[x509.ObjectIdentifier, bytes]:
    digest = _SHA384_FWID + (state.firmware_id or _measured("firmware"))
    if architecture == "BLACKWELL":  # DiceTcbInfo: SEQUENCE { …, [6] SEQUENCE OF FWID, [7] flags }
        body = bytes([0xA6, len(digest)]) + digest + bytes([0x87, 5, 0, state.flags, 0, 0, 1])
        return {_TCB_INFO: bytes([0x30, len(body)]) + body}
    # CompositeDeviceID: SEQUENCE { version 1, …, FWID }; the key in the middle is left out here, and nobody reads it.
    body = b"\x02\x01\x01" + digest
    return {_COMPOSITE: bytes([0x30, len(body)]) + body}

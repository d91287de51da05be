"""The accelerators of a session (protocol 6.11): each that the release declares, fresh for this session, and no others.

On the wire one device is one deterministic CBOR array: `[architecture, report, [certificates from the leaf upward]]`.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sottovoce.attest.nvidia.appraisal import appraise_device, appraise_together, device_names
from sottovoce.attest.nvidia.demands import Demands, Lines, References
from sottovoce.attest.nvidia.evidence import ARCHITECTURES, DeviceEvidence
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.rules import device_rules
from sottovoce.attest.verdict import Checklist, Rule
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.entries import Accelerator

__all__ = ["accelerator_rules", "appraise_accelerators", "decode_devices", "encode_device"]

_PARTS: Final = 3


def encode_device(device: DeviceEvidence) -> bytes:
    """One device's member of the evidence; the root may be left out of its chain."""
    return cbor.encode([device.architecture.name, device.report, list(device.chain)])


def decode_devices(members: Sequence[bytes]) -> tuple[DeviceEvidence, ...]:
    """The devices in the evidence.

    Raises:
        DecodeError: malformed, or of an unknown architecture.
    """
    return tuple(_device(cbor.decode(member, limit=LIMITS.evidence)) for member in members)


def _device(value: Any) -> DeviceEvidence:
    if not isinstance(value, list) or len(value) != _PARTS or not isinstance(value[2], list):
        raise DecodeError("the accelerator's evidence is no array of three")
    name, report, chain = value
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise DecodeError("the accelerator's evidence is of an unknown architecture")
    if not isinstance(report, bytes) or not all(isinstance(one, bytes) for one in chain):
        raise DecodeError("the accelerator's evidence has a value of the wrong type")
    return DeviceEvidence(architecture=ARCHITECTURES[name], nonce=None, report=report, chain=tuple(chain))


def accelerator_rules(devices: Sequence[DeviceEvidence]) -> Mapping[str, Rule]:
    """The checks of these devices, of which there is one at least."""
    return device_rules(device_names(devices))


def appraise_accelerators(
    devices: Sequence[DeviceEvidence],
    declared: Sequence[Accelerator],
    *,
    nonce: bytes,
    policy: NvidiaPolicy,
    manifests: Collection[bytes],
    now: int | None,
    checks: Checklist,
) -> None:
    """Record every line of the devices shown, and whether they are those declared.

    A device is held against those of `manifests` (XML) alone whose digests the release pins for its architecture.
    """
    shown = Counter(device.architecture.name for device in devices)
    wanted = Counter(accelerator.architecture for accelerator in declared)
    checks.add(
        "accelerators",
        ok=shown == wanted,
        found=f"{_listed(shown)} shown, {_listed(wanted)} declared",
        wanted="those that the release declares",
    )
    appraised = []
    for device, (name, _) in zip(devices, device_names(devices), strict=True):
        pinned = {
            digest
            for accelerator in declared
            if accelerator.architecture == device.architecture.name
            for digest in accelerator.manifests
        }
        files = [one for one in manifests if hashlib.sha256(one).hexdigest() in pinned]
        references = References.of(files, policy.roots.manifests)
        demands = Demands(policy=policy, nonce=nonce, references=references, now=now, references_needed=True)
        appraised.append(appraise_device(device, demands, Lines(checks, name)))
    if devices:
        appraise_together(appraised, checks)


def _listed(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(names.items())) or "none"

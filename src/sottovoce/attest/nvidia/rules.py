"""The checks of a GPU or switch and its manifests. In a verdict each stands under `device/check`, such as `gpu-0/nvidia-signature`."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sottovoce.attest.verdict import Rule

__all__ = ["GPU_RULES", "LIST_RULES", "SWITCH_RULES", "device_rules"]

_SECTION: Final = "6.11"
_SPDM: Final = "DMTF DSP0274 1.1.1 §10.11"
_VENDOR: Final = "NVIDIA attestation-sdk"
_RIM: Final = "TCG RIM information model 1.01"
_DSIG: Final = "W3C XML Signature 1.1"
_FORGE: Final = "read your messages in a GPU that is none, or has no protection"
_STOLEN: Final = "use a GPU whose key the vendor knows to be stolen"
_OLD: Final = "show a report from before it changed the GPU's firmware"
_FIRMWARE: Final = "run firmware or a driver in the GPU that reads your messages"
_REFERENCE: Final = "have the GPU compared with values of its own making"
_EXPIRED: Final = "have the GPU compared with values that the vendor no longer stands by"
_MODE: Final = "read what the GPU holds, or what GPUs send each other"


def _rule(title: str, source: str, risk: str) -> Rule:
    return Rule(_SECTION, title, source, risk)


_COMMON: Final[Mapping[str, Rule]] = {
    "nvidia-report": _rule("report is one SPDM exchange", _SPDM, "have fields read that the report does not have"),
    "nvidia-chain": _rule("device key leads to the vendor root", "RFC 5280 §6.1; NVIDIA device identity", _FORGE),
    "nvidia-chain-dates": _rule("certificates are valid now", "RFC 5280 §4.1.2.5", _STOLEN),
    "nvidia-revoked": _rule("no certificate is in the list of revoked ones", "protocol §3", _STOLEN),
    "nvidia-revocation-service": _rule("vendor's revocation service was asked", "RFC 6960", _STOLEN),
    "nvidia-architecture": _rule(
        "certificate names a chip of the architecture",
        "NVIDIA device identity, subject names",
        "pass one kind of device off as another",
    ),
    "nvidia-signature": _rule("report is signed by the device key", f"{_SPDM}, signature", _FORGE),
    "nvidia-nonce": _rule("report answers this nonce", f"{_SPDM}, nonce", _OLD),
    "nvidia-firmware-id": _rule(
        "device key was derived with the firmware that is reported",
        "TCG DICE attestation architecture 1.1 §6.1.1",
        "sign with a key that other firmware has got hold of",
    ),
    "nvidia-debug": _rule(
        "device certificate states no debug or recovery mode",
        "TCG DICE attestation architecture 1.1 §6.1.1, OperationalFlags",
        "look into the device with a debugger",
    ),
    "nvidia-vbios": _rule("report names the firmware's version", _VENDOR, _FIRMWARE),
    "nvidia-vbios-rim": _rule("firmware's manifest is signed by the vendor", f"{_RIM}; {_DSIG}", _REFERENCE),
    "nvidia-vbios-rim-dates": _rule("signer of the firmware's manifest is valid now", "RFC 5280 §4.1.2.5", _EXPIRED),
    "nvidia-measurements": _rule("every measurement with a reference value is equal to it", _RIM, _FIRMWARE),
}  # fmt: skip
GPU_RULES: Final[Mapping[str, Rule]] = {
    **_COMMON,
    "nvidia-driver": _rule("report names the driver's version", _VENDOR, _FIRMWARE),
    "nvidia-driver-rim": _rule("driver's manifest is signed by the vendor", f"{_RIM}; {_DSIG}", _REFERENCE),
    "nvidia-driver-rim-dates": _rule("signer of the driver's manifest is valid now", "RFC 5280 §4.1.2.5", _EXPIRED),
    "nvidia-rim-conflict": _rule(
        "no measurement has reference values in both manifests", _VENDOR, "choose which of two values counts"
    ),
    "nvidia-nvdec": _rule(
        "video decoder is reported as on or off", f"{_VENDOR}, NVDEC0 status", "have a measurement passed over"
    ),
    "nvidia-mode": _rule("GPU is in a confidential mode that is accepted", f"{_VENDOR}, feature flag", _MODE),
    "nvidia-developer-mode": _rule("GPU is not in developer mode", "NVIDIA NVML, devToolsMode", _MODE),
}  # fmt: skip
"""What is checked of each GPU."""
SWITCH_RULES: Final[Mapping[str, Rule]] = {
    **_COMMON,
    "nvidia-locked": _rule(
        "switch's configuration is locked",
        f"{_VENDOR}, switch lock status",
        "redirect what GPUs send each other",
    ),
}
"""What is checked of each switch."""
LIST_RULES: Final[Mapping[str, Rule]] = {
    "nvidia-distinct": _rule(
        "every device is another one",
        "protocol 6.11",
        "show one protected GPU several times and use others",
    ),
    "nvidia-fabric": _rule(
        "GPUs and switches that are linked are all here",
        f"{_VENDOR}, topology; protocol 6.11",
        "lead what GPUs send each other through a switch that nobody has examined",
    ),
}
"""What is checked once, of all devices together."""


@functools.lru_cache(maxsize=64)
def device_rules(devices: tuple[tuple[str, bool], ...]) -> Mapping[str, Rule]:
    """The checks of these devices, (name, whether it is a switch) each, by `device/check`, and those of all together."""
    return {
        **{
            f"{name}/{check}": replace(rule, title=f"{name}: {rule.title}")
            for name, switch in devices
            for check, rule in (SWITCH_RULES if switch else GPU_RULES).items()
        },
        **LIST_RULES,
    }

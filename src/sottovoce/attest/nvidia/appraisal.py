"""Every check of one GPU or switch, and of all of them together (protocol 6.11)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.nvidia import signatures
from sottovoce.attest.nvidia.demands import Demands, Lines
from sottovoce.attest.nvidia.evidence import DeviceEvidence
from sottovoce.attest.nvidia.layout import Report
from sottovoce.attest.nvidia.measurements import compare
from sottovoce.attest.nvidia.opaque import DISABLED, ENABLED, Fields
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import DecodeError, PeerError

__all__ = ["Device", "appraise_device", "appraise_together", "device_names"]

_NO_CLOCK: Final = "there is no trusted clock here"
_SHORT: Final = 16
_STATUS: Final = {ENABLED: "on", DISABLED: "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is compared among devices; `fields` is None where the report does not parse."""

    name: str
    switch: bool
    report: bytes
    chain: tuple[bytes, ...]
    fields: Fields | None


def device_names(devices: Sequence[DeviceEvidence]) -> tuple[tuple[str, bool], ...]:
    """The devices' names, by kind and place in the list (`gpu-0`, `switch-1`), and whether each is a switch."""
    return tuple(
        (f"{'switch' if one.architecture.switch else 'gpu'}-{place}", one.architecture.switch)
        for place, one in enumerate(devices)
    )


def appraise_device(shown: DeviceEvidence, demands: Demands, lines: Lines) -> Device:
    """Record every line that can be evaluated for one device."""
    switch = shown.architecture.switch
    chip, leaf = _chain(shown, demands, lines)
    if leaf is not None:
        _debug(leaf, lines)
    read = lines.attempt("nvidia-report", lambda: _read(shown, switch=switch), wanted="SPDM 1.1, whole")
    fields = None
    if read is not None:
        report, fields = read
        if leaf is not None:
            lines.attempt(
                "nvidia-signature",
                lambda: signatures.verify_report(report, leaf),
                wanted="ECDSA P-384, SHA-384",
            )
            _firmware_id(fields, leaf, lines)
        _nonce(shown, report, demands, lines)
        (_switch_state if switch else _gpu_state)(fields, demands, lines)
        compare(report, fields, chip, demands, lines, switch=switch)
    if not switch:
        # NVML tells the machine's own software; no report has a field for it.
        lines.skip(
            "nvidia-developer-mode", "the report has no field for it: only the CVM itself can ask the driver"
        )
    return Device(name=lines.name, switch=switch, report=shown.report, chain=shown.chain, fields=fields)


def _read(shown: DeviceEvidence, *, switch: bool) -> tuple[Report, Fields]:
    report = Report.parse(shown.report)
    return report, Fields.parse(report.opaque, switch=switch)


def _chain(shown: DeviceEvidence, demands: Demands, lines: Lines) -> tuple[str, Certificate | None]:
    root = demands.policy.roots.devices
    lines.skip(
        "nvidia-revocation-service", "the vendor answers this on line only (OCSP); this verifier asks nobody"
    )
    chain = lines.attempt(
        "nvidia-chain", lambda: signatures.verify_chain(shown.chain, root), wanted="the pinned NVIDIA root"
    )
    if chain is None:
        return "", None
    if demands.now is None:
        lines.skip("nvidia-chain-dates", _NO_CLOCK)
    else:
        now = demands.now
        lines.attempt(
            "nvidia-chain-dates", lambda: signatures.require_valid(chain, now=now), wanted="all valid"
        )
    _revoked(chain, demands.policy.revoked, lines)
    return _chip(shown, chain, demands.policy, lines), chain[0]


def _revoked(chain: tuple[Certificate, ...], revoked: frozenset[str] | None, lines: Lines) -> None:
    if revoked is None:
        lines.skip("nvidia-revoked", "no list was given")
        return
    lines.attempt(
        "nvidia-revoked",
        lambda: signatures.require_not_revoked(chain, revoked),
        wanted="not in the list",
    )


def _chip(shown: DeviceEvidence, chain: tuple[Certificate, ...], policy: NvidiaPolicy, lines: Lines) -> str:
    # The device's own identity is the certificate above that of the firmware's key; both begin with the chip.
    architecture = shown.architecture
    try:
        names = [architecture.chip.fullmatch(certificate.common_name) for certificate in chain[:2]]
    except PeerError:
        names = [None]
    chips = {name[1] for name in names if name}
    fits = all(names) and len(chips) == 1 and architecture.name in policy.architectures
    lines.add(
        "nvidia-architecture",
        ok=fits,
        found=f"{architecture.name}, {min(chips, default='another chip')}",
        wanted=f"a chip of {' or '.join(sorted(policy.architectures))}",
    )
    return min(chips, default="").replace("_", "") if fits else ""


def _firmware_id(fields: Fields, leaf: Certificate, lines: Lines) -> None:
    reported = fields.firmware_id
    if reported is None:
        lines.skip("nvidia-firmware-id", "the report of this firmware has none")
        return
    try:
        certified = signatures.firmware_id(leaf)
    except DecodeError as error:
        lines.add("nvidia-firmware-id", ok=False, found=str(error), wanted="the certificate's")
        return
    lines.add(
        "nvidia-firmware-id",
        ok=reported == certified,
        found=f"{reported.hex()[:_SHORT]}…",
        wanted=f"{certified.hex()[:_SHORT]}…, the certificate's",
    )


def _debug(leaf: Certificate, lines: Lines) -> None:
    try:
        unsafe = signatures.operational_flags(leaf)
    except DecodeError as error:
        lines.add("nvidia-debug", ok=False, found=str(error), wanted="none of them")
        return
    if unsafe is None:
        lines.skip("nvidia-debug", "the certificate of this architecture states no flags")
        return
    lines.add(
        "nvidia-debug", ok=not unsafe, found="stated" if unsafe else "none of them", wanted="none of them"
    )


def _nonce(shown: DeviceEvidence, report: Report, demands: Demands, lines: Lines) -> None:
    found, wanted = report.nonce.hex(), demands.nonce
    if shown.nonce is not None and shown.nonce != report.nonce:
        lines.add("nvidia-nonce", ok=False, found="another than the evidence names", wanted="one nonce")
    elif wanted is None:
        lines.skip("nvidia-nonce", f"{found}; no nonce was demanded")
    else:
        lines.add("nvidia-nonce", ok=report.nonce == wanted, found=found, wanted=wanted.hex())


def _gpu_state(fields: Fields, demands: Demands, lines: Lines) -> None:
    lines.add(
        "nvidia-driver", ok=fields.driver is not None, found=fields.driver or "none", wanted="a version"
    )
    lines.add("nvidia-vbios", ok=fields.vbios is not None, found=fields.vbios or "none", wanted="a version")
    decoder = _STATUS.get(fields.nvdec0 or 0)
    lines.add("nvidia-nvdec", ok=decoder is not None, found=decoder or "neither", wanted="on or off")
    _mode(fields, demands.policy.modes, lines)


def _mode(fields: Fields, modes: frozenset[str], lines: Lines) -> None:
    # Reports without a feature flag come from firmware that has no other mode than one GPU or, where it says so, protected PCIe.
    status = fields.protected_pcie
    mode = fields.mode or {ENABLED: "PPCIE", DISABLED: "SPT"}.get(status or 0)
    if mode is None and status is None:
        lines.skip("nvidia-mode", "the report of this firmware states no mode")
        return
    agrees = mode is not None and (status is None or status == (ENABLED if mode == "PPCIE" else DISABLED))
    lines.add(
        "nvidia-mode",
        ok=agrees and mode in modes,
        found=f"{mode}" if agrees else "two answers",
        wanted=" or ".join(sorted(modes)),
    )


def _switch_state(fields: Fields, _: Demands, lines: Lines) -> None:
    lines.add("nvidia-vbios", ok=fields.vbios is not None, found=fields.vbios or "none", wanted="a version")
    found = {True: "locked", False: "not locked", None: "not reported"}[fields.locked]
    lines.add("nvidia-locked", ok=fields.locked is True, found=found, wanted="locked")


def appraise_together(devices: Sequence[Device], checks: Checklist) -> None:
    """Record the lines about all devices together."""
    reports = {hashlib.sha256(one.report).digest() for one in devices}
    keys = {one.chain[:1] for one in devices}
    identities = {one.chain[1:2] for one in devices}
    distinct = min(len(reports), len(keys), len(identities))
    checks.add(
        "nvidia-distinct",
        ok=distinct == len(devices),
        found=f"{distinct} of {len(devices)}",
        wanted="no report, key or device twice",
    )
    _fabric(devices, checks)


# As the vendor's verifier for protected PCIe: every GPU names the same switches, and every switch as many GPUs, the same ones.
def _fabric(devices: Sequence[Device], checks: Checklist) -> None:
    gpus = [one.fields for one in devices if not one.switch and one.fields]
    switches = [one.fields for one in devices if one.switch and one.fields]
    # A GPU writes a switch's id from its lowest byte, the switch itself from its highest.
    named = [frozenset(link[::-1] for link in gpu.links) for gpu in gpus]
    every = frozenset[bytes]().union(*named)
    shown = [switch.pdi for switch in switches if switch.pdi]
    if not gpus or not (every or shown):
        checks.skip("nvidia-fabric", "no GPU here reports a link" if gpus else "there is no GPU here")
        return
    listed = {switch.links for switch in switches}
    fewer = sum(one != every for one in named)
    others = len(listed) > 1 or any(len(one) != len(gpus) for one in listed)
    found = (
        f"GPUs name {len(every)} switches, {len(every.intersection(shown))} of them here; "
        f"here are {len(switches)} switches and {len(gpus)} GPUs"
    )
    checks.add(
        "nvidia-fabric",
        ok=not fewer and not others and sorted(every) == sorted(shown) and len(shown) == len(switches),
        found=f"{found}{f'; {fewer} GPUs do not name all' if fewer else ''}{'; switches list other GPUs' if others else ''}",
        wanted="exactly those that are linked",
    )

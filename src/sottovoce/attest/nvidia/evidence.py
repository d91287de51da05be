"""Evidence as NVIDIA's tools write it: a JSON list with `arch`, `nonce` (hex), `evidence` and `certificate` (base64) for each device.

    [{"arch": "HOPPER", "nonce": "931d…", "evidence": "EeAB…", "certificate": "LS0t…"}, …]

Other members that the tools write (`version`, `driver_version`, `vbios_version`, `uuid`) are allowed and not believed: nobody signed them.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.attest.nvidia.layout import MAX_REPORT, NONCE
from sottovoce.attest.pem import certificates
from sottovoce.core.errors import DecodeError

__all__ = ["ARCHITECTURES", "Architecture", "DeviceEvidence", "parse_evidence"]

MAX_EVIDENCE: Final = 1024 * 1024
MAX_DEVICES: Final = 32
"""A machine has at most eight GPUs and four switches today."""
_MAX_CERTIFICATES: Final = 8
_MAX_TEXT: Final = 64 * 1024
_NEEDED: Final = frozenset({"arch", "nonce", "evidence", "certificate"})
_ALLOWED: Final = _NEEDED | {"version", "driver_version", "vbios_version", "uuid"}
_NONCE: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A line of devices.

    Attributes:
        switch: whether it is an NVLink switch, which has no driver of its own.
        chip: what the common names of its device certificates begin with; the first group is the chip.
    """

    name: str
    switch: bool
    chip: re.Pattern[str]


def _architecture(name: str, chip: str, *, switch: bool = False) -> Architecture:
    return Architecture(
        name=name, switch=switch, chip=re.compile(rf"(?:Simulated )?({chip}) [A-Za-z0-9 ]+", re.ASCII)
    )


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    one.name: one
    for one in (
        _architecture("HOPPER", "GH100"),
        _architecture("BLACKWELL", "GB[12]0[0-9]"),
        _architecture("LS10", "LS_10", switch=True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvidence:
    """What one device shows.

    Attributes:
        nonce: the nonce that the evidence claims to be for, 32 bytes; None where it claims none.
        report: the SPDM exchange, undecoded.
        chain: certificates from the device key's upward (DER each).
    """

    architecture: Architecture
    nonce: bytes | None
    report: bytes
    chain: tuple[bytes, ...]


def parse_evidence(data: bytes) -> tuple[DeviceEvidence, ...]:
    """The devices in a JSON list, in its order.

    Raises:
        DecodeError: not such a list, empty, too long, or with an unknown member or architecture.
    """
    if len(data) > MAX_EVIDENCE:
        raise DecodeError("the GPU evidence is longer than its limit")
    try:
        items = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise DecodeError("the GPU evidence is not JSON") from None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_DEVICES:
        raise DecodeError("the GPU evidence is no list of devices, or has too many")
    return tuple(map(_device, items))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DecodeError("the GPU evidence has a member twice")
    return found


def _constant(_: str) -> None:
    raise DecodeError("the GPU evidence is not JSON")


def _device(item: Any) -> DeviceEvidence:
    if not isinstance(item, dict) or not _NEEDED <= item.keys() <= _ALLOWED:
        raise DecodeError("the GPU evidence has missing or unknown members")
    if not all(isinstance(value, str) and 0 < len(value) <= _MAX_TEXT for value in item.values()):
        raise DecodeError("the GPU evidence has a member of the wrong type or length")
    if item["arch"] not in ARCHITECTURES:
        raise DecodeError("the GPU evidence is of an unknown architecture")
    if not _NONCE.fullmatch(item["nonce"]):
        raise DecodeError("the GPU evidence has a nonce of the wrong form")
    chain = certificates(_base64(item["certificate"]))
    if len(chain) > _MAX_CERTIFICATES:
        raise DecodeError("the GPU evidence has too many certificates")
    report = _base64(item["evidence"])
    if len(report) > MAX_REPORT:
        raise DecodeError("the GPU report is longer than its limit")
    return DeviceEvidence(
        architecture=ARCHITECTURES[item["arch"]],
        nonce=bytes.fromhex(item["nonce"][-2 * NONCE :]),
        report=report,
        chain=chain,
    )


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DecodeError("the GPU evidence has a member that is not base64") from None

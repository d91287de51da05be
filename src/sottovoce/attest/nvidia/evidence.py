"""Evidence as NVIDIA's tools write it: a JSON list with `arch`, `nonce` (hex), `evidence` and `certificate` (base64) for each device.

    [{"arch": "HOPPER", "nonce": "931d…", "evidence": "EeAB…", "certificate": "LS0t…"}, …]

The same list stands in objects, too, under another name each:

    {"evidences": […], "result_code": 0, …}                  what `nvattest collect-evidence` prints
    {"arch": …, "nonce": …, "evidence_list": [{…}, …]}       a request to the vendor's service; both are of all devices
    {"arch": …, "nonce": …, "evidence": …, …}                such a request of the first SDKs: one device, its report as hexadecimal in base64
    {"device_evidence_list": [{"uuid": …, …}, …]}            what the Confidential Containers' attester writes; it names no nonce

Other members (`version`, `driver_version`, `vbios_version`, `uuid`, …) are allowed and not believed: nobody signed them.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.attest.nvidia.layout import MAX_REPORT, NONCE
from sottovoce.attest.pem import certificates, plain
from sottovoce.core.errors import DecodeError

__all__ = ["ARCHITECTURES", "Architecture", "DeviceEvidence", "parse_evidence"]

MAX_EVIDENCE: Final = 1024 * 1024
MAX_DEVICES: Final = 32
"""A machine has at most eight GPUs and four switches today."""
_MAX_CERTIFICATES: Final = 8
_MAX_TEXT: Final = 64 * 1024
_NEEDED: Final = frozenset({"arch", "nonce", "evidence", "certificate"})
_FORMS: Final[Mapping[str, frozenset[str]]] = {
    "evidences": _NEEDED,
    "evidence_list": _NEEDED,
    "device_evidence_list": _NEEDED - {"nonce"},
}
"""Under which names the list stands in an object, and what each of its members needs."""
_NONCE: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
"""A report in base64 begins with `EeAB`, and is never of these digits only."""


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
        # GB100 and GB102 are of B100 and B200, GB110 and GB112 of B300, GB202 and on of workstation boards (NVIDIA open-gpu-kernel-modules).
        _architecture("BLACKWELL", "GB[12][01][0-9A-F]"),
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
        DecodeError: not such a list, empty, too long, or with a missing member or an unknown architecture.
    """
    if len(data) > MAX_EVIDENCE:
        raise DecodeError("the GPU evidence is longer than its limit")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise DecodeError("the GPU evidence is not JSON") from None
    items, needed = _listed(document) if isinstance(document, dict) else (document, _NEEDED)
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_DEVICES:
        raise DecodeError("the GPU evidence is no list of devices, or has too many")
    return tuple(_device(item, needed) for item in items)


def _listed(document: dict[str, Any]) -> tuple[Any, frozenset[str]]:
    names = document.keys() & _FORMS.keys()
    if document.keys() >= _NEEDED and not names:
        return [document], _NEEDED
    if len(names) != 1:
        raise DecodeError("the GPU evidence is no list of devices, or has too many")
    (name,) = names
    items = document[name]
    if name == "evidence_list" and isinstance(items, list):
        common = {key: document[key] for key in ("arch", "nonce") if key in document}
        items = [{**common, **item} if isinstance(item, dict) else item for item in items]
    return items, _FORMS[name]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DecodeError("the GPU evidence has a member twice")
    return found


def _constant(_: str) -> None:
    raise DecodeError("the GPU evidence is not JSON")


def _device(item: Any, needed: frozenset[str]) -> DeviceEvidence:
    if not isinstance(item, dict) or not needed <= item.keys():
        raise DecodeError("the GPU evidence has missing members")
    given = {name: item[name] for name in _NEEDED & item.keys()}
    if not all(isinstance(value, str) and 0 < len(value) <= _MAX_TEXT for value in given.values()):
        raise DecodeError("the GPU evidence has a member of the wrong type or length")
    # The vendor's reader takes names in either case; others write "Hopper".
    architecture = ARCHITECTURES.get(given["arch"].upper()) if given["arch"].isascii() else None
    if architecture is None:
        raise DecodeError("the GPU evidence is of an unknown architecture")
    nonce = given.get("nonce")
    if nonce is not None and not _NONCE.fullmatch(nonce):
        raise DecodeError("the GPU evidence has a nonce of the wrong form")
    chain = certificates(_base64(given["certificate"]))
    if len(chain) > _MAX_CERTIFICATES:
        raise DecodeError("the GPU evidence has too many certificates")
    report = _binary(given["evidence"])
    if len(report) > MAX_REPORT:
        raise DecodeError("the GPU report is longer than its limit")
    return DeviceEvidence(
        architecture=architecture,
        nonce=None if nonce is None else bytes.fromhex(nonce[-2 * NONCE :]),
        report=report,
        chain=chain,
    )


def _binary(text: str) -> bytes:
    # A report begins with byte 0x11, which is no hexadecimal digit.
    return bytes.fromhex(text) if _HEX.fullmatch(text) else plain(_base64(text))


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DecodeError("the GPU evidence has a member that is not base64") from None

"""The vendor's fields behind the measurements: a sequence of type u16, size u16, value (little-endian).

The types are those of NVIDIA's published verifiers (nvtrust, attestation-sdk), which have no other specification. A type that
they do not know is an error here as it is there: nobody could say what it takes back.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["DISABLED", "ENABLED", "MODES", "Fields"]

_DRIVER, _VBIOS, _NVDEC0, _FWID, _PROTECTED_PCIE, _PDI = 3, 6, 11, 20, 21, 22
_LOCK, _GPU_PDIS = 25, 26
_OPAQUE_VERSION, _CHIP, _FEATURE = 34, 35, 36
_GPU_TYPES: Final = frozenset({*range(1, 26), *range(32, 37)})
_SWITCH_TYPES: Final = frozenset(range(1, 28))
_LATEST: Final = 1
_HEAD: Final = struct.Struct("<HH")
_PDI_SIZE: Final = 8
_WORD: Final = 8
_GPU_PDIS_COUNT: Final = 8
"""A switch's list of GPUs has eight ids, and then one byte a port."""
_DIGEST: Final = 48
ENABLED, DISABLED = 0xAA, 0x55
"""How one-byte statuses are written."""
MODES: Final[Mapping[int, str]] = {0: "SPT", 1: "MPT", 2: "PPCIE"}
"""Feature flag: one GPU passed through, several passed through, or protected PCIe."""
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", re.ASCII)
_SWITCH_VERSION: Final = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}", re.ASCII)
_CHIP_NAME: Final = re.compile(r"[A-Z0-9]{2,12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a device says about itself; what it does not say is None, or empty.

    Attributes:
        driver: version of the driver, such as "550.90.07"; GPUs only.
        vbios: version of the firmware, such as "96.00.9F.00.01".
        nvdec0: `ENABLED`, `DISABLED` or another byte; GPUs only.
        firmware_id: digest of the first mutable firmware, 48 bytes.
        mode: a value of `MODES`.
        protected_pcie: `ENABLED`, `DISABLED` or another byte.
        chip: name of the chip.
        pdi: a switch's own id, 8 bytes.
        links: ids (8 bytes each) of the switches that a GPU, or of the GPUs that a switch is linked with.
        locked: whether a switch's configuration is locked.
    """

    driver: str | None
    vbios: str | None
    nvdec0: int | None
    firmware_id: bytes | None
    mode: str | None
    protected_pcie: int | None
    chip: str | None
    pdi: bytes | None
    links: frozenset[bytes]
    locked: bool | None

    @classmethod
    def parse(cls, data: bytes, *, switch: bool) -> "Fields":
        """Parse the fields of a switch, or of a GPU.

        Raises:
            DecodeError: truncated, twice the same type, an unknown type, or a value of the wrong form.
        """
        raw = _split(data, _SWITCH_TYPES if switch else _GPU_TYPES)
        pdis = raw.get(_PDI, b"")
        linked = raw.get(_GPU_PDIS, b"")[: _GPU_PDIS_COUNT * _PDI_SIZE] if switch else pdis
        if switch and pdis and len(pdis) != _PDI_SIZE:
            raise DecodeError("the GPU report has a malformed device id")
        return cls(
            driver=None if switch else _text(raw.get(_DRIVER), _VERSION),
            vbios=_text(raw.get(_VBIOS), _SWITCH_VERSION) if switch else _gpu_vbios(raw.get(_VBIOS)),
            nvdec0=_number(raw.get(_NVDEC0), 1),
            firmware_id=_exactly(raw.get(_FWID), _DIGEST),
            mode=None if switch else _mode(raw),
            protected_pcie=_number(raw.get(_PROTECTED_PCIE), 1),
            chip=_text(raw.get(_CHIP), _CHIP_NAME),
            pdi=pdis or None if switch else None,
            links=_pdis(linked),
            locked=_truth(raw.get(_LOCK)) if switch else None,
        )


def _split(data: bytes, known: frozenset[int]) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise DecodeError("the GPU report's fields end too early")
        kind, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size + size
        if at > len(data):
            raise DecodeError("the GPU report's fields end too early")
        if kind not in known or kind in found:
            raise DecodeError("the GPU report has an unknown field, or one twice")
        found[kind] = data[at - size : at]
    return found


def _exactly(value: bytes | None, size: int) -> bytes | None:
    if value is not None and len(value) != size:
        raise DecodeError("the GPU report has a field of the wrong length")
    return value


def _number(value: bytes | None, size: int) -> int | None:
    exact = _exactly(value, size)
    return None if exact is None else int.from_bytes(exact, "little")


def _integer(value: bytes | None) -> int | None:
    # UNSPECIFIED: the vendor's verifiers take these of any length up to eight bytes; Hopper writes two.
    if value is not None and not 1 <= len(value) <= _WORD:
        raise DecodeError("the GPU report has a field of the wrong length")
    return None if value is None else int.from_bytes(value, "little")


def _truth(value: bytes | None) -> bool | None:
    number = _number(value, 2)
    if number not in (None, 0, 1):
        raise DecodeError("the GPU report has a field that is neither true nor false")
    return None if number is None else bool(number)


def _text(value: bytes | None, form: re.Pattern[str]) -> str | None:
    if value is None:
        return None
    text = value.rstrip(b"\0").decode("latin-1")
    if not form.fullmatch(text):
        raise DecodeError("the GPU report has a malformed name or version")
    return text


def _gpu_vbios(value: bytes | None) -> str | None:
    # Four bytes from the highest to the lowest, then the fifth, which is the board maker's; the rest is padding.
    exact = _exactly(value, 8)
    if exact is None:
        return None
    if any(exact[5:]):
        raise DecodeError("the GPU report has a malformed name or version")
    return ".".join(f"{byte:02X}" for byte in (*reversed(exact[:4]), exact[4]))


def _mode(raw: Mapping[int, bytes]) -> str | None:
    version = _integer(raw.get(_OPAQUE_VERSION)) or 0
    if version > _LATEST:
        raise DecodeError("the GPU report's fields are of an unknown version")
    flag = _integer(raw.get(_FEATURE))
    if (flag is None) != (version < _LATEST) or flag not in (None, *MODES):
        raise DecodeError("the GPU report's feature flag is missing, misplaced or unknown")
    return None if flag is None else MODES[flag]


def _pdis(value: bytes) -> frozenset[bytes]:
    if len(value) % _PDI_SIZE:
        raise DecodeError("the GPU report has a malformed list of links")
    ids = (value[at : at + _PDI_SIZE] for at in range(0, len(value), _PDI_SIZE))
    return frozenset(one for one in ids if any(one))  # all zeros: a link that is not used

"""What a build of OVMF says of itself to whoever launches it with SEV-SNP.

At the end of the file, 32 bytes before its last one, a table of entries stands, read backwards; each ends with its length and its GUID
(OVMF, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`). Three matter: where the SNP metadata are, where the launcher puts hashes of kernel, initrd and command line, and
where further processors begin.

    metadata:  "ASEV" ‖ u32 length ‖ u32 version = 1 ‖ u32 count ‖ for each: u32 address ‖ u32 size ‖ u32 kind    (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm)
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final
from uuid import UUID

from sottovoce.core.errors import DecodeError

__all__ = ["Firmware", "FirmwareError", "Kind", "Section"]

_TABLE: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_METADATA: Final = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
_HASHES: Final = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
_RESET: Final = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
_TAIL: Final = 32
_ENTRY: Final = struct.Struct("<H16s")
_HEAD: Final = struct.Struct("<4sIII")
_SECTION: Final = struct.Struct("<III")
_PAGE: Final = 4096
_LARGEST: Final = 64 * 1024 * 1024
_SECTIONS: Final = 64
TOP: Final = 1 << 32
"""Firmware ends where 32 bits end."""


class FirmwareError(DecodeError):
    """A firmware file that cannot be launched with SEV-SNP and a measured kernel."""

    code = "peer.decode.firmware"


class Kind(IntEnum):
    """What the launcher puts into a section."""

    ZERO = 1
    SECRETS = 2
    CPUID = 3
    SVSM = 4
    HASHES = 0x10


_KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Section:
    """Guest memory that the launcher fills: from `address` on `size` bytes, both multiples of 4,096."""

    address: int
    size: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Firmware:
    """A build of OVMF: its bytes, its sections in the order in which they are measured, the address of the table of hashes, and where processors but the first begin."""

    data: bytes = field(repr=False)
    sections: tuple[Section, ...]
    hashes: int
    reset: int

    @property
    def address(self) -> int:
        """Where its first byte lies in guest memory."""
        return TOP - len(self.data)

    @classmethod
    def parse(cls, data: bytes) -> "Firmware":
        """Read a firmware file.

        Raises:
            FirmwareError: it is none, or has no place for the hashes of a kernel (ordinary builds of OVMF have none; AmdSev's has).
        """
        if not _PAGE <= len(data) <= _LARGEST or len(data) % _PAGE:
            raise FirmwareError("a firmware file has whole pages, up to 64 MiB")
        entries = _entries(data)
        sections = _sections(data, _number(entries, _METADATA, "SNP metadata"))
        hashes = _number(entries, _HASHES, "place for the hashes of a kernel")
        pages = [one for one in sections if one.kind is Kind.HASHES]
        if len(pages) != 1 or not pages[0].address <= hashes < pages[0].address + pages[0].size:
            raise FirmwareError(
                "the firmware does not measure the hashes of a kernel",
                hint="take OVMF's AmdSev build (Debian: ovmf-amdsev)",
            )
        return cls(data, sections, hashes, _number(entries, _RESET, "reset vector for further processors"))


def _entries(data: bytes) -> dict[UUID, bytes]:
    end = len(data) - _TAIL
    length, guid = _ENTRY.unpack_from(data, end - _ENTRY.size)
    if UUID(bytes_le=guid) != _TABLE or not _ENTRY.size <= length <= end:
        raise FirmwareError("the firmware has no table of entries at its end")
    found: dict[UUID, bytes] = {}
    begin, at = end - length, end - _ENTRY.size
    while at > begin:
        if at - begin < _ENTRY.size:
            raise FirmwareError("the firmware's table of entries is cut off")
        length, guid = _ENTRY.unpack_from(data, at - _ENTRY.size)
        if not _ENTRY.size <= length <= at - begin:
            raise FirmwareError("an entry of the firmware's table has a wrong length")
        name = UUID(bytes_le=guid)
        if name in found:
            raise FirmwareError("the firmware's table has an entry twice")
        found[name] = data[at - length : at - _ENTRY.size]
        at -= length
    return found


def _number(entries: dict[UUID, bytes], name: UUID, what: str) -> int:
    value = entries.get(name, b"")
    # The place of the hashes has its size after it.
    if len(value) < 4:  # noqa: PLR2004 - a u32
        raise FirmwareError(
            f"the firmware has no {what}", hint="take OVMF's AmdSev build (Debian: ovmf-amdsev)"
        )
    return int.from_bytes(value[:4], "little")


def _sections(data: bytes, offset: int) -> tuple[Section, ...]:
    """The sections; `offset` counts from the end of the file."""
    at = len(data) - offset
    if not 0 <= at <= len(data) - _HEAD.size:
        raise FirmwareError("the firmware's SNP metadata lie outside the file")
    magic, length, version, count = _HEAD.unpack_from(data, at)
    if magic != b"ASEV" or version != 1 or count > _SECTIONS or length != _HEAD.size + count * _SECTION.size:
        raise FirmwareError("the firmware's SNP metadata are of an unknown form")
    if at + length > len(data):
        raise FirmwareError("the firmware's SNP metadata are cut off")
    found = []
    for number in range(count):
        address, size, kind = _SECTION.unpack_from(data, at + _HEAD.size + number * _SECTION.size)
        if kind not in _KINDS or not size or address % _PAGE or size % _PAGE or address + size > TOP:
            raise FirmwareError("a section of the firmware's SNP metadata is not one that we know")
        found.append(Section(address, size, Kind(kind)))
    if sum(one.size for one in found) > _LARGEST:
        raise FirmwareError("the firmware's SNP metadata name more memory than a launcher fills")
    return tuple(found)

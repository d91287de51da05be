"""The SEV-SNP launch digest of a CVM: what its processor's report says of the memory and the processors that it began with.

By the SEV-SNP firmware ABI (56860, revision 1.58, section 8.17.2, table 68): the digest starts as 48 zero bytes, and each page that the launcher adds
makes it the SHA-384 of a structure of 0x70 bytes with the digest so far, the page's contents, kind and address. Here that is done as QEMU does it with a kernel: the firmware, the
sections that it names, one page of hashes of kernel, initrd and command line, and a page of registers for each processor.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

from sottovoce.core.errors import UsageError
from sottovoce.image.firmware import Firmware, Kind, Section

__all__ = ["PROCESSORS", "Booted", "Processor", "launch_digest"]

_PAGE: Final = 4096
_INFO: Final = struct.Struct("<48s48sHBBBBBBQ")
_REGISTERS_AT: Final = 0xFFFF_FFFF_F000
"""Where pages of registers count as lying (SEV-SNP firmware ABI, 8.17.2.2)."""
_MOST: Final = 512
_FIRST: Final = 0xFFFF_FFF0
"""Where the first processor begins."""
_HASHES: Final = UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_COMMAND_LINE: Final = UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD: Final = UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL: Final = UUID("4de79437-abd2-427f-b835-d5b172d2045b")
_HASH: Final = struct.Struct("<16sH32s")


class _Page(IntEnum):
    """Kinds of pages (SEV-SNP firmware ABI, table 67)."""

    NORMAL = 1
    REGISTERS = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


_FILLED: Final = {
    Kind.ZERO: _Page.ZERO,
    Kind.SECRETS: _Page.SECRETS,
    Kind.CPUID: _Page.CPUID,
    Kind.SVSM: _Page.ZERO,
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A type of processor as CPUID names it (leaf 1, EAX): the launcher shows it to a CVM in a register, which is measured."""

    family: int
    model: int
    stepping: int

    @property
    def signature(self) -> int:
        """The number in EAX (AMD64 Architecture Programmer's Manual, volume 3, CPUID Fn0000_0001)."""
        base, extended = min(self.family, 0xF), max(0, self.family - 0xF)
        return extended << 20 | self.model >> 4 << 16 | base << 8 | (self.model & 0xF) << 4 | self.stepping


PROCESSORS: Final = {
    "EPYC-Milan": Processor(25, 1, 1),
    "EPYC-Genoa": Processor(25, 17, 0),
    "EPYC-Turin": Processor(26, 0, 0),
}
"""Types with SEV-SNP, by the names under which QEMU has them."""


@dataclass(frozen=True, slots=True)
class Booted:
    """SHA-256 digests of what the firmware is to boot, 32 bytes each."""

    kernel: bytes
    initrd: bytes
    command_line: bytes

    @classmethod
    def of(cls, kernel: bytes, initrd: bytes, command_line: str) -> "Booted":
        """Those of these files and this command line."""
        # The launcher hands it over with its end.
        return cls(*(hashlib.sha256(one).digest() for one in (kernel, initrd, command_line.encode() + b"\0")))

    def table(self) -> bytes:
        """The table that the launcher puts where the firmware looks for it: its length is a multiple of 16."""
        hashes = b"".join(
            _HASH.pack(guid.bytes_le, _HASH.size, digest)
            for guid, digest in (
                (_COMMAND_LINE, self.command_line),
                (_INITRD, self.initrd),
                (_KERNEL, self.kernel),
            )
        )
        table = _HASHES.bytes_le + struct.pack("<H", 18 + len(hashes)) + hashes
        return table + bytes(-len(table) % 16)


def launch_digest(
    firmware: Firmware, booted: Booted, *, processor: Processor, count: int, features: int = 1
) -> bytes:
    """The digest, 48 bytes, of a CVM with `count` processors of this type; `features` are its SEV_FEATURES (1: SNP alone).

    Raises:
        UsageError: no processor, or more than 512.
    """
    if not 1 <= count <= _MOST:
        raise UsageError(f"a CVM has 1 to {_MOST} processors")
    digest = _Digest()
    for at in range(0, len(firmware.data), _PAGE):
        digest.add(_Page.NORMAL, firmware.address + at, firmware.data[at : at + _PAGE])
    for section in firmware.sections:
        _fill(digest, section, firmware, booted)
    for number in range(count):
        begins = firmware.reset if number else _FIRST
        digest.add(_Page.REGISTERS, _REGISTERS_AT, _registers(begins, processor.signature, features))
    return digest.value


class _Digest:
    def __init__(self) -> None:
        self.value = bytes(48)

    def add(self, kind: _Page, address: int, contents: bytes | None = None) -> None:
        """Add one page; without contents, one whose contents are not measured."""
        hashed = bytes(48) if contents is None else hashlib.sha384(contents).digest()
        # Not an initial migration image; other privilege levels may do nothing with the page.
        info = _INFO.pack(self.value, hashed, _INFO.size, kind, 0, 0, 0, 0, 0, address)
        self.value = hashlib.sha384(info).digest()


def _fill(digest: _Digest, section: Section, firmware: Firmware, booted: Booted) -> None:
    for address in range(section.address, section.address + section.size, _PAGE):
        if section.kind is not Kind.HASHES:
            digest.add(_FILLED[section.kind], address)
        elif address <= firmware.hashes < address + _PAGE:
            offset, table = firmware.hashes - address, booted.table()
            digest.add(_Page.NORMAL, address, (bytes(offset) + table).ljust(_PAGE, b"\0"))
        else:
            digest.add(_Page.ZERO, address)


def _registers(begins: int, signature: int, features: int) -> bytes:
    """A page with a processor's registers as QEMU and KVM set them at the start (AMD64 Architecture Programmer's Manual, volume 2, table B-4)."""
    page = bytearray(_PAGE)

    def segment(at: int, selector: int, attributes: int, base: int = 0) -> None:
        struct.pack_into("<HHIQ", page, at, selector, attributes, 0xFFFF, base)

    for at in (0x000, 0x020, 0x030, 0x040, 0x050):  # ES, SS, DS, FS, GS
        segment(at, 0, 0x93)
    segment(0x010, 0xF000, 0x9B, begins & 0xFFFF_0000)  # CS
    segment(0x060, 0, 0)  # GDTR
    segment(0x070, 0, 0x82)  # LDTR
    segment(0x080, 0, 0)  # IDTR
    segment(0x090, 0, 0x8B)  # TR
    for at, value in (
        (0x0D0, 0x1000),  # EFER: SVM
        (0x148, 0x40),  # CR4: machine check
        (0x158, 0x10),  # CR0: extension type
        (0x160, 0x400),  # DR7
        (0x168, 0xFFFF_0FF0),  # DR6
        (0x170, 2),  # RFLAGS
        (0x178, begins & 0xFFFF),  # RIP
        (0x268, 0x0007_0406_0007_0406),  # PAT
        (0x310, signature),  # RDX
        (0x3B0, features),  # SEV_FEATURES
        (0x3E8, 1),  # XCR0
    ):
        struct.pack_into("<Q", page, at, value)
    struct.pack_into("<I", page, 0x408, 0x1F80)  # MXCSR
    struct.pack_into("<H", page, 0x410, 0x037F)  # x87 control word
    return bytes(page)

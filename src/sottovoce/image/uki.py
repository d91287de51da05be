r"""An image as one program that UEFI starts, for machines that boot a disk and no kernel of the host's choice: and what a TPM measures of it.

    stub ─▶ + command line, RAM disk, kernel ─▶ \\EFI\\BOOT\\BOOTX64.EFI on a disk of any provider's

The form is the UAPI group's (Unified Kernel Image), the stub systemd's. A launch digest covers the provider's firmware alone there; of this program only the TPM's registers know:

    4     the firmware: that it starts something, the program, then the kernel in it (TCG PC Client Platform Firmware Profile, 3.3.4.5)
    9     the kernel: its command line in UTF-16 with a null at its end, and the RAM disk (Linux, drivers/firmware/efi/libstub)
    11    the stub: the name of each section and what is in it (systemd-stub(7), systemd-measure(1))
"""

import hashlib
import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sottovoce.image.build import Image
from sottovoce.image.debs import PackageError

__all__ = ["Section", "authenticode", "registers", "sections", "unified"]

_ORDER: Final = (".linux", ".cmdline", ".initrd")
"""In which the stub measures them."""
_NEW: Final = struct.Struct("<8sIIII12sI")
"""A section's header: name, size in memory, address, size in the file, place in the file, nothing, what it is (Microsoft PE format, "Section Table")."""
_DATA: Final = 0x40000040
"""Initialised data that can be read."""
_PE32_PLUS: Final = 0x20B
_SIZE, _CHECKSUM, _CERTIFICATES = 56, 64, 144
"""Places in the optional header: the size in memory, and what a signature leaves out."""
_PAGE: Final = 4096
_HIGHEST: Final = (1 << 32) - (1 << 20)
"""Addresses have 32 bits, and what is behind the last one is rounded up."""
_ALIGNED: Final = 1 << 20
"""No program of UEFI's is aligned to more, in memory."""
_REGISTER: Final = 32
_STARTS: Final = b"Calling EFI Application from Boot Option"
_SEPARATOR: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Section:
    """A section: size in memory, address, size and place in the file."""

    name: str
    size: int
    address: int
    stored: int
    place: int


@dataclass(frozen=True, slots=True)
class _Headers:
    """Where a program's headers are, and what they say: begin, optional header, table of sections and how many, alignment in memory and in the file, length of all, length of a signature."""

    begin: int
    optional: int
    table: int
    count: int
    memory: int
    file: int
    length: int
    signature: int


def unified(image: Image) -> bytes:
    """The program that starts the image.

    Raises:
        PackageError: the stub is none, or has no room for more sections.
    """
    stub = image.stub
    headers = _headers(stub)
    added = {".cmdline": image.command_line.encode(), ".initrd": image.initrd, ".linux": image.kernel}
    table = headers.table + headers.count * _NEW.size
    if table + len(added) * _NEW.size > headers.length:
        raise PackageError("the stub has no room for more sections")
    made = bytearray(stub + bytes(-len(stub) % headers.file))
    address = max((one.address + one.size for one in sections(stub)), default=headers.length)
    for number, (name, content) in enumerate(added.items()):
        # Each on a page of its own: the stub hands them on where they are.
        address = _up(address, max(headers.memory, _PAGE))
        stored = content + bytes(-len(content) % headers.file)
        if address + len(content) > _HIGHEST:
            raise PackageError("the stub has no room for more sections")
        head = (name.encode(), len(content), address, len(stored), len(made), bytes(12), _DATA)
        _NEW.pack_into(made, table + number * _NEW.size, *head)
        made += stored
        address += len(content)
    struct.pack_into("<H", made, headers.begin + 6, headers.count + len(added))
    struct.pack_into("<I", made, headers.optional + _SIZE, _up(address, headers.memory))
    return bytes(made)


def sections(program: bytes) -> tuple[Section, ...]:
    """The sections of a program, in the order of its table.

    Raises:
        PackageError: it is no program of UEFI's, or is cut off.
    """
    headers = _headers(program)
    found = []
    for number in range(headers.count):
        name, size, address, stored, place, _, _ = _NEW.unpack_from(
            program, headers.table + number * _NEW.size
        )
        if place + stored > len(program):
            raise PackageError("a program of UEFI's is cut off")
        found.append(Section(name.rstrip(b"\0").decode("ascii", "replace"), size, address, stored, place))
    return tuple(found)


def authenticode(program: bytes) -> bytes:
    """The digest by which firmware knows a program, SHA-256: all of it but its checksum and its signature (Windows Authenticode PE Signature Format, "Calculating the PE Image Hash").

    Raises:
        PackageError: as `sections`.
    """
    headers = _headers(program)
    checksum, entry = headers.optional + _CHECKSUM, headers.optional + _CERTIFICATES
    digest = hashlib.sha256(program[:checksum])
    digest.update(program[checksum + 4 : entry])
    digest.update(program[entry + 8 : headers.length])
    hashed = headers.length
    for one in sorted(sections(program), key=lambda one: one.place):
        digest.update(program[one.place : one.place + one.stored])
        hashed += one.stored
    if hashed + headers.signature > len(program):
        raise PackageError("the signature of a program of UEFI's is longer than the program")
    digest.update(program[hashed : len(program) - headers.signature])
    return digest.digest()


def registers(image: Image) -> dict[int, bytes]:
    """What the TPM's registers (PCR, SHA-256) hold when PID 1 of `unified` starts, by their numbers.

    Raises:
        PackageError: as `unified`.
    """
    started = hashlib.sha256(_STARTS).digest(), hashlib.sha256(_SEPARATOR).digest()
    programs = authenticode(unified(image)), authenticode(image.kernel)
    line = image.command_line
    parts = {".linux": image.kernel, ".cmdline": line.encode(), ".initrd": image.initrd}
    measured = ((name.encode() + b"\0", parts[name]) for name in _ORDER)
    return {
        4: _extended([*started, *programs]),
        9: _extended(hashlib.sha256(one).digest() for one in (f"{line}\0".encode("utf-16-le"), image.initrd)),
        11: _extended(hashlib.sha256(one).digest() for one in itertools.chain(*measured)),
    }


def _extended(digests: Iterable[bytes]) -> bytes:
    value = bytes(_REGISTER)
    for digest in digests:
        value = hashlib.sha256(value + digest).digest()
    return value


def _headers(program: bytes) -> _Headers:
    try:
        (begin,) = struct.unpack_from("<I", program, 0x3C)
        optional = begin + 24
        (count,) = struct.unpack_from("<H", program, begin + 6)
        (size,) = struct.unpack_from("<H", program, begin + 20)
        (magic,) = struct.unpack_from("<H", program, optional)
        memory, file = struct.unpack_from("<II", program, optional + 32)
        (length,) = struct.unpack_from("<I", program, optional + _SIZE + 4)
        _, signature = struct.unpack_from("<II", program, optional + _CERTIFICATES)
    except struct.error:
        magic = begin = 0
    if magic != _PE32_PLUS or program[:2] != b"MZ" or program[begin : begin + 4] != b"PE\0\0":
        raise PackageError("this is no program of UEFI's")
    fits = 0 < file <= length <= len(program) and 0 < memory <= _ALIGNED
    if optional + size + count * _NEW.size > length or not fits:
        raise PackageError("the headers of a program of UEFI's are damaged")
    return _Headers(begin, optional, optional + size, count, memory, file, length, signature)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple

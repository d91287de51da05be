"""Firmware for tests (what a build of OVMF says at its end, around nothing that runs), Debian packages, and what a kernel says of itself."""

import io
import lzma
import struct
import tarfile
from uuid import UUID

from sottovoce.image.files import File, regular
from sottovoce.image.kernel import DEMANDED

PAGE = 4096
METADATA = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
HASHES = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
RESET = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
TABLE = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
SECTIONS: tuple[tuple[int, int, int], ...] = (
    (0x800000, 9 * PAGE, 1),
    (0x80D000, PAGE, 2),
    (0x80E000, PAGE, 3),
    (0x80F000, PAGE, 4),
    (0x810000, PAGE, 0x10),
)
"""Address, size, kind, as OVMF's AmdSev build has them."""


def metadata(sections: tuple[tuple[int, int, int], ...] = SECTIONS) -> bytes:
    found = b"".join(struct.pack("<III", *one) for one in sections)
    return struct.pack("<4sIII", b"ASEV", 16 + len(found), 1, len(sections)) + found


def entry(guid: UUID, data: bytes) -> bytes:
    return data + struct.pack("<H16s", len(data) + 18, guid.bytes_le)


def firmware(
    *, pages: int = 4, described: bytes | None = None, entries: bytes | None = None, tail: bytes | None = None
) -> bytes:
    """A firmware file. `described` are its metadata, `entries` what stands in its table, `tail` the table's own end."""
    described = metadata() if described is None else described
    size, at = pages * PAGE, PAGE
    if entries is None:
        entries = (
            entry(UUID(int=7), b"of others")
            + entry(RESET, struct.pack("<I", 0x80B004))
            + entry(HASHES, struct.pack("<II", 0x810C00, 0x400))
            + entry(METADATA, struct.pack("<I", size - at))
        )
    tail = struct.pack("<H16s", len(entries) + 18, TABLE.bytes_le) if tail is None else tail
    end = entries + tail + bytes(32)
    body = bytearray(bytes(range(256)) * (size // 256))
    body[at : at + len(described)] = described
    body[size - len(end) :] = end
    assert len(body) == size
    return bytes(body)


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def deb(
    files: bytes, *, version: bytes = b"2.0\n", name: str = "data.tar.xz", packed: bytes | None = None
) -> bytes:
    """A package with `files` as its data.tar."""
    members = {
        "debian-binary": version,
        "control.tar.xz": lzma.compress(tarred()),
        name: lzma.compress(files) if packed is None else packed,
    }
    made = b"!<arch>\n"
    for one, content in members.items():
        made += f"{one:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        made += b"\n" * (len(content) % 2)
    return made


def elf(*needs: str) -> bytes:
    """A library that needs these, and has nothing in it."""
    names, at = b"\0", []
    for one in needs:
        at.append(len(names))
        names += one.encode() + b"\0"
    begin = 64 + 2 * 56
    size = 16 * (len(needs) + 3)
    tags = [(1, one) for one in at] + [(5, begin + size), (10, len(names)), (0, 0)]
    body = b"".join(struct.pack("<QQ", *tag) for tag in tags) + names
    head = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, begin + len(body), begin + len(body), 4096)
    dynamic = struct.pack("<IIQQQQQQ", 2, 4, begin, begin, begin, size, size, 8)
    return head + load + dynamic + body


def read_cpio(data: bytes) -> dict[str, tuple[dict[str, int], bytes]]:
    """By the kernel's documentation, without a line of ours."""
    names = [
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "filesize",
        "devmajor",
        "devminor",
        "rdevmajor",
        "rdevminor",
        "namesize",
        "check",
    ]
    found: dict[str, tuple[dict[str, int], bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = {name: int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n, name in enumerate(names)}
        begin = at + 110
        name = data[begin : begin + fields["namesize"] - 1].decode()
        begin = (begin + fields["namesize"] + 3) // 4 * 4
        content = data[begin : begin + fields["filesize"]]
        at = (begin + fields["filesize"] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        found[name] = (fields, content)


def cpio_files(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Modes and contents, by path."""
    return {name: (fields["mode"], content) for name, (fields, content) in read_cpio(data).items()}


def kernel_config() -> File:
    """How a kernel was built that has all that an image demands."""
    return regular("".join(f"CONFIG_{option}=y\n" for option in ("MORE", *DEMANDED)).encode())


def stub(room: int = 0x400) -> bytes:
    """A program of UEFI's with one section, whose headers have so many bytes in all."""
    begin, optional = 0x80, 240
    head = bytearray(room)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, begin)
    struct.pack_into("<4sHHIIIHH", head, begin, b"PE\0\0", 0x8664, 1, 0, 0, 0, optional, 0x206)
    struct.pack_into("<H", head, begin + 24, 0x20B)
    struct.pack_into("<II", head, begin + 24 + 32, 0x1000, 0x200)
    struct.pack_into("<II", head, begin + 24 + 56, 0x2000, room)
    struct.pack_into("<I", head, begin + 24 + 108, 16)
    struct.pack_into(
        "<8sIIII12sI",
        head,
        begin + 24 + optional,
        b".text",
        0x123,
        0x1000,
        0x200,
        room,
        bytes(12),
        0x60000020,
    )
    return bytes(head) + b"\xc3" * 0x200

"""The kernel's two report interfaces, faithfully enough: what the ABI documents say they do, and errors on demand."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from sottovoce.attest.evidence import Endorsements, Logged
from sottovoce.core.errors import UnavailableError
from sottovoce.tee.collectors.base import Bundle

LOGGED = Logged(entry=b"entry", proof=b"proof")
PAPERS = Bundle(
    endorsements=Endorsements(vcek=b"host's vcek", ask=b"host's ask", crl=b"crl"), release=LOGGED, host=LOGGED
)
ROOT = "/reports"


def papers() -> Bundle:
    return PAPERS


def no_papers() -> Bundle:
    raise UnavailableError("no host", party="processor")


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class Entry:
    inblob: bytes = b""
    privlevel: int = 0
    written: int = 0
    read: int = 0
    out: bytes | None = None


@dataclass
class FakeTsm:
    """drivers/virt/coco: `report/` of configfs with one provider; `script` maps an operation's name to errors, used up in turn."""

    provider: str | None = "sev_guest"
    sign: Callable[[bytes, int], bytes] = lambda inblob, level: b"report " + inblob + bytes([level])
    aux: bytes | None = b""
    floor: int = 0
    script: dict[str, list[int]] = field(default_factory=dict)
    interfere: list[Callable[[Entry], None]] = field(default_factory=list)
    """Each runs once, just before an outblob is read: another writer."""
    entries: dict[str, Entry] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    reports: int = 0

    def _next(self, operation: str) -> None:
        if self.script.get(operation) and (number := self.script[operation].pop(0)):
            raise fail(number)

    def _find(self, path: str) -> tuple[Entry, str]:
        folder, _, name = path.rpartition("/")
        if folder not in self.entries:
            raise fail(errno.ENOENT)
        return self.entries[folder], name

    def make(self, path: str) -> None:
        self._next("make")
        if self.provider is None:
            raise fail(errno.ENXIO)
        if path in self.entries:
            raise fail(errno.EEXIST)
        assert path.startswith(ROOT + "/")
        assert path.count("/") == 2
        self.names.append(path)
        self.entries[path] = Entry()

    def remove(self, path: str) -> None:
        self._next("remove")
        del self.entries[path]

    def write(self, path: str, data: bytes) -> None:
        entry, name = self._find(path)
        self._next(name)
        if self.script.get(f"lost {name}") and self.script[f"lost {name}"].pop(0):
            return  # a binary attribute takes effect on close, where an error gets lost
        if name == "inblob":
            assert 1 <= len(data) <= 64
            entry.inblob = data
        elif name == "privlevel":
            if not self.floor <= int(data) <= 3:
                raise fail(errno.EINVAL)
            entry.privlevel = int(data)
        else:
            raise fail(errno.EACCES)
        entry.written += 1

    def read(self, path: str, limit: int) -> bytes:
        entry, name = self._find(path)
        self._next(name)
        if name == "generation":
            return b"%d\n" % entry.written
        if name == "provider":
            return (self.provider or "").encode() + b"\n"
        if name == "privlevel_floor" and self.provider == "sev_guest":
            return b"%d\n" % self.floor
        if name == "privlevel_floor" or (name == "auxblob" and self.aux is None):
            raise fail(errno.ENOENT)  # attributes that the provider does not show
        return self._blob(entry, name, limit)

    def _blob(self, entry: Entry, name: str, limit: int) -> bytes:
        if name == "outblob" and self.interfere:
            self.interfere.pop(0)(entry)
        if not entry.inblob:
            raise fail(errno.EINVAL)
        if entry.out is None or entry.read != entry.written:
            if entry.privlevel < self.floor:  # the firmware knows no key for a level above the guest's own
                raise fail(errno.EINVAL)
            entry.out = self.sign(entry.inblob, entry.privlevel)
            entry.read = entry.written
            self.reports += 1
        data = entry.out if name == "outblob" else (self.aux or b"")
        if len(data) > limit:
            raise fail(errno.EFBIG)
        return data


def table(*entries: tuple[UUID, bytes], gap: int = 0) -> bytes:
    at, head, body = (len(entries) + 1) * 24 + gap, b"", bytes(gap)
    for guid, data in entries:
        head += guid.bytes + struct.pack("<II", at + len(body) - gap, len(data))
        body += data
    return head + bytes(24) + body


def snp_report(user_data: bytes, vmpl: int) -> bytes:
    """Not signed: version, VMPL and report data stand where they belong."""
    report = bytearray(1184)
    struct.pack_into("<I", report, 0, 5)
    struct.pack_into("<I", report, 0x30, vmpl)
    report[0x50:0x90] = user_data
    return bytes(report)


@dataclass
class FakeSevGuest:
    """drivers/virt/coco/sev-guest behind `ioctl`: reads and writes through the caller's pointers, as the kernel does."""

    certificates: bytes = b""
    script: list[tuple[int, int, int]] = field(default_factory=list)
    """(errno, firmware error, VMM error) of the next calls; (0, 0, 0) is one that succeeds."""
    status: int = 0
    size: int = 1184
    calls: list[int] = field(default_factory=list)

    def __call__(self, fd: int, request: int, buffer: bytearray) -> int:
        assert os.fstat(fd)
        self.calls.append(request)
        version, asked, answer, fw, vmm = struct.unpack("<B7xQQII", buffer)
        assert (version, fw, vmm) == (1, 0, 0)
        number, fw, vmm = self.script.pop(0) if self.script else (0, 0, 0)
        if number or fw or vmm:
            return self._fail(buffer, number, fw, vmm)
        if request == 0xC0205302:
            user_data, vmpl, reserved, where, length = struct.unpack(
                "<64sI28sQI4x", ctypes.string_at(asked, 112)
            )
            pages = -(-len(self.certificates) // 4096)
            if length % 4096 or length > 0x4000:
                raise fail(errno.EINVAL)
            if length < pages * 4096:
                ctypes.memmove(asked + 104, struct.pack("<I", pages * 4096), 4)
                return self._fail(buffer, errno.EIO, 0, 1)
            ctypes.memmove(where, self.certificates, len(self.certificates))
        else:
            assert request == 0xC0205300
            user_data, vmpl, reserved = struct.unpack("<64sI28s", ctypes.string_at(asked, 96))
        assert not any(reserved)
        head = struct.pack("<II24x", self.status, self.size)
        ctypes.memmove(answer, head + snp_report(user_data, vmpl), 32 + 1184)
        return 0

    def _fail(self, buffer: bytearray, number: int, fw: int, vmm: int) -> int:
        struct.pack_into("<II", buffer, 24, fw, vmm)
        if number:
            raise fail(number)
        return 0

"""The volume with a CVM's model, as the host gives it: a disk that is read only through the kernel's dm-verity.

Its root is in the image and so measured: a block that is not the published one is an error when it is read, now or later. The disk has no partitions and no file system; the
file stands at its beginning, the hash tree behind it (`image/verity.py`).
"""

import ctypes
import fcntl
import mmap
import os
import stat
import struct
from pathlib import Path
from typing import Annotated, Final

import msgspec

from sottovoce.core.errors import ConfigError

__all__ = ["BLOCK", "Volume", "hold", "map_device", "table"]

BLOCK: Final = 4096
"""Bytes that are hashed together."""
_SECTOR: Final = 512
_NAME: Final = b"sottovoce"
# linux/dm-ioctl.h, interface version 4.
_HEAD: Final = struct.Struct("<3I3Ii3IQ128s129s7x")
"""version, data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid."""
_TARGET: Final = struct.Struct("<QQiI16s")
_CREATE, _SUSPEND, _LOAD = 3, 6, 9
_READ_ONLY: Final = 1
_FAILED: Final = ctypes.c_void_p(-1).value
_DIRECTION_AND_TYPE: Final = 0xC000FD00


class Volume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the image says of it (`/etc/sottovoce/volume.json`): the artifact's name, its size in bytes, and the root of its hash tree, SHA-256 in hex."""

    name: str
    size: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    root: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

    @classmethod
    def parse(cls, data: bytes) -> "Volume":
        """Read what is in the image.

        Raises:
            ConfigError: it is not of its form.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError):
            raise ConfigError("what the image says of its volume is not of its form") from None

    @property
    def blocks(self) -> int:
        """Blocks of the file, the last one padded; the tree begins behind them."""
        return -(-self.size // BLOCK)


def table(volume: Volume, device: str) -> tuple[int, str]:
    """The mapped device's length in sectors, and the words for the kernel; `device` is the disk as "MAJOR:MINOR"."""
    words = (1, device, device, BLOCK, BLOCK, volume.blocks, volume.blocks, "sha256", volume.root, "-")
    return volume.blocks * (BLOCK // _SECTOR), " ".join(map(str, words))


def map_device(disk: Path, volume: Volume, *, devices: Path = Path("/dev")) -> Path:
    """Have the kernel offer the volume on `disk`, checked block by block; the path of what it offers.

    Raises:
        OSError: there is no such disk, or the kernel does not take it: it is too small. Whether it is the right one is seen when it is read.
    """
    status = disk.stat()
    length, words = table(volume, f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")
    with (devices / "mapper/control").open("r+b", buffering=0) as control:
        made = _ask(control.fileno(), _CREATE)
        parameters = words.encode() + b"\0"
        parameters += bytes(-len(parameters) % 8)
        _ask(control.fileno(), _LOAD, _TARGET.pack(0, length, 0, 0, b"verity") + parameters)
        _ask(control.fileno(), _SUSPEND)  # without a flag: go on
    return devices / f"dm-{os.minor(made)}"


def hold(fd: int, size: int) -> bool:
    """Keep the first `size` bytes of a volume in memory for as long as this process lives; whether `fd` is one. The host sees what is read from its disk: so it sees all of it read once, and nothing of what a session needs.

    Raises:
        ConfigError: there is not enough memory.
    """
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    place = ctypes.c_void_p(0), ctypes.c_size_t(size)
    mapped = libc.mmap(*place, mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    if mapped == _FAILED or libc.mlock(ctypes.c_void_p(mapped), ctypes.c_size_t(size)) != 0:
        raise ConfigError("the machine has not enough memory for its model")
    return True


def _ask(control: int, command: int, target: bytes = b"") -> int:
    """One request to the device mapper; the number of the device that it is about."""
    size = _HEAD.size + len(target)
    flags = _READ_ONLY if target else 0
    head = _HEAD.pack(4, 0, 0, size, _HEAD.size, bool(target), 0, flags, 0, 0, 0, _NAME, b"")
    asked = bytearray(head + target)
    fcntl.ioctl(control, _DIRECTION_AND_TYPE | _HEAD.size << 16 | command, asked)
    dev: int = _HEAD.unpack_from(asked)[10]
    return dev

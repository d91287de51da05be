"""The volume with the model: what the image says of it, and what the kernel is asked. The kernel itself answers in `tests/image`."""

import fcntl
import hashlib
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.tee import volume
from sottovoce.tee.boot import check_artifacts
from sottovoce.tee.settings import ArtifactMismatchError, Model
from sottovoce.tee.volume import Volume, map_device
from sottovoce.tlog.artifacts import artifact_digest

ROOT = "ab" * 32


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"name":"m","size":1}',
        b'{"name":"m","size":0,"root":"' + ROOT.encode() + b'"}',
        b'{"name":"m","size":1,"root":"' + ROOT.upper().encode() + b'"}',
        b'{"name":"m","size":1,"root":"' + ROOT.encode() + b' extra"}',
        b'{"name":"m","size":1,"root":"' + ROOT.encode() + b'","more":1}',
    ],
)
def test_what_is_no_description(data: bytes) -> None:
    with pytest.raises(ConfigError):
        Volume.parse(data)


def test_the_kernel_is_asked_in_three_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []

    def ioctl(_fd: int, request: int, given: bytearray) -> int:
        asked.append((request, bytes(given)))
        given[40:48] = struct.pack("<Q", os.makedev(254, 3))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    (tmp_path / "mapper").mkdir()
    (tmp_path / "mapper/control").touch()
    disk = tmp_path / "vda"
    disk.touch()
    made = map_device(disk, Volume(name="m", size=5000, root=ROOT), devices=tmp_path)
    assert made == tmp_path / "dm-3"
    # _IOWR(0xfd, number, struct dm_ioctl of 312 bytes): DM_DEV_CREATE, DM_TABLE_LOAD, DM_DEV_SUSPEND.
    assert [request for request, _ in asked] == [0xC138FD03, 0xC138FD09, 0xC138FD06]
    for _, given in asked:
        version, size, begins = given[:12], *struct.unpack_from("<II", given, 12)
        assert version == struct.pack("<3I", 4, 0, 0)
        assert (size, begins) == (len(given), 312)
        assert given[48:176].rstrip(b"\0") == b"sottovoce"
    _, loaded = asked[1]
    targets, _open, flags = struct.unpack_from("<IiI", loaded, 20)
    assert (targets, flags) == (1, 1)
    start, length, _, _, kind = struct.unpack_from("<QQiI16s", loaded, 312)
    assert (start, length, kind.rstrip(b"\0")) == (0, 16, b"verity")
    words = loaded[352:].rstrip(b"\0").decode()
    assert words == f"1 0:0 0:0 4096 4096 2 2 sha256 {ROOT} -"
    assert len(loaded) % 8 == 0


def test_a_kernel_that_refuses(tmp_path: Path) -> None:
    # An ordinary file does not know the request.
    (tmp_path / "mapper").mkdir()
    (tmp_path / "mapper/control").touch()
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        map_device(tmp_path / "mapper/control", Volume(name="m", size=1, root=ROOT), devices=tmp_path)
    with pytest.raises(FileNotFoundError):
        map_device(tmp_path / "none", Volume(name="m", size=1, root=ROOT), devices=tmp_path)


CONTENT = b"weights" * 1000


def settings(size: int = len(CONTENT)) -> SimpleNamespace:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    digest = artifact_digest(name="m", purpose="inference", sha256=sha256, size=size)
    return SimpleNamespace(model=Model(name="m", digest=digest, bytes=size, purpose="inference"))


def check(path: Path, size: int = len(CONTENT)) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        check_artifacts(settings(size), {"m": fd})  # type: ignore[arg-type]  # all that it reads
    finally:
        os.close(fd)


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    check(path)
    path.write_bytes(CONTENT + bytes(-len(CONTENT) % volume.BLOCK))
    with pytest.raises(ArtifactMismatchError):
        check(path)


def test_a_file_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ArtifactMismatchError, match="not the one in the settings"):
        check(Path("/dev/zero"))


def as_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the check an ordinary file is a disk."""
    monkeypatch.setattr("stat.S_ISBLK", lambda _mode: True)


def test_a_volume_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 * volume.BLOCK))
    with path.open("rb") as disk:
        assert not volume.hold(disk.fileno(), 5000)
        as_disk(monkeypatch)
        before = locked()
        assert volume.hold(disk.fileno(), 5000)
        assert locked() - before == 8  # kB: whole pages
        # More than may be locked, or than there is.
        with pytest.raises(ConfigError, match="not enough memory"):
            volume.hold(disk.fileno(), 1 << 60)
    with pytest.raises(ConfigError, match="not enough memory"):
        volume.hold(os.pipe()[0], 5000)


def locked() -> int:
    """kB of this process that stay in memory."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck")
    ]
    return int(line.split()[1])


def test_a_disk_ends_with_a_whole_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_disk(monkeypatch)
    path = tmp_path / "disk"
    path.write_bytes(CONTENT + bytes(-len(CONTENT) % volume.BLOCK))
    before = locked()
    check(path)
    # It stays in memory, though the descriptor is closed.
    assert locked() - before == 8
    for wrong in (
        CONTENT[:-1],
        CONTENT + bytes(2 * volume.BLOCK),
        b"W" + CONTENT[1:] + bytes(-len(CONTENT) % volume.BLOCK),
    ):
        path.write_bytes(wrong)
        with pytest.raises(ArtifactMismatchError, match="not the one in the settings"):
            check(path)


def test_a_block_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_disk(monkeypatch)
    path = tmp_path / "disk"
    path.write_bytes(CONTENT + bytes(-len(CONTENT) % volume.BLOCK))

    def pread(_fd: int, _count: int, at: int) -> bytes:
        if at:
            raise OSError(5, "input/output error")
        return CONTENT[:4096]

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(ArtifactMismatchError, match="cannot be read as it was published"):
        check(path)

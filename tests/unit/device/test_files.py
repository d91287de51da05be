import threading
from pathlib import Path

import pytest

from device_kit import no_file_above
from sottovoce.device.files import DiskError, exclusive, private_directory, write_private


def test_write_private(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_private(path, b"old")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_private(path, b"old")
    with no_file_above(100), pytest.raises(DiskError) as caught:
        write_private(path, bytes(1000))
    assert caught.value.code == "disk"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError):
        write_private(tmp_path / "none" / "x", b"")
    with pytest.raises(DiskError):
        private_directory(tmp_path / "file")
    with pytest.raises(DiskError), exclusive(tmp_path / "none"):
        pytest.fail("entered")


def test_private_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700


def test_one_at_a_time(tmp_path: Path) -> None:
    order = []

    def other() -> None:
        with exclusive(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    with exclusive(tmp_path):
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]

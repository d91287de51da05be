"""Debian packages: what is in them, and what is not taken."""

import contextlib
import io
import lzma
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_kit import deb, tarred
from sottovoce.image import debs as module
from sottovoce.image.debs import PackageError, unpack


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, target, mode
    return found


def test_what_is_in_it() -> None:
    data = deb(
        tarred(
            (member("./", tarfile.DIRTYPE), b""),
            (member("./usr", tarfile.DIRTYPE, mode=0o755), b""),
            (member("./usr/tool", mode=0o755), b"run"),
            (member("./usr/same", tarfile.LNKTYPE, target="./usr/tool"), b""),
            (member("./usr/name", tarfile.SYMTYPE, target="tool"), b""),
        )
    )
    found = unpack(data)
    assert set(found) == {"usr", "usr/tool", "usr/same", "usr/name"}
    assert found["usr/tool"].mode == stat.S_IFREG | 0o755
    assert found["usr/same"].content == b"run"
    assert stat.S_ISLNK(found["usr/name"].mode)
    assert found["usr/name"].content == b"tool"
    assert stat.S_ISDIR(found["usr"].mode)


def test_one_that_debian_made(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not here")
    (tmp_path / "p/DEBIAN").mkdir(parents=True)
    (tmp_path / "p/DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: p\n"
    )
    (tmp_path / "p/usr").mkdir()
    (tmp_path / "p/usr/odd").write_bytes(b"odd")
    (tmp_path / "p").chmod(0o755)
    made = ["dpkg-deb", "--build", "-Zxz", "--root-owner-group", str(tmp_path / "p"), str(tmp_path / "p.deb")]
    subprocess.run(made, check=True, capture_output=True)
    assert unpack((tmp_path / "p.deb").read_bytes())["usr/odd"].content == b"odd"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no Debian package"),
        (b"!<arch>\n", "no Debian package"),
        (deb(b"", version=b"3.0\n"), "no Debian package"),
        (deb(b"", name="data.tar.zst"), "not compressed with xz"),
        (deb(b"no tar"), "cannot be read"),
        (deb(tarred((member("./a"), b"a")))[:-8], "cut off"),
        (deb(tarred((member("./a"), b"a"))) + b"more", "damaged"),
        (deb(tarred((member("../a"), b"a"))), "leads out"),
        (deb(tarred((member("a/../../b"), b"a"))), "leads out"),
        (deb(tarred((member("/etc/passwd"), b"a"))), "leads out"),
        (deb(tarred((member("dev/null", tarfile.CHRTYPE), b""))), "a device"),
        (deb(tarred((member("pipe", tarfile.FIFOTYPE), b""))), "a device"),
        (deb(tarred((member("a", tarfile.LNKTYPE, target="b"), b""))), "not there"),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PackageError, match=says):
        unpack(data)


def test_one_that_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 32 * 1024 * 1024)
    packed = lzma.compress(bytes(33 * 1024 * 1024))
    assert len(packed) < 10_000
    with pytest.raises(PackageError, match="larger"):
        unpack(deb(b"", packed=packed))


@given(at=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    data = bytearray(deb(tarred((member("./a"), b"a"))))
    data[at % len(data)] = value
    with contextlib.suppress(PackageError):
        unpack(bytes(data))


def test_read_as_tar_reads_it() -> None:
    whole = tarred((member("./a/b/c"), b"deep"))
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        (one,) = archive.getmembers()
    assert unpack(deb(whole))[one.name.removeprefix("./")].content == b"deep"

"""The emulator's programs from packages: which are taken, what is unpacked, and that they run by themselves. The packages are a few bytes each, and their loader a script that says what it is told."""

import hashlib
import os
import stat
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_kit import deb, elf, tarred
from sottovoce.core.errors import UnavailableError
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File
from sottovoce.image.lock import Lock
from sottovoce.image.packages import Package, StaleLockError
from sottovoce.simulator import programs as module
from sottovoce.simulator.emulator import Programs
from sottovoce.simulator.programs import PACKAGES, provided, unpacked

ROOT = Path(__file__).parents[3]
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = b"""#!/bin/sh
echo QEMU emulator version VERSION.0.2
for word; do echo "$word"; done
"""
Contents = dict[str, bytes | str]
"""By their paths what is in files, or a link's target."""
QEMU: Contents = {
    "usr/bin/qemu-system-x86_64": elf("libz.so.1", "libc.so.6"),
    "usr/bin/qemu-system-i386": elf("libc.so.6"),
    "usr/share/man/man1/qemu-system-x86_64.1.gz": b"page",
    "usr/share/qemu/kvmvapic.bin": b"rom",
    "usr/share/qemu/same.bin": "kvmvapic.bin",
    "usr/lib/ipxe/qemu/efi-virtio.rom": b"card",
}
SOCKETS: Contents = {"usr/bin/vhost-device-vsock": elf("libc.so.6")}
LIBRARY: Contents = {
    "lib/x86_64-linux-gnu/libz.so.1": "libz.so.1.2.13",
    "lib/x86_64-linux-gnu/libz.so.1.2.13": elf("libc.so.6"),
    "lib/x86_64-linux-gnu/libother.so.1": elf(),
}


def libc(version: int = 10) -> Contents:
    return {
        "lib/x86_64-linux-gnu/libc.so.6": elf("ld-linux-x86-64.so.2"),
        "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": LOADER.replace(b"VERSION", b"%d" % version),
        "lib64/ld-linux-x86-64.so.2": "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    }


def package(contents: Contents) -> bytes:
    members = []
    for path, content in contents.items():
        member = tarfile.TarInfo(f"./{path}")
        member.mode = 0o640
        if isinstance(content, str):
            member.type, member.linkname = tarfile.SYMTYPE, content
        members.append((member, b"" if isinstance(content, str) else content))
    return deb(tarred(*members))


class Mirror:
    """Has these packages, and counts who asks."""

    def __init__(self, *packages: Contents) -> None:
        self.files = {f"pool/p{at}.deb": package(one) for at, one in enumerate(packages)}
        self.asked: list[str] = []

    def lock(self) -> Lock:
        return Lock(
            packages=tuple(
                Package(
                    name=f"p{at}",
                    version="1",
                    suite="bookworm",
                    path=path,
                    sha256=hashlib.sha256(data).hexdigest(),
                    size=len(data),
                )
                for at, (path, data) in enumerate(self.files.items())
            ),
            wheels=(),
        )

    def ask(self, url: str, most: int) -> bytes:
        self.asked.append(url)
        try:
            return self.files[url.removeprefix("http://m/")]
        except KeyError:
            raise FileNotFoundError from None

    def unpacked(self, cache: Path) -> Path:
        return unpacked(self.lock(), cache, ask=self.ask, mirror="http://m")

    def provided(self, cache: Path, given: Path | None = None) -> Path | None:
        return provided(given, self.lock, cache, ask=self.ask, mirror="http://m")


@pytest.fixture
def mirror() -> Mirror:
    return Mirror(QEMU, SOCKETS, LIBRARY, libc())


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, with nothing in it yet."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.fspath(folder))
    return folder


def install(folder: Path, *, version: int = 10) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("qemu-system-x86_64", "vhost-device-vsock"):
        (folder / name).write_text(f"#!/bin/sh\necho QEMU emulator version {version}.0.2\n")
        (folder / name).chmod(0o755)
    return folder


def never() -> Lock:
    raise AssertionError


def down(url: str, most: int) -> bytes:
    raise OSError


def left(cache: Path) -> list[str]:
    """What stands beside the unpacked ones, and they."""
    return sorted(one.name for one in (cache / "emulator").iterdir()) if (cache / "emulator").exists() else []


def test_what_is_kept_of_the_packages(mirror: Mirror, tmp_path: Path) -> None:
    place = mirror.unpacked(tmp_path)
    assert {str(one.relative_to(place)) for one in place.rglob("*") if not one.is_dir()} == {
        "qemu-system-x86_64",
        "vhost-device-vsock",
        "usr/bin/qemu-system-x86_64",
        "usr/bin/vhost-device-vsock",
        "usr/lib64/ld-linux-x86-64.so.2",
        f"{LIBRARIES}/libc.so.6",
        f"{LIBRARIES}/libz.so.1",
        "usr/share/qemu/kvmvapic.bin",
        "usr/share/qemu/same.bin",
        "usr/lib/ipxe/qemu/efi-virtio.rom",
    }
    assert (place / "usr/share/qemu/same.bin").readlink() == Path("kvmvapic.bin")
    assert stat.S_IMODE((place / "usr/share/qemu/kvmvapic.bin").stat().st_mode) == 0o640
    assert stat.S_IMODE((place / "usr/bin/qemu-system-x86_64").stat().st_mode) == 0o555


def test_they_run_with_their_own_loader_and_libraries(mirror: Mirror, tmp_path: Path) -> None:
    place = mirror.unpacked(tmp_path / "a b")
    found = Programs.find([place])
    told = {}
    for name in (found.qemu, found.vsock):
        done = subprocess.run([name, "one word", "$x"], check=True, capture_output=True, text=True, cwd="/")
        told[Path(name).name] = done.stdout.splitlines()[1:]
    loader = ["--inhibit-cache", "--library-path", f"{place}/{LIBRARIES}", "--argv0"]
    data = ["-L", f"{place}/usr/share/qemu", "-L", f"{place}/usr/lib/ipxe/qemu"]
    assert told["qemu-system-x86_64"] == [*loader, found.qemu, f"{place}/usr/bin/qemu-system-x86_64", *data, "one word", "$x"]  # fmt: skip
    assert told["vhost-device-vsock"] == [*loader, found.vsock, f"{place}/usr/bin/vhost-device-vsock", "one word", "$x"]  # fmt: skip


def test_fetched_and_unpacked_once(mirror: Mirror, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    place = unpacked(mirror.lock(), tmp_path, ask=mirror.ask, mirror="http://m", progress=lambda *one: counted.append(one))  # fmt: skip
    whole = sum(map(len, mirror.files.values()))
    assert len(mirror.asked) == len(counted) == 4
    assert counted[-1] == (whole, whole)
    assert unpacked(mirror.lock(), tmp_path, ask=down) == place
    # Another lock is another folder; of its packages those are fetched that are not here.
    mirror.files["pool/p3.deb"] = package(libc(11))
    assert mirror.unpacked(tmp_path) != place
    assert len(mirror.asked) == 5
    assert len(left(tmp_path)) == 2


def test_those_that_are_named_come_first(mirror: Mirror, path: Path, tmp_path: Path) -> None:
    given = install(tmp_path / "given")
    install(path)
    assert provided(given, never, tmp_path) == given
    # Nothing is taken in their place.
    for name in ("given", "path"):
        (tmp_path / name / "vhost-device-vsock").unlink()
    with pytest.raises(UnavailableError, match="vhost-device-vsock is not installed"):
        provided(given, never, tmp_path)


def test_then_those_on_path(path: Path, tmp_path: Path) -> None:
    install(path)
    assert provided(None, never, tmp_path) is None


def test_then_those_of_the_lock(mirror: Mirror, path: Path, tmp_path: Path) -> None:
    place = mirror.provided(tmp_path)
    assert place == mirror.unpacked(tmp_path)
    # So too where PATH has too old ones, or one of the two.
    install(path, version=7)
    assert mirror.provided(tmp_path) == place
    install(path)
    (path / "vhost-device-vsock").unlink()
    assert mirror.provided(tmp_path) == place
    assert Programs.find([place]).qemu == f"{place}/qemu-system-x86_64"


def test_a_lock_with_too_old_ones(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="older than 10"):
        Mirror(QEMU, SOCKETS, LIBRARY, libc(9)).provided(tmp_path)


def test_a_stale_lock_says_which_command_makes_another(mirror: Mirror, tmp_path: Path) -> None:
    lock = mirror.lock()
    del mirror.files["pool/p2.deb"]
    with pytest.raises(StaleLockError, match="stale: p2 1 is not at the mirror") as found:
        unpacked(lock, tmp_path, ask=mirror.ask, mirror="http://m")
    assert "`sottovoce image lock --for emulator`" in found.value.hint
    assert left(tmp_path) == []


def test_nobody_answers(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not answer") as found:
        provided(None, mirror.lock, tmp_path, ask=down)
    assert not isinstance(found.value, StaleLockError)


def test_another_kind_of_machine(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UnavailableError, match="for Linux on x86-64"):
        mirror.provided(tmp_path)
    assert mirror.asked == []


def test_many_at_once(mirror: Mirror, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(mirror.unpacked, [tmp_path] * 8))
    assert len(places) == 1
    assert left(tmp_path) == [places.pop().name]


def test_another_was_first(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = module._files

    def later(packages: list[dict[str, File]]) -> dict[str, File]:
        monkeypatch.setattr(module, "_files", files)
        mirror.unpacked(tmp_path)
        return files(packages)

    monkeypatch.setattr(module, "_files", later)
    place = mirror.unpacked(tmp_path)
    assert left(tmp_path) == [place.name]
    assert Programs.find([place])


def test_no_room(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: what was written when it failed is gone."""
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "libc.so.6":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnavailableError, match="cannot be unpacked") as found:
        mirror.unpacked(tmp_path)
    assert "is there room" in found.value.hint
    assert left(tmp_path) == []


@pytest.mark.parametrize("target", ["/etc", "../../../..", "../../../../etc/passwd"])
def test_links_that_lead_out(tmp_path: Path, target: str) -> None:
    odd: Contents = {"usr/share/qemu/odd": target}
    with pytest.raises(PackageError, match="leads out"):
        Mirror(QEMU, SOCKETS, LIBRARY, libc(), odd).unpacked(tmp_path)
    assert left(tmp_path) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    odd: Contents = {"usr/share/qemu/odd": "../..", "usr/share/qemu/odd/bin/qemu-system-x86_64": b"other"}
    with pytest.raises(UnavailableError, match="cannot be unpacked"):
        Mirror(QEMU, SOCKETS, LIBRARY, libc(), odd).unpacked(tmp_path)
    assert left(tmp_path) == []


def test_packages_of_no_emulator(tmp_path: Path) -> None:
    for packages, says in (
        ((QEMU, LIBRARY, libc()), "vhost-device-vsock is not among the packages"),
        ((QEMU, SOCKETS, libc()), r"nothing among the packages is libz\.so\.1"),
        ((QEMU, SOCKETS, LIBRARY), r"nothing among the packages is libc\.so\.6"),
    ):
        with pytest.raises(PackageError, match=says):
            Mirror(*packages).unpacked(tmp_path)
    assert left(tmp_path) == []


def test_the_lock_of_this_project() -> None:
    lock = Lock.parse((ROOT / "deploy/emulator.lock").read_bytes())
    assert lock.wheels == ()
    found = {one.name: one.suite for one in lock.packages}
    assert set(found) == set(PACKAGES)
    assert all(suite in PACKAGES[name] for name, suite in found.items())

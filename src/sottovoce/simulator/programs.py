"""The emulator's programs for machines that have none: Debian's packages of a lock file, unpacked beside the system's own. Nothing is installed, and nobody need be root.

    cache/emulator/<digest of the lock>/
        qemu-system-x86_64, vhost-device-vsock     what is started: three lines of shell
        usr/bin/                                   the programs themselves
        usr/lib64/, usr/lib/x86_64-linux-gnu/      their loader, and the libraries that they need
        usr/share/qemu/, usr/lib/ipxe/qemu/        what QEMU puts into a machine

The programs run with the loader and the libraries of the distribution that they were built for, and with none of the system's. So it need not be that distribution.
"""

import hashlib
import platform
import posixpath
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sottovoce.core.errors import UnavailableError, UsageError
from sottovoce.image.debs import PackageError, unpack
from sottovoce.image.files import File, Files, program, write
from sottovoce.image.lock import Lock
from sottovoce.image.packages import MIRROR, Fetch, fetch
from sottovoce.image.resolve import USERLAND
from sottovoce.image.userland import FOLDERS, LOADER, libraries, merged
from sottovoce.simulator.emulator import HINT, Programs

__all__ = ["PACKAGES", "provided", "unpacked"]

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "qemu-system-x86": ("bookworm-backports",),
    "qemu-system-data": ("bookworm-backports",),
    "vhost-device-vsock": ("forky",),
    **dict.fromkeys(
        (
            "ipxe-qemu", "libaio1", "libblkid1", "libbpf1", "libc6", "libcapstone4", "libdaxctl1", "libelf1", "libfdt1", "libffi8", "libfuse3-3", "libgcc-s1", "libglib2.0-0",
            "libgmp10", "libgnutls30", "libhogweed6", "libibverbs1", "libidn2-0", "libjpeg62-turbo", "libkmod2", "liblzma5", "libmount1", "libndctl6", "libnettle8", "libnl-3-200",
            "libnl-route-3-200", "libnuma1", "libp11-kit0", "libpcre2-8-0", "libpixman-1-0", "libpmem1", "libpng16-16", "librdmacm1", "libsasl2-2", "libseccomp2", "libselinux1",
            "libslirp0", "libssl3", "libtasn1-6", "libudev1", "libunistring2", "liburing2", "libuuid1", "libvdeplug2", "libzstd1", "zlib1g",
        ),
        USERLAND,
    ),
}  # fmt: skip
"""What the emulator is made of, and where it is looked for: QEMU 10 for Debian 12, with 12's libraries, which change seldom by now; the sockets' device from the first release that has it.
A network card that a host adds has a program for its start in it, from ipxe-qemu."""
_RENEW: Final = "sottovoce image lock --for emulator"
_DATA: Final = ("usr/share/qemu/", "usr/lib/ipxe/qemu/")
_QEMU: Final = "qemu-system-x86_64"
_STARTED: Final[Mapping[str, str]] = {
    _QEMU: " ".join(f'-L "$here/{folder.rstrip("/")}"' for folder in _DATA),
    "vhost-device-vsock": "",
}
"""What each program is told before all else."""
_SHELL: Final = """\
#!/bin/sh
here=${{0%/*}}
exec "$here/usr/lib64/{loader}" --inhibit-cache --library-path "$here/{folder}" --argv0 "$0" "$here/usr/bin/{name}" {words} "$@"
"""


def provided(
    given: Path | None,
    lock: Callable[[], Lock],
    cache: Path,
    *,
    ask: Fetch | None = None,
    mirror: str = MIRROR,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Path | None:
    """The folder with the programs: `given`, if it is; None where PATH has them; or else that with the packages of `lock`, as `unpacked`.

    Raises:
        UnavailableError: `given` has not what is needed; or the packages cannot be had here.
        StaleLockError: a package of the lock is not at the mirror any more.
        PackageError: the packages are not those of an emulator.
    """
    if given is not None:
        Programs.find([given])
        return given
    try:
        Programs.find()
    except UnavailableError:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise UnavailableError(
                "the emulator's packages are for Linux on x86-64", party="emulator", hint=HINT
            ) from None
    else:
        return None
    place = unpacked(lock(), cache, ask=ask, mirror=mirror, progress=progress)
    Programs.find([place])
    return place


def unpacked(
    lock: Lock,
    cache: Path,
    *,
    ask: Fetch | None = None,
    mirror: str = MIRROR,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Path:
    """The folder below `cache` with the programs of the lock's packages. The first time these are fetched; `progress` is told the bytes that are here, and of how many.

    Raises:
        As `provided`.
    """
    place = (cache / "emulator" / hashlib.sha256(lock.to_toml()).hexdigest()[:16]).absolute()
    if place.exists():
        return place
    whole, done = sum(one.size for one in lock.packages), 0
    packages = []
    for one in lock.packages:
        packages.append(unpack(fetch(one, cache / "packages", ask=ask, mirror=mirror, renew=_RENEW)))
        done += one.size
        progress(done, whole)
    try:
        _put(place, _files(packages))
    except (OSError, UsageError):
        raise UnavailableError(
            "the emulator cannot be unpacked", party="emulator", hint=f"is there room in {place.parent}?"
        ) from None
    return place


def _files(packages: Sequence[Files]) -> dict[str, File]:
    """What is kept of the packages, and what starts the programs."""
    whole = merged(packages)
    found: dict[str, File] = {}
    for name in _STARTED:
        if f"usr/bin/{name}" not in whole:
            raise PackageError(f"{name} is not among the packages")
        found[f"usr/bin/{name}"] = program(whole[f"usr/bin/{name}"].content)
    found |= libraries(found.values(), whole)
    for path, file in whole.items():
        if path.startswith(_DATA) and not stat.S_ISDIR(file.mode):
            if stat.S_ISLNK(file.mode) and _leads_out(path, file.content.decode()):
                raise PackageError("a link of the package leads out of it")
            found[path] = file
    for name, words in _STARTED.items():
        text = _SHELL.format(loader=LOADER, folder=FOLDERS[0], name=name, words=words)
        found[name] = program(text.encode())
    return found


def _leads_out(path: str, target: str) -> bool:
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return whole.startswith(("/", ".."))


def _put(place: Path, files: Files) -> None:
    """Write the files: all or none, as two may do so at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=place.parent))
    try:
        write(files, beside)
        try:
            beside.rename(place)
        except OSError:
            # Another one was first, with the same.
            if not place.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)

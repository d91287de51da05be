"""Makes a lock file: the newest versions of the packages that an image is made of, from indexes that Debian has signed, and the wheels of the project's own lock.

Only this part chooses. What is built later is built from the lock file, whatever the archive has by then.
"""

import hashlib
import lzma
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import total_ordering
from pathlib import Path
from typing import Any, Final

from sottovoce.core.errors import ConfigError, CryptoError, UnavailableError
from sottovoce.image.lock import Lock
from sottovoce.image.packages import MIRROR, Fetch, Package, Source, archive_of, get
from sottovoce.image.wheels import Wheel

__all__ = ["PACKAGES", "USERLAND", "Version", "debian_packages", "resolve", "source_of", "wheels_of"]

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
USERLAND: Final = ("bookworm", "bookworm-security")
"""Debian 12."""
PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "libc6",
            "libexpat1",
            "libffi8",
            "libgcc-s1",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "libssl3",
            "libstdc++6",
            "python3.11-minimal",
            "systemd-boot-efi",
            "zlib1g",
        ),
        USERLAND,
    ),
    "linux-image-cloud-amd64": ("trixie", "trixie-security"),
    "ovmf-amdsev": ("sid",),
}
"""What an image is made of, and the suites in which it is looked for; the newest is taken. Of Debian 12 the interpreter (our wheels are for it), of 13 the kernel (12's has no
SEV guest), of sid the only firmware that measures a kernel. Of systemd-boot-efi the stub alone."""
_KERNEL: Final = "linux-image-cloud-amd64"
_WHEELS: Final = ("cffi", "cryptography", "h11", "msgspec", "pyopenssl")
"""Of the project's distributions those that a CVM imports, and with them what they need."""
_INDEX: Final = "main/binary-amd64/Packages.xz"
_LARGEST: Final = 64 * 1024 * 1024
_UNPACKED: Final = 512 * 1024 * 1024
_FITS: Final = re.compile(
    r".*-(cp311-cp311|cp3\d*-abi3|py3-none|py2\.py3-none)-(any|.*manylinux[0-9_]*_x86_64.*)\.whl"
)
_LIBC: Final = 36
"""Debian 12 has glibc 2.36."""
_PART: Final = re.compile(r"([^0-9]*)([0-9]*)")


def resolve(project: bytes, *, fetch: Fetch = get, mirror: str = MIRROR, keyring: Path = KEYRING) -> Lock:
    """A new lock; `project` is the project's own lock file (uv.lock).

    Raises:
        ConfigError: the project's lock has no wheel that fits, or Debian's keys are not here.
        CryptoError: an index is not signed by Debian, or is another suite's.
        UnavailableError: the mirror does not answer, or has no such package.
    """
    return Lock(
        packages=debian_packages(fetch=fetch, mirror=mirror, keyring=keyring), wheels=wheels_of(project)
    )


def debian_packages(
    wanted: Mapping[str, Sequence[str]] = PACKAGES,
    *,
    fetch: Fetch = get,
    mirror: str = MIRROR,
    keyring: Path = KEYRING,
) -> tuple[Package, ...]:
    """The newest packages of the names `wanted`, each from the suites in which it is looked for. Raises as `resolve`."""
    suites = {suite for places in wanted.values() for suite in places}
    known = {suite: _index(suite, fetch, mirror, keyring) for suite in sorted(suites)}
    found = []
    for name, places in wanted.items():
        choices = [(suite, one) for suite in places for one in known[suite].get(name, ())]
        if not choices:
            raise UnavailableError(f"the archive has no package {name}", party="mirror")
        suite, newest = max(choices, key=lambda choice: Version(choice[1]["Version"]))
        if name == _KERNEL:
            # That is a name for the newest; what it needs is the kernel.
            real = newest["Depends"].split(" ")[0]
            newest = max(known[suite].get(real, ()), key=lambda one: Version(one["Version"]), default=newest)
        found.append(
            Package(
                name=newest["Package"],
                version=newest["Version"],
                suite=suite,
                path=newest["Filename"],
                sha256=newest["SHA256"],
                size=int(newest["Size"]),
            )
        )
    return tuple(found)


def wheels_of(project: bytes, names: Sequence[str] = _WHEELS) -> tuple[Wheel, ...]:
    """The wheels for the image's interpreter, of what a CVM imports, or of `names`, and what that needs. Raises ConfigError as `resolve`."""
    try:
        packages = _locked(project)
        todo, found = list(names), dict[str, Wheel]()
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found[name] = _wheel(packages[name])
            todo += [
                one["name"]
                for one in packages[name].get("dependencies", ())
                if _needed(one.get("marker", ""))
            ]
    except (KeyError, TypeError, ValueError):
        raise _no_lock() from None
    return tuple(found[name] for name in sorted(found))


def source_of(project: bytes, name: str) -> Source:
    """The source of one of the project's packages. Raises ConfigError as `resolve`."""
    try:
        one = _locked(project)[name]["sdist"]
        return Source(url=one["url"], sha256=one["hash"].removeprefix("sha256:"), size=one["size"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _no_lock() from None


def _locked(project: bytes) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in tomllib.loads(project.decode())["package"]}


def _no_lock() -> ConfigError:
    return ConfigError("the project's lock file is not one", hint="give the path of uv.lock")


def _needed(marker: str) -> bool:
    """Whether a dependency is one on Linux, with CPython 3.11. Those of other systems and later versions say so."""
    return not re.search(
        r"win32|Windows|darwin|== 'PyPy'|python_full_version >=|python_full_version < '3\.1[01]", marker
    )


def _wheel(package: Mapping[str, Any]) -> Wheel:
    fitting = []
    for one in package.get("wheels", ()):
        name = one["url"].rpartition("/")[2]
        if _FITS.fullmatch(name):
            # For the newest libc and interpreter first, as pip does.
            libc = max((int(n) for n in re.findall(r"manylinux_2_(\d+)_x86_64", name)), default=0)
            interpreter = max((int(n) for n in re.findall(r"-cp3(\d+)-", name)), default=0)
            fitting.append((libc, interpreter, name, one["hash"].removeprefix("sha256:")))
    fitting = [one for one in fitting if one[0] <= _LIBC]
    if not fitting:
        raise ConfigError(f"there is no wheel of {package['name']} for the image's interpreter")
    *_, name, digest = max(fitting)
    return Wheel(file=name, sha256=digest)


def _index(suite: str, fetch: Fetch, mirror: str, keyring: Path) -> dict[str, list[dict[str, str]]]:
    base = f"{archive_of(mirror, suite)}/dists/{suite}"
    try:
        signed = _signed(fetch(f"{base}/InRelease", _LARGEST), keyring)
        packed = fetch(f"{base}/{_INDEX}", _LARGEST)
    except FileNotFoundError:
        raise UnavailableError(f"the mirror has no suite {suite}", party="mirror") from None
    except OSError:
        raise UnavailableError("the mirror of Debian's packages does not answer", party="mirror") from None
    # One suite's index in another's place, both signed, would be older packages.
    if f"Codename: {suite}" not in signed.splitlines():
        raise CryptoError(f"the index of packages at the mirror is not that of {suite}")
    line = f" {hashlib.sha256(packed).hexdigest()} {len(packed)} {_INDEX}"
    if line not in [" " + " ".join(one.split()) for one in signed.splitlines()]:
        raise CryptoError(
            "an index of packages is not the one that Debian has signed", hint="try again in some minutes"
        )
    try:
        text = lzma.LZMADecompressor().decompress(packed, _UNPACKED).decode()
    except (lzma.LZMAError, UnicodeError):
        raise CryptoError("an index of packages cannot be read") from None
    found: dict[str, list[dict[str, str]]] = {}
    for one in _stanzas(text):
        found.setdefault(one["Package"], []).append(one)
    return found


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    for part in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if ": " in line and line[0] != " ")
        if {"Package", "Version", "Filename", "SHA256", "Size"} <= fields.keys():
            yield fields


def _signed(data: bytes, keyring: Path) -> str:
    """What in `data` is signed by a key of the ring; nothing else of it counts."""
    if not keyring.exists():
        raise ConfigError(
            "Debian's keys are not here", hint="Debian: apt-get install debian-archive-keyring gpgv"
        )
    with tempfile.TemporaryDirectory() as place:
        given, plain = Path(place) / "InRelease", Path(place) / "plain"
        given.write_bytes(data)
        command = ["gpgv", "--quiet", "--keyring", str(keyring.resolve()), "--output", str(plain), str(given)]
        try:
            done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own words
        except FileNotFoundError:
            raise ConfigError("gpgv is not here", hint="Debian: apt-get install gpgv") from None
        if done.returncode or not plain.exists():
            raise CryptoError("an index of packages is not signed by Debian")
        return plain.read_text("utf-8", "replace")


@total_ordering
class Version:
    """A version of a Debian package, in Debian's order (deb-version(7))."""

    def __init__(self, text: str) -> None:
        epoch, colon, rest = text.partition(":")
        number, rest = (int(epoch), rest) if colon and epoch.isdigit() else (0, text)
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
        self._key = (number, _ordered(upstream), _ordered(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: "Version") -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _ordered(text: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    # A tilde comes before the end, the end before a letter, a letter before anything else.
    parts = []
    for letters, digits in _PART.findall(text):
        weights = [-1 if one == "~" else ord(one) if one.isalpha() else ord(one) + 256 for one in letters]
        parts.append(((*weights, 0), int(digits or 0)))
    return tuple(parts)

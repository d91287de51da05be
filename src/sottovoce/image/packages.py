"""Which Debian packages an image is made of: their names, versions and digests, fixed in a lock file, and fetched by it and by nothing else.

A lock is TOML; `path` is below the mirror:

    [[packages]]
    name = "libc6"
    version = "2.36-9+deb12u14"
    suite = "bookworm"
    path = "pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb"
    sha256 = hex
    size = bytes
"""

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import ConfigError, UnavailableError

__all__ = ["MIRROR", "Fetch", "LockError", "Package", "StaleLockError", "fetch", "parse", "write"]

MIRROR: Final = "http://deb.debian.org/debian"
"""Where packages come from; what comes is checked by its digest, so no connection to it need be trusted."""
SNAPSHOT: Final = "https://snapshot.debian.org"
_PATH: Final = re.compile(r"pool/[a-z0-9.+~_/-]+\.deb", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+~:-]+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SUITE: Final = re.compile(r"[a-z][a-z-]*(/updates)?")
_LARGEST: Final = 512 * 1024 * 1024
_TIMEOUT: Final = 60.0


class LockError(ConfigError):
    """The lock file is not of its form."""

    code = "config.image-lock"


class StaleLockError(UnavailableError):
    """A package of the lock is not at the mirror any more, or is another one there."""

    code = "unavailable.image-lock"


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One package: exactly these bytes."""

    name: str
    version: str
    suite: str
    path: str
    sha256: str
    size: int


class _Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    packages: list[Package]


Fetch = Callable[[str, int], bytes]
"""What is at a URL, of so many bytes at most. Raises FileNotFoundError where nothing is, OSError where nobody answers."""


def parse(data: bytes) -> tuple[Package, ...]:
    """The packages of a lock file.

    Raises:
        LockError: it is none.
    """
    try:
        packages = tuple(msgspec.toml.decode(data, type=_Lock).packages)
    except (msgspec.MsgspecError, UnicodeError):
        raise LockError(
            "the lock file of packages is not of its form", hint="`sottovoce image lock` makes one"
        ) from None
    for one in packages:
        forms = (
            (_NAME, one.name),
            (_VERSION, one.version),
            (_SUITE, one.suite),
            (_PATH, one.path),
            (_SHA256, one.sha256),
        )
        well = all(form.fullmatch(text) for form, text in forms) and ".." not in one.path
        if not well or not 0 < one.size <= _LARGEST:
            raise LockError(
                "a package of the lock file is not of its form", hint="`sottovoce image lock` makes one"
            )
    if len({one.name for one in packages}) != len(packages):
        raise LockError("the lock file names a package twice", hint="`sottovoce image lock` makes one")
    return packages


def write(packages: tuple[Package, ...]) -> bytes:
    """The lock file of these packages, sorted by name."""
    parts = []
    for one in sorted(packages, key=lambda package: package.name):
        fields = "".join(
            f"{name} = {value!r}\n" if isinstance(value, int) else f'{name} = "{value}"\n'
            for name, value in msgspec.structs.asdict(one).items()
        )
        parts.append("[[packages]]\n" + fields)
    return "\n".join(parts).encode()


def fetch(package: Package, cache: Path, *, get: Fetch | None = None, mirror: str = MIRROR) -> bytes:
    """The bytes of a package: from `cache`, where each lies under its digest, or from the mirror.

    Raises:
        StaleLockError: the mirror has it no more, or something else in its place. Nothing else is taken instead.
        UnavailableError: the mirror does not answer.
    """
    kept = cache / f"{package.sha256}.deb"
    try:
        data = kept.read_bytes()
    except FileNotFoundError:
        data = b""
    if _is(package, data):
        return data
    try:
        data = (get or _get)(f"{mirror}/{package.path}", package.size)
    except FileNotFoundError:
        raise _stale(package, kept, "is not at the mirror any more") from None
    except OSError:
        raise UnavailableError(
            "the mirror of Debian's packages does not answer",
            party="mirror",
            hint="try again; what was fetched is kept",
        ) from None
    if not _is(package, data):
        raise _stale(package, kept, "has other bytes at the mirror")
    _keep(kept, data)
    return data


def _is(package: Package, data: bytes) -> bool:
    return len(data) == package.size and hashlib.sha256(data).hexdigest() == package.sha256


def _stale(package: Package, kept: Path, what: str) -> StaleLockError:
    return StaleLockError(
        f"the lock is stale: {package.name} {package.version} {what}",
        party="mirror",
        hint=f"to rebuild this release, get it from {SNAPSHOT}/package/ and put it at {kept}; for a new release, run `sottovoce image lock`",
    )


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: two builds may fetch at once.
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(name).replace(path)


def _get(url: str, most: int) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - http by design: the digest decides
            data: bytes = answer.read(most + 1)
            return data
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError from None
        raise OSError from None

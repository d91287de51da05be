"""The Python packages of an image: wheels, fixed by name, version and digest, unpacked as they are. None of their code runs here, and nothing is compiled."""

import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import UnavailableError
from sottovoce.image import pip
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, regular
from sottovoce.image.packages import StaleLockError

__all__ = ["Wheel", "fetch_wheels", "unpack_wheel"]

_PLATFORMS: Final = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
"""Newest first: what the image's libc can load (Debian 12 has 2.36)."""
_PYTHON: Final = "3.11"
_LARGEST: Final = 1024 * 1024 * 1024
_LEFT_OUT: Final = re.compile(
    r"(.*/)?(__pycache__|tests?)/.*|.*\.pyc|[^/]*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)"
)
"""What says when and how something was installed, and what only tests it."""


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One wheel: exactly these bytes."""

    file: str
    sha256: str


def fetch_wheels(
    wheels: Sequence[Wheel], cache: Path, *, download: Callable[[str, Path], bool] | None = None
) -> list[bytes]:
    """The bytes of the wheels: from `cache`, or by pip as the user has configured it, which checks the digests too. `download` gets lines of requirements and a folder.

    Raises:
        StaleLockError: the index has one of them no more, or something else in its place.
    """
    missing = [one for one in wheels if not _is(one, cache / one.file)]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{_requirement(one)} --hash=sha256:{one.sha256}\n" for one in missing)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            came = (download or _download)(lines, Path(place))
            for one in missing:
                found = Path(place) / one.file
                if _is(one, found):
                    found.replace(cache / one.file)
        lost = [one.file for one in missing if not _is(one, cache / one.file)]
        if lost:
            raise StaleLockError(
                f"the lock is stale: {lost[0]} is not to be had as it was"
                if came
                else f"{lost[0]} cannot be downloaded",
                party="index",
                hint=f"is the network up? To rebuild this release, put it into {cache}; for a new release, run `sottovoce image lock`",
            )
    return [(cache / one.file).read_bytes() for one in wheels]


def unpack_wheel(data: bytes) -> dict[str, File]:
    """The files of a wheel, below the folder in which packages are looked for.

    Raises:
        PackageError: it is none, has a path that leads out of it, or files for another folder.
    """
    found: dict[str, File] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(one.file_size for one in archive.infolist()) > _LARGEST:
                raise PackageError("a wheel is larger than an image may be")
            for one in archive.infolist():
                steps = one.filename.split("/")
                if one.filename.endswith("/") or _LEFT_OUT.fullmatch(one.filename):
                    continue
                if any(step in ("", ".", "..") for step in steps) or steps[0].endswith(".data"):
                    raise PackageError("a wheel has a file that does not belong into its folder")
                found[one.filename] = regular(archive.read(one))
    # zipfile says NotImplementedError of a compression that it does not know, RuntimeError of encryption.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError):
        raise PackageError("a wheel cannot be read") from None
    return found


def _requirement(one: Wheel) -> str:
    name, version = one.file.split("-")[:2]
    return f"{name}=={version}"


def _is(one: Wheel, path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == one.sha256
    except OSError:
        return False


def _download(lines: str, place: Path) -> bool:
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    done = pip.download(lines, place, "--python-version", _PYTHON, *platforms)
    if b"No module named pip" in done.stderr:
        raise UnavailableError(
            "pip is not installed here", party="index", hint="install the extra `sottovoce[image]`"
        )
    return done.returncode == 0 or b"DO NOT MATCH THE HASHES" in done.stderr

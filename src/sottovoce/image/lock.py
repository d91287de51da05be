"""The lock file: exactly what an image, its engine or the emulator is made of, beside our own code.

TOML; a package's `path` is below the mirror:

    [[packages]]
    name = "libc6"
    version = "2.36-9+deb12u14"
    suite = "bookworm"
    path = "pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb"
    sha256 = hex
    size = bytes

    [[wheels]]
    file = "h11-0.16.0-py3-none-any.whl"
    sha256 = hex

    [[sources]]                 of the engine alone
    url = "https://…/llama_cpp_python-0.3.36.tar.gz"
    sha256 = hex
    size = bytes

The emulator has no wheels: `wheels = []`, before all else.
"""

import itertools
import re
from typing import Final

import msgspec

from sottovoce.core.errors import ConfigError
from sottovoce.image.packages import Package, Source
from sottovoce.image.wheels import Wheel

__all__ = ["Lock", "LockError"]

_PATH: Final = re.compile(r"pool/[a-z0-9.+~_/-]+\.deb", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+~:-]+")
_SUITE: Final = re.compile(r"[a-z][a-z-]*")
_WHEEL: Final = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[A-Za-z0-9_.]+){3}\.whl")
_URL: Final = re.compile(r"https://[a-z0-9.-]+/[A-Za-z0-9._/-]+\.tar\.gz")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 512 * 1024 * 1024
_HINT: Final = "`sottovoce image lock` makes one"


class LockError(ConfigError):
    """The lock file is not of its form."""

    code = "config.image-lock"


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an image, its engine or the emulator is made of."""

    packages: tuple[Package, ...]
    wheels: tuple[Wheel, ...]
    sources: tuple[Source, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> "Lock":
        """Read a lock file.

        Raises:
            LockError: it is none, or names something twice.
        """
        try:
            found = msgspec.toml.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise LockError("the lock file is not of its form", hint=_HINT) from None
        are = map(_is_package, found.packages), map(_is_wheel, found.wheels), map(_is_source, found.sources)
        if not all(itertools.chain(*are)):
            raise LockError("an entry of the lock file is not of its form", hint=_HINT)
        names = [one.name for one in found.packages] + [_distribution(one) for one in found.wheels]
        names += [one.url for one in found.sources]
        if len(set(names)) != len(names):
            raise LockError("the lock file names something twice", hint=_HINT)
        return found

    def to_toml(self) -> bytes:
        """The lock file, sorted: the same for the same content."""
        packages = sorted(self.packages, key=lambda one: one.name)
        wheels = sorted(self.wheels, key=lambda one: one.file)
        none = [] if wheels else ["wheels = []\n"]
        parts = [_table("packages", one) for one in packages] + [_table("wheels", one) for one in wheels]
        parts += [_table("sources", one) for one in sorted(self.sources, key=lambda one: one.url)]
        return "\n".join(none + parts).encode()


def _table(name: str, one: Package | Wheel | Source) -> str:
    fields = (
        f"{field} = {value}\n" if isinstance(value, int) else f'{field} = "{value}"\n'
        for field, value in msgspec.structs.asdict(one).items()
    )
    return f"[[{name}]]\n" + "".join(fields)


def _is_package(one: Package) -> bool:
    forms = (
        (_NAME, one.name),
        (_VERSION, one.version),
        (_SUITE, one.suite),
        (_PATH, one.path),
        (_SHA256, one.sha256),
    )
    well = all(form.fullmatch(text) for form, text in forms) and ".." not in one.path
    return well and 0 < one.size <= _LARGEST


def _is_wheel(one: Wheel) -> bool:
    return bool(_WHEEL.fullmatch(one.file) and _SHA256.fullmatch(one.sha256)) and ".." not in one.file


def _is_source(one: Source) -> bool:
    well = bool(_URL.fullmatch(one.url) and _SHA256.fullmatch(one.sha256)) and ".." not in one.url
    return well and 0 < one.size <= _LARGEST


def _distribution(one: Wheel) -> str:
    return "wheel " + one.file.partition("-")[0].lower()

"""The launch measurement of a simulated CVM: over everything that it really starts with.

A real launch digest covers firmware, kernel, initial RAM disk and command line. A simulated CVM is a process, so its digest covers
what a process is made of: interpreter, standard library, the distributions and our own packages that a CVM imports, the settings
document and the artifacts. Digests are over names, structure and contents:

    tree        = SHA-384 over, for each file in order of its name: u32 length of name ‖ name ‖ SHA-256 of content
    measurement = SHA-384("sottovoce/1 simulated launch" ‖ for each part: u32 length of name ‖ name ‖ its 48-byte digest)
"""

import hashlib
import importlib.metadata
import re
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError

__all__ = [
    "Measurement",
    "code_root",
    "distribution_files",
    "measure",
    "measure_code",
    "measure_files",
    "site_packages",
]

_LABEL: Final = b"sottovoce/1 simulated launch"
_PACKAGES: Final = ("core", "attest", "tlog", "tee")
"""The packages of ours that a CVM holds."""
_ROOTS: Final = ("cryptography", "pyopenssl", "h11", "msgspec", "starlette", "llama-cpp-python")
"""The distributions that a CVM imports; what these need is measured too."""
_CODE: Final = frozenset({".py", ".so", ".pem", ".json", ".txt", ".gbnf"})
_SKIPPED: Final = frozenset(
    {"__pycache__", "test", "tests", "idlelib", "site-packages", "ensurepip", "tkinter"}
)
_LENGTH: Final = struct.Struct(">I")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A launch measurement (48 bytes) and the digest of each part, to say which one differs."""

    digest: bytes
    parts: Mapping[str, bytes]

    def difference(self, other: "Measurement") -> list[str]:
        """The names of the parts that differ."""
        names = sorted({*self.parts, *other.parts})
        return [name for name in names if self.parts.get(name) != other.parts.get(name)]


def code_root() -> Path:
    """The folder that holds the package `sottovoce` that runs now."""
    return Path(__file__).resolve().parents[2]


def site_packages() -> Path:
    """The folder that holds the distributions."""
    return Path(sysconfig.get_path("purelib"))


def measure_code(code: Path | None = None) -> dict[str, bytes]:
    """The parts that are the same for every CVM with this code: name → 48-byte digest.

    Raises:
        ConfigError: a file cannot be read.
    """
    root = code or code_root()
    package = root / "sottovoce"
    own = [package / "__init__.py", *(f for name in _PACKAGES for f in _code_files(package / name))]
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    try:
        return {
            "code": _tree(root, own),
            "distributions": _tree(site_packages(), distribution_files()),
            "interpreter": _tree(interpreter.parent, [interpreter]),
            "library": _tree(library, _code_files(library)),
        }
    except OSError:
        raise ConfigError("a file of the CVM cannot be read, so it cannot be measured") from None


def measure_files(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Name → SHA-256 of a file.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = {}
    try:
        for name, path in files.items():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").digest()
    except OSError:
        raise ConfigError("an artifact cannot be read, so it cannot be measured") from None
    return found


def measure(*, settings: bytes, artifacts: Mapping[str, bytes], code: Mapping[str, bytes]) -> Measurement:
    """The measurement of a CVM that starts with these settings, these artifacts (name → SHA-256) and this code."""
    parts = {
        **code,
        "settings": hashlib.sha384(settings).digest(),
        **{
            f"artifact {name}": hashlib.sha384(_named(name) + digest).digest()
            for name, digest in artifacts.items()
        },
    }
    digest = hashlib.sha384(_LABEL)
    for name in sorted(parts):
        digest.update(_named(name) + parts[name])
    return Measurement(digest=digest.digest(), parts=parts)


def _named(name: str) -> bytes:
    return _LENGTH.pack(len(name.encode())) + name.encode()


def _tree(root: Path, files: Iterable[Path]) -> bytes:
    tree = hashlib.sha384()
    for label, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        with path.open("rb") as file:
            tree.update(_named(label) + hashlib.file_digest(file, "sha256").digest())
    return tree.digest()


def _code_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in _SKIPPED:
                yield from _code_files(path)
        elif path.suffix in _CODE:
            yield path


def distribution_files() -> list[Path]:
    """Every file of the distributions that a CVM imports, and of what those need."""
    root, files = site_packages(), []
    for distribution in _closure():
        for entry in distribution.files or []:
            path = root / entry
            inside = ".." not in entry.parts and "__pycache__" not in entry.parts
            if inside and entry.suffix != ".pyc" and not entry.parts[0].endswith(".dist-info"):
                files.append(path)
    return files


def _closure() -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = list(_ROOTS)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other systems or Python versions only
        for requirement in found[name].requires or []:
            match = _REQUIREMENT.match(requirement)
            if match and "extra ==" not in requirement:
                todo.append(match[0])
    return [found[name] for name in sorted(found)]

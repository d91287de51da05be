"""The launch measurement of a simulated CVM: over everything that it really starts with.

A real launch digest covers firmware, kernel, initial RAM disk and command line. A simulated CVM is a process, so its digest covers
what a process is made of: how it is started, interpreter, standard library, the distributions and our own packages that a CVM
imports, the settings document and the artifacts. Digests are over names, structure and contents:

    tree        = SHA-384 over, for each file in order of its name: u32 length of name ‖ name ‖ SHA-256 of content
    measurement = SHA-384("sottovoce/1 simulated launch" ‖ for each part: u32 length of name ‖ name ‖ its 48-byte digest)

What is measured and what can be imported are one set. `start_command` starts the interpreter so that it finds a top-level module only
in the places that are measured here, and of those every file is measured, whatever its name. No cached bytecode is read: it would
have to be below /dev/null. Not measured: the kernel and the system's own shared libraries, on which the interpreter stands.
"""

import functools
import hashlib
import importlib.metadata
import os
import re
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError
from sottovoce.tlog.artifacts import artifact_digest

__all__ = [
    "Measurement",
    "Runtime",
    "code_root",
    "measure",
    "measure_code",
    "measure_files",
    "start_command",
]

_LABEL: Final = b"sottovoce/1 simulated launch"
_PACKAGES: Final = ("attest", "core", "tee", "tlog")
"""The packages of ours that a CVM holds; it can import no others."""
_ROOTS: Final = ("cryptography", "pyopenssl", "h11", "msgspec", "llama-cpp-python")
"""The distributions that a CVM imports; what these need is measured too, and nothing else can be imported."""
_UNUSED: Final = ("ensurepip", "idlelib", "test", "tkinter")
"""Parts of the standard library that are large, and that no CVM can import."""
_NO_MODULES: Final = ("config-", "dist-packages", "site-packages")
"""Folders beside them that no statement can name and no path leads to; `lib-dynload` is not one of them."""
_CACHE: Final = "__pycache__"
_LENGTH: Final = struct.Struct(">I")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9._-]+")

# Ignores the environment, the user's folder, `site` with its .pth files and sitecustomize, and cached bytecode.
_FLAGS: Final = ("-I", "-B", "-S", "-X", "pycache_prefix=/dev/null")
_START: Final = f"""
import sys
library, code, packages, names = sys.argv[1:5]
del sys.argv[1:5]
sys.path[:] = [library, library + "/lib-dynload"]
from importlib.machinery import PathFinder

class Measured:
    places = {{"sottovoce": [code], **dict.fromkeys(names.split(","), [packages])}}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        parts = name.split(".")
        foreign = parts[0] == "sottovoce" and len(parts) > 1 and parts[1] not in {_PACKAGES!r}
        if foreign or parts[0] in {_UNUSED!r} or {_CACHE!r} in parts:
            raise ModuleNotFoundError("this module is not measured", name=name)
        return PathFinder.find_spec(name, cls.places[name], target) if name in cls.places else None

sys.meta_path.insert(0, Measured)
import runpy
runpy.run_module("sottovoce.tee.boot", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a CVM runs on, beside our own code.

    Attributes:
        interpreter: the program, no link.
        library: the folder of the standard library.
        packages: the folder of the distributions.
        names: the top-level modules of the distributions that a CVM may import.
    """

    interpreter: Path
    library: Path
    packages: Path
    names: tuple[str, ...]

    @classmethod
    @functools.lru_cache(maxsize=1)
    def current(cls) -> "Runtime":
        """What this process runs on."""
        return cls(
            interpreter=Path(sys.executable).resolve(),
            library=Path(sysconfig.get_path("stdlib")),
            packages=Path(sysconfig.get_path("purelib")),
            names=_modules(),
        )

    def parts(self) -> dict[str, bytes]:
        """Name → 48-byte digest."""
        program = self.interpreter.parent
        return {
            "distributions": _tree(self.packages, self._distribution_files()),
            "interpreter": _tree(program.parent, self._interpreter_files()),
            "library": _tree(self.library, self._library_files()),
            "start": hashlib.sha384("\0".join((*_FLAGS, _START, *self.names)).encode()).digest(),
        }

    def _interpreter_files(self) -> Iterator[Path]:
        program = self.interpreter.parent
        yield self.interpreter
        # Most of the interpreter is in its shared library, if it has one; this process has mapped the same.
        yield from _mapped("libpython")
        # These decide where it looks for its library before it runs our first line.
        steering = [
            *(program / name for name in ("pyvenv.cfg", "pybuilddir.txt")),
            *program.glob("*._pth"),
            program.parent / "pyvenv.cfg",
            self.library.parent / f"python{sys.version_info.major}{sys.version_info.minor}.zip",
        ]
        yield from (path for path in steering if path.exists())

    def _library_files(self) -> Iterator[Path]:
        for entry in _entries(self.library):
            if entry.name not in _UNUSED and not entry.name.startswith(_NO_MODULES):
                yield from _files(entry)

    def _distribution_files(self) -> Iterator[Path]:
        for entry in _entries(self.packages):
            if entry.name.partition(".")[0] in self.names:
                yield from _files(entry)


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


def start_command(code: Path | None = None, *, runtime: Runtime | None = None) -> list[str]:
    """The command that starts a CVM, without the arguments of `tee.boot`; its environment must be empty."""
    on = runtime or Runtime.current()
    places = (on.library, code or code_root(), on.packages)
    return [str(on.interpreter), *_FLAGS, "-c", _START, *map(str, places), ",".join(on.names)]


def measure_code(code: Path | None = None, *, runtime: Runtime | None = None) -> dict[str, bytes]:
    """The parts that are the same for every CVM with this code: name → 48-byte digest.

    Raises:
        ConfigError: a file cannot be read.
    """
    root = code or code_root()
    try:
        return {"code": _tree(root, _own_files(root)), **(runtime or Runtime.current()).parts()}
    except OSError:
        raise ConfigError("a file of the CVM cannot be read, so it cannot be measured") from None


def measure_files(files: Mapping[str, Path], *, purpose: str) -> dict[str, bytes]:
    """Name → the digest of a file as an artifact of this name, for this purpose (docs/artifacts.md).

    Raises:
        ConfigError: a file cannot be read.
    """
    found = {}
    try:
        for name, path in files.items():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
                digest = artifact_digest(name=name, purpose=purpose, sha256=content, size=file.tell())
            found[name] = bytes.fromhex(digest)
    except OSError:
        raise ConfigError("an artifact cannot be read, so it cannot be measured") from None
    return found


def measure(*, settings: bytes, artifacts: Mapping[str, bytes], code: Mapping[str, bytes]) -> Measurement:
    """The measurement of a CVM that starts with these settings, these artifacts (name → digest) and this code."""
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
    for name, path in sorted((os.path.relpath(path, root), path) for path in files):
        with path.open("rb", buffering=0) as file:
            tree.update(_named(name) + hashlib.sha256(file.read()).digest())
    return tree.digest()


def _entries(folder: Path) -> Iterator[Path]:
    return (entry for entry in folder.iterdir() if entry.name != _CACHE)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for entry in _entries(path):
        yield from _files(entry)


def _own_files(root: Path) -> Iterator[Path]:
    for entry in _entries(root / "sottovoce"):
        if entry.name in _PACKAGES or not entry.is_dir():
            yield from _files(entry)


def _mapped(prefix: str) -> list[Path]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}
    return [path for path in paths if path.name.startswith(prefix)]


def _modules() -> tuple[str, ...]:
    """The top-level modules of the distributions that a CVM imports, and of what those need."""
    found = {
        entry.parts[0].partition(".")[0]
        for distribution in _closure()
        for entry in distribution.files or []
        if not entry.parts[0].endswith(".dist-info")
    }
    return tuple(sorted(name for name in found if name.isidentifier() and name != _CACHE))


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

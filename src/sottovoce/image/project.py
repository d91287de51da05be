"""Builds what is published of an image from a project's folder: its lock files, its source, and a model's file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError
from sottovoce.image import verity
from sottovoce.image.build import COMMAND_LINE, Image, build, materials, own_code, sbom
from sottovoce.image.lock import Lock
from sottovoce.image.machines import Machine, emulated
from sottovoce.image.manifest import Manifest
from sottovoce.tee.settings import Model, parse_settings
from sottovoce.tlog.artifacts import artifact_digest

__all__ = ["ENGINE_LOCK", "LOCK", "SOURCE", "Built", "Project"]

LOCK, ENGINE_LOCK, SOURCE = Path("deploy/image.lock"), Path("deploy/engine.lock"), Path("src")
"""Where they are in the project's folder."""
VOLUME: Final = "volume"


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image and its manifest; `model` is the file that its volume is made of, if it has one."""

    image: Image
    manifest: Manifest
    described: bytes = field(repr=False)
    """What is in it, as CycloneDX."""
    model: Path | None

    def write(self, folder: Path) -> None:
        """Write what is published into `folder`: the image's files, `manifest.json`, `sbom.json`, and the volume.

        Raises:
            ConfigError: the volume cannot be written, or the model has changed since it was measured.
            OSError: another file cannot.
        """
        folder.mkdir(parents=True, exist_ok=True)
        described = {"sbom.json": self.described, "manifest.json": self.manifest.encode()}
        for name, data in (self.image.files() | described).items():
            (folder / name).write_bytes(data)
        if self.model is not None and self.image.volume is not None:
            written = verity.write(self.model, self.image.volume.name, folder / VOLUME)
            if written != self.image.volume:
                raise ConfigError("the model has changed while the image was built")


@dataclass(frozen=True, kw_only=True)
class Project:
    """What images are built from. `cache` is where packages, wheels and what was compiled are kept; `engine` is the lock of a predictor's engine."""

    lock: Lock
    engine: Lock | None
    source: Path
    cache: Path

    @classmethod
    def at(cls, folder: Path, cache: Path) -> "Project":
        """That in `folder`.

        Raises:
            LockError: a lock file is not of its form.
            OSError: one cannot be read.
        """
        return cls(
            lock=Lock.parse((folder / LOCK).read_bytes()),
            engine=Lock.parse((folder / ENGINE_LOCK).read_bytes()),
            source=folder / SOURCE,
            cache=cache,
        )

    def build(
        self,
        settings: bytes,
        *,
        model: Path | None = None,
        machine: Machine | None = None,
        commit: str = "",
        like: Manifest | None = None,
    ) -> Built:
        """The image of the CVM that the document `settings` describes, whose model, if it has one, is in the file `model`; for a `machine`, or an emulated one, or for that which a published one, `like`, is for. `commit` is the source's.

        Raises:
            ConfigError: the settings are none, or the model or the engine's lock is missing or not that of the settings.
            StaleLockError, PackageError, UnavailableError: as `materials`.
        """
        parsed = parse_settings(settings)
        engine = volume = None
        if parsed.model is not None:
            engine, file = self._embedded(parsed.model, model)
            volume = verity.measure(file, parsed.model.name)
        machine = like.machine if like else machine or emulated(volume)
        made_of = materials(self.lock, self.cache, self.source, engine=engine)
        image = build(made_of, settings, command_line=COMMAND_LINE, machine=machine, volume=volume)
        manifest = Manifest.of(
            image,
            role=parsed.role,
            settings=settings,
            machine=machine,
            lock=self.lock,
            engine=engine,
            code=own_code(self.source),
            commit=like.commit if like else commit,
        )
        described = sbom(self.lock, image, engine=engine)
        return Built(image=image, manifest=manifest, described=described, model=model if volume else None)

    def _embedded(self, wanted: Model, model: Path | None) -> tuple[Lock, Path]:
        """The engine's lock, and the settings' model."""
        if self.engine is None:
            raise ConfigError(
                "a predictor's image needs the engine's lock", hint="`sottovoce image lock --for engine`"
            )
        try:
            if model is None:
                raise FileNotFoundError
            size = model.stat().st_size
            # What is of another size is not read: it may have no end.
            if size != wanted.bytes:
                raise ConfigError("the model is not the one in the settings")
            with model.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            raise ConfigError(
                "the settings' model is not here", hint="`sottovoce model fetch`, or name it with --model"
            ) from None
        if (
            artifact_digest(name=wanted.name, purpose=wanted.purpose, sha256=sha256, size=size)
            != wanted.digest
        ):
            raise ConfigError("the model is not the one in the settings")
        return self.engine, model

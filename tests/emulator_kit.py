"""Images for tests that boot them, and the emulator: skipped, and said so, where what the lock files name cannot be had."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

import model_kit
from sottovoce.core.errors import UnavailableError
from sottovoce.image.lock import Lock
from sottovoce.image.packages import StaleLockError
from sottovoce.image.project import Built, Project
from sottovoce.simulator.emulator import Programs
from sottovoce.simulator.models import SMALL, ModelFile
from sottovoce.simulator.programs import provided
from sottovoce.simulator.world import World, dump_emulated

__all__ = ["CACHE", "PATIENCE", "PROJECT", "counts", "found_programs", "made_with", "small"]

PROJECT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sottovoce"
PATIENCE = 240.0
"""Seconds until a machine that should say something is given up: under emulation, beside other tests."""


def found_programs() -> Programs:
    """The emulator's programs: those in the folder that SOTTOVOCE_TEST_EMULATOR names, on PATH, or of `deploy/emulator.lock`."""
    given = os.environ.get("SOTTOVOCE_TEST_EMULATOR")
    try:
        place = provided(Path(given) if given else None, _locked, CACHE)
        return Programs.find([place] if place else [])
    except UnavailableError as error:
        _require_elsewhere(error)
        pytest.skip(f"no emulator: {error} ({error.hint})")


def _require_elsewhere(error: UnavailableError) -> None:
    """What cannot be reached, or does not run on such a machine, is no fault of ours: then a test is skipped. A stale lock, or an engine that does not compile, is one."""
    if isinstance(error, StaleLockError) or error.party not in {"mirror", "index", "emulator"}:
        raise error


def _locked() -> Lock:
    return Lock.parse((PROJECT / "deploy/emulator.lock").read_bytes())


def made_with(settings: bytes, *, model: Path | None = None) -> Built:
    """The image of a CVM; the test is skipped, and says so, where what it is made of cannot be had."""
    try:
        return Project.at(PROJECT, CACHE / "packages").build(settings, model=model)
    except UnavailableError as error:
        _require_elsewhere(error)
        pytest.skip(f"no image: {error} ({error.hint})")


def small() -> ModelFile:
    """The small model; the test is skipped, and says so, where it is not."""
    return ModelFile(name=SMALL.name, path=model_kit.small_model(), sha256=SMALL.sha256, bytes=SMALL.bytes)


def counts(world: World, machine: str, wanted: Mapping[str, bytes], place: Path) -> dict[str, int]:
    """Copies of each in all memory of an emulated machine."""
    dump_emulated(world.folder, machine, place)
    memory = place.read_bytes()
    place.unlink()
    return {name: memory.count(word) for name, word in wanted.items()}

"""One world of processes for all tests here, with the small model; each test gets a device of its own."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sottovoce.cli.model import default_folder
from sottovoce.device.client import Client
from sottovoce.device.settings import SettingsStore
from sottovoce.simulator.models import SMALL, ModelFile
from sottovoce.simulator.world import World

CHATS = Path(__file__).parents[2] / "examples" / "chats"


@dataclass(frozen=True)
class Device:
    """A device of the world, used by the command line as a person does, in a process of its own."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, give: str | None = None) -> "subprocess.CompletedProcess[str]":
        """`sottovoce` with these words."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "sottovoce", "--home", str(self.home), *words],
            input=give,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={
                "COLUMNS": "200",
                "PYTHONDONTWRITEBYTECODE": "1",
                **{
                    name: os.environ[name]
                    for name in ("PATH", "HOME", "XDG_CACHE_HOME")
                    if name in os.environ
                },
                **self.environment,
            },
        )

    def opt_in(self) -> None:
        SettingsStore(self.home).enable(now=int(time.time()))

    def refill(self) -> int:
        async def fetch() -> int:
            async with Client(self.home) as client:
                return await client.refill_wallet(only_if_due=False)

        return asyncio.run(fetch())


def small_model() -> ModelFile:
    """The small model, where `sottovoce model fetch --small` has put it."""
    path = default_folder() / SMALL.file
    if not path.exists():
        pytest.skip("the small model is not here: sottovoce model fetch --small")
    return ModelFile(name=SMALL.name, path=path, sha256=SMALL.sha256, bytes=SMALL.bytes)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every party, running. A test that stops or changes one puts it right again: see `without`."""
    world = World(tmp_path_factory.mktemp("world"), model=small_model())
    world.start()
    try:
        yield world
    finally:
        world.stop()


@pytest.fixture
def fresh(world: World, tmp_path: Path) -> Device:
    """A device that is enrolled and has done nothing yet: not opted in, no tokens."""
    world.enrol(tmp_path / "device")
    return Device(tmp_path / "device")


@pytest.fixture
def device(fresh: Device) -> Device:
    """A device that has opted in and holds tokens."""
    fresh.opt_in()
    fresh.refill()
    return fresh


@contextlib.contextmanager
def without(world: World, *names: str) -> Iterator[None]:
    """The world without these parties, for the time of a `with`."""
    for name in names:
        world.stop_one(name)
    try:
        yield
    finally:
        for name in names:
            world.restart(name)

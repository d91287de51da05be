"""One world of processes for all tests here, with the small model; each test gets a device of its own."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import model_kit
from residue import family
from sottovoce.core.limits import LIMITS
from sottovoce.device.client import Client
from sottovoce.device.settings import SettingsStore
from sottovoce.simulator.models import SMALL, ModelFile
from sottovoce.simulator.world import MACHINES, World
from sottovoce.tee.reporter import NAME as REPORTER
from sottovoce.tee.settings import parse_settings

# Whoever runs the tests in the background of a shell ignores it, and what is started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHATS = Path(__file__).parents[2] / "examples" / "chats"


_WRONG_CLOCK = """
import time
right = time.time
time.time = lambda: right() + {}
from sottovoce.cli.main import main
main()
"""


@dataclass(frozen=True)
class Device:
    """A device of the world, used by the command line as a person does, in a process of its own."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    days_ahead: int = 0
    """How wrong its clock is."""

    def command(self, *words: str) -> list[str]:
        """The command line for these words."""
        start = ["-m", "sottovoce"]
        if self.days_ahead:
            start = ["-c", _WRONG_CLOCK.format(86400 * self.days_ahead)]
        return [sys.executable, "-P", *start, "--home", str(self.home), *words]

    @property
    def variables(self) -> dict[str, str]:
        """Its environment variables, and no other."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
        return {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1", **kept, **self.environment}

    def run(self, *words: str, give: str | None = None) -> "subprocess.CompletedProcess[str]":
        """`sottovoce` with these words."""
        return subprocess.run(
            self.command(*words),
            input=give,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=self.variables,
        )

    def ready(self) -> int:
        """How many tokens it can use now."""
        return int(self.run("wallet", "show").stdout.split()[0])

    def opt_in(self) -> None:
        SettingsStore(self.home).enable(now=int(time.time()))

    def refill(self) -> int:
        async def fetch() -> int:
            async with Client(self.home) as client:
                return await client.refill_wallet(only_if_due=False)

        return asyncio.run(fetch())


def small_model() -> ModelFile:
    """The small model, where `sottovoce model fetch --small` has put it."""
    path = model_kit.small_model()
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


@contextlib.contextmanager
def serving(words: list[str], variables: Mapping[str, str], until: str) -> Iterator[re.Match[str]]:
    """A command that prints something and serves until it is interrupted; gives what it printed that fits `until`."""
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=dict(variables) | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        try:
            printed = ""
            while (found := re.search(until, printed)) is None:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(60) == 130, rest
            assert "Traceback" not in rest


@contextlib.contextmanager
def nobody_connects(device: Device) -> Iterator[None]:
    """Every address that the device knows is a listener of ours; nobody may have come to it in the end."""
    path = device.home / "environment.json"
    pinned = json.loads(path.read_text())
    for kept in ("directory.json", "last-directory.json"):
        (device.home / kept).unlink(missing_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        path.write_text(json.dumps({**pinned, "mirrors": [url], "relays": [url], "issuer": url}))
        yield
        with pytest.raises(BlockingIOError):
            listener.accept()[0].close()
    path.write_text(json.dumps(pinned))


def soon(holds: Callable[[], bool], seconds: float = 100) -> bool:
    """Whether it holds before so many seconds are over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.1)
    return False


def sessions(world: World) -> set[int]:
    """Processes of sessions, and the spare ones. A machine is its launcher, its server, the process that asks for reports, and these."""
    launchers = {world.pids[name] for name in MACHINES}
    return {
        pid
        for pid in family(launchers) - launchers
        if parent(pid) not in launchers and name_of(pid) != REPORTER
    }


def name_of(pid: int) -> str:
    """Its name; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def parent(pid: int) -> int:
    """Its parent's pid; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def sessions_end(world: World) -> None:
    """What came before has ended, and sooner than for being idle: only spare processes are there, each with one in both back ends."""
    settings = parse_settings((world.folder / "settings" / "orchestrator-1.json").read_bytes())
    spares = settings.spares * len(world.orchestrators)
    assert soon(lambda: len(sessions(world)) == 3 * spares, LIMITS.session_idle), len(sessions(world))

"""The images: how long they take to build, how large they are, and how long an emulated machine takes from its start to its first attested session.

With `--fresh` once more from nothing: every package, wheel and source is fetched, and the engine is compiled.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Final

from sottovoce.cli.model import default_folder
from sottovoce.device.answers import Line
from sottovoce.device.chats import import_chat
from sottovoce.device.client import Client
from sottovoce.device.settings import SettingsStore
from sottovoce.device.sync_client import SyncClient
from sottovoce.image.lock import Lock
from sottovoce.image.project import Built, Project
from sottovoce.simulator.emulator import Programs
from sottovoce.simulator.models import SMALL, ModelFile
from sottovoce.simulator.programs import provided
from sottovoce.simulator.world import World, dump_emulated

PROJECT: Final = Path(__file__).parents[1]
CACHE: Final = default_folder().parent
ROLES: Final = ("orchestrator", "guard", "predictor")
BOOTS: Final = 3
MACHINE: Final = "orchestrator-1"
PAGE: Final = 4096
CACHED, FRESH, SIZE, BOOT, MEMORY = 180, 1200, 25, 30, 512
"""Bounds: seconds, seconds, MB, seconds, MiB."""


def built(world: World, role: str, cache: Path) -> tuple[float, Built]:
    """Seconds, and the image."""
    began = time.perf_counter()
    model = world.model.path if role == "predictor" else None
    made = Project.at(PROJECT, cache).build(world.settings_document(role, processors=1), model=model)
    return time.perf_counter() - began, made


async def first_line(home: Path) -> float:
    """The moment when a device has the first line of an answer: its session was attested before."""
    chat = import_chat(
        (PROJECT / "examples/chats/book-club.txt").read_bytes(), name="WhatsApp Chat with club.txt"
    )
    async with Client(home) as client, aclosing(client.summarize(chat)) as events:
        async for event in events:
            if isinstance(event, Line):
                return time.perf_counter()
    raise RuntimeError("the session gave no line")


def boots(world: World, home: Path) -> list[dict[str, float]]:
    """Seconds from the machine's start until it serves, and until a device that asks then has its first line."""
    found = []
    for _ in range(BOOTS):
        world.stop_one(MACHINE)
        began = time.perf_counter()
        world.restart(MACHINE)
        serves = time.perf_counter()
        line = asyncio.run(first_line(home))
        found.append({"serves": serves - began, "first line": line - began})
    return found


def used(world: World, place: Path) -> int:
    """MiB of the machine's memory that hold anything: what is free is zeroed."""
    dump_emulated(world.folder, MACHINE, place)
    empty, pages = bytes(PAGE), 0
    with place.open("rb") as memory:
        while page := memory.read(PAGE):
            pages += page != empty
    return pages * PAGE >> 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    path = default_folder() / SMALL.file
    if not path.exists():
        print(f"no model at {path}; run `sottovoce model fetch --small` first")
        return 1
    model = ModelFile(name=SMALL.name, path=path, sha256=SMALL.sha256, bytes=SMALL.bytes)
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        home = place / "device"
        world = World(place / "world", model=model)
        if arguments.fresh:
            seconds, _ = built(world, "predictor", place / "empty")
            results["fresh"] = seconds
            print(f"built from nothing, predictor  {seconds:6.0f} s    (bound {FRESH})")
        images = place / "image"
        for role in ROLES:
            built(world, role, CACHE / "packages")  # whatever is not there yet is fetched now
            seconds, made = built(world, role, CACHE / "packages")
            sizes = {name: len(data) / 1e6 for name, data in made.image.files().items()}
            results[role] = {"seconds": seconds, "MB": sizes}
            print(f"built, {role:<22}  {seconds:6.1f} s    (bound {CACHED})")
            whole = sum(sizes.values())
            print(
                f"  its RAM disk {sizes['initrd']:.1f} MB (bound {SIZE}), with kernel and firmware {whole:.1f} MB"
            )
            if role == "orchestrator":
                made.write(images)
        emulator = Lock.parse((PROJECT / "deploy/emulator.lock").read_bytes())
        programs = provided(None, lambda: emulator, CACHE)
        Programs.find([programs] if programs else [])
        world.boot_image(MACHINE, images, programs=programs)
        world.start()
        try:
            world.enrol(home)
            SettingsStore(home).enable(now=int(time.time()))
            with SyncClient(home) as client:
                client.refill_wallet(only_if_due=False)
            asyncio.run(first_line(home))
            found = boots(world, home)
            memory = used(world, place / "memory")
        finally:
            world.stop()
    results |= {"boots": found, "memory_MiB": memory}
    for what in ("serves", "first line"):
        each = [one[what] for one in found]
        print(
            f"from its start until {what:<10}  median {median(each):5.1f} s, lowest {min(each):5.1f}    (bound {BOOT})"
        )
    print(f"memory that holds anything: {memory} MiB of {MEMORY}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""All memory of an orchestrator's real image, in an emulated machine: what a session had in it, and what is left.

The search counts copies in the whole of the machine's memory, kernel, buffers and all, while a session is open and after it. The first count is the control: a search that finds nothing then
says nothing later.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from OpenSSL import SSL

from canary_kit import canary
from emulator_kit import counts, found_programs, made_with, small
from sottovoce.device.answers import Done, Line
from sottovoce.device.chats import import_chat
from sottovoce.device.client import Client
from sottovoce.device.settings import SettingsStore
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]
MACHINE = "orchestrator-1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    programs = found_programs()
    world = World(tmp_path_factory.mktemp("world"), model=small())
    folder = tmp_path_factory.mktemp("image")
    made_with(world.settings_document("orchestrator")).write(folder)
    world.boot_image(MACHINE, folder, programs=Path(programs.vsock).parent)
    try:
        world.start()
        yield world
    finally:
        world.stop()


def say(what: str, found: dict[str, int]) -> None:
    """For the table in docs/image.md: `pytest -s`."""
    sys.stdout.write(f"\n{what}: {found}\n")


def test_nothing_of_a_session_is_left(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, bytes] = {}

    class Telling(SSL.Context):
        """The device's end of the session tells its keys, as a browser does for whoever sets SSLKEYLOGFILE."""

        def __init__(self, method: int) -> None:
            super().__init__(method)
            self.set_keylog_callback(self.told)

        def told(self, _connection: SSL.Connection, line: bytes) -> None:
            name, _random, key = line.decode().split()
            keys[name] = bytes.fromhex(key)

    monkeypatch.setattr(SSL, "Context", Telling)
    world.enrol(tmp_path / "device")
    SettingsStore(tmp_path / "device").enable(now=int(time.time()))
    words = {name: canary(name) for name in ("text", "sender", "title")}
    lines = [
        f"23/11/2026, 19:{minute:02} - {words['sender'].capitalize()}: {text}"
        for minute, text in enumerate(
            [
                "Good evening",
                f"The rehearsal is moved to {words['text']} at 18:30 on Saturday",
                "Who brings it?",
            ]
        )
    ]
    chat = import_chat("\n".join(lines).encode(), name=f"WhatsApp Chat with {words['title']}.txt")
    wanted = {"text": words["text"].encode(), "sender": words["sender"].capitalize().encode()}
    held: dict[str, int] = {}

    async def ask() -> str:
        told = ""
        async with Client(tmp_path / "device") as client:
            await client.refill_wallet(only_if_due=False)
            async with aclosing(client.summarize(chat)) as events:
                async for event in events:
                    if isinstance(event, Line | Done) and not held:
                        secrets_of = {f"key: {name}": key for name, key in keys.items()}
                        held.update(
                            await asyncio.to_thread(
                                counts, world, MACHINE, wanted | secrets_of, tmp_path / "held"
                            )
                        )
                    if isinstance(event, Line):
                        told += event.text
        return told

    assert words["text"] in asyncio.run(ask())
    say("copies in memory while the session was open", held)
    assert held["text"] > 0
    assert held["sender"] > 0
    traffic = {name for name in held if "TRAFFIC_SECRET" in name}
    assert any(held[name] for name in traffic), held
    # The machine is told of the end when the device has left; its processes end within moments.
    found = wanted | {f"key: {name}": key for name, key in keys.items()}
    until = time.monotonic() + 120
    while (
        any((left := counts(world, MACHINE, found, tmp_path / "left")).values()) and time.monotonic() < until
    ):
        time.sleep(2)
    assert left == dict.fromkeys(found, 0), held

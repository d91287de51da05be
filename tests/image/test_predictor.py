"""The real images of all three roles, the predictor's with its model in a volume, among the other parties: a session through them, and what is left of it in all of the predictor's memory.

What a session's own part of the cache looks like is computed beforehand, by the image's own interpreter and engine on this machine: the same code gives the same bytes.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from canary_kit import canary
from emulator_kit import counts, found_programs, made_with, small
from role_kit import UnsafeScriptedEngineForTests
from sottovoce.device.answers import Done, Piece
from sottovoce.device.chats import Chat, import_chat
from sottovoce.device.client import Client
from sottovoce.device.settings import SettingsStore
from sottovoce.image.build import Image
from sottovoce.image.files import write
from sottovoce.image.userland import FOLDERS, LOADER, PYTHON, SITE
from sottovoce.simulator.roles import DirectRoles
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.image, pytest.mark.timeout(3000)]
MACHINE = "predictor-1"
ROW: Final = 384
"""Bytes of a layer's keys for one token of the small model: three heads of 64 half-precision numbers."""
ORACLE: Final = """
import ctypes, json, os, struct, sys
root, model, row = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.append(root)
import llama_cpp.llama_cpp as llama
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.features import headline
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.prompts import PROMPTS
given = json.load(sys.stdin)
messages = [Message(id=str(at), sender=one["sender"], text=one["text"]) for at, one in enumerate(given["messages"])]
engine = LlamaEngine(os.open(model, os.O_RDONLY), name="model", threads=1, prompts=PROMPTS)
turns = [Turn(role="user", text=headline.user_turn(messages))]
sampling = Sampling(max_tokens=headline.MAX_TOKENS, grammar=headline.GRAMMAR)
pieces = engine.generate(turns, sampling, prompt="headline", opening=headline.opening(messages))
next(pieces), next(pieces)
room = llama.llama_state_seq_get_size(engine._context, engine._work)
state = (ctypes.c_uint8 * room)()
llama.llama_state_seq_get_data(engine._context, state, room, engine._work)
keys = bytes(state).partition(struct.pack("<iQ", 1, row))[2]
count = engine._lengths["headline"][1] + len(engine._render(turns))
json.dump({"tokens": engine._data(" " + given["word"]), "rows": [keys[at * row : (at + 1) * row].hex() for at in range(count)]}, sys.stdout)
"""


@dataclass
class Booted:
    """The world, and the files of the image that its predictor boots."""

    world: World
    image: Image


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    programs, model = found_programs(), small()
    world = World(tmp_path_factory.mktemp("world"), model=model)
    settings = world.settings_document("predictor", processors=1)
    made, place = made_with(settings, model=model.path), tmp_path_factory.mktemp("images")
    for role, image in (
        ("predictor", made),
        *((role, made_with(world.settings_document(role))) for role in ("orchestrator", "guard")),
    ):
        image.write(place / role)
        world.boot_image(f"{role}-1", place / role, programs=Path(programs.vsock).parent)
    try:
        world.start()
        yield Booted(world, made.image)
    finally:
        world.stop()


def asked_of_the_predictor(chat: Chat) -> list[dict[str, Any]]:
    """The messages that an orchestrator shows it for a headline."""
    roles = DirectRoles(UnsafeScriptedEngineForTests("The group talks."))
    messages = [{"id": one.id, "sender": one.sender, "text": one.text} for one in chat.messages]
    asyncio.run(roles.ask("/v1/summaries", {"chats": [{"messages": messages}]}))
    (asked,) = [document for _, document in roles.predictor.requests if document["task"] == "headline"]
    found: list[dict[str, Any]] = asked["messages"]
    return found


def expected(booted: Booted, chat: Chat, word: str, place: Path) -> dict[str, bytes]:
    """Token ids of the word, and the rows of keys that the prompt leaves in the cache."""
    write(booted.image.contents(), place)
    command = [f"{place}/usr/lib64/{LOADER}", "--library-path", f"{place}/{FOLDERS[0]}", f"{place}/{PYTHON}"]
    words = ["-s", "-S", "-P", "-B", "-c", ORACLE, f"{place}/{SITE}", str(booted.world.model.path), str(ROW)]
    given = json.dumps({"messages": asked_of_the_predictor(chat), "word": word}).encode()
    done = subprocess.run([*command, *words], input=given, capture_output=True, check=False, env={})
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    tokens = b"".join(token.to_bytes(4, "little") for token in told["tokens"])
    rows = {f"row {at}": bytes.fromhex(row) for at, row in enumerate(told["rows"])}
    return {"token ids": tokens} | rows


def test_nothing_of_a_session_is_left(booted: Booted, tmp_path: Path) -> None:
    world = booted.world
    world.enrol(tmp_path / "device")
    SettingsStore(tmp_path / "device").enable(now=int(time.time()))
    word = canary("word")
    lines = [
        "23/11/2026, 19:00 - Ada: Good evening",
        f"23/11/2026, 19:01 - Ada: The rehearsal is moved to {word} at 18:30 on Saturday",
        "23/11/2026, 19:02 - Bo: Who brings it?",
    ]
    chat = import_chat("\n".join(lines).encode(), name="WhatsApp Chat with band.txt")
    wanted = {"text": word.encode()} | expected(booted, chat, word, tmp_path / "image")
    before = counts(world, MACHINE, wanted, tmp_path / "before")
    # The parent has the fixed prompts: a session's rows are those that nobody had before.
    own = {name: value for name, value in wanted.items() if not before[name]}
    assert {"text", "token ids"} < own.keys()
    held: dict[str, int] = {}

    async def ask() -> list[str]:
        seen = []
        async with Client(tmp_path / "device") as client:
            await client.refill_wallet(only_if_due=False)
            async with aclosing(client.summarize(chat)) as events:
                async for event in events:
                    seen.append(type(event).__name__)
                    if isinstance(event, Piece | Done) and not held:
                        held.update(await asyncio.to_thread(counts, world, MACHINE, own, tmp_path / "held"))
        return seen

    began = time.monotonic()
    seen = asyncio.run(ask())
    rows = [held[name] for name in own if name.startswith("row")]
    sys.stdout.write(
        f"\nanswer after {time.monotonic() - began:.0f} s: {seen}\ncopies while the session was open: "
        f"text {held['text']}, token ids {held['token ids']}, rows of keys {sum(map(bool, rows))} of {len(rows)}\n"
    )
    assert held["text"] > 0
    assert held["token ids"] > 0
    # One of eleven rows lies across two pages, which are not neighbours in the machine's memory.
    assert sum(map(bool, rows)) > len(rows) // 2 > 10
    until = time.monotonic() + 120
    while any((left := counts(world, MACHINE, own, tmp_path / "left")).values()) and time.monotonic() < until:
        time.sleep(2)
    assert left == dict.fromkeys(own, 0)

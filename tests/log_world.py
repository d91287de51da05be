"""The log as it is served, on a folder, with witnesses that can be down."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import asgi
import edge_kit
from sottovoce.core.events import EventLog
from sottovoce.thirdparty import witness
from sottovoce.thirdparty.log import Config, WitnessAddress, create_app
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint

ORIGIN = "log.example/test"
NOW = 1_800_000_000
DOWN = "http://127.0.0.1:1"
SECRET = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@dataclass(kw_only=True)
class Witness:
    """A witness that can be down; its clock is the world's."""

    app: asgi.App
    key: SigningKey
    up: bool = True
    url: str = ""
    wait: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wait.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self.up:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["type"] == "http":
            await self.wait.wait()
        await self.app(scope, receive, send)


@dataclass(kw_only=True)
class World:
    """A log's folder and keys, and its witnesses."""

    folder: Path
    key: SigningKey = field(default_factory=lambda: SigningKey.generate(ORIGIN))
    witnesses: list[Witness] = field(default_factory=list)
    now: float = NOW
    lines: list[str] = field(default_factory=list)

    def config(self, **changes: Any) -> Config:
        (self.folder / "key").write_text(self.key.secret())
        (self.folder / "secret").write_text(SECRET + "\n")
        values: dict[str, Any] = {
            "origin": ORIGIN,
            "key": str(self.folder / "key"),
            "folder": str(self.folder / "log"),
            "secret": str(self.folder / "secret"),
            "witnesses": [WitnessAddress(key=str(w.key.verifier), url=w.url or DOWN) for w in self.witnesses],
        }
        return Config(**(values | changes))

    def app(self, **changes: Any) -> asgi.App:
        """The log, started anew on the same folder."""
        return create_app(self.config(**changes), log=EventLog(self.lines.append))

    @contextlib.asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[asgi.App]:
        """The log with its lifespan, so that it can reach its witnesses."""
        app = self.app(**changes)
        async with edge_kit.serving(app):
            yield app

    def policy(self, quorum: int = 2) -> LogPolicy:
        keys = tuple(one.key.verifier for one in self.witnesses)
        return LogPolicy(origin=ORIGIN, log_key=self.key.verifier, witnesses=keys, quorum=quorum)

    async def checkpoint(self, app: asgi.App, quorum: int = 2) -> VerifiedCheckpoint:
        note = Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body)
        return self.policy(quorum).verify_checkpoint(note, now=None)


@contextlib.asynccontextmanager
async def witnessed(world: World, count: int = 2) -> AsyncIterator[World]:
    """Start the witnesses of `world`."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            key = SigningKey.generate(f"witness.example/{number}", COSIGNATURE)
            path = world.folder / f"witness-{number}"
            path.write_text(key.secret())
            config = witness.Config(
                key=str(path), state=str(world.folder / f"state-{number}"), logs=[str(world.key.verifier)]
            )
            app = witness.create_app(config, log=EventLog(lambda _: None), clock=lambda: world.now)
            one = Witness(app=app, key=key)
            one.url = await stack.enter_async_context(edge_kit.serving(one))
            world.witnesses.append(one)
        yield world


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 100))


async def append(app: asgi.App, entry: bytes) -> dict[str, int]:
    answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=entry)
    assert answer.status == 200, answer
    told: dict[str, int] = json.loads(answer.body)
    return told


async def batch(app: asgi.App, items: list[bytes]) -> dict[str, Any]:
    body = tiles.encode_bundle(items)
    answer = await asgi.fetch(app, "POST", "/batch", headers=BEARER, body=body)
    assert answer.status == 200, answer
    told: dict[str, Any] = json.loads(answer.body)
    return told


async def prove(app: asgi.App, entry: bytes) -> bytes:
    answer = await asgi.fetch(app, "GET", f"/proof?hash={merkle.leaf_hash(entry).hex()}")
    assert answer.status == 200, answer
    return answer.body


async def head(app: asgi.App) -> Checkpoint:
    return Checkpoint.parse(Note.parse((await asgi.fetch(app, "GET", "/checkpoint")).body).text)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(10_000):
        if await condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came")


def entries(count: int, word: str = "entry") -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(count)]

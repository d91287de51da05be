"""Serves the app on loopback until it is stopped."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from sottovoce.app.access import Access, Gate
from sottovoce.app.application import App, create_app
from sottovoce.core.errors import UsageError
from sottovoce.device.client import Client

__all__ = ["serve", "serving"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACE: Final = 2
"""Seconds for answers on their way when the app is stopped."""


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(
    home: Path, port: int, make: Callable[[Path], Client] = Client
) -> AsyncIterator[tuple[Callable[[], str], asyncio.Task[None]]]:
    """Serve the app for the device in `home` on 127.0.0.1; port 0 is any that is free.

    Gives what makes links that open it, and the task in which the server runs. `make` makes the client.

    Raises:
        UsageError: the port is taken.
    """
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise UsageError("the port cannot be used", hint="--port takes another") from None
    with listening:
        access = Access()
        async with make(home) as client:
            server = _Server(_config(create_app(App(home, client), access)))
            running = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield lambda: access.link(listening.getsockname()[1]), running
            finally:
                server.should_exit = True
                await asyncio.wait([running])


async def serve(home: Path, port: int, started: Callable[[Callable[[], str]], None]) -> None:
    """Serve the app until SIGINT or SIGTERM, or until the server ends; `started` gets what makes links. Raises as `serving`."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    # Heard between two steps of the loop, and not raised in the middle of one. A second one ends the process as it always does.
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with serving(home, port) as (link, running):
        started(link)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    await running


def _config(app: Gate) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
    )

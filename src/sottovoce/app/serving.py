"""Serves the app on loopback until it is stopped."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sottovoce.app.access import Access, Gate
from sottovoce.app.application import create_app
from sottovoce.app.desk import Desk
from sottovoce.core.errors import UsageError
from sottovoce.device.client import Client

__all__ = ["serve", "serving"]

_TALKERS: Final = ("asyncio", "uvicorn", "uvicorn.error")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_CONNECTIONS: Final = 64
"""More than a browser with many tabs has."""
_FIRST: Final = 10.0
"""Seconds until a connection's first request is there."""
_GRACE: Final = 2
"""Seconds for answers on their way when the app is stopped."""


class _Protocol(H11Protocol):
    """Anybody on this machine can connect: a connection that asks for nothing is closed, and so are those beyond a number."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or not."""
        super().connection_made(transport)
        if len(self.server_state.connections) > _CONNECTIONS:
            transport.abort()
        else:
            self.loop.call_later(_FIRST, self._look)

    def _look(self) -> None:
        if self.cycle is None:
            self.transport.abort()


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
            desk = Desk(home, client, access.base)
            server = _Server(_config(create_app(desk, access)))
            running = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield lambda: access.link(listening.getsockname()[1]), running
            finally:
                # First what pages are watching: then they have nothing to wait for.
                await desk.close()
                server.should_exit = True
                await asyncio.wait([running])


async def serve(home: Path, port: int, started: Callable[[Callable[[], str]], None]) -> None:
    """Serve the app until SIGINT or SIGTERM, or until the server ends; `started` gets what makes links. Raises as `serving`."""
    # Their tracebacks and reprs could hold a message; what the app has to say of a fault it says itself.
    for name in _TALKERS:
        logging.getLogger(name).disabled = True
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
        http=_Protocol,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
    )

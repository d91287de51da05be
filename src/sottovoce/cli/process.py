"""What every service process does the same way: sockets, readiness, shutdown, no logging but events."""

import asyncio
import ctypes
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.core.events import EventLog

__all__ = ["die_with_parent", "event_log", "listening_socket", "load_config", "ready_signal", "run_asgi"]

_T = TypeVar("_T")
_PR_SET_PDEATHSIG: Final = 1
_BACKLOG: Final = 512


def die_with_parent(ready_fd: int | None) -> None:
    """Ask the kernel for a SIGTERM when the process that started this one is gone; end now if it is gone already.

    `ready_fd` is the pipe on which it waits for this one.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent or (ready_fd is not None and _is_abandoned(ready_fd)):
        raise SystemExit(0)


def _is_abandoned(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLERR)
    return bool(poll.poll(0))


def listening_socket(listen: str, fd: int | None) -> socket.socket:
    """The inherited socket `fd`, or a new one on `listen` ("HOST:PORT").

    Raises:
        UsageError: neither or both are given, or the address cannot be had.
    """
    if (fd is None) == (not listen):
        raise UsageError("give either --listen or --fd")
    if fd is not None:
        return socket.socket(fileno=fd)
    host, _, port = listen.rpartition(":")
    try:
        return socket.create_server((host or "127.0.0.1", int(port)), backlog=_BACKLOG)
    except (OSError, ValueError, OverflowError):
        raise UsageError("cannot listen there", hint="--listen takes HOST:PORT of a free port") from None


def ready_signal(fd: int | None) -> Callable[[], None]:
    """A function that tells whoever started this process that it serves; it works once."""

    def ready() -> None:
        if fd is not None:
            os.write(fd, b"1")
            os.close(fd)

    return ready


def event_log() -> EventLog:
    """The one log of a service: typed events, a line each, on standard error."""
    return EventLog(sys.stderr.write)


def load_config(kind: type[_T], data: bytes) -> _T:
    """The configuration of type `kind` that the TOML `data` holds.

    Raises:
        ConfigError: not TOML, an unknown name, a wrong type. The text names the place, no value.
    """
    try:
        return msgspec.toml.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the configuration file is wrong: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ConfigError("the configuration file is not TOML") from None


def run_asgi(
    app: Any, sock: socket.socket, ready: Callable[[], None], *, reload: Callable[[], None] | None = None
) -> None:
    """Serve `app` on `sock` until SIGTERM or SIGINT; `reload` is called on SIGHUP."""
    import uvicorn

    from sottovoce.cli.boundedhttp import BoundedProtocol

    # Nothing is logged but events: a traceback could hold a request's bytes.
    logging.disable(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )

    class Server(uvicorn.Server):
        """Says when it serves."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            if reload is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
            await super().startup(sockets=sockets)
            if self.started:
                ready()

    server = Server(config)
    server.run(sockets=[sock])
    if not server.started:
        raise ConfigError("the service did not start")

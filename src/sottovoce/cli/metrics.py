"""`sottovoce metrics`: what services log, as Prometheus reads it."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.main import Context
from sottovoce.core.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.cli.eventmetrics import EventMetrics
    from sottovoce.core.events import Event

__all__ = ["MODULES", "Follower", "events", "metrics"]

MODULES: Final = (
    "sottovoce.edge.gateway",
    "sottovoce.edge.issuer",
    "sottovoce.edge.router",
    "sottovoce.tee.logfilter",
    "sottovoce.thirdparty.log",
    "sottovoce.thirdparty.relay",
    "sottovoce.thirdparty.witness",
)
"""Where events are declared."""
_PAUSE: Final = 0.5
_READ: Final = 64 * 1024
_LINE: Final = 4096
"""Bytes of a line; a longer one is no event."""
_MAX_PORT: Final = 65535


def events() -> "list[type[Event]]":
    """Every declared event, by module and name."""
    import importlib

    from sottovoce.core.events import Event

    for name in MODULES:
        importlib.import_module(name)
    # `@event` makes the class anew, with slots; the one before may still be there.
    found = {
        kind for kind in Event.__subclasses__() if "__slots__" in vars(kind) and kind.__module__ in MODULES
    }
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


class _Lines:
    """Bytes in, lines out; of a line that is too long only that there was one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: _LINE + 1]
        return [line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        """What was never ended, as a line."""
        return self.feed(b"\n")


class Follower:
    """A file that grows, is cut, or is put aside for a new one of its name; read from its beginning.

    One that is cut and longer again within half a second looks as if it had only grown.

    Raises:
        ConfigError: it is not there at first, cannot be read, or is no file; `read` too, but waits where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = _Lines()
        try:
            self._fd = self._open()
        except FileNotFoundError:
            raise ConfigError(
                "a log is not there", hint=f"{path}: start the service first, or name another file"
            ) from None

    def read(self) -> Iterator[bytes]:
        """The whole lines that have come since the last time."""
        yield from self._grown()
        if (fd := self._following()) is not None:
            yield from self._grown()  # what came last into the one that was put aside
            yield from self._lines.end()
            os.close(self._fd)
            self._fd = fd
            yield from self._grown()

    def _open(self) -> int:
        try:
            # A pipe that nobody writes into would hold up everything.
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError:
            raise ConfigError("a log cannot be read", hint=f"{self._path}: may this user read it?") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError("a log is no file", hint=f"{self._path}: lead a pipe into standard input")
        return fd

    def _following(self) -> int | None:
        """What has the name now, if that is another file or one that was cut."""
        try:
            fd = self._open()
        except FileNotFoundError:
            return None  # between two files, there is none for a moment
        now, at = os.fstat(fd), os.lseek(self._fd, 0, os.SEEK_CUR)
        if os.path.samestat(now, os.fstat(self._fd)) and now.st_size >= at:
            os.close(fd)
            return None
        return fd

    def _grown(self) -> Iterator[bytes]:
        while data := os.read(self._fd, _READ):
            yield from self._lines.feed(data)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= _MAX_PORT:
        raise ConfigError("the address to listen on is not HOST:PORT", hint="for example 127.0.0.1:9464")
    return host.strip("[]"), int(port)


@click.command()
@click.argument("files", type=click.Path(path_type=Path, dir_okay=False), nargs=-1)
@click.option(
    "--listen",
    default="127.0.0.1:9464",
    show_default=True,
    help="Where Prometheus finds them: HOST:PORT, path /metrics.",
)
@click.pass_obj
def metrics(context: Context, files: tuple[Path, ...], listen: str) -> None:  # noqa: ARG001
    """Count and time what services log, for Prometheus.

    The lines come from FILES, which are read from their beginning and followed, or from standard input until it ends. A line that is no declared event is
    counted as such, and what it says is not kept.
    """
    from sottovoce.cli.eventmetrics import EventMetrics

    host, port = _address(listen)
    counted = EventMetrics(events())
    with contextlib.ExitStack() as open_:
        followers = [open_.enter_context(contextlib.closing(Follower(path))) for path in dict.fromkeys(files)]
        for follower in followers:  # before anybody looks: what was there is not new
            for line in follower.read():
                counted.take(line)
        open_.enter_context(_served(counted, host, port))
        for line in _followed(followers) if followers else _standard_input():
            counted.take(line)


@contextlib.contextmanager
def _served(counted: "EventMetrics", host: str, port: int) -> Iterator[None]:
    """Serve the page, and say where."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, registry=counted.registry)
    except (OSError, UnicodeError):
        raise ConfigError(
            "nobody can listen there",
            hint="the port is taken, or it is no address of this machine; --listen takes another",
        ) from None
    try:
        click.echo(f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics", err=True)
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _followed(followers: list[Follower]) -> Iterator[bytes]:
    while True:
        for follower in followers:
            yield from follower.read()
        time.sleep(_PAUSE)


def _standard_input() -> Iterator[bytes]:
    lines = _Lines()
    while data := os.read(0, _READ):
        yield from lines.feed(data)
    yield from lines.end()

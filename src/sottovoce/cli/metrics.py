"""`sottovoce metrics`: what services log, as Prometheus reads it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.main import Context
from sottovoce.core.errors import ConfigError

if TYPE_CHECKING:
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


class Follower:
    """A file that grows, is cut, or is put aside for a new one of its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._lines = _Lines()

    def read(self) -> Iterator[bytes]:
        """The whole lines that have come since the last time."""
        while self._fd < 0 or not self._is_current():
            # What an old file still has comes first.
            yield from self._rest()
            self.close()
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return  # between two files, there is none for a moment
            self._lines = _Lines()
        yield from self._rest()

    def _is_current(self) -> bool:
        mine, at = os.fstat(self._fd), os.lseek(self._fd, 0, os.SEEK_CUR)
        try:
            named = self._path.stat()
        except OSError:
            return True
        return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino) and mine.st_size >= at

    def _rest(self) -> Iterator[bytes]:
        while self._fd >= 0 and (data := os.read(self._fd, _READ)):
            yield from self._lines.feed(data)

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


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

    The lines come from FILES, which are followed, or from standard input until it ends. A line that is no declared event is counted as such, and what it
    says is not kept.
    """
    from prometheus_client import start_http_server

    from sottovoce.core.metrics import EventMetrics

    for path in files:
        if not path.exists():
            raise ConfigError(
                "a log is not there", hint=f"{path}: start the service first, or name another file"
            )
    host, port = _address(listen)
    counted = EventMetrics(events())
    try:
        server, thread = start_http_server(port, host, registry=counted.registry)
    except OSError:
        raise ConfigError(
            "nobody can listen there",
            hint=f"{listen} is taken, or is no address of this machine; --listen takes another",
        ) from None
    click.echo(f"http://{host}:{server.server_port}/metrics", err=True)
    try:
        for line in _followed(files) if files else _standard_input():
            counted.take(line)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _followed(files: tuple[Path, ...]) -> Iterator[bytes]:
    followers = [Follower(path) for path in files]
    try:
        while True:
            for follower in followers:
                yield from follower.read()
            time.sleep(_PAUSE)
    finally:
        for follower in followers:
            follower.close()


def _standard_input() -> Iterator[bytes]:
    lines = _Lines()
    while data := os.read(0, _READ):
        yield from lines.feed(data)

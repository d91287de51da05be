"""What the commands of `sottovoce log` share: two options, and reading and writing of files."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from sottovoce.device.environment import Environment
    from sottovoce.thirdparty.logreader import LogReader
    from sottovoce.tlog.policy import LogPolicy

__all__ = [
    "FILE",
    "LIMIT",
    "at_url",
    "environment_of",
    "log_policy",
    "pinned",
    "read_file",
    "with_reader",
    "write_file",
]

LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a file that is read; an entry of the log is much shorter."""
FILE = click.Path(path_type=Path, readable=False)
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


def at_url(command: _F) -> _F:
    """The option `--log`."""
    return click.option("--log", "url", required=True, metavar="URL", help="Where the log's files are.")(
        command
    )


def pinned(command: _F) -> _F:
    """The option `--environment`."""
    return click.option(
        "--environment",
        type=FILE,
        default=None,
        help="Whom to believe: the log's key and its witnesses.  [default: HOME/environment.json]",
    )(command)


def log_policy(context: Context, environment: Path | None) -> "LogPolicy":
    """Whom to believe about the log."""
    return environment_of(context, environment).log_policy()


def environment_of(context: Context, environment: Path | None) -> "Environment":
    """The environment of the option, or the device's.

    Raises:
        ConfigError: it cannot be read.
    """
    from sottovoce.device import environment as files

    return files.Environment.load(environment or context.home / files.FILE)


def read_file(path: Path, limit: int = LIMIT) -> bytes:
    """The file's bytes.

    Raises:
        ConfigError: it cannot be read, is empty, or longer than `limit`.
    """
    from sottovoce.core.errors import ConfigError

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError):
        raise ConfigError("the file cannot be read", hint=f"looked for {path}") from None
    if not data or len(data) > limit:
        raise ConfigError("the file is empty or too long", hint=f"looked at {path}")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write the file whole, or not at all."""
    from sottovoce.thirdparty.files import write_whole

    write_whole(path, data)


def with_reader(url: str, work: "Callable[[LogReader], Awaitable[_T]]") -> _T:
    """What `work` returns of the log at `url`."""
    from sottovoce.thirdparty.logreader import LogReader

    async def run() -> _T:
        async with LogReader(url) as reader:
            return await work(reader)

    return asyncio.run(run())

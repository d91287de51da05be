"""Programs in Go that `make peers` builds from pinned modules, in `go/.built`."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

BUILT = Path(__file__).parent / "go/.built"


def program(name: str) -> Path:
    """The program; skips the test, saying so, where it has not been built, or before its sources changed."""
    path, sources = BUILT / name, BUILT.parent.glob("*/*.*")
    if not path.exists() or any(one.stat().st_mtime > path.stat().st_mtime for one in sources):
        pytest.skip(f"{name} is not here: run `make peers`, which needs go")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    *command: str | Path, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the end; with `port`, wait until it listens there."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        if port:
            await_port(process, port)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def await_port(process: subprocess.Popen[Any], port: int) -> None:
    """Wait until the server listens."""
    for _ in range(1000):
        assert process.poll() is None, "the server has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    pytest.fail("the server does not listen")

"""Redis, Valkey and PostgreSQL servers of one's own: on loopback, with a temporary folder, for tests, benchmarks and the kill loop.

They are the real programs, found on PATH or where Debian puts them. Each can be killed and started again with the same data.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sottovoce.core.errors import UnavailableError

__all__ = ["PostgresServer", "RedisServer", "find_program", "running"]

_PLACES: Final = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin")
_START_SECONDS: Final = 30.0
_ROOT: Final = 0
USER: Final = "sottovoce"
"""The database's user, and its database."""


def find_program(name: str) -> str | None:
    """The path of the program `name`: on PATH, or in Debian's usual places, the newest version first."""
    found = shutil.which(name)
    if found:
        return found
    for place in _PLACES:
        folder, _, rest = place.partition("*")
        folders = sorted(Path(folder).glob("*" + rest), reverse=True) if rest else [Path(folder)]
        for path in (candidate / name for candidate in folders):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class _Server(ABC):
    """A server's process, and the folder with its data."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sottovoce-store-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it with the data that it has, and wait until it answers.

        Raises:
            UnavailableError: it does not start.
        """
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a program that `find_program` found
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is for whoever started it
                **self._identity(),
            )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise UnavailableError("the store's server did not start", party="store")
            time.sleep(0.02)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.signal_all(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pids(self) -> list[int]:
        """The server, then its children; PostgreSQL's are in process groups of their own."""
        if self._process is None:
            return []
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            children = []
        return [pid, *map(int, children)]

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments."""

    def _identity(self) -> Mapping[str, Any]:
        return {}

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes requests yet."""


class RedisServer(_Server):
    """Redis or Valkey, as `program` is one or the other, set so that it loses nothing."""

    SAFE: Final = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "save": "",
    }

    def __init__(self, program: str, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._program = program
        self.settings = {"port": str(self.port), **self.SAFE, **(settings or {})}

    def url(self, *options: str) -> str:
        """The URL of a store in it."""
        return f"redis://127.0.0.1:{self.port}/0" + ("?" + "&".join(options) if options else "")

    def ask(self, *words: str) -> bytes:
        """Send one command and return the beginning of the answer."""
        message = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            sock.sendall(message.encode())
            return sock.recv(65536)

    def _command(self) -> Sequence[str]:
        options = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        return [self._program, "--bind", "127.0.0.1", "--dir", str(self.folder), *options]

    def _answers(self) -> bool:
        try:
            if "tls-port" in self.settings:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    return True
            return not self.ask("PING").startswith(b"-LOADING")
        except OSError:
            return False


class PostgresServer(_Server):
    """PostgreSQL with one user and database, `USER`, who needs no password on loopback."""

    def __init__(self, initdb: str) -> None:
        super().__init__()
        self._programs = Path(initdb).resolve().parent
        self._data = self.folder / "data"
        self.settings: dict[str, str] = {"max_connections": "60", "shared_buffers": "16MB"}
        if os.geteuid() == _ROOT:
            # PostgreSQL does not run as root.
            entry = self._account()
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        command = [initdb, "--pgdata", str(self._data), "--username", USER, "--auth", "trust", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._identity())  # noqa: S603

    def start(self) -> None:
        """As the others; makes the database, when it is not there."""
        super().start()
        with suppress(subprocess.CalledProcessError):
            self.sql(f"CREATE DATABASE {USER}", database="postgres")

    def url(self, *options: str) -> str:
        """The URL of a store in it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}" + (
            "?" + "&".join(options) if options else ""
        )

    def sql(self, statement: str, *, database: str = USER) -> str:
        """Run a statement and return what it prints.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--dbname", database]
        command = [
            str(self._programs / "psql"),
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            *place,
            "--command",
        ]
        done = subprocess.run(  # noqa: S603 - as above
            [*command, statement], check=True, capture_output=True, cwd=self.folder, timeout=30
        )
        return done.stdout.decode().strip()

    def _account(self) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _identity(self) -> Mapping[str, Any]:
        if os.geteuid() != _ROOT:
            return {}
        entry = self._account()
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _command(self) -> Sequence[str]:
        fixed = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [
            part for name, value in {**fixed, **self.settings}.items() for part in ("-c", f"{name}={value}")
        ]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1", database="postgres") == "1"
        except (subprocess.SubprocessError, OSError):
            return False


@contextmanager
def running(kind: str) -> Iterator[RedisServer | PostgresServer | None]:
    """A server of `kind` (`redis`, `valkey`, `postgresql`) that runs; None where its program is not on this machine."""
    program = find_program("initdb" if kind == "postgresql" else f"{kind}-server")
    if program is None:
        yield None
        return
    server = PostgresServer(program) if kind == "postgresql" else RedisServer(program)
    try:
        server.start()
        yield server
    finally:
        server.remove()

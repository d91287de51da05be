"""Which process is at the other end of a connection, and whether it was started as `rules` demands.

The kernel is asked, not the server: who owns the listening socket, its command line and environment, where its output goes, whether it
may leave a core file, and where else it can be reached. Whatever cannot be read counts as wrong.

A command line is judged as the server was started with it. Against a server that was built to lie it proves nothing: which
server runs is the measured image's matter.
"""

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import ConfigError
from sottovoce.tee.engines.rules import COMMON, RULES, Need, Rules

__all__ = ["Address", "Identity", "Server", "judge", "look", "model_path", "owner", "reach"]

Address = str | tuple[str, int]
"""A Unix socket's path, or an IP address and a port."""
_PROC: Final = Path("/proc")
_READ: Final = 1 << 20
"""Bytes of one file below /proc, at most."""
_LISTEN: Final = "0A"  # include/net/tcp_states.h
_FLAG: Final = re.compile(r"--?[a-z0-9][a-z0-9-]{0,60}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
_INTERPRETER: Final = re.compile(r"python[0-9.]*")
_INTERPRETER_FLAGS: Final = frozenset({"-B", "-E", "-I", "-P", "-s", "-S", "-u"})
_HINT: Final = "docs/engines.md has the whole command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process, told from a later one with the same number by when it began."""

    pid: int
    began: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Server:
    """What the kernel says of a running server.

    Attributes:
        identity: the process.
        program: its executable.
        command: its command line.
        environment: the variables that it was started with.
        outputs: where its standard output and standard error go.
        core: its limit for core files, as /proc says it.
        exposed: whether it, or a process that it made, can be reached from outside this machine.
        swap: whether memory can leave to a disk.
    """

    identity: Identity
    program: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    outputs: tuple[str, str]
    core: str
    exposed: bool
    swap: bool


def reach(address: Address, *, timeout: float) -> socket.socket:
    """A connection to `address`, blocking, with `timeout` seconds for each step.

    Raises:
        OSError: nobody answers there.
    """
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


# Whose socket it is.


def owner(sock: socket.socket, *, proc: Path = _PROC) -> Identity:
    """The process that listens where `sock` is connected to.

    Raises:
        ConfigError: it cannot be told, or it listens beyond this machine.
    """
    try:
        if sock.family == socket.AF_UNIX:
            # Of a process outside this PID namespace the kernel gives 0.
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return _identity(proc, struct.unpack("iii", credentials)[0])
        return _identity(proc, _listener(sock.getpeername()[1], proc))
    except (OSError, ValueError, IndexError):
        raise ConfigError("the process behind the engine's socket cannot be found", hint=_HINT) from None


def _listener(port: int, proc: Path) -> int:
    """The process whose socket listens on `port`; of a process and those that it made, the first."""
    rows = [row for row in _rows(proc / "net") if row.port == port]
    if not all(row.loopback for row in rows):
        raise ConfigError("the engine's server listens beyond this machine", hint=_HINT)
    inodes = {row.inode for row in rows}
    owners = {pid for pid in _pids(proc) if inodes & _sockets(proc, pid)}
    first = [pid for pid in owners if not owners & set(_ancestors(proc, pid))]
    if len(first) != 1:
        raise ConfigError("the engine's port belongs to no process, or to several", hint=_HINT)
    return first[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    port: int
    loopback: bool
    inode: str


def _rows(net: Path) -> Iterator[_Row]:
    """The listening sockets in /proc/net/tcp and tcp6 (Documentation/networking/proc_net_tcp.rst)."""
    for name in ("tcp", "tcp6"):
        path = net / name
        if name == "tcp6" and not path.exists():
            continue
        for line in _text(path).splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[1].partition(":")
            if fields[3] == _LISTEN:
                yield _Row(port=int(port, 16), loopback=_is_loopback(host), inode=fields[9])


def _is_loopback(host: str) -> bool:
    # 32-bit words in the machine's order, which is little-endian on both architectures.
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    address = b"".join(words)
    if address[:12] == bytes(10) + b"\xff\xff":
        address = address[12:]
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"  # noqa: PLR2004 - RFC 1122, RFC 4291


# What the kernel says.


def look(identity: Identity, *, proc: Path = _PROC) -> Server:
    """What is known of the process.

    Raises:
        ConfigError: it cannot be read.
    """
    home = proc / str(identity.pid)
    try:
        found = Server(
            identity=identity,
            program=str((home / "exe").readlink()),
            command=_words(home / "cmdline"),
            environment=dict(_pair(word) for word in _words(home / "environ")),
            outputs=(str((home / "fd" / "1").readlink()), str((home / "fd" / "2").readlink())),
            core=_core(home),
            exposed=_exposed(identity.pid, proc),
            swap=len(_text(proc / "swaps").splitlines()) > 1,
        )
        same = _identity(proc, identity.pid) == identity
    except (OSError, ValueError, IndexError):
        raise ConfigError("the engine's server cannot be looked at", hint=_HINT) from None
    if not same:
        raise ConfigError("the engine's server was started again", hint=_HINT)
    return found


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_READ + 1)
    if len(data) > _READ:
        raise ValueError
    return data.decode("utf-8", "surrogateescape")


def _words(path: Path) -> tuple[str, ...]:
    return tuple(_text(path).rstrip("\0").split("\0"))


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _stat(proc: Path, pid: int) -> list[str]:
    # The name in brackets may hold anything (proc_pid_stat(5)); what follows it begins with field 3.
    return _text(proc / str(pid) / "stat").rpartition(")")[2].split()


def _identity(proc: Path, pid: int) -> Identity:
    return Identity(pid=pid, began=int(_stat(proc, pid)[19]))


def _ancestors(proc: Path, pid: int) -> Iterator[int]:
    for _ in range(64):
        pid = int(_stat(proc, pid)[1])
        if pid <= 1:
            return
        yield pid


def _pids(proc: Path) -> list[int]:
    return [int(path.name) for path in proc.iterdir() if path.name.isdecimal()]


def _sockets(proc: Path, pid: int) -> set[str]:
    found = set()
    try:
        for path in (proc / str(pid) / "fd").iterdir():
            target = str(path.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass  # it has ended, or is another user's: then it owns nothing that we can prove
    return found


def _core(home: Path) -> str:
    for line in _text(home / "limits").splitlines():
        if line.startswith("Max core file size"):
            return "/".join(line.split()[4:6])
    raise ValueError


def _exposed(pid: int, proc: Path) -> bool:
    """Whether it has a network beyond loopback and listens there, it or what it made."""
    net = proc / str(pid) / "net"
    devices = {line.partition(":")[0].strip() for line in _text(net / "dev").splitlines()[2:]}
    if devices <= {"lo"}:
        return False
    wide = {row.inode for row in _rows(net) if not row.loopback}
    family = [pid, *(other for other in _pids(proc) if pid in _quietly(proc, other))]
    return any(wide & _sockets(proc, member) for member in family)


def _quietly(proc: Path, pid: int) -> list[int]:
    try:
        return list(_ancestors(proc, pid))
    except (OSError, ValueError, IndexError):
        return []  # it has ended


# The judgement.


def judge(kind: str, server: Server) -> None:
    """Demand that `server` is of this kind and was started as its rules say.

    Raises:
        ConfigError: with everything that is wrong, in one text. It repeats names of flags and variables, no value.
    """
    wrong = [
        *_judge_machine(server),
        *_judge_command(RULES[kind], server),
        *_judge_environment(RULES[kind], server),
    ]
    if wrong:
        raise ConfigError(f"the engine's server ({kind}) cannot be used: " + "; ".join(wrong), hint=_HINT)


def _judge_machine(server: Server) -> Iterator[str]:
    if server.outputs != ("/dev/null", "/dev/null"):
        yield "its standard output and standard error must be /dev/null"
    if server.core != "0/0":
        yield "its limit for core files must be 0"
    if server.exposed:
        yield "it listens beyond this machine"
    if server.swap:
        yield "swap must be off"


def _judge_command(rules: Rules, server: Server) -> Iterator[str]:
    rest = _after_start(rules, server)
    if rest is None:
        yield "its command line is not that of such a server"
        return
    given: dict[str, str | None] = {}
    for name, value in _split(rules, rest):
        shown = name if _FLAG.fullmatch(name) else "an argument"
        flag = rules.flags.get(name)
        if name in rules.refused:
            yield f"{shown} is refused ({rules.refused[name]})"
        elif flag is None:
            yield f"{shown} is not among the flags that are known to be harmless"
        elif name in given:
            yield f"{shown} is given twice"
        elif flag.value and (value is None or value.startswith("--")):
            yield f"{shown} lacks its value"
        elif (not flag.value and value is not None) or (flag.only and value not in flag.only):
            yield f"{shown} has a value that is refused"
        given[name] = value
    yield from _missing(rules.needs, given)


def _judge_environment(rules: Rules, server: Server) -> Iterator[str]:
    allowed = {**COMMON, **rules.environment}
    for name, value in server.environment.items():
        if name in allowed and (not allowed[name] or value in allowed[name]):
            continue
        shown = name if _NAME.fullmatch(name) else "a variable"
        yield f"{shown} is not among the variables, or the values of it, that are known to be harmless"
    yield from _missing(rules.environment_needs, server.environment)
    for name, least in rules.numbers.items():
        value = server.environment.get(name, "")
        if not (value.isascii() and value.isdecimal() and int(value) >= least):
            yield f"{name} must be at least {least}"


def _missing(needs: tuple[Need, ...], given: Mapping[str, str | None]) -> Iterator[str]:
    for need in needs:
        wanted = [_pair(one) if "=" in one else (one, None) for one in need.one_of]
        if not any(name in given and (value is None or given[name] == value) for name, value in wanted):
            yield f"{need.one_of[0]} is missing ({need.why})"


def _after_start(rules: Rules, server: Server) -> list[str] | None:
    """What follows the program's name; None where it is another program."""
    words = list(server.command)
    if rules.python:
        if not _INTERPRETER.fullmatch(_last(server.program)) or not words:
            return None
        words = words[1:]
        while words and words[0] in _INTERPRETER_FLAGS:
            words = words[1:]
    elif _last(server.program) != rules.starts[0][0]:
        return None
    for start in rules.starts:
        head = words[: len(start)]
        if len(head) == len(start) and (_last(head[0]), *head[1:]) == start:
            return words[len(start) :]
    return None


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _split(rules: Rules, words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Flags with their values; the argument after the command, where the server takes one, as `--model`."""
    if rules.positional and words and not words[0].startswith("-"):
        words = ["--model", *words]
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        at += 1
        flag = rules.flags.get(name)
        if equals:
            yield name, value
        elif flag is not None and flag.value:
            yield name, words[at] if at < len(words) else None
            at += 1
        else:
            yield name, None


def model_path(kind: str, server: Server, *, proc: Path = _PROC) -> Path:
    """Where the judged server's tokenizer is, as this process sees it: a folder, or a GGUF file.

    Raises:
        ConfigError: it is not named by an absolute path.
    """
    rules = RULES[kind]
    given = dict(_split(rules, _after_start(rules, server) or []))
    names = ("--tokenizer", "--tokenizer-path", "--model", "--model-path")
    path = next((value for name in names if (value := given.get(name))), "")
    if not path.startswith("/"):
        raise ConfigError("the engine's server must name its model by an absolute path", hint=_HINT)
    # Its root may be another than ours.
    return proc / str(server.identity.pid) / "root" / path.lstrip("/")

"""Each test runs in a child of its own: a sandbox does not open again."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.tee import sandbox

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE_THREAD = 0x0001_0000 | 0x1000_0000


def in_sandbox(act: Callable[[], object], *, close: Callable[[], object] = sandbox.seal) -> str:
    """What `act` does in a sealed child: its result, the error number, or the signal that ended it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            close()
            result = str(act())
        except OSError as error:
            result = f"errno {error.errno}"
        except BaseException as error:  # noqa: BLE001 - told to the test
            result = type(error).__name__
        finally:
            os.write(write, result.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    _, status = os.waitpid(pid, 0)
    return told or f"signal {os.WTERMSIG(status)}"


def syscall(number: int, *arguments: int) -> object:
    if LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "worked"


A, B = socket.socketpair()


@pytest.mark.parametrize(
    ("name", "act"),
    {
        "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
        "create": lambda: os.open("/tmp/x", os.O_CREAT | os.O_WRONLY),  # noqa: S108 - it must fail
        "socket": socket.socket,
        "socketpair": socket.socketpair,
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - it must fail
        "kill": lambda: os.kill(os.getppid(), 0),
        "memfd": lambda: os.memfd_create("x"),
        "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_READ),
        "namespace": lambda: LIBC.unshare(0x1000_0000) or "worked",
        "a link": Path("/proc/self/exe").readlink,
        "resource limits": lambda: resource.getrlimit(resource.RLIMIT_CORE),
        "sending descriptors": lambda: socket.send_fds(A, [b"x"], [0]),
    }.items(),
)
def test_it_is_refused(name: str, act: Callable[[], object]) -> None:
    assert in_sandbox(act) in {"errno 1", "-1"}, name


def only_landlock() -> None:
    """The second wall without the first."""
    sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1)
    if not sandbox._give_up_files():
        raise NotImplementedError


def connected() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname())


@pytest.mark.parametrize(
    ("name", "act", "error"),
    [
        ("open", lambda: os.open("/etc/hostname", os.O_RDONLY), 13),
        ("list", lambda: list(Path("/").iterdir()), 13),
        ("create", lambda: os.open("/tmp/x", os.O_CREAT | os.O_WRONLY), 13),  # noqa: S108 - it must fail
        ("exec", lambda: os.execv("/bin/true", ["true"]), 13),  # noqa: S606 - it must fail
        ("connect", lambda: socket.create_connection(("127.0.0.1", 9)), 13),
        ("bind", connected, 13),
        ("signal", lambda: os.kill(os.getppid(), 0), 1),
    ],
)
def test_landlock_alone_refuses_it_too(name: str, act: Callable[[], object], error: int) -> None:
    told = in_sandbox(act, close=only_landlock)
    if told == "NotImplementedError":
        pytest.skip("this kernel has no Landlock")
    assert told == f"errno {error}", name


def test_what_was_given_up_is_told() -> None:
    version = sandbox._LIBC.syscall(444, None, ctypes.c_size_t(0), 1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(sandbox.seal().landlock).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        assert int(file.read()) == max(0, version)
    os.waitpid(pid, 0)


def test_a_thread_may_start_but_not_with_a_namespace() -> None:
    def thread() -> str:
        done: list[str] = []
        started = threading.Thread(target=lambda: done.append("thread"))
        started.start()
        started.join()
        return done[0]

    assert in_sandbox(thread) == "thread"
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    assert in_sandbox(lambda: syscall(clone, NEW_NAMESPACE_THREAD, 0)) == "errno 1"


def test_what_a_session_needs_goes_on() -> None:
    def talk() -> bytes:
        A.sendall(b"hello")
        return B.recv(5)

    assert in_sandbox(talk) == "b'hello'"
    assert len(in_sandbox(lambda: os.urandom(16).hex())) == 32
    assert in_sandbox(lambda: len(bytearray(1 << 24))) == str(1 << 24)


def test_no_new_privileges_no_core_no_other_reader() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        sandbox.seal()
        os.write(write, b"1")
        threading.Event().wait()
    os.read(read, 1)
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    limits = (process / "limits").read_text().splitlines()
    owner = (process / "mem").stat().st_uid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert next(line for line in limits if line.startswith("Max core")).split()[4:6] == ["0", "0"]
    assert owner == 0  # a process that may not be dumped belongs to root there


def test_foreign_system_calls_kill() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x32 numbers exist on x86_64 only")
    assert in_sandbox(lambda: syscall(0x4000_0000 | 39)) == f"signal {signal.SIGSYS.value}"


def test_an_unknown_processor_has_no_filter() -> None:
    with pytest.raises(UnavailableError):
        sandbox._program("mips")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_fits_and_ends_with_a_refusal(machine: str) -> None:
    program = sandbox._program(machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    assert program[-4:] == (0x0005_0000 | 1).to_bytes(4, "little")

"""PID 1 of a CVM's image: makes the machine ready, starts the CVM in it, and powers off when that ends, or when anything is not as it must be.

In this order, and each once:

    mounts ─▶ what the host may give (`premises`) ─▶ modules of the image ─▶ the kernel is closed ─▶ premises again, with what the modules have found
    ─▶ the model's volume, if the image names one ─▶ channels to the host ─▶ `boot`, in a process of its own

There is no shell to fall into and nothing that asks for a password. The reason for a failure is one line of ours, for the host to read on the first serial port where it has given
one: nothing is ever read from there, and the line says no more of what the host has given than its kind.
"""

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from sottovoce.core.errors import ConfigError, LimitError, SottovoceError, UnavailableError
from sottovoce.tee.boot import main as boot
from sottovoce.tee.premises import Premises, require
from sottovoce.tee.volume import Volume, map_device

__all__ = ["HOST", "LISTEN", "LOG", "PAPERS", "WIRING", "Machine", "System", "run"]

HOST: Final = 2
"""The host's number on AF_VSOCK (linux/vm_sockets.h, VMADDR_CID_HOST)."""
LISTEN, WIRING, PAPERS, LOG = 9000, 9001, 9002, 9003
"""Ports: where the CVM listens; where the host has the addresses of back ends and the papers of the machine, and takes the events that may leave."""
ETC: Final = Path("etc/sottovoce")
CONSOLE: Final = Path("dev/ttyS0")
MODULES: Final = Path("usr/lib/modules")
"""Below the root. Modules are loaded in the order of their files' names."""
DISK: Final = Path("/dev/vda")
"""Where the kernel puts the one disk that there may be."""
_DOCUMENT: Final = 64 * 1024
_TIMEOUT: Final = 60.0
# linux/mount.h
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_CLOSED: Final = _NO_SUID | _NO_DEV | _NO_EXEC
_MOUNTS: Final = (
    ("proc", "/proc", _CLOSED, "hidepid=invisible"),
    ("sysfs", "/sys", _CLOSED, ""),
    ("devtmpfs", "/dev", _NO_SUID | _NO_EXEC, "mode=0755"),
)
_LATER: Final = (
    ("configfs", "/sys/kernel/config", _CLOSED, ""),  # needs a module
    ("sysfs", "/sys", _REMOUNT | _CLOSED | _READ_ONLY, ""),
)
_HOT: Final = ("pci", "virtio")
"""Buses on which a host can add a device at any time, for which the kernel has drivers."""
_CLOSING: Final = (
    # No module, no other kernel, no tracing, no program of the kernel's own, no keyboard that restarts.
    ("kernel/modules_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/yama/ptrace_scope", "3"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "-1"),
    # No memory on a disk: neither a core nor a page.
    ("kernel/core_pattern", "|/nothing"),
    ("kernel/core_pipe_limit", "1"),
    ("fs/suid_dumpable", "0"),
    ("vm/swappiness", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("user/max_user_namespaces", "0"),
)
_MAY_LACK: Final = frozenset({"vm/unprivileged_userfaultfd", "kernel/unprivileged_bpf_disabled"})
"""What a kernel need not have: then there is nothing to close."""
_LOG_FD: Final = 2
"""Where a CVM's process writes its log."""
_LOAD_MODULE: Final = {"x86_64": 175, "aarch64": 105}
_POWER_OFF: Final = 0x4321FEDC  # linux/reboot.h


class System(Protocol):
    """What PID 1 asks of the kernel."""

    def mount(self, kind: str, target: str, flags: int, data: str) -> None:
        """Mount a file system of the kernel's own. Raises OSError."""

    def load(self, module: bytes) -> None:
        """Load a module. Raises OSError."""

    def volume(self, volume: Volume) -> int:
        """A descriptor for reading the volume on the disk, each block of which is checked. Raises OSError."""

    def listen(self, port: int) -> socket.socket:
        """A listening socket to the host. Raises OSError."""

    def connect(self, port: int) -> socket.socket:
        """A connection with the host. Raises OSError."""

    def power_off(self) -> None:
        """End the machine."""


class Machine:
    """The kernel of this machine."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def mount(self, kind: str, target: str, flags: int, data: str) -> None:
        """See `System`."""
        Path(target).mkdir(parents=True, exist_ok=True)
        words = (kind.encode(), target.encode(), kind.encode())
        self._done(self._libc.mount(*words, ctypes.c_ulong(flags), data.encode()))

    def load(self, module: bytes) -> None:
        """See `System`."""
        number = _LOAD_MODULE[os.uname().machine]
        self._done(self._libc.syscall(number, module, ctypes.c_ulong(len(module)), b""))

    def volume(self, volume: Volume) -> int:
        """See `System`."""
        return os.open(map_device(DISK, volume), os.O_RDONLY | os.O_CLOEXEC)

    def listen(self, port: int) -> socket.socket:
        """See `System`."""
        found = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        found.bind((socket.VMADDR_CID_ANY, port))
        found.listen(128)
        return found

    def connect(self, port: int) -> socket.socket:
        """See `System`."""
        found = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        found.settimeout(_TIMEOUT)
        found.connect((HOST, port))
        found.settimeout(None)
        return found

    def power_off(self) -> None:
        """See `System`."""
        os.sync()
        self._libc.reboot(ctypes.c_int(_POWER_OFF))

    def _done(self, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def run(system: System, *, root: Path = Path("/"), start: Callable[[Sequence[str]], int] = boot) -> None:
    """Be PID 1: start the CVM, wait until it has ended, power off. `root` is where files are."""
    try:
        says = f"the CVM has ended ({_run(system, root, start)})"
    except SottovoceError as error:
        says = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the machine ends; its words may be the host's
        says = f"PID 1 failed ({type(error).__name__})"
    finally:
        with (
            contextlib.suppress(OSError, UnboundLocalError),
            (root / CONSOLE).open("wb", buffering=0) as console,
        ):
            console.write(f"sottovoce: {says}\n".encode())
        system.power_off()


def _run(system: System, root: Path, start: Callable[[Sequence[str]], int]) -> int:
    proc, sysfs = root / "proc", root / "sys"
    _mount(system, _MOUNTS)
    _open_standard(root / "dev/null")
    premises = Premises.parse(_file(root / ETC / "premises.json"))
    require(premises, proc=proc, sysfs=sysfs)
    for path in sorted((root / MODULES).glob("*.ko")):
        # The driver for SEV-SNP finds no device elsewhere.
        with _told(f"the module {path.stem} cannot be loaded", unless=errno.ENODEV):
            system.load(path.read_bytes())
    _still(sysfs)
    _mount(system, _LATER)
    _close(proc / "sys")
    require(premises, proc=proc, sysfs=sysfs)
    settings = _file(root / ETC / "settings.json")
    artifacts = _artifacts(system, root / ETC / "volume.json")
    with contextlib.ExitStack() as held:
        with _told("the host's sockets cannot be had"):
            listening = held.enter_context(system.listen(LISTEN))
        with _told("the host does not say where back ends are"), system.connect(WIRING) as told:
            wiring = _all(told)
        with _told("the host has no papers"):
            papers = held.enter_context(system.connect(PAPERS))
        with _told("the host takes no log"):
            log = held.enter_context(system.connect(LOG))
        log.settimeout(0)  # a host that does not read loses lines, and stops nobody
        given = {
            "settings": _pipe(settings),
            "wiring": _pipe(wiring),
            "listen": listening.fileno(),
            "processor": papers.fileno(),
        }
        words = [word for name, fd in given.items() for word in (f"--{name}-fd", str(fd))]
        return _child(start, log, words + artifacts)


def _artifacts(system: System, described: Path) -> list[str]:
    """What `boot` is told of the artifacts: the model in the volume, where the image names one. `boot` reads all of it before it answers anybody."""
    if not described.exists():
        return []
    volume = Volume.parse(_file(described))
    with _told("the volume with the model is missing or too small"):
        return ["--artifact", f"{volume.name}={system.volume(volume)}"]


def _open_standard(null: Path) -> None:
    """Without a console nothing has the numbers 0, 1 and 2, and what is opened next would be taken for input, output and log."""
    with _told("there is no null device"):
        while (fd := os.open(null, os.O_RDWR)) <= _LOG_FD:
            pass
        os.close(fd)


def _mount(system: System, mounts: Sequence[tuple[str, str, int, str]]) -> None:
    for kind, target, flags, data in mounts:
        with _told(f"{kind} cannot be mounted"):
            system.mount(kind, target, flags, data)


@contextlib.contextmanager
def _told(trouble: str, *, unless: int = 0) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != unless:
            raise UnavailableError(trouble, party="kernel") from None


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(f"the image has no {path.name}") from None


def _still(sysfs: Path) -> None:
    """From now on a device that comes gets no driver: those that are there have theirs."""
    for bus in _HOT:
        switch = sysfs / "bus" / bus / "drivers_autoprobe"
        with _told(f"devices that come later cannot be kept out ({bus})"):
            switch.write_text("0")
            if switch.read_text().strip() != "0":
                raise OSError


def _close(sysctl: Path) -> None:
    """Turn off, for good, what could change the kernel or read other processes' memory."""
    for name, value in _CLOSING:
        path = sysctl / name
        if name in _MAY_LACK and not path.exists():
            continue
        with _told(f"the kernel cannot be closed ({name})"):
            path.write_text(value)
            if path.read_text().strip() != value:
                raise OSError


def _all(told: socket.socket) -> bytes:
    told.settimeout(_TIMEOUT)
    data = b""
    while len(data) <= _DOCUMENT and (piece := told.recv(_DOCUMENT)):
        data += piece
    if len(data) > _DOCUMENT:
        raise LimitError("the host says more than it may")
    return data


def _pipe(data: bytes) -> int:
    """A descriptor from which `data` can be read."""
    fd = os.memfd_create("document", 0)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _child(start: Callable[[Sequence[str]], int], log: socket.socket, words: Sequence[str]) -> int:
    """Run `start` in a process of its own, and wait for it: PID 1 also buries those whose parents have ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(log.fileno(), _LOG_FD)
            status = start(words)
        finally:
            os._exit(status)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)

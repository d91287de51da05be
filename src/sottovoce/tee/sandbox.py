"""What a session's process gives up before the first byte from outside reaches it (protocol section 8).

No new privileges, no core dump, not dumpable, no executable memory, memory locked where the kernel allows, and a
system-call filter: an allow-list without files, sockets, programs, processes and tracing. What is not on it fails with EPERM.

Behind the filter stands Landlock, where the kernel has it: no file can be reached by its name, no TCP port, no abstract socket, no process by a signal.
It would hold even if a call were missing from the filter's thinking.
"""

import ctypes
import errno
import functools
import os
import platform
import resource
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.core.errors import UnavailableError

__all__ = ["Sealed", "die_with_parent", "name_process", "prepare", "seal", "swap_is_on"]

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 1, 4, 22, 38, 65
_PR_SET_NAME: Final = 15
_MDWE_REFUSE_EXEC_GAIN: Final = 1
_SECCOMP_MODE_FILTER: Final = 2
# sys/mman.h
_PROT_EXEC: Final = 4
_MCL_CURRENT_FUTURE_ONFAULT: Final = 1 | 2 | 4
# linux/sched.h: a thread shares everything, and no flag may make a namespace
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NAMESPACES: Final = 0x7E02_0000
# asm-generic/ioctls.h, fcntl.h
_FIONREAD, _FIONBIO = 0x541B, 0x5421
_FCNTL: Final = (1, 2, 3, 4)  # F_GETFD, F_SETFD, F_GETFL, F_SETFL

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_EPERM: Final = 0x0005_0000 | errno.EPERM
_ENOSYS: Final = 0x0005_0000 | errno.ENOSYS
_NR, _ARCH, _ARG0 = 0, 4, 16  # struct seccomp_data
_X32: Final = 0x4000_0000

# The numbers on (x86_64, aarch64); None where there is no such call.
_ALLOWED: Final[Mapping[str, tuple[int | None, int]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "poll": (7, 73),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, 101),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "epoll_wait": (232, 22),
    "epoll_ctl": (233, 21),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "epoll_pwait": (281, 22),
    "getrandom": (318, 278),
    "rseq": (334, 293),
    "epoll_pwait2": (441, 441),
    "fstat": (5, 80),
}
_MMAP, _MPROTECT, _CLONE, _CLONE3, _IOCTL, _FCNTL_NR, _PRCTL = (
    (9, 222),
    (10, 226),
    (56, 220),
    (435, 435),
    (16, 29),
    (72, 25),
    (157, 167),
)
_ARCHITECTURES: Final = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}  # linux/audit.h, column

# linux/landlock.h: numbers of the calls on every architecture, and all rights by the version of the interface that brought them
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_FILES: Final = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_LANDLOCK_PORTS: Final = {4: 0b11}
_LANDLOCK_SCOPES: Final = {6: 0b11}

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What the kernel could give beyond what is required."""

    memory_locked: bool
    no_new_executable_memory: bool
    landlock: int
    """Version of the interface whose rights were all given up; 0 where the kernel has none."""


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)  # struct sock_filter


def _arg(number: int) -> bytes:
    return _op(_LOAD, _ARG0 + 8 * number)  # the low half: little-endian on both architectures


@functools.cache
def _program(machine: str) -> bytes:
    if machine not in _ARCHITECTURES:
        raise UnavailableError("no system-call filter for this processor", party="kernel")
    audit, column = _ARCHITECTURES[machine]
    allow, deny, nosys = _op(_RETURN, _ALLOW), _op(_RETURN, _EPERM), _op(_RETURN, _ENOSYS)
    code = [_op(_LOAD, _ARCH), _op(_EQUAL, audit, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NR)]
    if machine == "x86_64":
        code += [_op(_AT_LEAST, _X32, 0, 1), _op(_RETURN, _KILL)]

    def only(number: tuple[int, int], checks: list[bytes]) -> None:
        code.extend([_op(_EQUAL, number[column], 0, len(checks)), *checks])

    for number in sorted({n for numbers in _ALLOWED.values() if (n := numbers[column]) is not None}):
        code += [_op(_EQUAL, number, 0, 1), allow]
    for memory in (_MMAP, _MPROTECT):
        only(memory, [_arg(2), _op(_ANY_BIT, _PROT_EXEC, 1, 0), allow, deny])
    threads = [_op(_ANY_BIT, _CLONE_NAMESPACES, 2, 0), _op(_ANY_BIT, _CLONE_THREAD, 0, 1), allow, deny]
    only(_CLONE, [_arg(0), *threads])
    only(_CLONE3, [nosys])  # its flags are behind a pointer; the C library then takes clone
    only(_IOCTL, [_arg(1), *_one_of((_FIONREAD, _FIONBIO))])
    only(_FCNTL_NR, [_arg(1), *_one_of(_FCNTL)])
    only(_PRCTL, [_arg(0), *_one_of((_PR_SET_NAME,))])
    return b"".join([*code, deny])


def _one_of(values: tuple[int, ...]) -> list[bytes]:
    checks = [_op(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [*checks, _op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]


def _prctl(option: int, *values: int) -> bool:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return int(_LIBC.prctl(option, *arguments)) == 0


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, process `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def name_process(name: str) -> None:
    """Show this process under `name`, at most 15 bytes, in lists of processes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(text))


def prepare() -> None:
    """Build the filter ahead, in the parent.

    Raises:
        UnavailableError: there is none for this processor.
    """
    _program(platform.machine())


def swap_is_on() -> bool:
    """Whether memory can leave to a disk at all; locking all of a large process takes 50 ms a GiB."""
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return True


def _give_up_files() -> int:
    """Reach nothing by name any more (Landlock); the version of the interface, 0 where there is none.

    Raises:
        UnavailableError: the kernel has it and refuses.
    """
    version = int(_LIBC.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION))
    if version < 1:
        return 0
    groups = (_LANDLOCK_FILES, _LANDLOCK_PORTS, _LANDLOCK_SCOPES)
    rights = [sum(bits for since, bits in group.items() if since <= version) for group in groups]
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", *rights))
    # A kernel takes only as many fields as it knows.
    size = 24 if rights[2] else 16 if rights[1] else 8
    rules = int(_LIBC.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0))
    if rules < 0 or int(_LIBC.syscall(_LANDLOCK_RESTRICT, rules, 0)) != 0:
        raise UnavailableError("the kernel cannot close the sandbox", party="kernel")
    os.close(rules)
    return version


def seal(*, lock_memory: bool = True) -> Sealed:
    """Close the sandbox around this process, for good. It must have one thread.

    Raises:
        UnavailableError: the kernel cannot; nothing of a session may then be touched.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    locked = lock_memory and _LIBC.mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0
    no_exec = _prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN)
    code = _program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Filter(len(code) // 8, ctypes.addressof(buffer))
    done = _prctl(_PR_SET_DUMPABLE, 0) and _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    landlock = _give_up_files() if done else 0
    if not done or not _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program)):
        raise UnavailableError("the kernel cannot close the sandbox", party="kernel")
    return Sealed(memory_locked=locked, no_new_executable_memory=no_exec, landlock=landlock)

"""Looking for words where they must not be: in the memory of processes, in files, on the wire. Needs a root that may do so."""

import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CHUNK = 8 << 20
_ETHERNET, _LOOPBACK_IP = 14, 0x0800
_SNAP = 256 * 1024

_NET_RAW, _SYS_PTRACE = 13, 19
"""capabilities(7), linux/capability.h"""


def _has(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> capability & 1)


sees_the_wire = pytest.mark.skipif(not _has(_NET_RAW), reason="to capture takes CAP_NET_RAW: run as root")
reads_memory = pytest.mark.skipif(
    not _has(_SYS_PTRACE), reason="to read the memory of others takes CAP_SYS_PTRACE: run as root"
)


def family(pids: Iterable[int]) -> set[int]:
    """These processes and all that came from them."""
    found: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        found.add(pid)
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def in_memory(pid: int, words: Iterable[bytes]) -> set[bytes]:
    """Which of the words the process has in its memory; nothing of one that has ended."""
    wanted, found = set(words), set()
    with (
        suppress(OSError),
        Path(f"/proc/{pid}/maps").open() as maps,
        Path(f"/proc/{pid}/mem").open("rb", 0) as memory,
    ):
        for line in maps:
            bounds, rights, *_, name = (*line.split(maxsplit=5), "")[:6]
            if "r" not in rights or name.strip() in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
                continue
            start, end = (int(number, 16) for number in bounds.split("-"))
            # Read-only files are the program and the model.
            if "w" not in rights and name.startswith("/"):
                continue
            found |= _search(memory, start, end, wanted)
    return found


def _search(memory: object, start: int, end: int, words: set[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    rest = b""
    for at in range(start, end, CHUNK):
        try:
            piece = os.pread(memory.fileno(), min(CHUNK, end - at), at)  # type: ignore[attr-defined]
        except OSError:
            rest = b""
            continue
        found |= {word for word in words if word in rest + piece}
        rest = piece[-64:]
    return found


def in_files(folder: Path, words: Iterable[bytes]) -> dict[Path, set[bytes]]:
    """Which files below `folder` hold which of the words."""
    wanted, found = set(words), {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                data = path.read_bytes()
                if here := {word for word in wanted if word in data}:
                    found[path] = here
    return found


class Capture:
    """Every byte on the loopback interface, by TCP flow: (port from, port to) → what was sent."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_LOOPBACK_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._segments: dict[tuple[int, int], dict[int, bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                packet = self._socket.recv(_SNAP)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            self._take(packet[_ETHERNET:])

    def _take(self, ip: bytes) -> None:
        if len(ip) < 40 or ip[9] != socket.IPPROTO_TCP:
            return
        tcp = ip[(ip[0] & 15) * 4 : struct.unpack_from(">H", ip, 2)[0] or len(ip)]
        source, target, sequence = struct.unpack_from(">HHI", tcp)
        data = tcp[(tcp[12] >> 4) * 4 :]
        if data:
            kept = self._segments.setdefault((source, target), {})
            if len(data) > len(kept.get(sequence, b"")):
                kept[sequence] = data

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def streams(self) -> dict[tuple[int, int], bytes]:
        """What was sent in each flow, in order. A flow is short enough here for its numbers not to begin anew."""
        return {
            flow: b"".join(data for _, data in sorted(segments.items()))
            for flow, segments in self._segments.items()
        }


@contextmanager
def capturing() -> Iterator[Capture]:
    capture = Capture()
    try:
        yield capture
    finally:
        capture.stop()

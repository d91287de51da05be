"""A device more than the image expects, on each bus; and a port inside that nobody needs (row 22)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Outcome, Result
from sottovoce.attacks.booted import ONE_PORT, PID_1, boots, scan
from sottovoce.attacks.shown import EXPECTED, Change, device, looks
from sottovoce.simulator.emulator import Launch
from sottovoce.simulator.world import MACHINES

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "BOOTED", "CHANGES", "listening", "ports"]

_KINDS: Final = {
    "a network card": ("pci", "1af4", "1041"),
    "a network card of another maker": ("pci", "8086", "10d3"),
    "a disk": ("pci", "1af4", "1042"),
    "a disk on NVMe": ("pci", "1b36", "0010"),
    "a controller for USB": ("pci", "1b36", "000d"),
    "a serial line to the host": ("pci", "1af4", "1043"),
    "files of the host's": ("pci", "1af4", "105a"),
    "memory that is shared with others": ("pci", "1af4", "1110"),
    "a graphics processor": ("pci", "10de", "2331"),
    "a device of no maker": ("pci", "0000", "0000"),
    "the sockets' number at another maker": ("pci", "1234", "1053"),
    "a network card's driver": ("virtio", "1af4", "0001"),
    "a disk's driver": ("virtio", "1af4", "0002"),
    "a console's driver": ("virtio", "1af4", "0003"),
    "a balloon's driver": ("virtio", "1af4", "0005"),
    "files of the host's, by their driver": ("virtio", "1af4", "0009"),
}
_EMPTY: Final = (
    "usb",
    "scsi",
    "nvme",
    "i2c",
    "spi",
    "thunderbolt",
    "vmbus",
    "xen",
    "cxl",
    "dax",
    "auxiliary",
    "mmc",
    "a-bus-of-no-known-name",
)
_ODD: Final = {"a number too long": "1053f", "a number that is none": "sock", "no number": ""}
CHANGES: Final[Mapping[str, Change]] = {
    **{
        tries: (device(*one), f"unexpected device: {one[0]} {one[1]}:{one[2]}")
        for tries, one in _KINDS.items()
    },
    **{
        f"a second device of a kind that is expected: {' '.join(one)}": (
            device(*one),
            f"unexpected device: {one[0]} {one[1]}:{one[2]}",
        )
        for one in EXPECTED.devices
    },
    **{f"a device on {bus}": (device(bus, "1af4", "1053"), f"on the bus {bus}") for bus in _EMPTY},
    **{tries: (device("pci", "1af4", number), "number cannot be read") for tries, number in _ODD.items()},
}
BOOTED: Final[Mapping[str, tuple[Callable[[Launch], Launch], str]]] = {
    "a network card": (lambda one: replace(one, devices=("-device", "virtio-net-pci")), "unexpected device"),
    "a disk on NVMe": (
        lambda one: replace(
            one, devices=("-drive", "if=none,id=d,driver=null-co", "-device", "nvme,serial=1,drive=d")
        ),
        "unexpected device",
    ),
    "a controller for USB": (lambda one: replace(one, devices=("-device", "qemu-xhci")), "unexpected device"),
}
_LISTENS: Final = "0A"
"""The state of a socket that takes connections (linux/tcp_states.h)."""
_UNIX_LISTENS: Final = "00010000"
"""The flag of one (linux/net.h, __SO_ACCEPTCON)."""


def _family(pids: Iterable[int]) -> set[int]:
    """These processes, and all that they have started."""
    found, todo = set[int](), list(pids)
    while todo:
        pid = todo.pop()
        found.add(pid)
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += map(int, path.read_text().split())
    return found


def listening(pids: Iterable[int]) -> set[str]:
    """The sockets of these processes that others can reach: protocol and address, as the kernel writes them."""
    found = set()
    for pid in pids:
        owned = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}
        for protocol in ("tcp", "tcp6", "udp", "udp6", "unix"):
            for line in (Path("/proc") / str(pid) / "net" / protocol).read_text().splitlines()[1:]:
                if (place := _reachable(protocol, line.split())) and f"socket:[{place[0]}]" in owned:
                    found.add(f"{protocol} {place[1]}")
    return found


def _reachable(protocol: str, words: list[str]) -> tuple[str, str] | None:
    """Inode and address of a line of /proc/net, where it is of a socket that waits for others."""
    if protocol == "unix":
        return (words[6], " ".join(words[7:])) if words[3] == _UNIX_LISTENS else None
    if protocol.startswith("tcp") and words[3] != _LISTENS:
        return None
    return words[9], words[1]


def ports(cvm: Iterable[int], port: int) -> Outcome:
    """Whether the processes of a CVM can be reached at `port` on loopback, and nowhere else."""
    found = listening(_family(cvm))
    right = {f"tcp 0100007F:{port:04X}"}
    says = f"sockets that others can reach: {len(found)}"
    return Outcome(stopped_by=frozenset({ONE_PORT} if found == right else ()), says=says)


def _children(pid: int) -> set[int]:
    return _family([pid]) - {pid}


def _live(lab: "Lab") -> Iterator[Result]:
    yield from looks(CHANGES)
    for name in MACHINES:
        yield Result(
            tries=f"every port of {name}, but the one that it needs",
            wanted=frozenset({ONE_PORT}),
            outcome=ports(_children(lab.world.pids[name]), lab.world.port(name)),
        )
    yield from boots(lab.workshop, BOOTED)
    yield from scan(lab.workshop)


ATTACK: Final = Attack(
    name="extra-device",
    row="22",
    who=HOST,
    tries="a device more at launch, on each bus, and a second one of a kind that is expected; a port that nobody needs",
    stopped_by=("refused.premises", ONE_PORT, PID_1),
    live=_live,
)

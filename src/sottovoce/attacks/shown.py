"""What the host has given a machine, as its kernel shows it to PID 1: command line, devices, ACPI tables. A folder stands for /proc and /sys.

It begins as what an image expects, which PID 1's check must let pass; then one thing is changed.
"""

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from sottovoce.attacks.attack import Result, refusal
from sottovoce.image.build import COMMAND_LINE
from sottovoce.image.machines import EMULATED
from sottovoce.tee.premises import Premises, require

__all__ = ["EXPECTED", "LINE", "Change", "Shown", "device", "line", "lines", "looks", "table"]

LINE: Final = "initrd=initrd " + COMMAND_LINE
"""What the kernel was started with, as the firmware hands it over."""
_CODE: Final = b"DSDT with the machine's code"
_DEVICES: Final = (("pci", "8086", "29c0"), ("pci", "1af4", "1053"), ("virtio", "1af4", "0013"))
"""A host bridge, and sockets to the host as the bus and the driver see them."""
EXPECTED: Final = Premises(
    command_line=LINE,
    devices=_DEVICES,
    # The image's own list; only the machine whose code it names is another one.
    acpi=tuple((name, digest and hashlib.sha256(_CODE).hexdigest()) for name, digest in EMULATED.acpi),
)


class Shown:
    """The folder at `place`."""

    def __init__(self, place: Path) -> None:
        self._proc, self._sys = place / "proc", place / "sys"
        self._proc.mkdir()
        self._numbers = itertools.count()
        self.line(LINE)
        for bus, vendor, device in EXPECTED.devices:
            self.device(bus, vendor, device)
        for name, digest in EXPECTED.acpi:
            self.table(name, _CODE if digest else name.encode())
        for name in ("data", "dynamic"):
            (self._tables / name).mkdir()

    @property
    def _tables(self) -> Path:
        return self._sys / "firmware/acpi/tables"

    def line(self, text: str) -> None:
        """The command line is this one."""
        (self._proc / "cmdline").write_text(text + "\n")

    def device(self, bus: str, vendor: str = "ffff", device: str = "ffff") -> None:
        """One more device is on the bus."""
        folder = self._sys / "bus" / bus / "devices" / f"{bus}{next(self._numbers)}"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"0x{vendor}\n")
        (folder / "device").write_text(f"0x{device}\n")

    def table(self, name: str, content: bytes) -> None:
        """There is this table, at a path below the folder of tables."""
        path = self._tables / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def flip(self, name: str) -> None:
        """One bit of that table is another one."""
        content = bytearray((self._tables / name).read_bytes())
        content[len(content) // 2] ^= 1
        self.table(name, bytes(content))

    def look(self) -> None:
        """As PID 1 does, before and after its modules.

        Raises:
            PremisesRefused: something is not expected.
        """
        require(EXPECTED, proc=self._proc, sysfs=self._sys)


Change = tuple[Callable[[Shown], object], str]
"""What is changed, and the words with which it must be refused."""


def line(text: str) -> Callable[[Shown], None]:
    """The change to this command line."""
    return lambda shown: shown.line(text)


def device(*one: str) -> Callable[[Shown], None]:
    """The change by one device more: bus, vendor, device."""
    return lambda shown: shown.device(*one)


def table(*names: str, content: bytes) -> Callable[[Shown], None]:
    """The change to tables of these names with this content."""

    def change(shown: Shown) -> None:
        for name in names:
            shown.table(name, content)

    return change


def lines(words: Iterable[str]) -> dict[str, Change]:
    """Each of these words behind the image's command line."""
    return {
        f"kernel's command line with {word}": (line(f"{LINE} {word}"), "command line is not the image's")
        for word in words
    }


def looks(changes: Mapping[str, Change]) -> Iterator[Result]:
    """PID 1's check of the machine with each of these changes alone.

    Raises:
        PremisesRefused: it refuses the machine without one: then no refusal means anything.
    """
    for tries, (change, reason) in changes.items():
        with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
            shown = Shown(Path(name))
            shown.look()
            change(shown)
            outcome = refusal(shown.look)
        yield Result(tries=tries, wanted=frozenset({"refused.premises"}), reason=reason, outcome=outcome)

"""What the host has given a CVM beside memory: command line, devices, ACPI tables. Each is one that the image expects, or the CVM does not start.

Kernel, initrd and command line are measured, so a verifier knows them; the image's own list is looked at all the same, for launches that measure nothing (research) or measure by
registers alone. Devices and ACPI tables are measured by nobody: what is not on the list in the image stops the boot.

    {"command_line": text, "devices": [[bus, vendor, device], ...], "acpi": [[signature, sha256], ...]}      /etc/sottovoce/premises.json

A device may be there as often as it is listed, and may be missing: a second one of a known kind is as strange as one of another.

A signature without a digest ("") allows any content: for tables that describe, as that of memory and processors, where the host decides anyway. Tables with code (`_CODE`) have digests. The
kernel has read all of them before PID 1 looks; what is refused is that such a machine goes on.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import ConfigError, RefusedError

__all__ = ["Premises", "PremisesRefused", "require"]

_LISTED: Final = ("pci", "virtio")
"""Buses whose devices have numbers of a vendor and of a kind: each must be on the list."""
_OWN: Final = frozenset(
    {
        # The kernel's own, and what stands for processors and memory.
        "clockevents", "clocksource", "container", "cpu", "event_source", "machinecheck", "memory", "memory_tiering", "node", "workqueue",
        # What tables of the host describe, and those of them with code have digests; and what hangs on a device that is on the list.
        "acpi", "pci_express", "platform", "pnp", "serial-base", "serio",
    }
)  # fmt: skip
"""Buses that may have any devices. On all others, known or not, an image expects nothing."""
_DATA: Final = "data"
"""A folder of what tables point at: error records, none of which is code."""
_CODE: Final = ("DSDT", "SSDT", "OSDT", "PSDT", "PRMT", "EINJ", "ERST", "WDAT")
"""Tables with code, all of which the kernel reads (ACPICA, `acpi_tb_load_namespace`), that point to code, or that say what is to be written to which register."""
_NUMBER: Final = re.compile(r"(?:0x)?([0-9a-f]{4})\n?")
_LARGEST: Final = 16 * 1024 * 1024


class PremisesRefused(RefusedError):  # noqa: N818 - it says what happened
    """The host has given something that the image does not expect, or what it has given cannot be looked at."""

    code = "refused.premises"


class Premises(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an image expects: its command line; devices as (bus, vendor, device), numbers in hex; ACPI tables as (signature, SHA-256 in hex or "")."""

    command_line: str
    devices: tuple[tuple[str, str, str], ...]
    acpi: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> "Premises":
        """Read the list in the image.

        Raises:
            ConfigError: it is not of its form, or allows a table with code whatever it says.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError):
            raise ConfigError("the image's list of what it expects is not of its form") from None
        if any(signature.startswith(_CODE) and not digest for signature, digest in found.acpi):
            raise ConfigError("the image's list allows any code in an ACPI table")
        return found


def require(premises: Premises, *, proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> None:
    """Look at what the host has given.

    Raises:
        PremisesRefused: something is there that is not expected, or cannot be read.
    """
    try:
        _command_line(premises, proc)
        _devices(premises, sysfs)
        _acpi(premises, sysfs)
    except OSError:
        raise PremisesRefused("what the host has given cannot be looked at") from None


def _command_line(premises: Premises, proc: Path) -> None:
    if (proc / "cmdline").read_text("utf-8", "replace").rstrip("\n") != premises.command_line:
        raise PremisesRefused("the kernel's command line is not the image's")


def _devices(premises: Premises, sysfs: Path) -> None:
    expected = Counter(premises.devices)
    buses = sysfs / "bus"
    for path in sorted(buses.iterdir()) if buses.is_dir() else ():
        bus, folder = path.name, path / "devices"
        for entry in sorted(folder.iterdir()) if bus not in _OWN and folder.is_dir() else ():
            if bus not in _LISTED:
                raise PremisesRefused(f"a device on the bus {bus}, where none is expected")
            one = (bus, _id(entry / "vendor"), _id(entry / "device"))
            if not expected[one]:
                raise PremisesRefused(f"an unexpected device: {bus} {one[1]}:{one[2]}")
            expected[one] -= 1


def _id(path: Path) -> str:
    found = _NUMBER.fullmatch(path.read_text())
    if found is None:
        raise PremisesRefused("a device's number cannot be read")
    return found[1]


def _acpi(premises: Premises, sysfs: Path) -> None:
    folder = sysfs / "firmware" / "acpi" / "tables"
    if not folder.is_dir():
        return
    allowed = set(premises.acpi)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            # `dynamic`: tables that were loaded by others, or by the kernel later.
            if path.name != _DATA and any(path.iterdir()):
                raise PremisesRefused("an ACPI table that was added at run time")
            continue
        # Several of one kind are numbered.
        signature = path.name.rstrip("0123456789") if path.name.startswith("SSDT") else path.name
        with path.open("rb") as file:
            content = file.read(_LARGEST)
        if (signature, "") not in allowed and (signature, hashlib.sha256(content).hexdigest()) not in allowed:
            raise PremisesRefused(
                f"an unexpected ACPI table: {signature if signature.isalnum() else 'of no name'}"
            )

"""The machines that images are for: what their hosts give them beside what is measured.

An image starts on the machine that it was built for, and on no other. The emulated ones are here; of another one, its list is given as a file:

    {"prefix": text, "devices": [[bus, vendor, device], ...], "acpi": [[signature, SHA-256 in hex or ""], ...]}
"""

from typing import Final

import msgspec

from sottovoce.core.errors import ConfigError
from sottovoce.tee.premises import Premises
from sottovoce.tee.volume import Volume

__all__ = ["EMULATED", "EMULATED_DISK", "Machine", "emulated"]


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a host gives: `prefix` stands before the measured command line when the kernel gets it; `devices` and `acpi` as in `Premises`."""

    prefix: str
    devices: tuple[tuple[str, str, str], ...]
    acpi: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> "Machine":
        """Read a machine's list.

        Raises:
            ConfigError: it is none, or allows a table with code whatever it says.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError):
            raise ConfigError(
                "the machine's list is not of its form", hint="docs/image.md shows what it holds"
            ) from None
        Premises.parse(msgspec.json.encode(found.premises("")))
        return found

    def premises(self, command_line: str) -> Premises:
        """The list in an image with this command line."""
        return Premises(command_line=self.prefix + command_line, devices=self.devices, acpi=self.acpi)


_BY_FIRMWARE: Final = "initrd=initrd "
"""What the firmware puts before the line for the kernel, when it has checked it (OVMF, `OvmfPkg/Library/GenericQemuLoadImageLib`)."""
_DEVICES: Final = (
    ("pci", "8086", "29c0"),  # host bridge of QEMU's q35
    ("pci", "8086", "2918"),  # its ISA bridge
    ("pci", "8086", "2922"),  # its SATA controller, for which the image has no driver
    ("pci", "8086", "2930"),  # its SMBus, likewise
    ("pci", "1af4", "1053"),  # sockets to the host
    ("virtio", "1af4", "0013"),
)
_DISK: Final = (("pci", "1af4", "1042"), ("virtio", "1af4", "0002"))
_DESCRIBING: Final = tuple((name, "") for name in ("APIC", "FACP", "FACS", "HPET", "MCFG", "WAET"))
"""Tables without code, which may say what they like: where memory and processors are, the host decides anyway."""
# The tables with code are QEMU 10.0's, with one processor; they also say where memory ends.
EMULATED: Final = Machine(
    prefix=_BY_FIRMWARE,
    devices=_DEVICES,
    acpi=(
        *_DESCRIBING,
        ("DSDT", "3b81cfbf67ecda2699c78cc4e29fd07a3ac0c47c92ed350114f20afa4d52b61e"),  # 512 MiB
    ),
)
"""What `simulator/emulator.py` starts."""
EMULATED_DISK: Final = Machine(
    prefix=_BY_FIRMWARE,
    devices=_DEVICES + _DISK,
    acpi=(
        *_DESCRIBING,
        ("DSDT", "11c8ca5653f89db16fb7308233718eefaec88aa81d7aa18f0808d940a5cd5c2f"),  # 1,024 MiB
        ("DSDT", "93fefa94b9a34d5500a8af5096587603df54f0a2d70c8a7be2c63bd79b11e9bc"),  # 2,560 MiB
    ),
)
"""The same with a disk for a volume."""


def emulated(volume: Volume | None) -> Machine:
    """The emulated machine for an image with or without a volume."""
    return EMULATED_DISK if volume else EMULATED

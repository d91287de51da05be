"""What the host may give a CVM: what the image expects, and nothing else."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.tee.premises import Premises, PremisesRefused, require

DSDT = b"DSDT\x10code"
PREMISES = Premises(
    command_line="rdinit=/init quiet",
    devices=(("pci", "1af4", "1053"), ("pci", "8086", "29c0"), ("virtio", "1af4", "0013")),
    acpi=(("DSDT", hashlib.sha256(DSDT).hexdigest()), ("APIC", ""), ("FACP", "")),
)


class Host:
    """What a kernel shows of it."""

    def __init__(self, place: Path) -> None:
        self.proc, self.sysfs = place / "proc", place / "sys"
        self.proc.mkdir()
        (self.proc / "cmdline").write_text("rdinit=/init quiet\n")
        self.tables = self.sysfs / "firmware/acpi/tables"
        (self.tables / "data").mkdir(parents=True)
        (self.tables / "dynamic").mkdir()
        for name, content in (("DSDT", DSDT), ("APIC", b"APIC"), ("FACP", b"FACP")):
            (self.tables / name).write_bytes(content)
        self.device("pci", "0000:00:00.0", "0x8086", "0x29c0")
        self.device("pci", "0000:00:01.0", "0x1af4", "0x1053")
        self.device("virtio", "virtio0", "0x1af4", "0x0013")
        (self.sysfs / "bus/usb/devices").mkdir(parents=True)

    def device(self, bus: str, name: str, vendor: str, device: str) -> None:
        folder = self.sysfs / "bus" / bus / "devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "device").write_text(device + "\n")

    def table(self, name: str, content: bytes) -> None:
        path = self.tables / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def look(self) -> None:
        require(PREMISES, proc=self.proc, sysfs=self.sysfs)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_expected(host: Host) -> None:
    host.look()


def test_what_the_kernel_makes_itself_is_no_device_of_the_hosts(host: Host) -> None:
    # As the image's kernel shows it in the emulated machine.
    for bus in ("acpi", "cpu", "memory", "platform", "pnp", "serial-base", "serio", "workqueue"):
        (host.sysfs / "bus" / bus / "devices" / "one").mkdir(parents=True)
    for bus in ("auxiliary", "dax", "isa", "xen"):
        (host.sysfs / "bus" / bus / "devices").mkdir(parents=True)
    (host.tables / "data/BERT").write_bytes(b"")
    host.look()


def test_a_machine_without_acpi(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for path in host.tables.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    host.tables.rmdir()
    host.look()


CHANGES: dict[str, tuple[Callable[[Host], object], str]] = {
    "a word more": (
        lambda host: (host.proc / "cmdline").write_text("rdinit=/init quiet debug\n"),
        "command line",
    ),
    "a word less": (lambda host: (host.proc / "cmdline").write_text("rdinit=/init\n"), "command line"),
    "a space": (lambda host: (host.proc / "cmdline").write_text("rdinit=/init quiet \n"), "command line"),
    "not text": (lambda host: (host.proc / "cmdline").write_bytes(b"\xff"), "command line"),
    "none": (lambda host: (host.proc / "cmdline").unlink(), "looked at"),
    "a network card": (lambda host: host.device("pci", "0000:00:02.0", "0x1af4", "0x1041"), "pci 1af4:1041"),
    "a card of another vendor": (
        lambda host: host.device("pci", "0000:00:02.0", "0x1234", "0x1053"),
        "pci 1234:1053",
    ),
    "a second device of a known kind": (
        lambda host: host.device("virtio", "virtio1", "0x1af4", "0x0013"),
        "virtio 1af4:0013",
    ),
    "a virtio device": (
        lambda host: host.device("virtio", "virtio1", "0x1af4", "0x0001"),
        "virtio 1af4:0001",
    ),
    "a number that is none": (lambda host: host.device("pci", "x", "0x8086", "29c00"), "cannot be read"),
    "a stick": (lambda host: host.device("usb", "1-1", "0x8086", "0x29c0"), "bus usb"),
    "a disk": (lambda host: host.device("scsi", "0:0:0:0", "0x8086", "0x29c0"), "bus scsi"),
    "a disk on nvme": (lambda host: host.device("nvme", "nvme0", "0x8086", "0x29c0"), "bus nvme"),
    "a host's own bus": (lambda host: host.device("vmbus", "a", "0x1414", "0x0001"), "bus vmbus"),
    "memory of another machine": (lambda host: host.device("cxl", "mem0", "0x8086", "0x29c0"), "bus cxl"),
    "a bus of no known name": (
        lambda host: host.device("next-year", "a", "0x8086", "0x29c0"),
        "bus next-year",
    ),
    "other code": (lambda host: (host.tables / "DSDT").write_bytes(DSDT + b"!"), "table: DSDT"),
    "more code": (lambda host: (host.tables / "SSDT1").write_bytes(b"SSDT"), "table: SSDT"),
    "a table of no use": (lambda host: (host.tables / "WPBT").write_bytes(b"WPBT"), "table: WPBT"),
    "a table with an odd name": (lambda host: (host.tables / "A\nB").write_bytes(b""), "of no name"),
    "code at run time": (lambda host: (host.tables / "dynamic/SSDT9").write_bytes(DSDT), "run time"),
    "code in another folder": (lambda host: host.table("more/SSDT", DSDT), "run time"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_not_expected_stops_the_boot(host: Host, what: str) -> None:
    change, says = CHANGES[what]
    change(host)
    with pytest.raises(PremisesRefused, match=says):
        host.look()


def test_several_tables_with_code_are_numbered(host: Host) -> None:
    premises = msgspec.structs.replace(
        PREMISES, acpi=(*PREMISES.acpi, ("SSDT", hashlib.sha256(b"one").hexdigest()))
    )
    (host.tables / "SSDT1").write_bytes(b"one")
    require(premises, proc=host.proc, sysfs=host.sysfs)
    (host.tables / "SSDT2").write_bytes(b"two")
    with pytest.raises(PremisesRefused):
        require(premises, proc=host.proc, sysfs=host.sysfs)


def test_the_list_is_read_back_and_nothing_else_is_one() -> None:
    assert Premises.parse(msgspec.json.encode(PREMISES)) == PREMISES
    for table in ("DSDT", "SSDT", "OSDT", "PSDT", "PRMT", "EINJ", "ERST", "WDAT"):
        loose = msgspec.structs.replace(PREMISES, acpi=((table, ""),))
        with pytest.raises(ConfigError, match="any code"):
            Premises.parse(msgspec.json.encode(loose))
    for data in (b"", b"{}", b"\xff", msgspec.json.encode(PREMISES)[:-1], msgspec.json.encode({"more": 1})):
        with pytest.raises(ConfigError, match="form"):
            Premises.parse(data)

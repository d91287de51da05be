"""A guard's real image in an emulated machine, and a host that changes one thing: it does not boot, or says why it ends.

    make test-image

QEMU and vhost-device-vsock are those in the folder that SOTTOVOCE_TEST_EMULATOR names, or on PATH, or else those of `deploy/emulator.lock` (docs/image.md). What the two lock files name is
fetched; where that cannot be had, the tests are skipped, and say so.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from emulator_kit import PATIENCE, PROJECT, found_programs, made_with
from image.test_volume import DISKS, VOLUMES
from sottovoce.simulator.configs import encode_settings
from sottovoce.simulator.emulator import Emulator, Launch, Programs
from sottovoce.simulator.testing import EvidenceWorld, settings_of

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@dataclass
class Built:
    """The image, and how long the machine takes until its kernel says its first."""

    launch: Launch
    programs: Programs
    speaks_after: float = 0.0


@pytest.fixture(scope="module")
def built() -> Built:
    programs = found_programs()
    made = made_with(encode_settings(settings_of(EvidenceWorld(), "guard"))).image
    launch = Launch(
        kernel=made.kernel,
        initrd=made.initrd,
        command_line=made.command_line,
        firmware=made.firmware.data,
    )
    found = Built(launch, programs)
    began = time.monotonic()
    with Emulator(launch, programs) as machine:
        while not machine.console:
            assert not machine.wait(0.1)
            assert time.monotonic() - began < PATIENCE, "the image does not boot at all"
    found.speaks_after = time.monotonic() - began
    return found


def flipped(data: bytes) -> bytes:
    """One bit of the byte in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


UNBOOTED: dict[str, Callable[[Launch], Launch]] = {
    "kernel, one bit": lambda one: replace(one, kernel=flipped(one.kernel)),
    "RAM disk, one bit": lambda one: replace(one, initrd=flipped(one.initrd)),
    "command line, one word more": lambda one: replace(one, command_line=f"{one.command_line} single"),
    "command line, one word less": lambda one: replace(one, command_line=one.command_line.rpartition(" ")[0]),
    "no table of hashes": lambda one: replace(one, table=bytes(0x400)),
}
"""Against the table of what was published: the firmware boots none of these."""


@pytest.mark.parametrize("name", UNBOOTED)
def test_the_firmware_boots_nothing_else(built: Built, name: str) -> None:
    changed = UNBOOTED[name](replace(built.launch, table=built.launch.booted.table()))
    asked: list[str] = []
    with Emulator(changed, built.programs, papers=lambda _: asked.append("papers")) as machine:
        # The control is the same machine with what was published: its kernel has begun long before.
        machine.wait(3 * built.speaks_after)
        assert machine.console == "" or "No bootable option was found" in machine.console
        assert asked == []


@pytest.mark.parametrize("name", [name for name in UNBOOTED if "table" not in name])
def test_a_table_that_fits_is_another_measurement(built: Built, name: str) -> None:
    assert UNBOOTED[name](built.launch).measurement() != built.launch.measurement()


def test_other_firmware_is_another_measurement(built: Built) -> None:
    other = replace(built.launch, firmware=flipped(built.launch.firmware))
    assert other.measurement() != built.launch.measurement()


REFUSED: dict[str, tuple[Callable[[Launch], Launch], str]] = {
    "another command line, with a table that fits": (
        lambda one: replace(one, command_line=f"{one.command_line} single"),
        "the kernel's command line is not the image's",
    ),
    "a network card": (
        lambda one: replace(one, devices=("-device", "virtio-net-pci")),
        r"an unexpected device: pci 1af4:1000",
    ),
    "a disk": (
        lambda one: replace(
            one, devices=("-drive", "if=none,id=d,driver=null-co", "-device", "nvme,serial=1,drive=d")
        ),
        r"an unexpected device: pci 1b36:0010",
    ),
    "USB": (lambda one: replace(one, devices=("-device", "qemu-xhci")), r"an unexpected device: pci 1b36:"),
    "a second processor": (lambda one: replace(one, devices=("-smp", "2")), "an unexpected ACPI table: DSDT"),
    "an ACPI table with code": (
        lambda one: replace(one, devices=("-acpitable", "sig=SSDT,data=/dev/null")),
        "an unexpected ACPI table: SSDT",
    ),
    "an ACPI table of no known name": (
        lambda one: replace(one, devices=("-acpitable", "sig=EVIL,data=table")),
        "an unexpected ACPI table: EVIL",
    ),
    "no sockets to the host": (
        lambda one: replace(one, sockets=False),
        "an unexpected ACPI table: DSDT",
    ),
}
"""What the firmware cannot see, PID 1 does: the machine powers off, and this is its last line."""


@pytest.mark.parametrize("name", REFUSED)
def test_pid_1_refuses(built: Built, name: str) -> None:
    change, says = REFUSED[name]
    with Emulator(change(built.launch), built.programs) as machine:
        assert machine.wait(PATIENCE), machine.console
        (line,) = re.findall(r"sottovoce: .*", machine.console)
    assert re.search(says, line), line


def test_a_host_with_other_wiring_or_without_papers(built: Built) -> None:
    for back_ends, says in (
        ({"predictor": ("127.0.0.1", 1)}, "the wiring does not name exactly this role's back ends"),
        ({}, "the host gives no papers"),
    ):
        logged: list[bytes] = []
        with Emulator(built.launch, built.programs, log=logged.append, back_ends=back_ends) as machine:
            assert machine.wait(PATIENCE), machine.console
            assert "the CVM has ended (2)" in machine.console
        assert says in b"".join(logged).decode()


def test_the_page_names_them_all() -> None:
    page = (PROJECT / "docs/image.md").read_text()
    missing = [name for name in (*UNBOOTED, *REFUSED, *VOLUMES, *DISKS) if f"| {name} |" not in page]
    assert missing == []

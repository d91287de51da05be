"""The launch digest is the one that another implementation computes, and changes with everything that is measured."""

import hashlib
from pathlib import Path

import pytest
from sevsnpmeasure import guest
from sevsnpmeasure.sev_hashes import SevHashes
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS

from image_kit import PAGE, SECTIONS, firmware, metadata
from sottovoce.core.errors import UsageError
from sottovoce.image.firmware import Firmware
from sottovoce.image.launch import PROCESSORS, Booted, Processor, launch_digest

KERNEL, INITRD, LINE = b"a kernel" * 1000, b"an initrd" * 1000, "rdinit=/init panic=-1"
MILAN = PROCESSORS["EPYC-Milan"]


def ours(
    data: bytes, *, processor: Processor = MILAN, count: int = 1, features: int = 1, line: str = LINE
) -> str:
    booted = Booted.of(KERNEL, INITRD, line)
    found = launch_digest(Firmware.parse(data), booted, processor=processor, count=count, features=features)
    return found.hex()


def theirs(
    place: Path, data: bytes, *, signature: int, count: int = 1, features: int = 1, line: str = LINE
) -> str:
    for name, content in (("firmware", data), ("kernel", KERNEL), ("initrd", INITRD)):
        (place / name).write_bytes(content)
    found: bytes = guest.calc_launch_digest(
        SevMode.SEV_SNP,
        count,
        signature,
        str(place / "firmware"),
        str(place / "kernel"),
        str(place / "initrd"),
        line,
        features,
    )
    return found.hex()


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_digest_that_others_compute(tmp_path: Path, name: str, count: int) -> None:
    signature = CPU_SIGS[name]
    assert PROCESSORS[name].signature == signature
    data = firmware()
    assert ours(data, processor=PROCESSORS[name], count=count) == theirs(
        tmp_path, data, signature=signature, count=count
    )


@pytest.mark.parametrize(
    "sections",
    [
        SECTIONS[::-1],
        SECTIONS[4:],
        (*SECTIONS[:4], (0x810000, PAGE, 0x10), (0x700000, 3 * PAGE, 1)),
    ],
)
@pytest.mark.parametrize(("features", "line"), [(1, ""), (0x21, "quiet \u00e9")])
def test_of_other_firmware_too(
    tmp_path: Path, sections: tuple[tuple[int, int, int], ...], features: int, line: str
) -> None:
    data = firmware(pages=8, described=metadata(sections))
    assert ours(data, features=features, line=line) == theirs(
        tmp_path, data, signature=MILAN.signature, features=features, line=line
    )


def test_a_table_of_hashes_is_the_one_that_others_make(tmp_path: Path) -> None:
    for name, content in (("kernel", KERNEL), ("initrd", INITRD)):
        (tmp_path / name).write_bytes(content)
    other = SevHashes(str(tmp_path / "kernel"), str(tmp_path / "initrd"), LINE).construct_table()
    assert Booted.of(KERNEL, INITRD, LINE).table() == bytes(other)
    assert len(other) % 16 == 0


def test_a_page_of_hashes_that_is_not_the_first_of_its_section() -> None:
    """Only one of a section's pages has the table; the others are measured as zero."""
    data = firmware(described=metadata((*SECTIONS[:4], (0x80F000, 3 * PAGE, 0x10))))
    booted = Booted.of(KERNEL, INITRD, LINE)
    assert launch_digest(Firmware.parse(data), booted, processor=MILAN, count=1)
    assert ours(data) != ours(data, line=LINE + " quiet")


def test_all_that_is_measured_changes_it() -> None:
    good, changed = firmware(), bytearray(firmware())
    changed[10] ^= 1
    found = {
        ours(good),
        ours(bytes(changed)),
        ours(good, line=LINE + " "),
        ours(good, count=2),
        ours(good, features=3),
        ours(good, processor=PROCESSORS["EPYC-Genoa"]),
        ours(firmware(described=metadata(SECTIONS[::-1]))),
    }
    for kernel, initrd in ((KERNEL + b"\0", INITRD), (KERNEL, INITRD[:-1])):
        booted = Booted.of(kernel, initrd, LINE)
        found.add(launch_digest(Firmware.parse(good), booted, processor=MILAN, count=1).hex())
    assert len(found) == 9


@pytest.mark.parametrize("count", [0, -1, 513])
def test_no_such_number_of_processors(count: int) -> None:
    with pytest.raises(UsageError, match="1 to 512"):
        ours(firmware(), count=count)


def test_a_command_line_is_measured_with_its_end() -> None:
    assert Booted.of(b"", b"", "x").command_line == hashlib.sha256(b"x\0").digest()

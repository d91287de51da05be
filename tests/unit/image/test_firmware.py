"""What firmware says of itself: read as it stands, or refused."""

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_kit import HASHES, METADATA, PAGE, RESET, SECTIONS, TABLE, entry, firmware, metadata
from sottovoce.image.firmware import Firmware, FirmwareError, Kind, Section

GOOD = firmware()


def test_what_is_read() -> None:
    found = Firmware.parse(GOOD)
    assert found.data == GOOD
    assert found.address == (1 << 32) - 4 * PAGE
    assert [(one.address, one.size, int(one.kind)) for one in found.sections] == list(SECTIONS)
    assert found.sections[-1] == Section(0x810000, PAGE, Kind.HASHES)
    assert (found.hashes, found.reset) == (0x810C00, 0x80B004)
    assert "ASEV" not in repr(found)


def without(guid: UUID) -> bytes:
    values = {RESET: 0x80B004, HASHES: 0x810C00, METADATA: 3 * PAGE}
    return b"".join(entry(one, struct.pack("<I", value)) for one, value in values.items() if one != guid)


def section(address: int, size: int, kind: int) -> bytes:
    return metadata(((address, size, kind), *SECTIONS[4:]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "whole pages"),
        (GOOD[:-1], "whole pages"),
        (bytes(65 * 1024 * 1024), "whole pages"),
        (bytes(PAGE), "no table"),
        (firmware(tail=struct.pack("<H16s", 17, TABLE.bytes_le)), "no table"),
        (firmware(tail=struct.pack("<H16s", 0xFFFF, TABLE.bytes_le)), "no table"),
        (firmware(entries=bytes(10)), "cut off"),
        (firmware(entries=struct.pack("<H16s", 17, METADATA.bytes_le)), "wrong length"),
        (firmware(entries=struct.pack("<H16s", 19, METADATA.bytes_le)), "wrong length"),
        (firmware(entries=entry(RESET, bytes(4)) * 2), "twice"),
        (firmware(entries=without(METADATA)), "no SNP metadata"),
        (firmware(entries=without(HASHES)), "no place for the hashes"),
        (firmware(entries=without(RESET)), "no reset vector"),
        (firmware(entries=entry(METADATA, b"\0\0\0")), "no SNP metadata"),
        (firmware(entries=entry(METADATA, struct.pack("<I", 5 * PAGE))), "outside"),
        (firmware(entries=entry(METADATA, struct.pack("<I", 15))), "outside"),
        (firmware(described=b"ASEX" + metadata()[4:]), "unknown form"),
        (firmware(described=metadata()[:8] + b"\2" + metadata()[9:]), "unknown form"),
        (firmware(described=struct.pack("<4sIII", b"ASEV", 17, 1, 0)), "unknown form"),
        (firmware(described=metadata(SECTIONS * 13)), "unknown form"),
        (firmware(described=section(0x1000, PAGE, 9)), "not one that we know"),
        (firmware(described=section(0x1000, 0, 1)), "not one that we know"),
        (firmware(described=section(0x1001, PAGE, 1)), "not one that we know"),
        (firmware(described=section(0x1000, PAGE + 1, 1)), "not one that we know"),
        (firmware(described=section(0xFFFFF000, 2 * PAGE, 1)), "not one that we know"),
        (firmware(described=section(0x1000_0000, 65 * 1024 * 1024, 1)), "more memory"),
        (firmware(described=metadata(SECTIONS[:4])), "does not measure the hashes"),
        (firmware(described=metadata((*SECTIONS, SECTIONS[4]))), "does not measure the hashes"),
        (
            firmware(described=metadata((*SECTIONS[:4], (0x811000, PAGE, 0x10)))),
            "does not measure the hashes",
        ),
        (
            firmware(described=metadata((*SECTIONS[:4], (0x80F000, PAGE, 0x10)))),
            "does not measure the hashes",
        ),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(FirmwareError, match=says):
        Firmware.parse(data)


def test_metadata_at_the_very_end_are_cut_off() -> None:
    entries = entry(METADATA, struct.pack("<I", 16)) + entry(HASHES, struct.pack("<I", 0x810C00))
    data = bytearray(firmware(entries=entries))
    data[-16:] = struct.pack("<4sIII", b"ASEV", 28, 1, 1)
    with pytest.raises(FirmwareError, match="cut off"):
        Firmware.parse(bytes(data))


@given(at=st.integers(0, 300), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    data = bytearray(GOOD)
    for place in (len(data) - 1 - at, PAGE + at):
        data[place] = value
    try:
        found = Firmware.parse(bytes(data))
    except FirmwareError:
        return
    assert all(one.size and one.address % PAGE == 0 for one in found.sections)

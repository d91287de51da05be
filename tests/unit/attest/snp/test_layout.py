"""A report's bytes: every field where it should be, every reserved byte zero, version by version (AMD 56860, table 23)."""

import pytest

from sottovoce.attest.snp.layout import REPORT_SIZE, Report
from sottovoce.attest.snp.policy import cpuid_fits
from sottovoce.core.errors import DecodeError

FIELDS = {
    "guest_svn": (0x004, 4), "policy": (0x008, 8), "family_id": (0x010, 16), "image_id": (0x020, 16), "vmpl": (0x030, 4),
    "current_tcb": (0x038, 8), "platform_info": (0x040, 8), "report_data": (0x050, 64), "measurement": (0x090, 48),
    "host_data": (0x0C0, 32), "id_key_digest": (0x0E0, 48), "author_key_digest": (0x110, 48), "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32), "reported_tcb": (0x180, 8), "chip_id": (0x1A0, 64), "committed_tcb": (0x1E0, 8),
    "launch_tcb": (0x1F0, 8),
}  # fmt: skip
SINCE_3 = range(0x188, 0x18B)
SINCE_5 = range(0x1F8, 0x208)
RESERVED = {
    *range(0x049, 0x050),
    *range(0x18B, 0x1A0),
    0x1EB,
    0x1EF,
    *range(0x208, 0x2A0),
    *range(0x2D0, 0x2E8),
    *range(0x318, 0x4A0),
}


def raw(version: int, **parts: bytes) -> bytes:
    """A report of zeros but for its version, its algorithm and the parts, which are named by offset: `at_0x188`."""
    data = bytearray(REPORT_SIZE)
    data[0], data[0x034] = version, 1
    for name, value in parts.items():
        at = int(name.removeprefix("at_"), 16)
        data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize("name", FIELDS)
def test_where_each_field_stands(name: str) -> None:
    at, size = FIELDS[name]
    value = bytes(range(1, size + 1))
    report = Report.parse(raw(5, **{f"at_{at:#x}": value}))
    found = getattr(report, name)
    assert found == (value if isinstance(found, bytes) else int.from_bytes(value, "little"))
    nothing = {other: getattr(report, other) for other in FIELDS if other != name}
    assert not any(any(one) if isinstance(one, bytes) else one for one in nothing.values())


def test_what_later_versions_add() -> None:
    added = {"at_0x188": b"\x19\x11\x01", "at_0x1f8": b"\x05" + bytes(7) + b"\x07" + bytes(7)}
    report = Report.parse(raw(5, **added))
    assert (report.cpuid, report.mitigations) == ((0x19, 0x11, 1), (5, 7))
    older = Report.parse(raw(3, at_0x188=b"\x19\x11\x01"))
    assert (older.cpuid, older.mitigations) == ((0x19, 0x11, 1), None)
    oldest = Report.parse(raw(2))
    assert (oldest.cpuid, oldest.mitigations) == (None, None)


def test_versions_of_the_firmware_and_both_halves_of_the_signature() -> None:
    report = Report.parse(
        raw(5, at_0x1e8=b"\x1f\x37\x01", at_0x1ec=b"\x1e\x36\x02", at_0x2a0=b"\x01\x02", at_0x2e8=b"\x03\x04")
    )
    assert (report.current_version, report.committed_version) == ((1, 0x37, 0x1F), (2, 0x36, 0x1E))
    assert report.signature == (0x0201, 0x0403)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_reserved_byte_is_zero(version: int) -> None:
    reserved = RESERVED | set(SINCE_3 if version < 3 else ()) | set(SINCE_5 if version < 5 else ())
    Report.parse(raw(version))
    for at in range(0x38, REPORT_SIZE):
        data = raw(version, **{f"at_{at:#x}": b"\x01"})
        if at in reserved:
            with pytest.raises(DecodeError, match="reserved bytes"):
                Report.parse(data)
        else:
            Report.parse(data)


@pytest.mark.parametrize("bit", range(32))
def test_the_flags_of_the_key(bit: int) -> None:
    data = raw(5, at_0x48=(1 << bit).to_bytes(4, "little"))
    if bit < 5:
        report = Report.parse(data)
        assert (report.mask_chip_key, report.signing_key) == (bit == 1, (1 << bit) >> 2)
    else:
        with pytest.raises(DecodeError, match="reserved bytes"):
            Report.parse(data)


def test_a_product_that_there_is_not_is_no_processors() -> None:
    for version in (2, 5):
        assert not cpuid_fits(Report.parse(raw(version)), "Bergamo")


@pytest.mark.parametrize("algorithm", [0, 2, 1 << 8])
def test_a_report_of_another_signature_algorithm(algorithm: int) -> None:
    assert Report.parse(raw(5)).signature_algo == 1
    with pytest.raises(DecodeError, match=r"^the SNP report is signed with an unknown algorithm$"):
        Report.parse(raw(5, at_0x034=algorithm.to_bytes(4, "little")))

"""The report's bytes and the vendor's fields: what is not exactly as specified is refused with a typed error."""

import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_kit import NONCE, NOW, vendor
from sottovoce.attest.nvidia.layout import MAX_REPORT, Report
from sottovoce.attest.nvidia.opaque import Fields
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.accelerator import State

GPU = vendor().make_device(now=NOW)
STATE = replace(GPU.state, measurements={1: b"a" * 48, 2: b"b" * 48})
GOOD = GPU.report(NONCE, state=STATE)
BLOCK = 7 + 48
RECORD = 37 + 8
OPAQUE = RECORD + 2 * BLOCK + 32


def test_a_good_report() -> None:
    report = Report.parse(GOOD)
    assert report.nonce == NONCE
    assert report.measurements == STATE.measurements
    assert report.signed + GOOD[-96:] == GOOD
    assert len(report.device_nonce) == 32


def test_zeros_behind_the_signature_say_nothing() -> None:
    for zeros in (1, 96, MAX_REPORT - len(GOOD)):
        assert Report.parse(GOOD + bytes(zeros)) == Report.parse(GOOD)


def put(place: int, value: bytes) -> bytes:
    return GOOD[:place] + value + GOOD[place + len(value) :]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (put(0, b"\x10"), "GET_MEASUREMENTS"),
        (put(0, b"\x12"), "GET_MEASUREMENTS"),
        (put(1, b"\xe1"), "GET_MEASUREMENTS"),
        (put(2, b"\0"), "signature"),
        (put(2, b"\x03"), "signature"),
        (put(3, b"\x01"), "all measurements"),
        (put(36, b"\x10"), "reserved bits"),
        (put(36, b"\x01"), "another slot"),
        (put(37, b"\x12"), "MEASUREMENTS"),
        (put(38, b"\x61"), "MEASUREMENTS"),
        (put(39, b"\x01"), "reserved bits"),
        (put(40, b"\x10"), "another slot"),
        (put(40, b"\x01"), "another slot"),
        (put(41, b"\0"), "bytes behind them"),
        (put(41, b"\x01"), "bytes behind them"),
        (put(41, b"\x03"), "end too early"),
        (put(42, b"\xff\xff\xff"), "too early"),
        (put(RECORD, b"\0"), "not in order"),
        (put(RECORD, b"\x02"), "not in order"),
        (put(RECORD + BLOCK, b"\x01"), "not in order"),
        (put(RECORD + 1, b"\x02"), "unknown form"),
        (put(RECORD + 1, b"\x03"), "unknown form"),
        (put(RECORD + 2, b"\x34"), "unknown form"),
        (put(RECORD + 4, b"\x05"), "unknown type"),
        (put(RECORD + 4, b"\x85"), "unknown type"),
        (put(RECORD + 2, struct.pack("<HBH", 50, 1, 47)), "unknown type or length"),
        (put(OPAQUE, b"\0\0"), "another length"),
        (put(OPAQUE, b"\xff\xff"), "another length"),
        (GOOD + b"\0\1", "another length"),
        (GOOD[:-1], "another length"),
        (b"", "too early"),
        (GOOD[:44], "too early"),
        (GOOD + bytes(MAX_REPORT), "longer than its limit"),
    ],
)
def test_each_field(changed: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        Report.parse(changed)


def test_a_raw_value_may_have_another_length() -> None:
    record = struct.pack("<BBHBH", 1, 1, 6, 0x84, 3) + b"raw"
    report = GOOD[:41] + b"\x01" + len(record).to_bytes(3, "little") + record + GOOD[RECORD + 2 * BLOCK :]
    assert Report.parse(report).measurements == {1: b"raw"}


def test_opaque_data_beyond_the_specifications_limit() -> None:
    for size, fits in ((1020, True), (1021, False)):
        data = GPU.report(NONCE, state=State(**_nothing(), extra=((5, bytes(size)),)))
        if fits:
            assert len(Report.parse(data).opaque) == 1024
        else:
            with pytest.raises(DecodeError):
                Report.parse(data)


def _nothing() -> dict[str, Any]:
    names = ("driver", "vbios", "nvdec0", "firmware_id", "protected_pcie", "opaque_version", "feature")
    return dict.fromkeys(names)


def fields(*entries: tuple[int, bytes], switch: bool = False) -> Fields:
    data = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in entries)
    return Fields.parse(data, switch=switch)


def test_what_is_not_there_is_none() -> None:
    empty = Fields.parse(b"", switch=False)
    assert (empty.driver, empty.vbios, empty.mode, empty.links) == (None, None, None, frozenset())
    assert fields((25, b"\x01\0"), switch=True).locked is True


def test_versions() -> None:
    assert fields((3, b"550.90.07\0")).driver == "550.90.07"
    assert fields((6, bytes.fromhex("009f009601000000"))).vbios == "96.00.9F.00.01"
    assert fields((6, b"96.10.55.00.01"), switch=True).vbios == "96.10.55.00.01"
    assert fields((3, b"550"), switch=True).driver is None


@pytest.mark.parametrize(
    "act",
    [
        lambda: fields((3, b"")),
        lambda: fields((3, b"550")),
        lambda: fields((3, b"550.\0")),
        lambda: fields((3, b"550.90\0.07")),
        lambda: fields((3, b"550.90.07 ")),
        lambda: fields((3, "५५०.९०".encode())),
        lambda: fields((3, b"1.2"), (3, b"1.2")),
        lambda: fields((0, b"")),
        lambda: fields((26, b"")),
        lambda: fields((28, b""), switch=True),
        lambda: fields((36, b"\0\0"), switch=True),
        lambda: fields((255, b"")),
        lambda: fields((6, bytes(7))),
        lambda: fields((6, bytes.fromhex("009f009601000001"))),
        lambda: fields((6, b"96.10.55.00"), switch=True),
        lambda: fields((6, b"96.10.55.0a.01"), switch=True),
        lambda: fields((11, b"")),
        lambda: fields((11, b"\x55\x55")),
        lambda: fields((20, bytes(32))),
        lambda: fields((21, b"\x55\x55")),
        lambda: fields((22, bytes(7))),
        lambda: fields((22, bytes(16)), switch=True),
        lambda: fields((25, b"\x02\0"), switch=True),
        lambda: fields((25, b"\x01"), switch=True),
        lambda: fields((26, bytes(9)), switch=True),
        lambda: fields((34, b"\x02\0"), (36, b"\0\0")),
        lambda: fields((34, b"\x01\0")),
        lambda: fields((34, b""), (36, b"\0\0")),
        lambda: fields((34, bytes(9)), (36, b"\0\0")),
        lambda: fields((36, b"\0\0")),
        lambda: fields((34, b"\x01\0"), (36, b"\x03\0")),
        lambda: fields((35, b"GB202 \0")),
        lambda: fields((35, b"")),
        lambda: Fields.parse(b"\x03\0\x01", switch=False),
        lambda: Fields.parse(b"\x03\0\x05\x00550", switch=False),
    ],
)
def test_malformed_fields(act: Callable[[], Fields]) -> None:
    with pytest.raises(DecodeError):
        act()


def test_links_that_are_not_used_are_left_out() -> None:
    assert fields((22, bytes(8) + b"12345678" * 2)).links == {b"12345678"}
    # Behind a switch's eight ids stands one byte a port.
    assert fields((26, b"12345678" + bytes(56) + b"\xff" * 64), switch=True).links == {b"12345678"}


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        Report.parse(GOOD[:41] + data)
    for switch in (False, True):
        with contextlib.suppress(DecodeError):
            Fields.parse(data, switch=switch)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_what_is_read(place: int, difference: int) -> None:
    changed = bytearray(GOOD)
    changed[place] ^= difference
    try:
        report = Report.parse(bytes(changed))
    except DecodeError:
        return
    assert report != Report.parse(GOOD)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_numbers_of_every_length_that_there_may_be(size: int) -> None:
    number = (1).to_bytes(size, "little")
    assert fields((34, number), (36, number)).mode == "MPT"


@pytest.mark.parametrize("value", [b"", bytes(9)])
def test_numbers_of_another_length(value: bytes) -> None:
    with pytest.raises(DecodeError, match="a field of the wrong length"):
        fields((34, value))


@pytest.mark.parametrize("at", [5, 6, 7])
def test_padding_behind_a_version(at: int) -> None:
    value = bytearray(bytes.fromhex("009f009601000000"))
    value[at] = 1
    with pytest.raises(DecodeError, match="malformed name or version"):
        fields((6, bytes(value)))


@pytest.mark.parametrize(("value", "locked"), [(b"\1\0", True), (b"\0\0", False)])
def test_locked_or_not(value: bytes, locked: bool) -> None:
    assert fields((25, value), switch=True).locked is locked
    assert fields(switch=True).locked is None


def test_what_only_gpus_and_what_only_switches_have() -> None:
    switch = fields((22, b"12345678"), (25, b"\1\0"), switch=True)
    assert (switch.mode, switch.pdi, switch.locked) == (None, b"12345678", True)
    gpu = fields((22, b"12345678"), (34, b"\1"), (36, b"\0"))
    assert (gpu.mode, gpu.pdi, gpu.locked) == ("SPT", None, None)
    assert gpu.links == {b"12345678"}


def test_a_name_has_zeros_behind_it_and_nothing_else() -> None:
    assert fields((3, b"550.90\0\0")).driver == "550.90"
    with pytest.raises(DecodeError, match="malformed name or version"):
        fields((3, b"550.90X"))


def test_a_record_of_nothing_but_a_head() -> None:
    with pytest.raises(DecodeError, match="too early"):
        fields_of(b"\3\0\4\0")
    assert fields_of(b"").driver is None


def fields_of(data: bytes) -> Fields:
    return Fields.parse(data, switch=False)


def test_where_a_report_may_end() -> None:
    for length, words in (
        (37 + 8 - 1, "ends too early"),
        (37 + 8, "ends too early"),
        (OPAQUE + 1, "ends too early"),
        (OPAQUE + 2, "another length"),
    ):
        with pytest.raises(DecodeError, match=words):
            Report.parse(GOOD[:length])


def test_a_measurement_without_bytes_may_be_the_last() -> None:
    record = GOOD[RECORD : RECORD + 2 * BLOCK] + struct.pack("<BBHBH", 3, 1, 3, 0x80, 0)
    head = GOOD[:41] + b"\x03" + len(record).to_bytes(3, "little")
    report = Report.parse(head + record + GOOD[RECORD + 2 * BLOCK :])
    assert report.measurements[3] == b""

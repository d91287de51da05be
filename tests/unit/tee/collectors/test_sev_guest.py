import errno
from pathlib import Path
from typing import Any

import pytest

from collector_kit import PAPERS, FakeSevGuest, papers, snp_report, table
from sottovoce.attest.evidence import Endorsements
from sottovoce.core.errors import DecodeError, UnavailableError, UsageError
from sottovoce.tee.collectors.certificates import ASK, VCEK
from sottovoce.tee.collectors.sev_guest import SNP_GET_EXT_REPORT, SNP_GET_REPORT, SevGuestCollector

DATA = bytes(range(64))
BUSY, TOO_SHORT = (errno.EAGAIN, 0, 2), (errno.EIO, 0, 1)


def collector(device: FakeSevGuest, **more: Any) -> SevGuestCollector:
    return SevGuestCollector(papers, device="/dev/null", ioctl=device, sleep=lambda _: None, **more)


def test_the_numbers_are_those_of_the_header() -> None:
    assert SNP_GET_REPORT == 0xC0205300
    assert SNP_GET_EXT_REPORT == 0xC0205302


def test_a_report_is_over_the_data_and_the_level() -> None:
    device = FakeSevGuest()
    assert collector(device).report(DATA) == snp_report(DATA, 0)
    assert collector(device, vmpl=2).report(DATA) == snp_report(DATA, 2)
    assert device.calls == [SNP_GET_REPORT] * 2


def test_certificates_come_with_an_extended_report() -> None:
    device = FakeSevGuest(table((VCEK, b"vcek"), (ASK, b"ask")))
    bundle = collector(device).bundle()
    assert bundle.endorsements == Endorsements(vcek=b"vcek", ask=b"ask", crl=b"crl")
    assert device.calls == [SNP_GET_EXT_REPORT]


def test_a_host_without_certificates() -> None:
    assert collector(FakeSevGuest()).bundle() == PAPERS


def test_a_buffer_that_is_too_short_is_enlarged_to_what_the_kernel_says() -> None:
    device = FakeSevGuest(table((VCEK, b"v" * 9000)))
    assert collector(device).bundle().endorsements.vcek == b"v" * 9000
    assert device.calls == [SNP_GET_EXT_REPORT] * 2


def test_a_host_that_never_has_enough_room_does_not_keep_us() -> None:
    device = FakeSevGuest(script=[TOO_SHORT] * 100)
    with pytest.raises(DecodeError):
        collector(device).bundle()
    with pytest.raises(DecodeError):
        collector(FakeSevGuest(table((VCEK, b"v" * 20000)))).bundle()


def test_a_busy_host_is_asked_again_a_few_times() -> None:
    device = FakeSevGuest(script=[BUSY, BUSY])
    assert collector(device).report(DATA) == snp_report(DATA, 0)
    device = FakeSevGuest(script=[BUSY] * 100)
    with pytest.raises(UnavailableError, match="busy") as refused:
        collector(device).report(DATA)
    assert "throttles" in refused.value.hint
    assert len(device.calls) < 10


def test_a_driver_that_has_waited_a_minute_is_not_asked_again() -> None:
    device = FakeSevGuest(script=[(errno.ETIMEDOUT, 0, 2)])
    with pytest.raises(UnavailableError, match="ETIMEDOUT") as refused:
        collector(device).report(DATA)
    assert len(device.calls) == 1
    assert "throttles" in refused.value.hint


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN, errno.EBUSY])
def test_what_passes_is_tried_again(number: int) -> None:
    device = FakeSevGuest(script=[(number, 0xFF, 0)])
    assert collector(device).report(DATA) == snp_report(DATA, 0)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOTTY, "start the CVM again"),
        (errno.EINVAL, "VMPL"),
        (errno.EPERM, "root"),
        (errno.EIO, ""),
    ],
)
def test_what_is_final_says_what_to_do(number: int, hint: str) -> None:
    with pytest.raises(UnavailableError, match=errno.errorcode[number]) as refused:
        collector(FakeSevGuest(script=[(number, 0xFF, 0)])).report(DATA)
    assert hint in refused.value.hint


@pytest.mark.parametrize("script", [(errno.EIO, 0x16, 0), (0, 0x16, 0)])
def test_the_firmwares_own_error_is_named(script: tuple[int, int, int]) -> None:
    with pytest.raises(UnavailableError, match="0x16"):
        collector(FakeSevGuest(script=[script])).report(DATA)


def test_the_hypervisors_own_error_is_named() -> None:
    with pytest.raises(UnavailableError, match="hypervisor"):
        collector(FakeSevGuest(script=[(errno.EIO, 0, 7)])).report(DATA)
    with pytest.raises(UnavailableError, match="hypervisor"):
        collector(FakeSevGuest(script=[(errno.EIO, 0, 7)])).bundle()


def test_an_answer_that_is_no_report() -> None:
    with pytest.raises(UnavailableError, match="status 0x16"):
        collector(FakeSevGuest(status=0x16)).report(DATA)
    for size in (0, 1183, 4000, 1 << 31):
        with pytest.raises(DecodeError):
            collector(FakeSevGuest(size=size)).report(DATA)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_report_data_of_another_length_is_a_mistake_of_ours(length: int) -> None:
    with pytest.raises(UsageError):
        collector(FakeSevGuest()).report(bytes(length))


def test_without_the_device(tmp_path: Path) -> None:
    missing = str(tmp_path / "sev-guest")
    assert not SevGuestCollector.present(missing)
    with pytest.raises(UnavailableError, match="ENOENT") as refused:
        SevGuestCollector(papers, device=missing).report(DATA)
    assert "sev-guest" in refused.value.hint
    (tmp_path / "sev-guest").touch()
    assert not SevGuestCollector.present(missing)  # a plain file is no device


def test_the_real_ioctl_on_another_device() -> None:
    # /dev/null knows no such request: the kernel answers ENOTTY, through the real call.
    with pytest.raises(UnavailableError, match="ENOTTY"):
        SevGuestCollector(papers, device="/dev/null").report(DATA)

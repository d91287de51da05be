import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector_kit import PAPERS, ROOT, FakeTsm
from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.tee.collectors.choose import choose
from sottovoce.tee.collectors.sev_guest import SevGuestCollector
from sottovoce.tee.collectors.simulated import LENGTH, SimulatedCollector
from sottovoce.tee.collectors.tsm import TsmCollector


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Channel = tuple[socket.socket, socket.socket]
NOWHERE = "/nowhere"
ANY_DEVICE = "/dev/null"


def test_a_provider_of_reports_comes_before_everything(channel: Channel) -> None:
    for provider, kind in (("sev_guest", "sev-snp"), ("tdx_guest", "tdx")):
        found = choose(channel[0], reports=ROOT, device=ANY_DEVICE, files=FakeTsm(provider=provider))
        assert isinstance(found, TsmCollector)
        assert found.kind == kind


def test_the_device_comes_before_a_simulated_processor(channel: Channel) -> None:
    found = choose(channel[0], reports=NOWHERE, device=ANY_DEVICE)
    assert isinstance(found, SevGuestCollector)
    found = choose(channel[0], reports=ROOT, device=ANY_DEVICE, files=FakeTsm(provider=None))
    assert isinstance(found, SevGuestCollector)
    assert found.kind == "sev-snp"


def test_a_socket_is_a_simulated_processor_where_there_is_no_other(channel: Channel) -> None:
    found = choose(channel[0], reports=NOWHERE, device=NOWHERE)
    assert isinstance(found, SimulatedCollector)
    assert found.kind == "simulated-snp"


def test_a_machine_with_nothing_says_what_to_do() -> None:
    with pytest.raises(UnavailableError) as refused:
        choose(None, reports=NOWHERE, device=NOWHERE)
    assert "sev-guest" in refused.value.hint


def test_hardware_without_a_host_has_reports_and_no_papers() -> None:
    found = choose(None, reports=ROOT, files=FakeTsm())
    assert found.report(bytes(64))
    with pytest.raises(UnavailableError):
        found.bundle()


def test_papers_come_through_the_channel_on_hardware_too(channel: Channel) -> None:
    ours, theirs = channel
    answer = PAPERS.encode()
    theirs.sendall(LENGTH.pack(len(answer)) + answer)
    assert choose(ours, reports=ROOT, files=FakeTsm()).bundle() == PAPERS
    assert theirs.recv(100) == b"\2"


def test_a_report_of_the_simulated_processor(channel: Channel) -> None:
    ours, theirs = channel
    theirs.sendall(LENGTH.pack(6) + b"report")
    assert SimulatedCollector(ours).report(bytes(64)) == b"report"
    assert theirs.recv(100) == b"\1" + bytes(64)


def test_a_simulated_processor_that_is_gone(channel: Channel) -> None:
    ours, theirs = channel
    theirs.sendall(LENGTH.pack(6) + b"rep")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(UnavailableError):
        SimulatedCollector(ours).report(bytes(64))
    theirs.close()
    with pytest.raises(UnavailableError):
        SimulatedCollector(ours).report(bytes(64))


def test_an_answer_that_is_too_long_ends_the_channel(channel: Channel) -> None:
    ours, theirs = channel
    theirs.sendall(LENGTH.pack(1 << 20))
    one = SimulatedCollector(ours)
    with pytest.raises(DecodeError):
        one.report(bytes(64))
    with pytest.raises(UnavailableError):
        one.report(bytes(64))


def test_an_answer_in_many_pieces(channel: Channel) -> None:
    ours, theirs = channel
    answer = LENGTH.pack(3) + b"abc"

    def drip() -> None:
        for byte in answer:
            theirs.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    assert SimulatedCollector(ours).report(bytes(64)) == b"abc"
    thread.join()


def test_the_devices_folder_of_this_machine(tmp_path: Path, channel: Channel) -> None:
    assert choose(channel[0], reports=str(tmp_path), device=str(tmp_path / "none")).kind == "simulated-snp"

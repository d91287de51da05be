import time

import pytest

from sottovoce.attest.snp.layout import Report
from sottovoce.core.errors import UsageError
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import EvidenceWorld


@pytest.fixture(scope="module")
def world() -> EvidenceWorld:
    return EvidenceWorld()


def test_it_counts_the_reports_that_it_makes(world: EvidenceWorld) -> None:
    processor = SimulatedProcessor(world.chips["guard"], b"\1" * 48)
    reports = [processor.report(bytes([number]) * 64) for number in range(3)]
    assert processor.reports == 3
    assert [Report.parse(report).report_data[:1] for report in reports] == [b"\0", b"\1", b"\2"]
    with pytest.raises(UsageError):
        processor.report(b"short")
    assert processor.reports == 3


def test_it_can_be_as_slow_as_a_real_one(world: EvidenceWorld) -> None:
    processor = SimulatedProcessor(world.chips["guard"], b"\1" * 48, delay=0.05)
    began = time.monotonic()
    for _ in range(3):
        processor.report(bytes(64))
    assert time.monotonic() - began >= 0.15

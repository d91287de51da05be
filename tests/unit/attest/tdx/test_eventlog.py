"""Event logs: what they replay to, and what is refused."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.attest.tdx.eventlog import MAX_EVENT_LOG, EventLog
from sottovoce.attest.tdx.verify import verify_quote
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.testing import NOW, intel
from tdx_kit import HEADER, event


def extended(*digests: bytes) -> bytes:
    value = bytes(48)
    for digest in digests:
        value = hashlib.sha384(value + digest).digest()
    return value


A, B = b"a" * 48, b"b" * 48
LOG = HEADER + event(1, A, b"one") + event(2, B) + event(1, B) + event(1, A, kind=3)


@pytest.mark.parametrize("filling", [b"", bytes(100), b"\xff" * 100, b"\0" * 3])
def test_a_log_is_replayed(filling: bytes) -> None:
    log = EventLog.parse(LOG + filling) if len(filling) != 3 else EventLog.parse(LOG + bytes(4))
    assert log.events == 4
    assert log.registers == (extended(A, B), extended(B), bytes(48), bytes(48))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER[:-1],
        bytes(100),
        HEADER.replace(b"Event03", b"Event02"),
        LOG[:-1],
        LOG[: len(HEADER) + 5],
        LOG + b"\0\0\0\0x",
        LOG + b"\xff\xff\xff\xff\0",
        HEADER + event(0, A) + event(1, A),
        HEADER + event(5, A),
        HEADER + event(1, A, algorithm=11),
        HEADER + struct.pack("<III", 1, 8, 2) + struct.pack("<H", 12) + A,
        HEADER + event(1, A)[:-4] + struct.pack("<I", 1 << 31),
        HEADER + event(1, A) * 5000,
        LOG + bytes(MAX_EVENT_LOG),
    ],
)
def test_a_log_that_is_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        EventLog.parse(data)


def test_the_longest_log() -> None:
    assert EventLog.parse(LOG.ljust(MAX_EVENT_LOG, b"\0")).events == 4
    with pytest.raises(DecodeError, match="longer than its limit"):
        EventLog.parse(LOG.ljust(MAX_EVENT_LOG + 1, b"\0"))


def test_the_most_events() -> None:
    assert EventLog.parse(HEADER + event(1, A) * 4096).events == 4096
    with pytest.raises(DecodeError, match="too many events"):
        EventLog.parse(HEADER + event(1, A) * 4097)


def test_a_log_without_events() -> None:
    assert EventLog.parse(HEADER) == EventLog(events=0, registers=(bytes(48),) * 4)


@pytest.mark.parametrize("register", [1, 2, 3, 4])
def test_each_register(register: int) -> None:
    values = EventLog.parse(HEADER + event(register, A)).registers
    assert values == tuple(extended(A) if number == register else bytes(48) for number in range(1, 5))


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for start in (b"", HEADER):
        try:
            EventLog.parse(start + data)
        except DecodeError:
            continue


def test_a_log_must_lead_to_the_quote() -> None:
    fields = QuoteFields(report_data=bytes(64), rtmrs=EventLog.parse(LOG).registers)
    quote, collateral = intel().make_platform(now=NOW).quote(fields), intel().collateral(now=NOW)
    good = verify_quote(quote, collateral, policy=intel().policy, now=NOW, event_log=LOG)
    assert good.accepted
    other = verify_quote(quote, collateral, policy=intel().policy, now=NOW, event_log=LOG + event(3, A))
    assert [line.id for line in other.failed] == ["tdx-event-log"]
    assert "RTMR2" in other.failed[0].found


def test_each_event_is_whole() -> None:
    for end in range(len(HEADER) + 1, len(HEADER) + len(event(1, A, b"one"))):
        with pytest.raises(DecodeError, match="cut short"):
            EventLog.parse((HEADER + event(1, A, b"one"))[:end])

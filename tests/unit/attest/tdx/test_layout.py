"""Quotes as bytes: every field where it should be, in each of the three bodies, and what does not fit."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.tdx.layout import MAX_QUOTE, Quote
from sottovoce.attest.tdx.policy import HostConfig, check_fields
from sottovoce.attest.tdx.rules import TDX_RULES
from sottovoce.attest.tdx.signatures import platform_id
from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.testing import NOW, intel

PLATFORM = intel().make_platform(now=NOW)
FIELDS = QuoteFields(
    report_data=b"d" * 64,
    tee_tcb_svn=b"t" * 16,
    mr_seam=b"s" * 48,
    mr_signer_seam=b"S" * 48,
    seam_attributes=1,
    td_attributes=2,
    xfam=3,
    mr_td=b"m" * 48,
    mr_config_id=b"c" * 48,
    mr_owner=b"o" * 48,
    mr_owner_config=b"O" * 48,
    rtmrs=(b"0" * 48, b"1" * 48, b"2" * 48, b"3" * 48),
    mr_service_td=b"v" * 48,
)
HEADER, BODY = 48, 584


def extended(**values: Any) -> bytes:
    """A quote with the longest body (type 4), whose last parts are these."""
    plain = replace(FIELDS, version=5).encode()
    vm, devices = values.get("vm", 0), values.get("devices", bytes(48))
    first, now = values.get("first", b""), values.get("now", b"")
    more = struct.pack("<B32s48s48s8s16s16s12s48s8s", vm, b"x" * 32, devices, first[:48], first[48:],
                       b"x" * 16, b"x" * 16, b"x" * 12, now[:48], now[48:])  # fmt: skip
    body = plain[HEADER + 6 :] + more
    return PLATFORM.sign(plain[:HEADER] + struct.pack("<HI", 4, len(body)) + body)


@pytest.mark.parametrize("version", [4, 5])
def test_every_field(version: int) -> None:
    data = PLATFORM.quote(replace(FIELDS, version=version))
    quote = Quote.parse(data)
    assert quote.version == version
    for name in (
        "tee_tcb_svn", "mr_seam", "mr_signer_seam", "seam_attributes", "td_attributes", "xfam", "mr_td",
        "mr_config_id", "mr_owner", "mr_owner_config", "rtmrs", "report_data",
    ):  # fmt: skip
        assert getattr(quote, name) == getattr(FIELDS, name), name
    assert quote.service_td == (b"" if version == 4 else FIELDS.mr_service_td)
    assert (quote.vm, quote.devices) == (0, b"")
    assert quote.certificates == PLATFORM.chain
    assert (quote.exact, quote.trailing) == (data, b"")


def test_the_longest_body() -> None:
    first, now = b"f" * 48 + b"F" * 8, b"n" * 48 + b"N" * 8
    data = extended(vm=3, devices=b"D" * 48, first=first, now=now)
    quote = Quote.parse(data)
    assert (quote.vm, quote.devices) == (3, b"D" * 48)
    assert quote.service_td == FIELDS.mr_service_td + first + now
    assert (quote.certificates, quote.exact) == (PLATFORM.chain, data)


def lines(quote: Quote, config: HostConfig | None = None) -> dict[str, tuple[bool, str, str]]:
    checks = Checklist(TDX_RULES)
    check_fields(quote, checks, config)
    return {
        line.id: (line.status.value == "pass", line.found, line.wanted) for line in checks.verdict().checks
    }


def test_what_is_said_of_a_body_that_says_too_much() -> None:
    said = lines(Quote.parse(extended(vm=2, devices=b"\0" * 47 + b"\1")))
    assert said["tdx-seam"] == (
        False,
        f"signer {'53' * 8}…, attributes 0x1",
        "Intel's: signer and attributes zero",
    )
    assert said["tdx-service-td"] == (False, "one is bound", "none")
    assert said["tdx-partition"] == (False, "machine 2", "machine 0")
    assert said["tdx-devices"] == (False, "there are some", "none")
    assert said["tdx-xfam"] == (True, "0x3", "0x3, and nothing beyond 0x6dbe7")
    assert said["tdx-config"][1] == (
        f"mr_config_id {'63' * 48}, mr_owner {'6f' * 48}, mr_owner_config {'4f' * 48}; no reference value was given"
    )
    config = HostConfig(mr_config_id=b"c" * 48)
    assert lines(Quote.parse(extended()), config)["tdx-config"] == (
        False,
        "other values: mr_owner, mr_owner_config",
        "as given, else zero",
    )


def test_any_part_of_a_service_td_counts() -> None:
    clean = replace(FIELDS, version=5, mr_service_td=bytes(48), mr_signer_seam=bytes(48), seam_attributes=0)
    said = lines(Quote.parse(PLATFORM.quote(clean)))
    assert said["tdx-service-td"] == (True, "none", "none")
    assert said["tdx-seam"][:2] == (True, "Intel's")
    for part in ("first", "now"):
        quote = Quote.parse(extended(**{part: bytes(55) + b"\1"}))
        only = replace(quote, service_td=quote.service_td.replace(FIELDS.mr_service_td, bytes(48)))
        assert lines(only)["tdx-service-td"] == (False, "one is bound", "none"), part


def changed(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


V4, V5 = PLATFORM.quote(FIELDS), PLATFORM.quote(replace(FIELDS, version=5))
SIGNATURE = HEADER + BODY + 4
NESTED = SIGNATURE + 64 + 64 + 6 + 384 + 64 + 2 + 32
"""In a quote of version 4 whose authentication data has 32 bytes."""


def test_reserved_bytes_of_the_header() -> None:
    assert Quote.parse(changed(V4, 8, 1)).version == 4  # patch levels of the enclaves there
    with pytest.raises(DecodeError, match="another vendor or signed with another algorithm"):
        Quote.parse(changed(V5, 8, 1))


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (HEADER + BODY + 3, "cut short"),
        (SIGNATURE + 128, "of an unknown type or of a wrong size"),
        (SIGNATURE + 130, "of an unknown type or of a wrong size"),
        (NESTED, "in an unknown form or of a wrong size"),
        (NESTED + 2, "in an unknown form or of a wrong size"),
    ],
)
def test_a_type_alone_and_a_size_alone_refuse(at: int, words: str) -> None:
    assert V4[SIGNATURE + 128 : SIGNATURE + 130] == b"\6\0"
    assert V4[NESTED : NESTED + 2] == b"\5\0"
    with pytest.raises(DecodeError, match=words):
        Quote.parse(changed(V4, at, V4[at] ^ 1))


def test_what_follows_a_quote() -> None:
    assert Quote.parse(V4 + b"\0X\0").trailing == b"\0X"
    assert Quote.parse(V4 + b"X").trailing == b"X"
    assert Quote.parse(V4 + bytes(64)).trailing == b""


def test_a_certificate_without_an_id_has_none() -> None:
    quote = Quote.parse(V4)
    assert platform_id(quote) == PLATFORM.ppid
    assert platform_id(replace(quote, exact=V4[:-200])) == b""


def test_the_shortest_and_the_longest_quote() -> None:
    assert Quote.parse(V4.ljust(MAX_QUOTE, b"\0")).exact == V4
    for data in (V4[:HEADER], V4.ljust(MAX_QUOTE + 1, b"\0")):
        with pytest.raises(DecodeError, match="this is not a TDX quote"):
            Quote.parse(data)
    for data in (V4[: HEADER + 1], V4[:-1]):
        with pytest.raises(DecodeError, match="the TDX quote is cut short"):
            Quote.parse(data)


def test_a_quote_may_end_with_the_head_of_its_certificates() -> None:
    """What a chain must have is for who verifies it."""
    nested = struct.pack("<HI", 5, 0)
    signed = V4[SIGNATURE:NESTED] + nested
    signed = signed[:130] + struct.pack("<I", len(signed) - 134) + signed[134:]
    quote = Quote.parse(V4[: SIGNATURE - 4] + struct.pack("<I", len(signed)) + signed)
    assert quote.certificates == b""


def test_a_body_of_another_type_or_size() -> None:
    for at in (HEADER, HEADER + 2):
        with pytest.raises(
            DecodeError, match="the TDX quote has a body of an unknown type or of a wrong size"
        ):
            Quote.parse(changed(V5, at, V5[at] ^ 0x40))

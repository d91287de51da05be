"""Reports and certificates in the forms in which kernels, hosts and tools hand them over."""

import base64
import contextlib
import itertools
import json
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector_kit import table
from sottovoce.attest.snp.certtable import ARK, ASK, CRL, VCEK, VLEK, is_table
from sottovoce.attest.snp.forms import SnpPapers, key_first, parse_certificates, parse_papers
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import NOW, vendor

OWN = UUID("ecae0c0f-9502-43b1-afa2-0ae2e0d565b6")
CHIP = vendor().make_chip(now=NOW, chip_id=bytes(range(64)))
SHARED = vendor().make_shared_key(now=NOW, chip_id=bytes(64), operator="example")
REPORT = SimulatedProcessor(CHIP, b"m" * 48).report(b"d" * 64)
TABLE = table((OWN, b"own"), (VCEK, CHIP.vcek), (ASK, vendor().ask), (ARK, vendor().ark), (CRL, vendor().crl))
CERTIFICATES = (CHIP.vcek, vendor().ask, vendor().ark)
HEAD = struct.pack("<II", 0, 1184) + bytes(24)


def pem(*ders: bytes) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in ders
    )


@pytest.mark.parametrize(
    "data",
    [
        REPORT,
        REPORT.hex().encode(),
        base64.encodebytes(REPORT),
        HEAD + REPORT,
        (HEAD + REPORT).ljust(4000, b"\0"),
        (HEAD + REPORT).ljust(4000, b"\0").hex().encode(),
    ],
)
def test_a_report_alone(data: bytes) -> None:
    assert parse_papers(data) == SnpPapers(report=REPORT)


def test_a_report_with_the_hosts_certificates_behind() -> None:
    whole = SnpPapers(report=REPORT, certificates=CERTIFICATES, crl=vendor().crl)
    for padding in (b"", bytes(4096)):
        assert parse_papers(REPORT + TABLE + padding) == whole
    assert parse_papers((REPORT + TABLE).hex().encode()) == whole


def test_a_hosts_table_alone() -> None:
    found = SnpPapers(certificates=CERTIFICATES, crl=vendor().crl)
    for data in (TABLE, TABLE.hex().encode(), base64.b64encode(TABLE)):
        assert parse_certificates(data) == found
    texts = table((VLEK, pem(SHARED.vcek)), (ASK, pem(vendor().ask, vendor().ark)))
    assert parse_certificates(texts).certificates == (SHARED.vcek, vendor().ask, vendor().ark)
    assert not is_table(CHIP.vcek)
    assert not is_table(bytes(4096))


def test_certificates_in_one_form_or_another() -> None:
    for data in (CHIP.vcek, CHIP.vcek.hex().encode(), base64.b64encode(CHIP.vcek), pem(CHIP.vcek)):
        assert parse_certificates(data).certificates == (CHIP.vcek,)
    assert parse_certificates(pem(*CERTIFICATES)).certificates == CERTIFICATES


def test_what_azures_metadata_service_answers() -> None:
    answer = {
        "vcekCert": pem(CHIP.vcek).decode(),
        "tcbm": "7308000000000003",
        "certificateChain": pem(vendor().ask, vendor().ark).decode(),
        "cacheControl": "86400",
    }
    text = json.dumps(answer).encode()
    for data in (text, b"\n" + text, base64.b64encode(text)):
        assert parse_certificates(data) == SnpPapers(certificates=CERTIFICATES)
    alone = {name: answer[name] for name in ("vcekCert", "certificateChain")}
    assert parse_certificates(json.dumps(alone).encode()).certificates == CERTIFICATES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vcekCert": None}, "not text"),
        ({"vcekCert": "\xe9"}, "not text"),
        ({"certificateChain": ["-----BEGIN"]}, "not text"),
        ({"tcbm": None, "more": 1}, "other members"),
        ({"vcekCert": "-----BEGIN CERTIFICATE-----\n"}, "not whole"),
    ],
)
def test_what_is_no_answer_of_azures(changes: dict[str, object], words: str) -> None:
    answer = {"vcekCert": pem(CHIP.vcek).decode(), "certificateChain": pem(vendor().ask).decode(), **changes}
    with pytest.raises(DecodeError, match=words):
        parse_certificates(json.dumps(answer).encode())
    document = "the members of the certificates' document"
    for data, reason in (
        (b"{", f"^{document} are not JSON"),
        (b'{"vcekCert": 1}', "other members"),
        (b'{"vcekCert": 1, "vcekCert": 1}', f"^{document} have a member twice"),
    ):
        with pytest.raises(DecodeError, match=reason):
            parse_certificates(data)


def test_the_longest_answer_of_azures() -> None:
    answer = {"vcekCert": pem(CHIP.vcek).decode(), "certificateChain": pem(vendor().ask).decode()}
    text = json.dumps(answer).encode().ljust(64 * 1024)
    assert parse_certificates(text)
    with pytest.raises(DecodeError, match="longer than its limit"):
        parse_certificates(text + b" ")


def test_the_keys_certificate_first_in_whatever_order_they_stand() -> None:
    for order in itertools.permutations(CERTIFICATES):
        assert key_first(order, REPORT)[0] == CHIP.vcek
    assert key_first((vendor().ask, b"none", vendor().ark), REPORT) == (vendor().ask, b"none", vendor().ark)
    assert key_first((), REPORT) == ()


def test_which_of_two_keys_the_report_says() -> None:
    for flags, first in (
        (0b00000, CHIP),
        (0b00100, SHARED),
        (0b00111, SHARED),
        (0b11100, CHIP),
        (0b00010, CHIP),
    ):
        report = REPORT[:0x48] + bytes([flags]) + REPORT[0x49:]
        for pair in ((CHIP.vcek, SHARED.vcek), (SHARED.vcek, CHIP.vcek)):
            assert key_first(pair, report)[0] == first.vcek
    assert key_first((SHARED.vcek, CHIP.vcek), b"")[0] == CHIP.vcek


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "1,184 bytes"),
        (REPORT[:-1], "1,184 bytes"),
        (REPORT + b"\0", "1,184 bytes"),
        (REPORT + bytes(4096), "1,184 bytes"),
        (REPORT + b"x" * 100, "1,184 bytes"),
        (REPORT + TABLE[:-1], "table is malformed"),
        (REPORT + TABLE[:100], "table is malformed|no end"),
        (HEAD + REPORT[:-1], "answer"),
        (HEAD + REPORT + b"\0" * 10 + b"\1", "answer"),
        (HEAD[:-1] + b"\1" + REPORT, "answer"),
        ((HEAD + REPORT).ljust(4001, b"\0"), "answer"),
        # A firmware that refused, and one that answers with another size
        ((b"\x16" + HEAD[1:] + REPORT).ljust(4000, b"\0"), "1,184 bytes"),
        ((struct.pack("<II", 0, 1183) + HEAD[8:] + REPORT).ljust(4000, b"\0"), "1,184 bytes"),
    ],
)
def test_what_is_no_report(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        parse_papers(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"my dearest", REPORT, TABLE[:-1], table((VCEK, b"none")), pem(CHIP.vcek, b"none"), bytes(24)],
)
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_certificates(data)


@given(st.binary(max_size=200), st.sampled_from([b"", HEAD, REPORT, REPORT + TABLE[:96], TABLE[:96]]))
def test_any_bytes_are_answered_in_one_of_two_ways(data: bytes, before: bytes) -> None:
    for parse in (parse_papers, parse_certificates):
        with contextlib.suppress(DecodeError):
            assert parse(before + data)


def test_certificates_come_without_a_list() -> None:
    assert parse_certificates(CHIP.vcek) == SnpPapers(certificates=(CHIP.vcek,))

"""The host's certificate table (AMD 56421, section 4.1.8.1), well formed, malformed and hostile."""

import contextlib
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector_kit import table
from sottovoce.attest.snp.certtable import (
    ARK,
    ASK,
    CRL,
    VCEK,
    VLEK,
    Certificates,
    is_table,
    parse_table,
)
from sottovoce.core.errors import DecodeError

OWN = UUID("ecae0c0f-9502-43b1-afa2-0ae2e0d565b6")


def test_the_five_certificates_by_their_guids() -> None:
    data = table((VCEK, b"vcek"), (VLEK, b"vlek"), (ASK, b"ask"), (ARK, b"ark"), (CRL, b"crl"))
    assert parse_table(data) == Certificates(vcek=b"vcek", vlek=b"vlek", ask=b"ask", ark=b"ark", crl=b"crl")


def test_a_guid_stands_in_the_order_in_which_it_is_written() -> None:
    assert VCEK.bytes == bytes.fromhex("63da758de6644564adc5f4b93be8accd")


def test_a_host_may_leave_none_pad_the_rest_and_add_its_own() -> None:
    assert parse_table(b"") == parse_table(bytes(4096)) == Certificates()
    data = table((OWN, b"own"), (VCEK, b"vcek"), gap=8) + bytes(4096)
    assert parse_table(data) == Certificates(vcek=b"vcek")


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("no end", VCEK.bytes + struct.pack("<II", 24, 4) + b"vcek"),
        ("short entry", VCEK.bytes[:10]),
        ("a guid twice", table((VCEK, b"a"), (VCEK, b"b"))),
        ("empty entry", table((VCEK, b""), (ASK, b"b"))),
        ("inside the head", VCEK.bytes + struct.pack("<II", 24, 24) + bytes(24)),
        ("beyond the table", VCEK.bytes + struct.pack("<II", 48, 5) + bytes(24) + b"vcek"),
        ("offset wraps", VCEK.bytes + struct.pack("<II", 0xFFFFFFFF, 2) + bytes(24) + b"vcek"),
        (
            "overlap",
            VCEK.bytes
            + struct.pack("<II", 72, 4)
            + ASK.bytes
            + struct.pack("<II", 75, 4)
            + bytes(24)
            + b"x" * 8,
        ),
        ("too many", table(*((UUID(int=number + 1), b"x") for number in range(17)))),
    ],
)
def test_a_malformed_table_is_refused(case: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_table(data)


@given(st.binary(max_size=300))
def test_hostile_tables_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        parse_table(data)


def test_the_most_entries() -> None:
    many = [(UUID(int=number + 1), b"x") for number in range(15)]
    assert parse_table(table(*many, (VCEK, b"vcek"))) == Certificates(vcek=b"vcek")


def test_a_guid_elsewhere_than_at_an_entrys_start_makes_no_table() -> None:
    assert is_table(VCEK.bytes)
    assert is_table(bytes(15 * 24) + CRL.bytes)
    for before in (1, 8, 23, 16 * 24):
        assert not is_table(bytes(before) + VCEK.bytes)

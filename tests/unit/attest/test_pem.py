"""Files as people have them: PEM, hexadecimal or plain bytes, told apart by content."""

import base64

import pytest

from sottovoce.attest.pem import armored, certificates, plain
from sottovoce.core.errors import DecodeError

DER = b"\x30\x03\x02\x01\x05"


def block(data: bytes, label: str = "CERTIFICATE") -> bytes:
    text = base64.b64encode(data).decode()
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        DER,
        block(DER),
        block(DER, "X509 CRL"),
        b"3003020105",
        b"0x3003020105",
        b"0X3003020105",
        b"30 03\t02\r\n01 05\n",
        b"300302010 5",
        b"MAMCAQU=",
        b"MAMCAQU",
        b" MAMC\r\nAQU = \n",
    ],
)
def test_one_document(data: bytes) -> None:
    assert plain(data) == DER
    assert certificates(data) == (DER,)


def test_several_blocks() -> None:
    assert certificates(b"a line before\n" + block(DER) + block(b"other")) == (DER, b"other")
    with pytest.raises(DecodeError, match="several PEM blocks"):
        plain(block(DER) + block(DER))


def test_a_quote_with_certificates_inside_stays_as_it_is() -> None:
    quote = b"\x04\x00\xff" + block(DER)
    assert plain(quote) == quote


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"123", "not whole bytes"),
        (block(DER)[:-5], "not whole"),
        (block(DER) + b"-----BEGIN CERTIFICATE-----\n", "not whole"),
        (b"-----BEGIN CERTIFICATE-----\n", "not whole"),
        (b"-----BEGIN CERTIFICATE-----\nMA*=\n-----END CERTIFICATE-----\n", "not base64|not whole"),
        (b"-----BEGIN CERTIFICATE-----\nMAM\n-----END CERTIFICATE-----\n", "not base64"),
    ],
)
def test_what_is_not_whole(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        plain(data)


def test_text_that_is_not_base64_stays_as_it_is() -> None:
    for data in (b"MAMCAQU==", b"MA+C-_8=", b"my dearest", b"M=MC", b"=", b"== ", b"MAMCA", b"MAMCA==="):
        assert plain(data) == data
    # The other alphabet is read too, and never both at once.
    assert plain(b"-_8=") == plain(b"-_8") == plain(b"+/8=") == b"\xfb\xff"
    # Hexadecimal goes first: these digits are base64 as well.
    assert plain(b"0000") == b"\0\0"


def test_much_white_space_takes_no_time() -> None:
    data = b"M" + b" " * 1_000_000 + b"!"
    assert plain(data) == data


@pytest.mark.parametrize("data", [b"", b" \n"])
def test_nothing(data: bytes) -> None:
    assert plain(data) == data


def test_certificates_as_plain_pem() -> None:
    long = bytes(range(100))
    text = armored(DER, long)
    assert certificates(text) == (DER, long)
    assert max(map(len, text.split(b"\n"))) == 64
    assert not text.endswith(b"\n")
    assert armored() == b""

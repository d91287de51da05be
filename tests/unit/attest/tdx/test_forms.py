"""Quotes and event logs as people have them: bytes, hexadecimal, PEM, base64, JSON."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.attest.tdx.forms import read_event_log, read_quote
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.testing import NOW, intel

QUOTE = intel().make_platform(now=NOW).quote(QuoteFields(report_data=b"\xfb\xff" * 32))
TEXT = base64.b64encode(QUOTE).decode()
URL = base64.urlsafe_b64encode(QUOTE).decode()


@pytest.mark.parametrize(
    "data",
    [
        QUOTE,
        QUOTE.hex().encode(),
        b"0x" + QUOTE.hex().encode() + b"\n",
        TEXT.encode(),
        TEXT.rstrip("=").encode(),
        URL.encode() + b"\n",
        base64.encodebytes(QUOTE),
        b"a line before\n-----BEGIN QUOTE-----\n" + base64.encodebytes(QUOTE) + b"-----END QUOTE-----\n",
    ],
)
def test_files(data: bytes) -> None:
    assert read_quote(data) == QUOTE
    assert read_event_log(data) == QUOTE


@pytest.mark.parametrize("value", [TEXT, URL, QUOTE.hex(), list(QUOTE)])
@pytest.mark.parametrize("shape", ["quote", "td_quote", "tdx"])
def test_documents(value: Any, shape: str) -> None:
    whole = {"runtime_data": None, "quote": value, "verifier_nonce": {}, "user_data": ""}
    document = {"tdx": whole} if shape == "tdx" else {shape: value}
    assert read_quote(b"\n" + json.dumps(document).encode()) == QUOTE


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "does not hold one TDX quote"),
        ({"tdx": {}}, "does not hold one TDX quote"),
        ({"tdx": TEXT}, "does not hold one TDX quote"),
        ({"quote": TEXT, "td_quote": TEXT}, "does not hold one TDX quote"),
        ({"td_quote": TEXT, "tpm_quote": {}}, "holds more than a TDX quote"),
        ({"quote": 1}, "a quote in an unknown form"),
        ({"quote": [256]}, "a quote in an unknown form"),
        ({"quote": [True]}, "a quote in an unknown form"),
        ({"quote": "\u00e9"}, "a quote in an unknown form"),
    ],
)
def test_documents_that_are_none(document: Any, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        read_quote(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"quote":', "malformed"),
        (b'{"quote":' + b"[" * 100_000, "malformed"),
        (b"{\xff}", "malformed"),
        (b"{" + b" " * 256 * 1024, "longer than its limit"),
        (b"CCEL8\0\0\0\1", "not the log"),
        (b"HCLA\2\0\0\0", "a paravisor's report, not a TDX quote"),
    ],
)
def test_what_is_something_else(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        read_quote(data)


@pytest.mark.parametrize("data", [b"", b" \n", b"my dearest, nobody must read this", b"vwxyz", b"[1]"])
def test_what_has_no_form_stays_as_it_is(data: bytes) -> None:
    assert read_quote(data) == data


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.from_regex(r"\{.*\}").map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (read_quote, read_event_log):
        try:
            read(data)
        except DecodeError:
            continue


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from(["tdx", "quote", "td_quote"]), of),
    )
)
def test_any_document_is_read_or_refused(document: Any) -> None:
    try:
        read_quote(json.dumps(document).encode())
    except DecodeError:
        return


def test_the_longest_document() -> None:
    document = b'{"quote": "AAAA"}'
    assert read_quote(document.ljust(256 * 1024)) == b"\xaa\xaa"
    with pytest.raises(DecodeError, match="longer than its limit"):
        read_quote(document.ljust(256 * 1024 + 1))


def test_words_in_full() -> None:
    for data, words in (
        (b'{"tdx": 1}', "the JSON document does not hold one TDX quote"),
        (b"{" + b" " * 256 * 1024, "the JSON document is longer than its limit"),
    ):
        with pytest.raises(DecodeError) as refused:
            read_quote(data)
        assert str(refused.value) == words

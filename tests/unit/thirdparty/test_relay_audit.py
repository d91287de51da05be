"""The audit in docs/relays.md is what recording proxies at every hop see."""

import pytest

import relay_kit
from script_kit import ROOT, script


def test_the_page_has_the_audit() -> None:
    for kind in relay_kit.KINDS:
        if lack := relay_kit.missing(kind):
            pytest.skip(lack)
    page = (ROOT / "docs" / "relays.md").read_text()
    kept = page.partition("<!-- audit -->\n")[2].partition("<!-- end -->")[0]
    assert kept.splitlines() == script("relay_audit").tables()


def test_messages_are_read_in_either_framing() -> None:
    stream = (
        b"POST / HTTP/1.1\r\nA: b\r\ncontent-length: 3\r\n\r\nabc"
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
    )
    found = list(script("relay_audit").messages(stream))
    assert [message.size for message in found] == [3, 13, 0]
    assert found[0].names == "`a: b`, length or chunks"
    assert found[2].names == "`x: y`"

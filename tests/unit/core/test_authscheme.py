import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.authscheme import Challenge, from_base64url, parse_fields, to_base64url
from sottovoce.core.errors import DecodeError


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        (b"PrivateToken token=abc", {b"token": b"abc"}),
        (b"privatetoken   TOKEN = abc", {b"token": b"abc"}),
        (b'PrivateToken token="abc=="', {b"token": b"abc=="}),
        (b"PrivateToken token=abc==", {b"token": b"abc=="}),
        (b'PrivateToken token="a\\"b\\\\c, d=e"', {b"token": b'a"b\\c, d=e'}),
        (b"PrivateToken a=1,b=2 , c=3", {b"a": b"1", b"b": b"2", b"c": b"3"}),
        (b"PrivateToken a=1,,\t, b=2", {b"a": b"1", b"b": b"2"}),  # RFC 9110 section 5.6.1.2: empty elements
        (b'PrivateToken token=""', {b"token": b""}),
    ],
)
def test_what_rfc_9110_section_11_allows(value: bytes, parameters: dict[bytes, bytes]) -> None:
    assert parse_fields(value) == [Challenge(scheme=b"privatetoken", parameters=parameters)]


def test_several_challenges() -> None:
    challenges = parse_fields(b'A x="1", y=2, B z=3, A x=4')
    assert [c.scheme for c in challenges] == [b"a", b"b", b"a"]
    assert [c.parameters for c in challenges] == [{b"x": b"1", b"y": b"2"}, {b"z": b"3"}, {b"x": b"4"}]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty"),
        (b"PrivateToken", "grammar"),
        (b"PrivateToken ", "grammar"),
        (b"token=abc", "grammar"),
        (b"PrivateToken abc", "grammar"),
        (b"PrivateToken token", "grammar"),
        (b"PrivateToken token=", "grammar"),
        (b"PrivateToken token=a b", "grammar"),
        (b"PrivateToken token=a=b", "grammar"),
        (b'PrivateToken token="abc', "grammar"),
        (b'PrivateToken token="a"b', "grammar"),
        (b'PrivateToken token="\x00"', "grammar"),
        (b'PrivateToken token="\xff"', "grammar"),
        (b'PrivateToken token="a\r\nb"', "grammar"),
        (b"PrivateToken t\xc3=a", "grammar"),
        (b"\tPrivateToken token=a", "grammar"),
        (b"PrivateToken token=a,", "comma"),
        (b"PrivateToken token=a, TOKEN=b", "twice"),
        (b"PrivateToken token=" + b"a" * 20000, "limit"),
    ],
)
def test_what_it_does_not(value: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        parse_fields(value)


@given(st.binary(max_size=200) | st.text('Ax="\\,; \t', max_size=40).map(str.encode))
def test_any_bytes_parse_or_raise_a_typed_error(value: bytes) -> None:
    try:
        challenges = parse_fields(value)
    except DecodeError:
        return
    assert challenges


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    assert from_base64url(to_base64url(data)) == data


@pytest.mark.parametrize("text", [b"YQ", b"YQ=", b"YQ===", b"YR==", b"Y+==", b"Y/==", b"Y Q=", b"=YQ=", b"YQ==YQ==", b"YWI=\n"])  # fmt: skip
def test_base64url_has_one_form(text: bytes) -> None:
    with pytest.raises(DecodeError, match="base64url"):
        from_base64url(text)


@given(st.binary(max_size=60))
def test_any_text_is_canonical_base64url_or_refused(text: bytes) -> None:
    try:
        data = from_base64url(text)
    except DecodeError:
        return
    assert base64.urlsafe_b64encode(data) == text

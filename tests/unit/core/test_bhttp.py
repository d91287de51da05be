from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import bhttp
from sottovoce.core.errors import DecodeError, LimitError, PeerError, ProtocolError, UsageError
from sottovoce.core.limits import LIMITS

NAMES = st.from_regex(rb"[a-z][a-z0-9-]{0,9}", fullmatch=True)
VALUES = st.binary(max_size=20).filter(lambda v: not set(v) & set(b"\0\r\n") and v == v.strip(b" \t"))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple)
GET = bhttp.Request(method=b"GET", scheme=b"https", authority=b"x", path=b"/")

# RFC 9292 section 5.1: the same request in both forms
KNOWN_REQUEST = bytes.fromhex(
    "0003474554056874747073000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33206c69626375"
    "726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e63"
    "6f6d0f6163636570742d6c616e677561676506656e2c206d690000"
)
STREAMED_REQUEST = bytes.fromhex(
    "0203474554056874747073000a2f68656c6c6f2e7478740a757365722d6167656e74346375726c2f372e31362e33206c69626375726c"
    "2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e636f6d"
    "0f6163636570742d6c616e677561676506656e2c206d6900" + "00" * 12
)
EXAMPLE = bhttp.Request(
    method=b"GET",
    scheme=b"https",
    authority=b"",
    path=b"/hello.txt",
    headers=(
        (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        (b"host", b"www.example.com"),
        (b"accept-language", b"en, mi"),
    ),
)
# RFC 9292 section 5.2: a response with a trailer, in both forms
KNOWN_RESPONSE = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)
STREAMED_RESPONSE = bytes.fromhex(
    "0340c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0007747261696c6572047465787400"
)


def test_the_examples_of_the_rfc() -> None:
    assert bhttp.encode_request(EXAMPLE) == KNOWN_REQUEST
    # Section 5.1 says how much of each may be cut off: two bytes, twelve bytes.
    for data, cut in ((KNOWN_REQUEST, 2), (STREAMED_REQUEST, 12)):
        for length in range(len(data) - cut, len(data) + 1):
            assert bhttp.decode_request(data[:length]) == EXAMPLE
    response = bhttp.Response(
        status=200, content=b"This content contains CRLF.\r\n", trailers=((b"trailer", b"text"),)
    )
    assert bhttp.encode_response(response) == KNOWN_RESPONSE
    encoder = bhttp.ResponseEncoder()
    assert encoder.head(200) + encoder.data(response.content) + encoder.end(response.trailers) == (
        STREAMED_RESPONSE
    )
    for data in (KNOWN_RESPONSE, STREAMED_RESPONSE):
        assert bhttp.decode_response(data) == response


@given(HEADERS, st.binary(max_size=200), HEADERS, st.integers(0, 9))
def test_whole_messages(
    headers: bhttp.Headers, content: bytes, trailers: bhttp.Headers, padding: int
) -> None:
    request = bhttp.Request(
        method=b"POST",
        scheme=b"https",
        authority=b"x",
        path=b"/v1",
        headers=headers,
        content=content,
        trailers=trailers,
    )
    assert bhttp.decode_request(bhttp.encode_request(request) + bytes(padding)) == request
    response = bhttp.Response(
        status=201,
        headers=headers,
        content=content,
        trailers=trailers,
        informational=(bhttp.Informational(status=103, headers=headers),) * (padding % 3),
    )
    assert bhttp.decode_response(bhttp.encode_response(response) + bytes(padding)) == response


@given(HEADERS, st.lists(st.binary(min_size=1, max_size=50), max_size=4), HEADERS, st.integers(1, 60))
def test_a_response_however_it_is_split(
    headers: bhttp.Headers, pieces: list[bytes], trailers: bhttp.Headers, step: int
) -> None:
    early = bhttp.Informational(status=103, headers=headers)
    encoder = bhttp.ResponseEncoder()
    streamed = (
        encoder.head(200, headers, [early]) + b"".join(map(encoder.data, pieces)) + encoder.end(trailers)
    )
    response = bhttp.Response(
        status=200, headers=headers, content=b"".join(pieces), trailers=trailers, informational=(early,)
    )
    for data in (streamed, bhttp.encode_response(response)):
        decoder = bhttp.ResponseDecoder()
        events = [event for at in range(0, len(data), step) for event in decoder.feed(data[at : at + step])]
        assert decoder.finish() == []
        assert events[:2] == [early, bhttp.Head(status=200, headers=headers)]
        assert events[-1] == bhttp.End(trailers=trailers)
        content = events[2:-1]
        assert b"".join(event.data for event in content if isinstance(event, bhttp.Content)) == b"".join(
            pieces
        )
        assert bhttp.decode_response(data) == response


def test_head_and_content_come_before_the_end() -> None:
    decoder = bhttp.ResponseDecoder()
    assert decoder.feed(KNOWN_RESPONSE[:4]) == [bhttp.Head(status=200)]
    assert decoder.feed(KNOWN_RESPONSE[4:9]) == [bhttp.Content(data=b"This")]


def test_a_minimal_response_is_complete_when_nothing_more_comes() -> None:
    decoder = bhttp.ResponseDecoder()
    assert decoder.feed(b"\x01\x40\xc8") == []
    assert decoder.finish() == [bhttp.Head(status=200), bhttp.End()]


@pytest.mark.parametrize("data", [KNOWN_RESPONSE, STREAMED_RESPONSE], ids=["known", "streamed"])
def test_a_response_cut_inside_a_section_is_refused(data: bytes) -> None:
    # Sections 3.1 and 3.2: a cut is allowed after control data, after the headers, after the content.
    content_end = data.index(b"\x07trailer") - (data is KNOWN_RESPONSE)
    allowed = {3, 4, content_end}
    for end in range(len(data)):
        decoder = bhttp.ResponseDecoder()
        if end in allowed:
            assert decoder.feed(data[:end]) + decoder.finish()
            continue
        with pytest.raises(DecodeError):
            (decoder.feed(data[:end]), decoder.finish())


def request(*control: bytes, rest: bytes = b"") -> bytes:
    return b"\0" + b"".join(bytes([len(part)]) + part for part in control) + rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        bhttp.encode_response(bhttp.Response(status=200)),
        b"\x00\x03GET",
        request(b"", b"https", b"", b"/"),
        request(b"G T", b"https", b"", b"/"),
        request(b"GET", b"", b"", b"/"),
        request(b"GET", b"1https", b"", b"/"),
        request(b"GET", b"https", b"a@b", b"/"),
        request(b"GET", b"https", b"a b", b"/"),
        request(b"GET", b"https", b"", b""),
        request(b"GET", b"https", b"", b"hello"),
        request(b"GET", b"https", b"", b"/a b"),
        request(b"GET", b"https", b"", b"/\r\nx: y"),
        request(b"GET", b"https", b"", b"/", rest=b"\x08\x05Upper\x01x"),
        request(b"GET", b"https", b"", b"/", rest=b"\x08\x05:path\x01x"),
        request(b"GET", b"https", b"", b"/", rest=b"\x03\x00\x01x"),
        request(b"GET", b"https", b"", b"/", rest=b"\x05\x01a\x02\r\n"),
        request(b"GET", b"https", b"", b"/", rest=b"\x04\x01a\x01\0"),
        request(b"GET", b"https", b"", b"/", rest=b"\x04\x01a\x01 "),
        request(b"GET", b"https", b"", b"/", rest=b"\x05\x01a\x02\tb"),
        request(b"GET", b"https", b"", b"/", rest=b"\x05\x01a\x02b "),
        request(b"GET", b"https", b"", b"/", rest=b"\x03\x01a\x01"),
        request(b"GET", b"https", b"", b"/", rest=b"\x02\x01a"),
        request(b"GET", b"https", b"", b"/", rest=b"\0\0\0\x01"),
    ],
)
def test_malformed_requests(data: bytes) -> None:
    with pytest.raises(DecodeError):
        bhttp.decode_request(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\x01", b"\x01\x40\x63", b"\x01\x42\x58", b"\x01\x40\x67", b"\x01\x40\x67\x00", b"\x03\x40\xc8\x01a"],
)  # fmt: skip
def test_malformed_responses(data: bytes) -> None:
    with pytest.raises(DecodeError):
        bhttp.decode_response(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: bhttp.Request(method=b"GET", scheme=b"https", authority=b"x", path=b"/ x"),
        lambda: bhttp.Request(method=b"GET", scheme=b"https", authority=b"", path=b"/", headers=((b"A", b""),)),
        lambda: bhttp.Request(method=b"GET", scheme=b"https", authority=b"", path=b"/", trailers=((b"", b""),)),
        lambda: bhttp.Response(status=199),
        lambda: bhttp.Response(status=600),
        lambda: bhttp.Response(status=200, headers=((b"a", b"x\nb: y"),)),
        lambda: bhttp.Response(status=200, trailers=((b"a", b" x"),)),
        lambda: bhttp.Informational(status=200),
        lambda: bhttp.ResponseEncoder.head(100),
        lambda: bhttp.ResponseEncoder.end(((b"a\0", b"x"),)),
    ],
)  # fmt: skip
def test_illegal_messages_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


def test_limits() -> None:
    many = bhttp.encode_response(bhttp.Response(status=200, content=bytes(2 * LIMITS.request)))
    with pytest.raises(LimitError):
        bhttp.decode_response(many)
    decoder = bhttp.ResponseDecoder(content_limit=3)
    with pytest.raises(LimitError):
        decoder.feed(bhttp.ResponseEncoder.head(200) + b"\x02ab\x02")
    long = bhttp.ResponseEncoder.head(200, ((b"a", bytes(32 * 1024).replace(b"\0", b"x")),))
    with pytest.raises(LimitError):
        bhttp.ResponseDecoder().feed(long)
    with pytest.raises(LimitError):
        # Refused by its length, before it is here.
        bhttp.ResponseDecoder().feed(b"\x01\x40\xc8\x80\x01\x00\x00")
    with pytest.raises(LimitError):
        bhttp.ResponseDecoder().feed(b"\x03" + 20_000 * b"\x40\x67\x01a\x00\x00")
    with pytest.raises(LimitError):
        bhttp.ResponseDecoder().feed(b"\x03" + 40_000 * b"\x40\x67\x00")


def test_a_header_that_must_be_single() -> None:
    assert bhttp.header(((b"a", b"1"),), b"b") is None
    assert bhttp.header(((b"a", b"1"), (b"b", b"2")), b"b") == b"2"
    with pytest.raises(ProtocolError):
        bhttp.header(((b"a", b"1"), (b"a", b"2")), b"a")


def test_content_has_no_repr() -> None:
    data = bhttp.encode_response(bhttp.Response(status=200, content=b"canary"))
    assert "canary" not in repr(bhttp.ResponseDecoder().feed(data))
    assert "canary" not in repr(bhttp.decode_response(data))
    assert "canary" not in repr(bhttp.Request(method=b"GET", scheme=b"h", authority=b"", path=b"/", content=b"canary"))  # fmt: skip


def attempt(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except PeerError:
        return


@given(st.binary(max_size=100), st.integers(0, 3))
def test_any_bytes_are_binary_http_or_a_typed_error(data: bytes, framing: int) -> None:
    for decode in (bhttp.decode_request, bhttp.decode_response, bhttp.ResponseDecoder().feed):
        attempt(decode, bytes([framing]) + data)


@given(st.data())
def test_any_change_is_binary_http_or_a_typed_error(data: st.DataObject) -> None:
    changed = bytearray(
        data.draw(st.sampled_from([KNOWN_REQUEST, STREAMED_REQUEST, KNOWN_RESPONSE, STREAMED_RESPONSE]))
    )
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for decode in (bhttp.decode_request, bhttp.decode_response):
        attempt(decode, bytes(changed))


@given(st.binary(max_size=80), st.integers(0, 1), st.integers(1, 20))
def test_pieces_and_whole_agree(data: bytes, streamed: int, step: int) -> None:
    message = bytes([1 + 2 * streamed]) + b"\x40\xc8" + data
    decoder, events = bhttp.ResponseDecoder(), []
    try:
        for at in range(0, len(message), step):
            events += decoder.feed(message[at : at + step])
        events += decoder.finish()
    except PeerError as error:
        with pytest.raises(type(error)):
            bhttp.decode_response(message)
        return
    response = bhttp.decode_response(message)
    assert events[0] == bhttp.Head(status=200, headers=response.headers)
    assert b"".join(e.data for e in events if isinstance(e, bhttp.Content)) == response.content

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import bhttp
from sottovoce.core.bhttp_requests import RequestDecoder, RequestEncoder, RequestHead
from sottovoce.core.errors import DecodeError, LimitError, PeerError, ProtocolError, UsageError

LIMIT = 4096
REQUEST = bhttp.Request(
    method=b"POST",
    scheme=b"https",
    authority=b"gateway",
    path=b"/v1/sessions",
    headers=((b"date", b"today"), (b"candidates", b"host-1, host-2")),
    content=b"first flight",
)
HEAD = RequestHead(
    method=REQUEST.method,
    scheme=REQUEST.scheme,
    authority=REQUEST.authority,
    path=REQUEST.path,
    headers=REQUEST.headers,
)


def streamed(*pieces: bytes) -> bytes:
    return RequestEncoder.head(REQUEST) + b"".join(map(RequestEncoder.data, pieces)) + RequestEncoder.end()


def decode(data: bytes, step: int = 1 << 20) -> tuple[list[RequestHead], bytes, int]:
    """Heads, content and number of ends."""
    decoder = RequestDecoder(content_limit=LIMIT)
    events = [event for at in range(0, len(data), step) for event in decoder.feed(data[at : at + step])]
    events += decoder.finish()
    return (
        [event for event in events if isinstance(event, RequestHead)],
        b"".join(event.data for event in events if isinstance(event, bhttp.Content)),
        sum(isinstance(event, bhttp.End) for event in events),
    )


WHOLE = (bhttp.encode_request(REQUEST), streamed(b"first ", b"flight"))


@pytest.mark.parametrize("data", WHOLE, ids=["known", "streamed"])
@pytest.mark.parametrize("padding", [b"", bytes(70)])
@given(step=st.integers(1, 200))
def test_both_forms_in_any_pieces(data: bytes, padding: bytes, step: int) -> None:
    assert decode(data + padding, step) == ([HEAD], REQUEST.content, 1)


def test_the_whole_decoder_reads_what_the_encoder_writes() -> None:
    assert bhttp.decode_request(streamed(b"first ", b"", b"flight")) == REQUEST


@pytest.mark.parametrize("data", WHOLE, ids=["known", "streamed"])
def test_head_and_content_do_not_wait_for_the_end(data: bytes) -> None:
    decoder = RequestDecoder(content_limit=LIMIT)
    at = data.index(b"flight") + 2
    events = decoder.feed(data[:at])
    assert events[0] == HEAD
    assert b"".join(event.data for event in events[1:] if isinstance(event, bhttp.Content)) == b"first fl"


def test_empty_sections_may_be_left_out() -> None:
    bare = bhttp.encode_request(
        bhttp.Request(method=b"DELETE", scheme=b"https", authority=b"", path=b"/v1/sessions/1")
    )
    assert bare.endswith(b"\0\0\0")
    for cut in range(3):
        heads, content, ends = decode(bare[: len(bare) - cut])
        assert (len(heads), content, ends) == (1, b"", 1)


@pytest.mark.parametrize("data", WHOLE, ids=["known", "streamed"])
def test_a_request_cut_elsewhere_is_refused(data: bytes) -> None:
    control = len(bhttp.encode_request(dataclasses.replace(REQUEST, headers=(), content=b""))) - 3
    allowed = {len(data), len(data) - 1, control}
    if data is WHOLE[1]:
        allowed.add(len(RequestEncoder.head(REQUEST)))
    else:
        allowed.add(len(data) - 2 - len(REQUEST.content))
    for end in range(len(data)):
        if end not in allowed:
            with pytest.raises(DecodeError):
                decode(data[:end])


def test_refusals() -> None:
    with pytest.raises(DecodeError):
        decode(bhttp.encode_response(bhttp.Response(status=200)))
    with pytest.raises(DecodeError):
        decode(WHOLE[0] + b"\0\1")
    with pytest.raises(ProtocolError):
        decode(WHOLE[1][:-1] + b"\1a\1b\0")
    with pytest.raises(LimitError):
        decode(streamed(bytes(LIMIT), b"x"))
    with pytest.raises(LimitError):
        decode(b"\0" + b"\x80\xff\xff\xff")


def test_a_refused_request_stays_refused() -> None:
    decoder = RequestDecoder(content_limit=LIMIT)
    with pytest.raises(DecodeError):
        decoder.feed(b"\x01")
    with pytest.raises(DecodeError, match="before"):
        decoder.feed(WHOLE[0])
    with pytest.raises(DecodeError, match="before"):
        decoder.finish()
    complete = RequestDecoder(content_limit=LIMIT)
    complete.feed(WHOLE[0])
    complete.finish()
    with pytest.raises(UsageError):
        complete.feed(b"\0")


def test_a_head_in_single_bytes_takes_linear_time() -> None:
    # 8,000 lines, one byte at a time: a decoder that begins again with each byte would need minutes.
    lines = RequestEncoder.head(dataclasses.replace(REQUEST, headers=((b"a", b""),) * 8000))
    decoder = RequestDecoder(content_limit=LIMIT)
    start = time.process_time()
    events = [event for byte in lines for event in decoder.feed(bytes([byte]))]
    assert time.process_time() - start < 5
    assert len(events) == 1


def test_trailers_are_written_and_refused() -> None:
    data = RequestEncoder.head(REQUEST) + RequestEncoder.end(((b"a", b"b"),))
    assert bhttp.decode_request(data).trailers == ((b"a", b"b"),)
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_give_events_or_a_typed_error(data: bytes) -> None:
    try:
        heads, _, ends = decode(data)
    except PeerError:
        return
    assert (len(heads), ends) == (1, 1)


@given(st.data())
def test_any_change_gives_events_or_a_typed_error(data: st.DataObject) -> None:
    changed = bytearray(data.draw(st.sampled_from(WHOLE)))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(changed), data.draw(st.integers(1, 40)))
    except PeerError:
        return

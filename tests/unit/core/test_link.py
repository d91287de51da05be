import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import END_OF_TURN, LinkReader, encode_turn


@given(st.binary(max_size=1000), st.integers(1, 300))
def test_a_turn_comes_out_whole_however_it_is_split(data: bytes, step: int) -> None:
    stream, reader, messages = encode_turn(data), LinkReader(), []
    for at in range(0, len(stream), step):
        messages += reader.feed(stream[at : at + step])
    assert messages[-1] == b""
    assert b"".join(messages) == data
    assert reader.is_between_messages


def test_long_data_is_cut_into_messages() -> None:
    messages = LinkReader().feed(encode_turn(b"x" * (LIMITS.link_message + 1)))
    assert [len(message) for message in messages] == [LIMITS.link_message, 1, 0]


def test_a_message_beyond_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(DecodeError):
        LinkReader().feed((LIMITS.link_message + 1).to_bytes(4, "big"))


def test_a_stream_that_ends_inside_a_message_is_known() -> None:
    reader = LinkReader()
    assert reader.feed(END_OF_TURN + b"\x00") == [b""]
    assert not reader.is_between_messages

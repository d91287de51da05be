import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError
from sottovoce.core.frames import (
    FRAME,
    FRAME_DATA,
    FrameReader,
    Pacer,
    encode_message,
    size_class,
    stream_class,
)


@given(st.binary(max_size=20_000), st.integers(1, 3000))
def test_round_trip_however_it_is_split(data: bytes, step: int) -> None:
    message = encode_message(data)
    reader = FrameReader()
    pieces = [reader.feed(message[at : at + step]) for at in range(0, len(message), step)]
    assert b"".join(pieces) == data
    assert reader.is_between_frames


@given(st.integers(0, 1 << 20))
def test_size_classes(length: int) -> None:
    padded = size_class(length)
    assert padded >= max(length, 4096)
    assert padded % FRAME == 0
    assert size_class(padded) == padded
    assert padded <= max(4096, length * 1.12 + FRAME)  # Padmé's bound: at most 12 % more


# Nikitin et al. 2019, section 4.3: the mantissa keeps as many bits as the exponent's own length.
@pytest.mark.parametrize(
    ("length", "padded"), [(9, 4096), (4096, 4096), (4097, 4608), (10_000, 10_240), (65_537, 67_584)]
)
def test_size_class_values(length: int, padded: int) -> None:
    assert size_class(length) == padded


@pytest.mark.parametrize(
    "frame", [b"\x01\xff" + bytes(510), b"\xff\xff" + bytes(510), b"\x00\x01ab" + bytes(508)]
)
def test_wrong_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        FrameReader().feed(frame)


@given(st.lists(st.binary(max_size=2000), max_size=8))
def test_a_paced_message_is_whole_frames_up_to_its_class(pieces: list[bytes]) -> None:
    pacer, reader, out, sent = Pacer(), FrameReader(), b"", 0
    for piece in pieces:
        pacer.put(piece)
        frame = pacer.tick()
        assert len(frame) in {0, FRAME}
        out, sent = out + reader.feed(frame), sent + len(frame)
    pacer.end()
    while not pacer.is_over:
        frame = pacer.tick()
        out, sent = out + reader.feed(frame), sent + len(frame)
    assert out == b"".join(pieces)
    assert sent == size_class(sent) > 0
    assert pacer.tick() == b""


def test_pauses_do_not_show() -> None:
    pacer = Pacer()
    assert not pacer.has_begun
    assert FrameReader().feed(pacer.tick()) == b""
    assert pacer.has_begun
    pacer.put(b"first")
    assert [len(pacer.tick()) for _ in range(5)] == [FRAME] * 5


# Frames, and those of their class.
@pytest.mark.parametrize(
    ("frames", "padded"),
    [
        (0, 128),
        (1, 128),
        (128, 128),
        (129, 256),
        (300, 512),
        (4097, 8192),
        (8192, 8192),
        (8193, 9216),
        (14000, 14336),
    ],
)
def test_classes_of_streams(frames: int, padded: int) -> None:
    assert stream_class(frames * FRAME) == padded * FRAME


@given(st.integers(0, 1 << 24))
def test_a_class_is_its_own_class(length: int) -> None:
    padded = stream_class(length)
    assert padded >= length
    assert stream_class(padded) == padded


def test_a_stream_ends_with_its_class_whenever_it_was_complete() -> None:
    for waits in (0, 1, 20, 127):
        pacer, sent = Pacer(stream_class), 0
        for _ in range(waits):
            sent += len(pacer.tick())
        pacer.put(b"all")
        pacer.end()
        while frame := pacer.tick():
            sent += len(frame)
        assert sent == 128 * FRAME


def test_tokens_do_not_show() -> None:
    pacer = Pacer()
    pacer.put(b"x" * (FRAME_DATA + 1))
    assert [len(pacer.tick()) for _ in range(3)] == [FRAME] * 3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, LimitError, SottovoceError
from sottovoce.core.limits import LIMITS
from sottovoce.device.answers import AnswerDecoder, Done, Line, Piece, ServiceError

ANSWER = (
    b'{"event":"line","kind":"highlight","sender":"Anna","text":"At 6.","messages":["7"]}\n'
    b'{"event":"piece","kind":"headline","text":"Anna "}\n'
    b'{"event":"done","method":"m","model":"x"}\n'
)


@given(st.lists(st.integers(1, 40), max_size=20))
def test_split_anywhere(cuts: list[int]) -> None:
    decoder, events, rest = AnswerDecoder(), [], ANSWER
    for cut in cuts:
        events += decoder.feed(rest[:cut])
        rest = rest[cut:]
    events += decoder.feed(rest)
    decoder.finish()
    assert events == [
        Line(kind="highlight", sender="Anna", text="At 6.", messages=["7"]),
        Piece(kind="headline", text="Anna "),
        Done(method="m", model="x"),
    ]


@pytest.mark.parametrize("end", [0, 10, len(ANSWER) - 1])
def test_a_truncated_answer_is_not_an_answer(end: int) -> None:
    decoder = AnswerDecoder()
    decoder.feed(ANSWER[:end])
    with pytest.raises(DecodeError, match="complete"):
        decoder.finish()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b'{"event":"line"}',
        b'{"event":"x"}',
        b"\xff",
        b'{"event":"False\xe4"}',  # the library's own error for this is a ValueError
        b'{"event":"piece","kind":"k","text":"t","x":1}',
    ],
)
def test_unknown_forms_are_refused_without_repeating_them(line: bytes) -> None:
    with pytest.raises(DecodeError, match="unknown form"):
        AnswerDecoder().feed(line + b"\n")


def test_nothing_may_follow_the_end() -> None:
    decoder = AnswerDecoder()
    decoder.feed(ANSWER)
    with pytest.raises(DecodeError, match="after its end"):
        decoder.feed(b'{"event":"piece","kind":"k","text":"t"}\n')


def test_a_failure_of_the_service_is_an_error() -> None:
    with pytest.raises(ServiceError):
        AnswerDecoder().feed(b'{"event":"error","code":"backend"}\n')


def test_a_line_without_end_is_bounded() -> None:
    with pytest.raises(LimitError):
        AnswerDecoder().feed(b"x" * (LIMITS.answer + 1))


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_typed_error(data: bytes) -> None:
    decoder = AnswerDecoder()
    try:
        decoder.feed(data)
        decoder.finish()
    except SottovoceError:
        return
    raise AssertionError("only a whole answer is complete")


def test_content_is_not_in_a_repr() -> None:
    (event,) = AnswerDecoder().feed(ANSWER.split(b"\n")[0] + b"\n")
    assert "Anna" not in repr(event)

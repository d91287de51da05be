import json
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, LimitError, SottovoceError, UnavailableError
from sottovoce.core.events import Event, decode_event, encode_event, event
from sottovoce.tee.logfilter import (
    BackendLost,
    Code,
    Party,
    SessionOpened,
    code_of,
)


class Colour(Enum):
    RED = "red"


@event
class Painted(Event):
    colour: Colour
    coats: int
    minutes: float
    dry: bool


def test_a_declared_event_passes() -> None:
    entry = Painted(colour=Colour.RED, coats=2, minutes=1.5, dry=True)
    assert encode_event(decode_event(encode_event(entry))) == encode_event(entry)
    opened = SessionOpened(role=Party.GUARD, handshake_ms=3)
    assert decode_event(encode_event(opened)) == opened


GOOD = {"event": "Painted", "colour": "red", "coats": 1, "minutes": 0.5, "dry": False}


@pytest.mark.parametrize(
    "change",
    [
        {"event": "Unknown"},
        {"event": ["Painted"]},
        {"colour": "the user's words"},
        {"colour": ["red"]},
        {"coats": "the user's words"},
        {"coats": True},
        {"coats": 1.5},
        {"coats": 1 << 60},
        {"minutes": 1},
        {"minutes": float("inf")},
        {"minutes": float("nan")},
        {"dry": 1},
        {"text": "the user's words"},
    ],
)
def test_what_is_not_declared_so_does_not_pass(change: dict[str, object]) -> None:
    decode_event(json.dumps(GOOD).encode())
    with pytest.raises(DecodeError):
        decode_event(json.dumps(GOOD | change).encode())


def test_a_missing_field_does_not_pass() -> None:
    with pytest.raises(DecodeError):
        decode_event(json.dumps({k: v for k, v in GOOD.items() if k != "dry"}).encode())


@given(
    st.binary(max_size=200) | st.builds(lambda v: json.dumps(v).encode(), st.recursive(st.text(), st.lists))
)
def test_any_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_event(data)


def test_codes_are_the_nearest_known() -> None:
    assert code_of(LimitError("x")) is Code.LIMIT
    assert code_of(UnavailableError("x", party="guard")) is Code.UNAVAILABLE
    assert code_of(SottovoceError("x")) is Code.ERROR

    class DeepError(LimitError):
        code = "peer.limit.deep.below"

    assert code_of(DeepError("x")) is Code.LIMIT


def test_a_party_is_a_word_from_the_list() -> None:
    line = encode_event(BackendLost(party=Party.GUARD, code=Code.TLS))
    assert json.loads(line) == {"event": "BackendLost", "party": "guard", "code": "peer.tls"}

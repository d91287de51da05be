"""Where a long chat is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.sections import sections


def written(*blocks: int, pause: int = 24) -> list[Message]:
    """Blocks of messages a minute apart, with `pause` hours between two blocks."""
    found: list[Message] = []
    minute = 0
    for count in blocks:
        for _ in range(count):
            day, rest = divmod(minute, 1440)
            time = f"2026-01-{day + 1:02}T{rest // 60:02}:{rest % 60:02}"
            found.append(Message(id=str(len(found)), sender="Ada", text="x", time=time))
            minute += 1
        minute += pause * 60
    return found


@pytest.mark.parametrize("count", [1, 2, 80])
def test_a_chat_that_is_not_long_is_one(count: int) -> None:
    assert list(map(len, sections(written(count // 2, count - count // 2)))) == [count]


@pytest.mark.parametrize("blocks", [(60, 50), (40, 80, 30), (100, 100, 100, 100)])
def test_long_pauses_are_where_it_is_cut(blocks: tuple[int, ...]) -> None:
    found = sections(written(*blocks))
    edges = {sum(blocks[:number]) for number in range(len(blocks))}
    assert edges <= {int(part[0].id) for part in found}


def test_a_pause_after_few_messages_is_none() -> None:
    assert all(len(part) >= 15 for part in sections(written(3, 200, 5, 100)))


@given(st.integers(1, 400), st.sampled_from(["", "no time", "2026-01-01T10:00"]))
def test_nothing_is_lost_or_moved(count: int, time: str) -> None:
    messages = [Message(id=str(at), sender="Ada", text="x", time=time) for at in range(count)]
    found = sections(messages)
    assert [message for part in found for message in part] == messages
    assert 1 <= len(found) <= 8

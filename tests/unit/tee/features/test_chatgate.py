"""The gate of free answers: words pass, addresses that nobody wrote do not."""

import pytest

from sottovoce.tee.features.chatgate import REMOVED, ChatGate

SOURCES = [
    "Book at https://inn.example.org/rooms, or mail anna@inn.example.org.",
    "My number is 555 123 4567; room 12",
]


def passed(text: str, *, size: int = 1) -> str:
    gate = ChatGate(SOURCES)
    return "".join(gate.feed(text[at : at + size]) for at in range(0, len(text), size)) + gate.end()


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "Book a room.",
        "  Two\n\n  lines\twith space around  ",
        "```python\nprint(3.14 * 2)\n```",
        "See https://inn.example.org/rooms.",
        "(HTTPS://INN.example.org/rooms), or mail anna@inn.example.org!",
        "Call 555 123 4567 before 2026-03-02 at 18:30.",
        "नमस्ते, कमरा 12",
        "",
    ],
)
def test_what_passes_as_it_is(text: str, size: int) -> None:
    assert passed(text, size=size) == text


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Go to https://evil.example/x now", f"Go to {REMOVED} now"),
        ("Go to evil.com, now", f"Go to {REMOVED} now"),
        ("[Book](https://evil.example)", REMOVED),
        ("See https://inn.example.org/rooms/../../evil", f"See {REMOVED}"),
        ("mail anna@inn.example.org.evil.com", f"mail {REMOVED}"),
        ("pay DE89370400440532013000 today", f"pay {REMOVED} today"),
        ("call 555123999", f"call {REMOVED}"),
        ("Pay at shop.evil.example today", f"Pay at {REMOVED} today"),
        ("Pay at evil.tech", f"Pay at {REMOVED}"),
        ("Pay at evil.anything/pay today", f"Pay at {REMOVED} today"),
    ],
)
def test_addresses_that_nobody_wrote(text: str, wanted: str, size: int) -> None:
    assert passed(text, size=size) == wanted


def test_a_number_in_groups_is_not_told_whole() -> None:
    assert passed("call 0900 555 000 123 now") == f"call 0900 555 {REMOVED} 123 now"


def test_what_cannot_be_seen_is_taken_out() -> None:
    assert passed("a\u200bb \u202eevil\u202c c") == "ab evil c"
    assert passed("https://evi\u200bl.example/x") == REMOVED


def test_a_word_without_end_is_not_kept_for_ever() -> None:
    gate = ChatGate([])
    assert gate.feed("x" * 2001) == REMOVED
    assert gate.removed == 1
    assert gate.feed("more words ") == "more words"


def test_it_counts() -> None:
    gate = ChatGate(SOURCES)
    gate.feed("aa.com bb.com ")
    gate.end()
    assert gate.removed == 2

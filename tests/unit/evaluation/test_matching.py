"""What counts as saying something."""

import pytest
from evaluation.dataset import Chat, Fact, Wrong
from evaluation.dataset import Line as Said
from evaluation.matching import has, says
from evaluation.measure import Line, measure, total


@pytest.mark.parametrize(
    ("text", "alternatives", "found"),
    [
        ("at 7pm", "7", True),
        ("at 7:00", "7", True),
        ("at 17:00", "7", False),
        ("at 12:07", "7", False),
        ("70 euros", "7", False),
        ("the MEETING", "meet*", True),
        ("the MEETING", "meet", False),
        ("kick-off", "kick", True),
        ("On Saturday", "sat|saturday", True),
        ("demain à 14h", "a 14h", True),
        ("can\u2019t come", "can't", True),
        ("कल शाम को", "शाम", True),
        ("costs £5", "£5", True),
        ("really?", "really?", True),
        ("two\n  words", "two words", True),
    ],
)
def test_alternatives(text: str, alternatives: str, found: bool) -> None:
    assert has(text, alternatives) is found


def test_an_alternative_is_not_empty() -> None:
    with pytest.raises(ValueError, match="empty"):
        has("x", "a||b")


def test_all_groups_and_none_of_the_others() -> None:
    assert says("Friday at 7, not 8", ["friday", "7"])
    assert not says("Friday at 7, not 8", ["friday", "9"])
    assert not says("Friday at 7, not 8", ["friday"], unless=["not"])


FACTS = {
    "when": Fact(text="It is on Friday at 7.", says=["friday", "7"], kind="date", weight=2),
    "drum": Fact(text="Bo brings the drum.", says=["drum"], kind="task", who="Bo"),
}
CHAT = Chat(
    name="x",
    language="en",
    kind="club",
    reader="",
    lines=(Said(id="m1", time="", sender="Ada", text="x"),),
    facts=FACTS,
    wrong={"day": Wrong(text="It is on Monday.", says=["monday"], unless=["not"])},
)


def test_a_summary_is_measured() -> None:
    lines = [Line(text="It is on Friday"), Line(text="at 7"), Line(sender="Bo", text="I bring the drum")]
    found = measure(CHAT, lines)
    assert (found.coverage, found.missed, found.false, found.lines) == (1.0, (), (), 3)
    assert found.characters == len("It is on Friday" + "at 7" + "Bo: I bring the drum")


def test_what_is_far_apart_is_not_one_fact() -> None:
    lines = [
        Line(text="On Friday"),
        Line(text="there is cake"),
        Line(text="at 7"),
        Line(sender="Ada", text="the drum is Cy's"),
    ]
    found = measure(CHAT, lines)
    assert found.missed == ("when", "drum")
    assert found.coverage == 0


def test_false_statements() -> None:
    assert measure(CHAT, [Line(text="It is on Monday")]).false == ("day",)
    assert measure(CHAT, [Line(text="It is not on Monday")]).false == ()


def test_nothing_holds_nothing() -> None:
    found = measure(CHAT, [])
    assert (found.coverage, found.false, found.lines) == (0.0, (), 0)
    both = total([found, measure(CHAT, [Line(text="Friday 7")])])
    assert (both.chats, both.lines) == (2, 0.5)
    assert both.coverage == pytest.approx(1 / 3)

"""The evaluation set is of its form, and as large as it says."""

from collections import Counter
from pathlib import Path

import pytest
from evaluation.dataset import (
    ATTACK_KINDS,
    DATA,
    LANGUAGES,
    STYLES,
    DataError,
    load_attacks,
    load_chat,
    load_chats,
    load_drafts,
    parse_lines,
)
from evaluation.fit import fit

from sottovoce.tee.features.weights import BIAS, WEIGHTS

GOOD = """
language = "en"
kind = "club"
reader = "Bo"
chat = '''
== 2026-03-02
18:03 Ada {when}: The rehearsal is on Friday at 7
18:04 Bo: fine\\nby me
'''
[facts.when]
text = "The rehearsal is on Friday at 7."
kind = "date"
says = ["friday|fri", "7"]
[wrong.day]
text = "It is on Monday."
says = ["monday"]
"""


def test_the_chats() -> None:
    test, dev = load_chats(), load_chats(DATA / "chats" / "dev")
    assert len(test) >= 60
    assert {chat.language for chat in test} == set(LANGUAGES)
    assert min(len(chat.lines) for chat in test) >= 10
    assert max(len(chat.lines) for chat in test) > 350
    assert not {chat.lines for chat in test} & {chat.lines for chat in dev}
    assert all(chat.facts for chat in (*test, *dev))
    assert len(load_chats(DATA / "attacks" / "harmless")) >= 12


def test_the_drafts() -> None:
    test = [draft for draft in load_drafts() if not draft.id.startswith("dev-")]
    assert Counter(draft.style for draft in test) == dict.fromkeys(STYLES, 20)


def test_the_attacks() -> None:
    assert Counter(attack.kind for attack in load_attacks()) == dict.fromkeys(ATTACK_KINDS, 21)


def test_the_weights_are_those_of_the_dev_chats() -> None:
    bias, weights = fit(load_chats(DATA / "chats" / "dev"))
    assert (bias, *weights) == pytest.approx((BIAS, *WEIGHTS), abs=1e-3)


def test_a_chat(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    chat = load_chat(path)
    assert [(line.id, line.sender, line.text) for line in chat.lines] == [
        ("m1", "Ada", "The rehearsal is on Friday at 7"),
        ("m2", "Bo", "fine\nby me"),
    ]
    assert [line.id for line in chat.support("when")] == ["m1"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('language = "en"', 'language = "xx"'),
        ('reader = "Bo"', 'reader = "Cy"'),
        ("{when}", "{then}"),
        (" {when}", ""),
        ('"7"]', '"8"]'),
        ('"7"]', '"7"]\nwho = "Cy"'),
        ('says = ["monday"]', 'says = ["friday"]'),
        ('says = ["monday"]', "says = []"),
        ("== 2026-03-02\n", ""),
        ("18:04 Bo: fine", "Bo said: fine"),
        ('kind = "date"', 'kind = "gossip"'),
    ],
)
def test_a_chat_that_is_not_of_the_form(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=r"bad\.toml"):
        load_chat(path)


def test_lines_need_a_day() -> None:
    with pytest.raises(DataError):
        parse_lines("18:03 Ada: hello")
    assert parse_lines("18:03 Ada: a: b", date="2026-01-01")[0].text == "a: b"

"""docs/guard.md shows the thresholds that the code has."""

import re

import pytest

from script_kit import DOCS
from sottovoce.tee import guard
from sottovoce.tee.features import chatgate, checks, citations, gate

PAGE = " ".join((DOCS / "guard.md").read_text().split())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"the (\d+)th quote", guard._QUOTES + 1),
        (r"more than (\d+) characters \|", gate._LONGEST),
        (r"in the last (\d+) characters", gate._TAIL),
        (r"the same first (\d+) letters", citations._ALIKE),
        (r"are more than (\d+), or no word", citations.MOST),
        (r"(\d+) words in a row of the prompt", gate._ECHO),
        (r"more than ([\d.]+) times the draft", checks._GROWTH),
        (r"times the draft and (\d+) characters", checks._SLACK),
        (r"less than ([\d.]+) \(shortened", checks._SHARED),
        (r"shortened: ([\d.]+)\) of the draft", checks._SHARED_SHORT),
        (r"`example` \| ([\d.]+) of an example", checks._EXAMPLE_LIKE),
        (r"more than ([\d.]+) of an earlier", checks._ALIKE),
        (r"more than ([\d,]+) characters\.", chatgate._LONGEST),
    ],
)
def test_thresholds(text: str, value: float) -> None:
    found = re.search(text, PAGE)
    assert found, text
    assert float(found[1].replace(",", "")) == value


def test_every_reason_is_on_the_page() -> None:
    told = set(re.findall(r"`([a-z ]+)`", PAGE))
    given: set[str] = set()
    for module in (gate, checks, guard):
        source = (DOCS.parent / "src" / "/".join(module.__name__.split("."))).with_suffix(".py").read_text()
        given |= set(re.findall(r'(?:return|reason =|_drop\() ?"([a-z ]+)"', source))
    assert given
    assert given <= told

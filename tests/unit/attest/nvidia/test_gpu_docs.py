"""docs/nvidia.md names every check, and which of them can be relaxed."""

import re
from pathlib import Path

from sottovoce.attest.nvidia.rules import GPU_RULES, LIST_RULES, SWITCH_RULES
from sottovoce.attest.nvidia.verify import NVIDIA_RELAXABLE, NVIDIA_RULE_NAMES

PAGE = Path(__file__).resolve().parents[4] / "docs" / "nvidia.md"


def test_the_page_lists_the_checks() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| (yes|-) \|$", PAGE.read_text(), re.MULTILINE
    )
    rules = {**GPU_RULES, **SWITCH_RULES, **LIST_RULES}
    assert {name for name, *_ in rows} == NVIDIA_RULE_NAMES
    assert len(rows) == len(rules)
    for name, _, title, source, relaxable in rows:
        assert (title, source) == (rules[name].title, rules[name].source)
        assert (relaxable == "yes") == (name in NVIDIA_RELAXABLE)

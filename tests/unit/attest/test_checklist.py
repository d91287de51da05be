"""A checklist: each line once, and what a policy relaxes or leaves out is named as such."""

import pytest

from sottovoce.attest.verdict import Checklist, Rule, Status
from sottovoce.core.errors import PeerError, UsageError

RULES = {
    name: Rule(section=section, title=f"the {name}", source="this test", risk="nothing")
    for name, section in (("second", "6.2"), ("first", "6.1"), ("tenth", "6.10"))
}


def refuse() -> None:
    raise PeerError("it is not there")


def test_what_fails_is_relaxed_only_where_the_policy_says_so() -> None:
    checks = Checklist(RULES, relaxed=["first", "tenth"])
    assert not checks.add("first", ok=False, found="0", wanted="1")
    assert not checks.add("second", ok=False, found="0", wanted="1")
    checks.attempt("tenth", refuse, wanted="there")
    found = checks.verdict()
    assert [(line.id, line.status, line.found) for line in found.checks] == [
        ("first", Status.RELAXED, "0"),
        ("second", Status.FAIL, "0"),
        ("tenth", Status.RELAXED, "it is not there"),
    ]
    assert found.relaxed == ("first", "tenth")


def test_what_passes_is_not_relaxed() -> None:
    checks = Checklist(RULES, relaxed=["first"])
    assert checks.add("first", ok=True, found="1", wanted="1")
    (line, *_) = checks.verdict(without=["second", "tenth"]).checks
    assert line.status is Status.PASS


def test_what_is_left_out_is_not_checked_whatever_was_found() -> None:
    checks = Checklist(RULES, left_out=["first", "second"])
    checks.add("first", ok=True, found="1", wanted="1")
    checks.skip("second", "there is nothing")
    lines = {line.id: line for line in checks.verdict(without=["tenth"]).checks}
    assert (lines["first"].status, lines["first"].found) == (Status.NOT_CHECKED, "1")
    assert lines["first"].wanted == "nothing: the policy leaves it out"
    assert (lines["second"].status, lines["second"].found) == (Status.NOT_CHECKED, "there is nothing")
    assert lines["second"].wanted != "nothing: the policy leaves it out"


def test_what_was_never_reached_fails_or_is_relaxed() -> None:
    lines = Checklist(RULES, relaxed=["tenth"]).verdict().checks
    assert [line.status for line in lines] == [Status.FAIL, Status.FAIL, Status.RELAXED]


def test_a_line_is_recorded_once() -> None:
    checks = Checklist(RULES)
    checks.add("first", ok=True, found="1", wanted="1")
    with pytest.raises(UsageError, match=r"^a check was recorded twice$"):
        checks.add("first", ok=True, found="1", wanted="1")

"""The pages are those of the results, and the results say what is on them."""

import json

from evaluation.measure import stands_in
from evaluation.page import ANSWERS, PAGE, RESULTS, answers_page, page


def test_the_pages_are_current() -> None:
    assert PAGE.read_text() == page()
    assert (ANSWERS.read_text() if ANSWERS.exists() else "") == answers_page()


def test_no_quote_is_made_up() -> None:
    assert sum(row["not verbatim"] for row in json.loads(RESULTS.read_text())["summaries"]["Sottovoce"]) == 0


def test_what_stands_in_a_message() -> None:
    text = "Sign up at https://club.example by Friday. Bring 5 for the cake"
    assert stands_in("Sign up at [link] by Friday.", text)
    assert stands_in("Sign up at [link] by…", text)
    assert not stands_in("Sign up at [link] by Monday.", text)
    assert not stands_in("by Friday. Sign up at [link]", text)

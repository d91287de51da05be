"""The list of error words is the code's. Not among the tests of attest: mutation testing runs those on changed code."""

from error_words import WORDS, said


def test_every_error_of_attest_is_listed() -> None:
    assert WORDS.read_text().splitlines() == sorted(said())

"""Cleaning, numbers, addresses, sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.tee.features.languages import language
from sottovoce.tee.features.text import (
    clean,
    content_words,
    has_address,
    has_emoji_only,
    numbers,
    one_line,
    sentences,
    shorten,
)


def test_hidden_characters_are_taken_out() -> None:
    assert clean("pay\u202e 10\u200b\u2066 to\x07 Bo\U000e0041") == "pay 10 to Bo"
    assert one_line("a\r\nb\t c\u2028d") == "a b c d"


def test_joined_emoji_stay_whole() -> None:
    assert clean("👩‍👧 ❤️") == "👩‍👧 ❤️"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("at 7:30", {"7", "30", "7.30"}),
        ("07.30 Uhr", {"7", "30", "7.30"}),
        ("45 € and 1,200", {"45", "1", "200", "1.200"}),
        ("\u0667", {"7"}),
        ("no digits", set()),
        ("²", set()),
    ],
)
def test_numbers(text: str, found: set[str]) -> None:
    assert numbers(text) >= found if found else numbers(text) <= {"2"}


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/x",
        "www.evil.test",
        "pay at evil.com now",
        "bit.ly/abc",
        "mail ann@evil.test",
        "call +49 170 1234567",
        "account 12345678",
        "DE89 3704 0044 0532 0130 00",
        "javascript:alert(1)",
        "\uff45\uff56\uff49\uff4c\uff0e\uff43\uff4f\uff4d",
    ],
)
def test_addresses_are_found(text: str) -> None:
    assert has_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "Friday 27 November at 19:30",
        "on 27.11.2026 at 18",
        "3.5 km",
        "e.g. this",
        "12 to 14, room 214",
        "it's 100%",
    ],
)
def test_dates_and_times_are_no_addresses(text: str) -> None:
    assert not has_address(text)


def test_sentences_are_parts_of_the_text() -> None:
    text = "Dr. Who? It's 3.5 km! Really…\nYes"
    assert all(part in text for part in sentences(text))
    assert len(sentences("One. Two! Three?")) == 3


def test_shorten() -> None:
    assert shorten("one two three", 9) == "one two…"
    assert shorten("one", 9) == "one"
    assert shorten("x" * 20, 9) == "xxxxxxxx…"


def test_words_that_matter() -> None:
    assert content_words("The meetings are on the 3rd, I think") & content_words("meeting")
    assert content_words("the and or für où") == frozenset()
    assert has_emoji_only("😂 !?")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Can you bring the tickets?", "en"),
        ("Kannst du die Karten mitbringen? Ich habe keine Zeit", "de"),
        ("Est-ce que tu peux prendre les billets pour nous?", "fr"),
        ("Los billetes son para el viernes, pero no los tengo", "es"),
        ("Non ho i biglietti per il treno di domani", "it"),
        ("Você não tem os bilhetes para o comboio", "pt"),
        ("Ik heb de kaartjes niet, kan jij ze nog halen voor het feest", "nl"),
        ("", "en"),
    ],
)
def test_language(text: str, code: str) -> None:
    assert language(text) == code


@given(st.text())
def test_any_text_is_cleaned_once_and_for_all(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    numbers(text)
    has_address(text)

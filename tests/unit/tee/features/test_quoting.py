"""What of a message may be quoted: nothing that leads away from the chat, and no secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.tee.features.gate import check_quote
from sottovoce.tee.features.highlights import highlights
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.quoting import LEFT_OUT, quotable
from sottovoce.tee.features.text import LINKS, MAIL


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("The form is at https://forms.example/a?b=c. By Friday!", "The form is at [link]. By Friday!"),
        ("see (www.club.example), or club.example/x", "see ([link]), or [link]"),
        ("ｗｗｗ.ｃｌｕｂ.example", "[link]"),
        ("write to ada.b@club.example, please", "write to [e-mail], please"),
        ("ring me on 07700 900188 or +44 7700 900 188", "ring me on [number] or [number]"),
        ("card 4111 1111 1111 1111, expires soon", "card [number], expires soon"),
        ("IBAN DE89 3704 0044 0532 0130 00 bitte", "IBAN [number] bitte"),
        ("the PIN is 4821, tell nobody", "the PIN is [secret], tell nobody"),
        ("Passwort: sonnenblume", "Passwort: [secret]"),
        ("la contraseña es girasol22", "la contraseña es [secret]"),
        ("le mot de passe : tournesol", "le mot de passe : [secret]"),
        ("your verification code is 482913", "your verification code is [secret]"),
        ("kata sandi adalah mawar99", "kata sandi adalah [secret]"),
    ],
)
def test_what_is_left_out(text: str, quoted: str) -> None:
    assert quotable(text) == quoted


@pytest.mark.parametrize(
    "text",
    [
        "Friday 2026-12-04 18:00-20:30 at Luigi's",
        "Montag 14.30-16.45 Uhr, am 04.12.2026",
        "2024-2026 in Rom",
        "Sie zahlt 1.200.000 € dafür, wir 300",
        "It costs $ 1,250,000.00 in all",
        "1860 from Aman, 1000-1000 from the others",
        "the door code is 4417 now",
        "the wifi password is on the back of the bread board",
        "Ana pinned 300 photos, see you at 7",
        "we meet at no. 12, room 345",
        "See you.Then we go",
        "",
    ],
)
def test_what_stays(text: str) -> None:
    assert quotable(text) == text


@given(st.text())
def test_what_is_left_out_stays_out(text: str) -> None:
    quoted = quotable(text)
    assert quotable(quoted) == quoted


@given(
    st.lists(
        st.sampled_from(
            ["a.example", "https://", "x@y.example", "07700900188", " ", "(", ".", "pin: 12", "☎", "é"]
        )
    )
)
def test_no_address_is_left(parts: list[str]) -> None:
    quoted = quotable("".join(parts))
    assert not MAIL.search(quoted)
    assert not any(link.search(quoted) for link in LINKS)


def test_a_summary_quotes_only_what_may_be() -> None:
    messages = [
        Message(
            id="1", sender="Ada", text="Decided: dinner on Saturday at 7, sign up at https://evil.example/x"
        ),
        Message(id="2", sender="Bo", text="Great idea, thank you very much"),
    ]
    (quote, *_) = highlights(messages)
    assert quote.text == "Decided: dinner on Saturday at 7, sign up at [link]"
    sources = {one.id: one for one in messages}
    assert check_quote("Ada", quote.text, ["1"], sources) is None
    assert check_quote("Ada", "sign up at https://evil.example/x", ["1"], sources) == "form"
    assert not any(mark in messages[0].text for mark in LEFT_OUT)

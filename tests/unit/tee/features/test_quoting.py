"""What of a message may be quoted: nothing that leads away from the chat, and no secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth import seconds
from sottovoce.tee.features.gate import check_quote
from sottovoce.tee.features.highlights import highlights
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.quoting import LEFT_OUT, quotable
from sottovoce.tee.features.text import LINKS, MAIL


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("The form is at https://forms.example/a?b=c. By Friday!", "The form is at [link]. By Friday!"),
        ("Train at 6:https://x.example", "Train at 6:[link]"),
        ("at 7,menu:https://x.example/a, bring wine", "at 7,menu:[link], bring wine"),
        ("\u5468\u4e94\u516d\u70b9\u89c1https://x.example", "\u5468\u4e94\u516d\u70b9\u89c1[link]"),
        ("see (www.club.example), or club.example/x", "see ([link]), or [link]"),
        ("ｗｗｗ.ｃｌｕｂ.example", "[link]"),
        ("write to ada.b@club.example, please", "write to [e-mail], please"),
        ("ring me on 07700 900188 or +44 7700 900 188", "ring me on [number] or [number]"),
        ("a@b(c).d, ada", "[e-mail], ada"),
        ("card 4111 1111 1111 1111, expires soon", "card [number], expires soon"),
        ("IBAN DE89 3704 0044 0532 0130 00 bitte", "IBAN [number] bitte"),
        ("Call 06.12.34.56.78 today", "Call [number] today"),
        ("06-12-34-56-78, 0170-12-3456, 555-555-1234", "[number], [number], [number]"),
        ("030 2004 1234", "[number]"),
        ("IBAN DE89 2004 1990 2010 2020 00", "IBAN [number]"),
        ("0170\u200d123\u200d4567 or 0170\u2013123\u201345\u201367", "[number] or [number]"),
        ("rs 9876543210", "rs [number]"),
        (
            "t.me/evil or b\u00fccher.com or \u0431\u0430\u043d\u043a.\u0440\u0444",
            "[link] or [link] or [link]",
        ),
        ("192.0.2.1/path and example\u3002com", "[link] and [link]"),
        ("https://bank.example/reset?t={9f3k2l} now", "[link] now"),
        (
            "la clave es 4821, mot de passe du wifi : tournesol9",
            "la clave es [secret], mot de passe du wifi : [secret]",
        ),
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
        "Harganya 1.500.000, 1500000 euros, 15 000 000 FCFA",
        "Sandi: bring 20 chairs",
        "I'll pin 2nd photo",
        "I forgot the password: can you resend?",
        "12.10.-14.10.2026",
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


@pytest.mark.parametrize(
    "part",
    ["pin" + " " * 40, " 234", "pin.", "1.", "a.", "1  ", "- ", "$1", "x://", "12-", "DE12 ", "\u00e9."],
)
def test_the_longest_message_takes_no_long_time(part: str) -> None:
    text = (part * 16_000)[:16_000]
    short, long = seconds(lambda: quotable(text[:2_000]), lambda: quotable(text))
    assert (
        long < 32 * short + 0.05
    )  # eight times the text, with room for noise: not sixty-four times the time


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
    assert (
        check_quote(
            "evil.example/pay", "x", ["1"], {"1": Message(id="1", sender="evil.example/pay", text="x")}
        )
        == "sender"
    )
    assert (
        check_quote("+44 7700 900188", "x", ["1"], {"1": Message(id="1", sender="+44 7700 900188", text="x")})
        is None
    )
    assert check_quote("Ada", "sign up at https://evil.example/x", ["1"], sources) == "form"
    assert not any(mark in messages[0].text for mark in LEFT_OUT)

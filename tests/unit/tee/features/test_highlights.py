"""Which messages are quoted, and that quotes are verbatim."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth import seconds
from role_kit import chat
from sottovoce.tee.features.gate import check_quote
from sottovoce.tee.features.highlights import highlights, room
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.reading import QUOTE, read

FAMILY = chat("""
Mum: Did everyone see that grandma is in hospital? She fell on the stairs
Tina: Oh no! How is she??
Mum: Broken wrist, nothing worse. She is in St. Mary's, room 214, visits from 2 to 6 pm
Paul: I can go today after work
Tina: I'll go tomorrow with the kids
Mum: Good. Can someone feed her cat? The key is at Mrs Novak's
Paul: I'll do the cat tonight
Mum: Thank you all ❤️
Tina: Should we cancel the dinner on Sunday?
Mum: No, let's do it at the hospital café at 3, she would like that
Paul: 👍
""")
LANDLORD = chat("""
Ruth: The water will be turned off on Tuesday from 9 to 12 for the new pipes
Kim: Can you do it on Wednesday? I work from home on Tuesday
Ruth: Sorry, the plumber only has Tuesday. Please leave the cellar door open
Alex: ok I'll open the cellar
Kim: And when is the new heating coming?
Ruth: In January. Rent stays the same
Kim: great
""")
MOVED = chat("""
Ada: How about Thursday at 7 for the rehearsal?
Bo: Thursday works for me
Cy: I can't on Thursday. Friday at 8?
Ada: Friday is fine
Ada: OK, decided: rehearsal on Friday at 8 in the school hall
Bo: Great, thanks!
""")


def quotes(messages: list[Message]) -> list[str]:
    return [one.text for one in highlights(messages)]


def test_facts_and_commitments_are_quoted_and_thanks_are_not() -> None:
    found = quotes(FAMILY)
    assert any("room 214" in text for text in found)
    assert not any("Thank you" in text or "👍" in text for text in found)


def test_a_decision_takes_the_place_of_the_proposals_before_it() -> None:
    found = quotes(MOVED)
    assert "OK, decided: rehearsal on Friday at 8 in the school hall" in found
    assert not any("Thursday" in text for text in found)


def test_a_correction_takes_the_place_of_what_it_corrects() -> None:
    found = quotes(
        chat("""
        Ada: Reminder: the match on Saturday starts at 14:00
        Bo: See you there
        Ada: Update: the match is moved to Sunday, 11:00
        """)
    )
    assert found == ["Update: the match is moved to Sunday, 11:00"]


def test_an_open_question_is_quoted_and_an_answered_one_is_not() -> None:
    found = quotes(
        chat("""
        Ada: Who has the key of the boat house?
        Bo: The key is with Cy
        Ada: Nice
        Cy: Who brings the grill on Saturday?
        """)
    )
    assert "Who brings the grill on Saturday?" in found
    assert "Who has the key of the boat house?" not in found


def test_a_question_to_somebody_who_has_not_answered_is_quoted() -> None:
    found = quotes([*MOVED, Message(id="90", sender="Ada", text="@Jo can you bring the big drum?")])
    assert "@Jo can you bring the big drum?" in found


def test_acceptances_are_cited_with_the_proposal() -> None:
    found = highlights(
        chat("""
        Ada: Shall we say Friday 27 November at 19:30, my place?
        Bo: Friday works for me
        Cy: perfect
        """)
    )
    assert [one.messages for one in found] == [("1", "2", "3")]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Jens: Treffen am Freitag um 18 Uhr, bitte bringt Werkzeug mit", True),
        ("Zoé: C'est décidé, on se retrouve samedi à 14h devant la gare", True),
        ("Inés: Quedamos el viernes a las 9 en el puerto, por favor sed puntuales", True),
        ("Gia: Ho prenotato per sabato alle 20:30, per favore confermate", True),
        ("Rui: Marcado: sexta às 21:00 no restaurante, por favor confirmem", True),
        ("Bas: Afgesproken: vrijdag om 20:00 bij het station, vergeet niet je kaartje", True),
        ("Jens: Danke euch allen!", False),
        ("Zoé: Bonjour à tous", False),
        ("Ada: 😂😂😂", False),
        ("Ada: haha love it", False),
    ],
)
def test_other_languages(text: str, quoted: bool) -> None:
    assert bool(quotes(chat(text))) is quoted


def test_what_is_asked_of_the_reader_says_so() -> None:
    messages = chat("""
    Ada: The hall is booked for Friday 18:00
    Bo: Cy, can you bring the big drum?
    Cy: I asked Bo to bring the small one on Friday
    Ada: Dora, please pay the 20 euros by Monday
    Bo: ok
    Ada: haha
    """)
    assert [one.sender for one in highlights(messages, reader="Cy") if one.for_reader] == ["Bo"]
    assert not [one for one in highlights(messages) if one.for_reader]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Decided: rehearsal on Friday at 18:00 in the hall", "decision"),
        ("The rehearsal is moved to Monday 19:00", "change"),
        ("I'll take care of the amplifier and two microphones", "task"),
        ("Please bring your own music stands on Friday", "request"),
        ("Who has the key of the boat house on Friday?", "question"),
        ("Summer concert: 14 June at 20:00, town hall", "date"),
        ("The old piano broke its leg in the storm", "news"),
    ],
)
def test_what_a_quote_does(text: str, kind: str) -> None:
    assert [one.kind for one in highlights([Message(id="1", sender="Ada", text=text)])] == [kind]


def test_long_messages_are_cut_to_what_matters_in_them() -> None:
    story = "We walked along the coast and had a good time. " * 20
    message = Message(
        id="1", sender="Ada", text=f"{story}\nPlease send me the 40 euros by Friday 18:00. {story}"
    )
    (one,) = highlights([message])
    assert one.text == "Please send me the 40 euros by Friday 18:00."


@pytest.mark.parametrize("count", [1, 2, 3, 10, 60, 400, 1000])
def test_only_so_many_and_in_the_order_of_the_chat(count: int) -> None:
    words = [
        "boat",
        "grill",
        "tent",
        "chairs",
        "guitar",
        "lamp",
        "rope",
        "stove",
        "salad",
        "bread",
        "drum",
        "ball",
    ]
    messages = chat(
        "\n".join(
            f"Ada: Please bring the {words[n % 12]}{n} and the {words[n * 7 % 12]}{n} on Friday at {n % 12 + 1}:15"
            for n in range(count)
        )
    )
    quick, found = highlights(messages, detail="quick"), highlights(messages)
    assert len(quick) <= room(count, "quick") <= room(count, "full") <= (count + 1) // 2
    assert len(quick) <= len(found) <= room(count, "full")
    assert room(1000, "full") == 40
    assert [int(one.messages[0]) for one in found] == sorted(int(one.messages[0]) for one in found)


@given(
    st.lists(
        st.builds(
            lambda sender, text: (sender, text),
            st.sampled_from(["Ada", "Bo", "\u202eCy", ""]),
            st.text(max_size=80) | st.sampled_from(["Friday at 6?", "ok", "decided: Friday 6pm", "a\nb@c.d"]),
        ),
        max_size=12,
    )
)
def test_every_quote_of_any_chat_passes_the_guard(pairs: list[tuple[str, str]]) -> None:
    messages = [Message(id=str(at), sender=s, text=t) for at, (s, t) in enumerate(pairs)]
    sources = {message.id: message for message in messages}
    for one in highlights(messages):
        assert len(one.text) <= QUOTE
        assert check_quote(one.sender, one.text, one.messages, sources) is None


def test_a_thousand_messages_take_a_moment() -> None:
    few, many = (
        [
            Message(id=str(at), sender=one.sender, text=one.text)
            for at, one in enumerate((FAMILY + LANDLORD) * times)
        ]
        for times in (7, 56)
    )

    def words() -> None:
        for _ in range(10):
            Counter(word for one in many for word in re.findall(r"\w+", one.text.casefold()))

    assert highlights(many)
    short, long, counting = seconds(lambda: highlights(few), lambda: highlights(many), words)
    # Eight times the messages, with room for noise: not sixty-four times the time.
    assert long < 32 * short + 0.05
    # 20 times as long as to count the words ten times, on a quiet machine, which takes a thirtieth of a second.
    assert long < 80 * counting


@pytest.mark.parametrize("part", ["\n", "a", "1", "@", "1-", "x.", "<|", " "])
def test_long_runs_of_one_character_take_no_longer(part: str) -> None:
    def reading(text: str, size: int) -> Callable[[], object]:
        text = (text * size)[:size] + "x"
        return lambda: read([Message(id="1", sender="Ada", text=text)])

    usual = " ".join(one.text for one in FAMILY + LANDLORD)
    short, long, ordinary = seconds(reading(part, 2000), reading(part, 16000), reading(usual, 16000))
    assert long < 32 * short + 0.05
    # The worst of them, digits and hyphens, takes seven times as long as what people write.
    assert long < 20 * ordinary

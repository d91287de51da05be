"""Small words that carry what is meant."""

import pytest

from sottovoce.tee.features.meaning import other_meaning


@pytest.mark.parametrize(
    ("draft", "same", "other"),
    [
        ("I'm not coming if Greg is coming.", "I won't come unless Greg stays away.", "I'm not coming, Greg is coming."),
        ("I can only do Tuesday.", "Tuesday is the only day for me.", "I can do Tuesday."),
        ("I stay until Friday.", "I'm here till Friday.", "I stay on Friday."),
        ("Be here before 6.", "Please be here by 6.", "Be here at 6."),
        ("Tea or coffee?", "Would you like tea, or coffee?", "Tea and coffee?"),
        ("I never said that.", "I did not say that.", "I said that."),
        ("It is broken again.", "It has broken down once more.", "It is broken."),
        ("Who has the key?", "Does somebody have the key?", "Is there a key?"),
        ("When do we meet?", "At what time do we meet?", "Do we meet?"),
        ("I paid 160.", "I have paid 160.", "I have paid $160."),
        ("I won't pay twice.", "I will not pay twice.", "I don't need to pay twice."),
        ("Bring a jumper.", "Please bring a jumper.", "I need a jumper."),
        ("The bus is late.", "The bus is running late.", "I know, the bus is late."),
        ("The bus is late.", "The bus is running late.", "The bus is late. My dog loves pizza."),
        ("Ich komme nur, wenn du fährst.", "Nur falls du fährst, komme ich, also wenn du magst.", "Ich komme, du fährst."),
        ("Wann seid ihr da und wo?", "Um wie viel Uhr seid ihr da und wo?", "Seid ihr da und wo?"),
        ("Solo puedo hasta las 6.", "Puedo solamente hasta las 6.", "Puedo a las 6."),
        ("Só posso até as 6.", "Posso somente até as 6.", "Posso às 6."),
        ("Je viens si tu conduis.", "Si tu conduis, je viens.", "Je viens, tu conduis."),
    ],
)  # fmt: skip
def test_what_is_said_otherwise(draft: str, same: str, other: str) -> None:
    assert not other_meaning(draft, draft)
    assert not other_meaning(draft, same)
    assert other_meaning(draft, other)


@pytest.mark.parametrize(
    ("draft", "text"),
    [
        (
            "If it rains we stay, or we leave after 6.",
            "We stay should it rain; otherwise we leave once it is 6.",
        ),
        ("Ask Nadia.", "Ask Nadia, please."),
        ("Great, see you!", "Great, see you then!"),
        ("yes", "Yes."),
        ("", ""),
        ("ठीक है", "अच्छा"),
    ],
)
def test_what_is_the_same(draft: str, text: str) -> None:
    assert not other_meaning(draft, text)

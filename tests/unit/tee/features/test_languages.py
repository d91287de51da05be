"""Which language a text is in."""

import pytest

from sottovoce.tee.features.languages import UNKNOWN, language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Are we still on for Friday? I can bring the tent", "en"),
        ("Wer kann am Freitag das Zelt mitbringen? Ich habe keine Zeit", "de"),
        ("On se retrouve samedi devant la gare, je suis en retard", "fr"),
        ("Quedamos el viernes en el puerto, no se te olvide la tienda", "es"),
        ("Ci vediamo sabato alla stazione, non ho la tenda", "it"),
        ("A gente se encontra na sexta no restaurante, eu levo a barraca", "pt"),
        ("Wie kan er vrijdag de tent meenemen? Ik heb het niet", "nl"),
        ("Besok jam 7 ya, aku udah beli tiketnya, kamu yang bawa makanan", "id"),
        ("kal shaam ko milte hain, main ticket le lunga, tum khana lana", "hi"),
        ("कल शाम को मिलते हैं, मैं टिकट ले लूँगा", "hi"),
        ("", "en"),
        ("😂😂 18:00", "en"),
        ("Встреча в пятницу", UNKNOWN),
        ("星期五見", UNKNOWN),
        ("الاجتماع يوم الجمعة", UNKNOWN),
    ],
)
def test_it_is_told(text: str, code: str) -> None:
    assert language(text) == code

import pytest

from sottovoce.device.chats import Chat, import_chat

LRM = "\u200e"


def senders(*rests: str) -> list[tuple[str, str]]:
    text = "\n".join(f"20/11/2026, 18:03 - {rest}" for rest in rests)
    return [(m.sender, m.text) for m in import_chat(text.encode(), name="x.txt").messages]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Anna", "Anna"),
        ("Anna 🏀🎉", "Anna 🏀🎉"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\u202a+44\u00a07700\u00a0900123\u202c", "+44 7700 900123"),
        ("+44 7700 900123", "+44 7700 900123"),
        ("~\u202fOmar", "~ Omar"),
        (f"{LRM}~\u00a0{LRM}Omar", "~ Omar"),
        ("Dr. O'Neil-Müller, PhD", "Dr. O'Neil-Müller, PhD"),
        ("10:30 crew", "10:30 crew"),
        ("[Anna]", "[Anna]"),
        ("שירה", "שירה"),
        ("Anna - work", "Anna - work"),
        ("You", "You"),
        ("a" * 120, "a" * 120),
    ],
)
def test_names(written: str, name: str) -> None:
    assert senders(f"{written}: hi: there") == [(name, "hi: there")]


def test_a_name_with_a_colon_shows_in_the_file() -> None:
    assert senders("Anna: work: hi", "Ben: yes: no", "Anna: work: when?", "Anna: work: note: buy milk") == [
        ("Anna: work", "hi"),
        ("Ben", "yes: no"),
        ("Anna: work", "when?"),
        ("Anna: work", "note: buy milk"),
    ]


def test_what_happens_to_someone_with_a_colon_in_the_name() -> None:
    talk = [f"Anna: work: {number}" for number in range(3)]
    assert senders("Anna: work joined using a group link", *talk, "Anna: work left") == [
        ("", "Anna: work joined using a group link"),
        *(("Anna: work", str(number)) for number in range(3)),
        ("", "Anna: work left"),
    ]


def test_many_names_with_colons_in_one_chat() -> None:
    names = ["Anna: work", "Anna:: x", "work: Anna", "x: x", "Cy:: Anna: work"]
    texts = ["hi", "note: milk", "work: Anna: so", "x:", "left"]
    talk = [(name, text) for text in texts for name in names]
    plain = [("Ben", "Anna: work: so"), ("Ben", "ok"), ("Ben", "Anna: work: no"), ("Dee", "x: x: x")]
    events = [("", "work: Anna left"), ("", "Anna: work added Ben")]
    wanted = [
        # Only the first colon of a name is known to belong to it; the second one to its text.
        ("Cy:: Anna", f"work: {text}") if name == "Cy:: Anna: work" else (name, text)
        for name, text in [*talk, *plain, *events]
    ]
    written = [f"{name}: {text}" if name else text for name, text in [*talk, *plain, *events]]
    assert senders(*written) == wanted
    assert senders(*reversed(written)) == wanted[::-1]


def test_a_colon_in_some_texts_is_no_name() -> None:
    assert senders("Anna: work: hi", "Anna: work: when?", "Anna: now") == [
        ("Anna", "work: hi"),
        ("Anna", "work: when?"),
        ("Anna", "now"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        'Anna changed the subject from "Plan: A" to "Plan: B"',
        "Anna created group “Plan: B”",
        "Anna hat den Betreff von „Plan: A“ zu „Plan: B“ geändert.",
        "Anna hat die Gruppe „Plan: A“ erstellt",
        "Anna cambió el asunto de “Plan: A” a “Plan: B”",
        "Anna mudou o nome do grupo de “Plan: A” para “Plan: B”",
        "Anna a changé le sujet de “Plan: A” à “Plan: B”",
        "Anna ha cambiato l'oggetto da “Plan: A” a “Plan: B”",
        "Anna ने ग्रुप का नाम “Plan: A” से बदलकर “Plan: B” कर दिया",
        "Anna mengubah subjek dari “Plan: A” menjadi “Plan: B”",
    ],
)
def test_a_colon_in_a_group_name_makes_no_sender(text: str) -> None:
    assert senders(text) == [("", text)]


def test_what_is_longer_than_any_name_is_none() -> None:
    assert senders("a" * 121 + ": x") == [("", "a" * 121 + ": x")]


def title(name: str, text: str = "20/11/2026, 18:03 - Anna: hi") -> str:
    chat: Chat = import_chat(text.encode(), name=name)
    return chat.title


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("WhatsApp Chat with Anna.txt", "Anna"),
        ("WhatsApp Chat with Anna (2).txt", "Anna"),
        ("WhatsApp Chat - Book club.zip", "Book club"),
        ("WhatsApp_Chat_with_Anna_B.txt", "Anna B"),
        ("WhatsApp Chat mit Anna.txt", "Anna"),
        ("WhatsApp-Chat mit Anna.txt", "Anna"),
        ("Chat de WhatsApp con Los Pérez.txt", "Los Pérez"),
        ("Conversa do WhatsApp com João.txt", "João"),
        ("Discussion WhatsApp avec Zoé.txt", "Zoé"),
        ("Chat WhatsApp con Luca.txt", "Luca"),
        ("Ravi के साथ WhatsApp चैट.txt", "Ravi"),
        ("Chat WhatsApp dengan Budi.txt", "Budi"),
        ("family.txt", "family"),
        ("_chat.txt", ""),
        ("../../tmp/C:\\x\\family.TXT", "family"),
        ("fam\x1b\u202eily\udc80.txt", "family"),
        ("", ""),
    ],
)
def test_titles(name: str, wanted: str) -> None:
    assert title(name) == wanted


def test_the_title_inside_an_export_goes_before_a_name_that_the_user_gave() -> None:
    notice = f"[20/11/2026, 18:03:22] Book club: {LRM}Messages and calls are end-to-end encrypted."
    assert title("renamed.txt", notice) == "Book club"
    assert title("WhatsApp Chat - Readers.zip.txt", notice) == "Readers.zip"

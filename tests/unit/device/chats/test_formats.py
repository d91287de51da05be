"""Forms of first lines as exports of many phones have them."""

from datetime import datetime

import pytest

from sottovoce.device.chats import Chat, NotAChat, import_chat

WHEN = datetime(2026, 11, 20, 18, 3)  # noqa: DTZ001 - exports name no zone
LRM, NNBSP, NBSP = "\u200e", "\u202f", "\u00a0"


def chat(text: str) -> Chat:
    return import_chat(text.encode(), name="WhatsApp Chat with Anna.txt")


@pytest.mark.parametrize(
    "head",
    [
        "20/11/2026, 18:03 - ",  # Android, United Kingdom
        "11/20/26, 6:03 PM - ",  # Android, United States
        f"11/20/26, 6:03{NNBSP}PM - ",  # the same since ICU 72
        "20/11/26, 6:03 pm - ",  # Android, India
        f"20/11/26, 6:03{NNBSP}pm - ",
        "20.11.26, 18:03 - ",  # Android, Germany
        "20.11.2026, 18:03 - ",
        "20/11/2026 18:03 - ",  # Android, Brazil
        "20/11/26 18:03 - ",  # Android, Italy
        "20/11/2026 à 18:03 - ",  # Android, France
        "20/11/2026, 6:03 p. m. - ",  # Android, Spain, 12 hours
        f"20/11/2026, 6:03{NBSP}p.{NBSP}m. - ",
        "20/11/26 18.03 - ",  # Android, Indonesia
        "20-11-2026 18:03 - ",  # Android, Netherlands
        "2026-11-20, 6:03 p.m. - ",  # Android, Canada
        "2026-11-20 18:03 - ",  # Android, Sweden
        "2026/11/20 18:03 - ",  # Android, Japan
        "2026/11/20 下午6:03 - ",  # Android, Taiwan
        "20. 11. 2026 18:03 - ",  # Android, Czechia
        "2026. 11. 20. 18:03 - ",  # Android, Hungary
        "20/11/2569 18:03 - ",  # Android, Thailand: Buddhist years
        "18:03, 20/11/2026 - ",  # Android, Vietnam
        "٢٠/١١/٢٠٢٦، ٦:٠٣ م - ",  # Android, Egypt
        "20/11/2026, 18:03 – ",  # an editor made a dash of it
        f"{LRM}20/11/2026, 18:03 - ",
        "[20/11/2026, 18:03:00] ",  # iOS, United Kingdom
        "[20/11/2026 18:03:00] ",
        f"[11/20/26, 6:03:00{NNBSP}PM] ",  # iOS, United States
        "[20.11.26, 18:03:00] ",  # iOS, Germany
        "[20.11.26, 6:03:00 PM] ",
        "[20.11.2026 klo 18.03.00] ",  # iOS, Finland
        "[2026-11-20, 6:03:00 p.m.] ",  # iOS, Canada
        "[20-11-26, 6:03:00 p. m.] ",  # iOS, Latin America
        "[2026/11/20 18:03:00] ",  # iOS, China
        "[2026/11/20 下午6:03:00] ",
        f"{LRM}[20/11/2026, 18:03:00] ",
        f"[20/11/2026, 18:03:00] {LRM}",
        "[\u200f20\u200f/11\u200f/2026, 6:03:00 م] ",  # iOS, Arabic
        "[20/11/2026, 18 h 03] ",
        "\u2068[20/11/2026, 18:03:00]\u2069 ",
    ],
)
def test_one_message(head: str) -> None:
    imported = chat(f"{head}Anna: hello: you\n{head}Ben: hi")
    assert [(m.id, m.time, m.sender, m.text, m.kind, m.line) for m in imported.messages] == [
        ("1", WHEN, "Anna", "hello: you", "text", 1),
        ("2", WHEN, "Ben", "hi", "text", 2),
    ]
    assert (imported.unparsed, imported.notes) == ((), ())


@pytest.mark.parametrize(
    ("written", "hour", "minute"),
    [
        ("12:00 AM", 0, 0),
        ("12:59 am", 0, 59),
        ("1:00 AM", 1, 0),
        ("11:59 A.M.", 11, 59),
        ("12:00 PM", 12, 0),
        ("12:30 p. m.", 12, 30),
        ("1:05 PM", 13, 5),
        ("11:59 pm", 23, 59),
        ("00:10 AM", 0, 10),
        ("18:03 PM", 18, 3),  # some phones write both
        ("6:03 अपराह्न", 18, 3),
        ("6:03 da tarde", 18, 3),
    ],
)
def test_twelve_hours(written: str, hour: int, minute: int) -> None:
    when = chat(f"20/11/2026, {written} - Anna: x").messages[0].time
    assert (when.hour, when.minute) == (hour, minute)


def test_seconds() -> None:
    assert chat("[20/11/2026, 18:03:22] Anna: x").messages[0].time == WHEN.replace(second=22)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_encodings(end: str, encoding: str) -> None:
    lines = ("20/11/2026, 18:03 - Anna: eins", "zwei ü 🙂", "", "drei", "20/11/2026, 18:04 - Ben: x", "")
    imported = import_chat(end.join(lines).encode(encoding), name="x.txt")
    assert [message.text for message in imported.messages] == ["eins\nzwei ü 🙂\n\ndrei", "x"]
    assert [message.line for message in imported.messages] == [1, 5]
    assert imported.unparsed == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "Dear diary,\ntoday was 20/11/2026, 18:03 and it rained.",
        "Anna: hello\nBen: hi",
        "20/11/2026 - Anna: no time",
        "18:03 - Anna: no date",
        "20/11-2026, 18:03 - Anna: mixed separators",
        "[20/11/2026, 18:03:00 Anna: no end of the bracket",
        "20/11/2026, 18:03 Anna: no dash",
        '{"messages": []}',
        "timestamp,sender,text\n2026-11-20 18:03,Anna,hi",
        "32/01/2026, 10:00 - Anna: no such day",
    ],
)
def test_no_chat(text: str) -> None:
    with pytest.raises(NotAChat) as caught:
        chat(text)
    assert caught.value.hint
    assert caught.value.code == "chat.not-a-chat"


def test_pasted_messages_of_another_form_stay_in_the_message() -> None:
    imported = chat(
        "20/11/2026, 18:03 - Anna: look what she wrote\n"
        "[19/11/2026, 10:00:01] Carla: I resign\n"
        "19.11.2026, 10:00 - Carla: I resign\n"
        "19/11/2026, 10:00 am - Carla: I resign\n"
        "20/11/2026, 18:04 - Ben: oh"
    )
    assert [message.sender for message in imported.messages] == ["Anna", "Ben"]
    assert imported.messages[0].text.count("I resign") == 3
    assert imported.notes == (
        "lines that look like messages of another form were kept as part of the message before them: 2, 3, 4",
    )


def test_what_does_not_fit_is_named_by_line() -> None:
    imported = chat(
        "exported by a tool\n\nof mine\n"
        "20/11/2026, 18:03 - Anna: a\n"
        "20/11/2026, 25:03 - Anna: no such hour\n"
        "more of it\n\n"
        "31/11/2026, 18:03 - Anna: no such day\n"
        "20/11/2026, 18:04 - Anna: b"
    )
    assert [message.text for message in imported.messages] == ["a", "b"]
    assert imported.unparsed == (1, 3, 5, 6, 8)


def test_terminal_controls_and_direction_marks_do_not_get_in() -> None:
    imported = chat("20/11/2026, 18:03 - An\u202ena\x1b: a\x1b[31m\u2066b\u2069\x07\tc\x9b")
    assert (imported.messages[0].sender, imported.messages[0].text) == ("Anna", "a[31mb\tc")


def test_joiners_that_make_emoji_stay() -> None:
    assert chat("20/11/2026, 18:03 - A: 👩\u200d🚀").messages[0].text == "👩\u200d🚀"

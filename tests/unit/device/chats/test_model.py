from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sottovoce.core.errors import UsageError
from sottovoce.device.chats import Chat, Message, chat_id, import_chat, read_chat, unread
from sottovoce.device.settings import same_chat

EXAMPLES = Path(__file__).resolve().parents[4] / "examples/chats"
TEXT = (
    "20/11/2026, 18:00 - Anna created group “x”\n"
    "20/11/2026, 18:03 - Anna: one\n"
    "20/11/2026, 18:04 - Ben: This message was deleted\n"
    "20/11/2026, 18:04 - Ben left\n"
    "20/11/2026, 18:05 - Anna: <Media omitted>"
)


def chat(text: str = TEXT, name: str = "WhatsApp Chat with Canary.txt") -> Chat:
    return import_chat(text.encode(), name=name)


def test_unread_counts_what_people_wrote() -> None:
    assert [message.id for message in unread(chat(), 2)] == ["3", "5"]
    assert [message.id for message in unread(chat(), 100)] == ["2", "3", "5"]
    with pytest.raises(UsageError):
        unread(chat(), 0)


def test_no_repr_shows_content() -> None:
    imported = chat("20/11/2026, 18:03 - Canary: canary\n20/11/2026, 18:04 - Canary: canary")
    shown = repr(imported) + repr(imported.messages) + str(imported) + f"{imported.messages[0]}"
    assert "anary" not in shown


@pytest.mark.parametrize(
    "change", [{"kind": "picture"}, {"line": 0}, {"time": datetime(2026, 1, 1, tzinfo=UTC)}]
)
def test_a_message_is_checked_when_made(change: dict[str, Any]) -> None:
    message: Message = chat().messages[0]
    with pytest.raises(UsageError):
        replace(message, **change)


def identify(imported: Chat) -> str:
    return chat_id(imported.title, imported.messages)


def test_a_later_export_is_the_same_chat() -> None:
    later = chat(TEXT + "\n21/11/2026, 08:00 - Ben: back", name="WhatsApp Chat with Canary (3).txt")
    assert identify(later) == identify(chat())


def test_a_renamed_export_is_the_same_chat() -> None:
    assert same_chat(identify(chat(name="renamed.txt")), identify(chat()))


def test_an_export_that_lost_its_beginning_is_the_same_chat() -> None:
    assert same_chat(identify(chat(TEXT.splitlines()[-1])), identify(chat()))


def test_the_same_chat_from_the_other_system() -> None:
    ios = "[20/11/2026, 18:03:59] Anna: one\n[20/11/2026, 18:09:59] Anna: two"
    assert same_chat(identify(chat(ios, "_chat.txt")), identify(chat()))


def test_other_chats_are_others() -> None:
    untitled = [chat(f"20/11/2026, 18:03 - Anna: {word}", "_chat.txt") for word in ("a", "b")]
    titled = [chat(f"20/11/2026, 18:03 - Anna: {word}", f"{word}.txt") for word in ("a", "b")]
    assert not same_chat(*map(identify, untitled))
    assert not same_chat(*map(identify, titled))


def test_an_id_tells_nothing() -> None:
    one, _, two = identify(chat()).partition("-")
    assert len(bytes.fromhex(one)) == len(bytes.fromhex(two)) == 16
    assert len(chat_id("", ())) == 65


@pytest.mark.parametrize(
    ("name", "title"), [("book-club.txt", "book-club"), ("football-team.zip", "Riverside Rovers")]
)
def test_the_examples(name: str, title: str) -> None:
    imported = read_chat(EXAMPLES / name)
    assert (imported.title, imported.unparsed, imported.notes) == (title, (), ())
    assert len(imported.messages) == 83
    assert {message.kind for message in imported.messages} == {"text", "media", "system", "deleted"}
    assert len(unread(imported, 40)) == 40

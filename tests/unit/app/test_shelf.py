"""Chats on the shelf: the marker, later exports, who is who."""

import pytest

from app_kit import EXPORT
from sottovoce.app.shelf import NoSuchChat, Shelf
from sottovoce.core.errors import UsageError
from sottovoce.device.chats import NotAChat

NAME = "WhatsApp Chat with Party.txt"
SYSTEM = "3/14/26, 17:59 - Messages and calls are end-to-end encrypted.\n"


def many(count: int) -> str:
    return "".join(
        f"3/14/26, {hour // 60:02}:{hour % 60:02} - Ada: message {hour}\n" for hour in range(count)
    )


def test_what_is_unread_at_first() -> None:
    shelf = Shelf()
    assert shelf.add(EXPORT.encode(), NAME).unread == 4
    assert shelf.add(many(100).encode(), "Other.txt").unread == 40


@pytest.mark.parametrize(("unread", "first"), [(0, 5), (1, 4), (3, 2), (4, 1)])
def test_where_the_marker_stands(unread: int, first: int) -> None:
    chat = Shelf().add((SYSTEM + EXPORT).encode(), NAME)
    assert chat.chat.messages[0].kind == "system"
    chat.unread = unread
    assert chat.first_unread() == first


def test_the_marker_moves() -> None:
    chat = Shelf().add((SYSTEM + EXPORT).encode(), NAME)
    chat.move_marker("3")
    assert (chat.unread, chat.first_unread()) == (3, 2)
    chat.move_marker("")
    assert chat.unread == 0
    # Before a message of the app itself, what people wrote counts.
    chat.move_marker("1")
    assert chat.unread == 4
    with pytest.raises(UsageError, match="no such message"):
        chat.move_marker("99")
    assert chat.unread == 4


def test_more_than_a_summary_holds() -> None:
    chat = Shelf().add(many(1200).encode(), NAME)
    with pytest.raises(UsageError, match="more than one summary"):
        chat.move_marker("100")
    chat.move_marker("201")
    assert chat.unread == 1000


def test_a_later_export_of_a_chat() -> None:
    shelf = Shelf()
    chat = shelf.add(EXPORT.encode(), NAME)
    chat.move_marker("")
    chat.reader = "Ada"
    again = shelf.add((EXPORT + "3/15/26, 10:00 - Ada: New\n3/15/26, 10:01 - Ben: And this\n").encode(), NAME)
    assert again is chat
    assert len(shelf) == 1
    assert (chat.unread, chat.reader, len(chat.chat.messages)) == (2, "Ada", 6)


def test_the_newest_chat_is_first() -> None:
    shelf = Shelf()
    old = shelf.add(EXPORT.replace("/26,", "/25,").encode(), "Old.txt")
    new = shelf.add(EXPORT.encode(), "New.txt")
    assert [one.id for one in shelf] == [new.id, old.id]
    assert new.senders == ["Ada", "Ben", "Cem"]


def test_what_is_no_chat_changes_nothing() -> None:
    shelf = Shelf()
    with pytest.raises(NotAChat):
        shelf.add(b"hello", "hello.txt")
    assert len(shelf) == 0


def test_gone_is_gone() -> None:
    shelf = Shelf()
    chat = shelf.add(EXPORT.encode(), NAME)
    shelf.remove(chat.id)
    with pytest.raises(NoSuchChat):
        shelf.get(chat.id)
    assert "Ada" not in repr(chat)
    assert "Party" not in repr(chat)

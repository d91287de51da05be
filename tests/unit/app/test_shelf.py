"""Chats on the shelf: the marker, later exports, who is who."""

import pytest

from app_kit import EXPORT
from sottovoce.app.shelf import NoSuchChat, Saved, Shelf
from sottovoce.core.errors import UsageError
from sottovoce.device.chats import Chat, import_chat

NAME = "WhatsApp Chat with Party.txt"
SYSTEM = "3/14/26, 17:59 - Messages and calls are end-to-end encrypted.\n"


def read(text: str, name: str) -> Chat:
    return import_chat(text.encode(), name=name)


def many(count: int) -> str:
    return "".join(
        f"3/14/26, {hour // 60:02}:{hour % 60:02} - Ada: message {hour}\n" for hour in range(count)
    )


def test_what_is_unread_at_first() -> None:
    shelf = Shelf()
    assert shelf.add(read(EXPORT, NAME)).unread == 4
    assert shelf.add(read(many(100), "Other.txt")).unread == 40


@pytest.mark.parametrize(("unread", "first"), [(0, 5), (1, 4), (3, 2), (4, 1)])
def test_where_the_marker_stands(unread: int, first: int) -> None:
    chat = Shelf().add(read((SYSTEM + EXPORT), NAME))
    assert chat.chat.messages[0].kind == "system"
    chat.unread = unread
    assert chat.first_unread() == first


def test_the_marker_moves() -> None:
    chat = Shelf().add(read((SYSTEM + EXPORT), NAME))
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
    chat = Shelf().add(read(many(1200), NAME))
    with pytest.raises(UsageError, match="more than one summary"):
        chat.move_marker("100")
    chat.move_marker("201")
    assert chat.unread == 1000


def test_a_later_export_of_a_chat() -> None:
    shelf = Shelf()
    chat = shelf.add(read(EXPORT, NAME))
    chat.move_marker("")
    chat.reader = "Ada"
    again = shelf.add(read((EXPORT + "3/15/26, 10:00 - Ada: New\n3/15/26, 10:01 - Ben: And this\n"), NAME))
    assert again is chat
    assert len(shelf) == 1
    assert (chat.unread, chat.reader, len(chat.chat.messages)) == (2, "Ada", 6)


def test_the_newest_chat_is_first() -> None:
    shelf = Shelf()
    old = shelf.add(read(EXPORT.replace("/26,", "/25,"), "Old.txt"))
    new = shelf.add(read(EXPORT, "New.txt"))
    assert [one.id for one in shelf] == [new.id, old.id]
    assert new.senders == ["Ada", "Ben", "Cem"]


def test_an_older_export_does_not_take_the_place_of_a_newer_one() -> None:
    shelf = Shelf()
    longer = EXPORT + "3/15/26, 10:00 - Ada: New\n"
    chat = shelf.add(read(longer, NAME))
    with pytest.raises(UsageError, match="newer export"):
        shelf.add(read(EXPORT, NAME))
    assert len(chat.chat.messages) == 5


def test_what_was_kept_joins_what_was_added_again() -> None:
    shelf, before = Shelf(), Shelf()
    kept = before.add(read(EXPORT, NAME))
    kept.reader = "Ben"
    kept.saved.append(Saved(time=1, report="", lines=[("They meet", ["2"])]))
    here = shelf.add(read(EXPORT + "3/15/26, 10:00 - Ada: New\n", NAME))
    shelf.put_back(before.kept())
    assert len(shelf) == 1
    assert (len(here.chat.messages), here.reader, len(here.saved)) == (5, "Ben", 1)
    # The other way round: what is kept is newer.
    other = Shelf()
    old = other.add(read(EXPORT, NAME))
    other.put_back(shelf.kept())
    assert (len(old.chat.messages), len(other)) == (5, 1)


def test_what_is_kept_does_not_change_afterwards() -> None:
    """It is written while the shelf is in use."""
    shelf = Shelf()
    chat = shelf.add(read(EXPORT, NAME))
    kept = shelf.kept()
    chat.reader = "Ben"
    chat.saved.append(Saved(time=1, report="", lines=[]))
    shelf.recaps.append(Saved(time=1, report="", lines=[], chats=(chat.id,)))
    shelf.remove(chat.id)
    assert [(one.reader, one.saved) for one in kept.chats] == [("", [])]
    assert kept.recaps == ()


def test_a_recap_follows_its_chats() -> None:
    shelf, before = Shelf(), Shelf()
    party, work = before.add(read(EXPORT, NAME)), before.add(read(EXPORT.replace("Hello", "Hi"), "Work.txt"))
    before.recaps.append(Saved(time=1, report="", lines=[("They meet", ["1:2"])], chats=(party.id, work.id)))
    # One of the two has been added again, under an id of its own.
    again = shelf.add(read(EXPORT, NAME))
    shelf.put_back(before.kept())
    assert shelf.recaps[0].chats == (again.id, work.id)
    # What tells of a chat that is gone is gone too.
    shelf.remove(work.id)
    assert shelf.recaps == []
    assert len(shelf) == 1


def test_gone_is_gone() -> None:
    shelf = Shelf()
    chat = shelf.add(read(EXPORT, NAME))
    shelf.remove(chat.id)
    with pytest.raises(NoSuchChat):
        shelf.get(chat.id)
    assert "Ada" not in repr(chat)
    assert "Party" not in repr(chat)

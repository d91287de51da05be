"""The chats that the user has put into the app. They are in memory, and on the disk only where the user has them kept (`vault`)."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sottovoce.core.errors import UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.device.chats import Chat, Message, chat_id

__all__ = ["Kept", "NoSuchChat", "Saved", "Shelf", "Shelved"]

_UNREAD: Final = 40
"""An export does not say what was read: this many, until the user moves the marker."""
_CHATS: Final = 500


class NoSuchChat(UsageError):  # noqa: N818 - it says what happened
    """There is no chat with that id."""

    code = "usage.chat"


@dataclass(slots=True, kw_only=True, repr=False)
class Saved:
    """An answer that the user wanted to keep: when (unix seconds), and its lines, each with the ids of the messages that it rests on.

    A recap of several chats has their ids in `chats`, and ids of messages after the chat's number among these: "2:17".
    """

    time: int
    report: str
    lines: list[tuple[str, list[str]]]
    chats: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "<Saved>"


@dataclass(slots=True, kw_only=True, repr=False)
class Shelved:
    """A chat on the shelf.

    `unread` counts the last messages that people wrote; `reader` is the name under which the user writes in it, or empty.
    """

    id: str
    chat: Chat
    unread: int
    reader: str = ""
    saved: list[Saved] = field(default_factory=list)
    draft: str = ""
    """What stands in the composer; never kept."""

    def __repr__(self) -> str:
        return f"<Shelved {self.id}>"

    @property
    def title(self) -> str:
        """The chat's title, or what stands for one."""
        return self.chat.title or "Chat without a title"

    @property
    def mark(self) -> str:
        """The chat's id for the device's settings."""
        return chat_id(self.chat.title, self.chat.messages)

    @property
    def senders(self) -> list[str]:
        """Who wrote, those first who wrote most."""
        counts: dict[str, int] = {}
        for message in self.chat.messages:
            if message.sender:
                counts[message.sender] = counts.get(message.sender, 0) + 1
        return sorted(counts, key=lambda name: (-counts[name], name))

    @property
    def last(self) -> Message:
        """The newest message."""
        return self.chat.messages[-1]

    def first_unread(self) -> int:
        """Where the marker stands: the index of the first unread message, the number of all where none is."""
        left, index = self.unread, len(self.chat.messages)
        while index and left:
            index -= 1
            left -= self.chat.messages[index].kind != "system"
        return index

    def move_marker(self, message_id: str) -> None:
        """Make the message with that id the first unread one; "" marks all as read.

        Raises:
            UsageError: there is no such message, or more than a summary can hold come after it.
        """
        if not message_id:
            self.unread = 0
            return
        ids = [message.id for message in self.chat.messages]
        if message_id not in ids:
            raise UsageError("there is no such message in this chat")
        count = _written(self.chat.messages[ids.index(message_id) :])
        if count > LIMITS.messages:
            raise UsageError(
                "that is more than one summary can hold", hint=f"at most the last {LIMITS.messages} messages"
            )
        self.unread = count


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Kept:
    """What is on a shelf at one moment: what changes there later does not change it."""

    chats: tuple[Shelved, ...]
    recaps: tuple[Saved, ...] = ()

    def __repr__(self) -> str:
        return "<Kept>"


class Shelf:
    """Chats by their ids, those with the newest message first, and the saved recaps of several of them."""

    def __init__(self) -> None:
        self._chats: dict[str, Shelved] = {}
        self.recaps: list[Saved] = []

    def __iter__(self) -> Iterator[Shelved]:
        return iter(sorted(self._chats.values(), key=lambda one: one.last.time, reverse=True))

    def __len__(self) -> int:
        return len(self._chats)

    def get(self, shelf_id: str) -> Shelved:
        """The chat with that id.

        Raises:
            NoSuchChat: there is none.
        """
        try:
            return self._chats[shelf_id]
        except KeyError:
            raise NoSuchChat("this chat is not here any more", hint="add its export again") from None

    def add(self, chat: Chat) -> Shelved:
        """Put an imported chat here. A later export of one that is here takes its place: what is new in it is unread.

        Raises:
            UsageError: the shelf is full, or the export is older than what is here.
        """
        known, written = self._known(chat_id(chat.title, chat.messages)), _written(chat.messages)
        if known is not None:
            if chat.messages[-1].time < known.last.time:
                raise UsageError("a newer export of this chat is here already", hint="remove that one first")
            # What was unread still is.
            new = max(0, written - _written(known.chat.messages))
            known.unread = min(written, LIMITS.messages, known.unread + new)
            known.chat = chat
            return known
        if len(self._chats) >= _CHATS:
            raise UsageError("there are as many chats here as fit", hint="remove some")
        shelved = Shelved(id=secrets.token_hex(8), chat=chat, unread=min(written, _UNREAD))
        self._chats[shelved.id] = shelved
        return shelved

    def kept(self) -> Kept:
        """What is here now."""
        chats = tuple(replace(one, saved=list(one.saved)) for one in self._chats.values())
        return Kept(chats=chats, recaps=tuple(self.recaps))

    def put_back(self, kept: Kept) -> None:
        """Put back what was kept. A chat that has been added again meanwhile stays, with what was kept beside the other."""
        here = {one.id: self._put(one) for one in kept.chats}
        recaps = [
            replace(one, chats=tuple(here.get(chat, chat) for chat in one.chats)) for one in kept.recaps
        ]
        self.recaps = [*recaps, *self.recaps]

    def remove(self, shelf_id: str) -> None:
        """Forget a chat, and every recap that tells of it. Raises as `get`."""
        self.get(shelf_id)
        del self._chats[shelf_id]
        self.recaps = [one for one in self.recaps if shelf_id not in one.chats]

    def _put(self, kept: Shelved) -> str:
        known = self._known(kept.mark)
        if known is None:
            self._chats[kept.id] = kept
            return kept.id
        if kept.last.time > known.last.time:
            known.chat, known.unread = kept.chat, kept.unread
        known.reader = known.reader or kept.reader
        known.saved = [*kept.saved, *known.saved]
        return known.id

    def _known(self, mark: str) -> Shelved | None:
        return next((one for one in self._chats.values() if one.mark == mark), None)


def _written(messages: Sequence[Message]) -> int:
    return sum(message.kind != "system" for message in messages)

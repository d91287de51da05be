"""A chat as values. No `repr` here shows a name, a title or a word of what was written."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sottovoce.core.errors import UsageError

__all__ = ["Chat", "Kind", "Message", "chat_id", "unread"]

Kind = Literal["text", "media", "system", "deleted"]
_KINDS: Final = frozenset({"text", "media", "system", "deleted"})
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """One message.

    `id` is "1" for the first message of the file and counts up. `time` has no zone, as exports name none. `sender`
    is empty where the app speaks. `text` is what was written: for media the caption or, of a document or a place,
    its name (often empty); for a deleted message always empty. `line` is where it begins in the file, from 1.
    """

    id: str
    time: datetime
    sender: str
    text: str
    kind: Kind
    line: int
    edited: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or self.line < 1 or self.time.tzinfo is not None:
            raise UsageError("a message with a wrong kind, line or time")

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.kind}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Chat:
    """An imported chat.

    `unparsed` holds the numbers of the lines that could not be understood; `notes` say, without any content, what
    the importer had to decide.
    """

    title: str
    messages: tuple[Message, ...]
    unparsed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Chat of {len(self.messages)} messages>"


def unread(chat: Chat, n: int) -> tuple[Message, ...]:
    """The last `n` messages that people wrote (or deleted), oldest first; fewer where there are fewer.

    Raises:
        UsageError: `n` is below 1.
    """
    if n < 1:
        raise UsageError("the number of unread messages is at least 1")
    written = [message for message in chat.messages if message.kind != "system"]
    return tuple(written[-n:])


def chat_id(title: str, messages: Sequence[Message]) -> str:
    """An id for settings about this chat: two parts of 32 hex digits, joined by "-".

    The first part comes from the title, the second from the first message (to the minute). Exports of one chat at
    different times share the title; renamed files share the beginning. `settings.same_chat` accepts either. An
    untitled chat has its beginning in both parts, so that untitled chats are not all the same one.
    """
    beginning = "\0".join(_beginning(messages))
    name = " ".join(unicodedata.normalize("NFC", title).casefold().split())
    first = _digest("title", name) if name else _digest("beginning", beginning)
    return f"{first}-{_digest('beginning', beginning)}"


def _beginning(messages: Sequence[Message]) -> tuple[str, ...]:
    written = next((message for message in messages if message.kind != "system"), None)
    first = written or next(iter(messages), None)
    if first is None:
        return ()
    # Android writes no seconds and iOS does.
    return (first.time.isoformat(timespec="minutes"), first.sender, first.text)


def _digest(label: str, value: str) -> str:
    data = f"sottovoce/1 chat {label}\0{value}".encode()
    return hashlib.sha256(data).hexdigest()[: 2 * _ID_BYTES]

"""From the bytes of an exported chat to messages. Pure, except `read_chat`.

1. Zip: the one text in it. 2. Decode; UTF-8, or UTF-16 with its mark. 3. Cut at the first lines of messages, whose
shape the first one sets. 4. Decide the order of the dates for the whole file. 5. Split senders from texts.
6. Tell text, media, system and deleted apart. What does not fit is named by line number.
"""

import codecs
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from sottovoce.device.chats import systemlines
from sottovoce.device.chats.archive import MAX_CHAT, is_zip, read_text_member
from sottovoce.device.chats.dates import DateReader, decide
from sottovoce.device.chats.errors import ChatTooLarge, NotAChat, UnknownEncoding, UnreadableChat
from sottovoce.device.chats.formats import LRM, Header, HeaderReader, Shape, clean, find_shape
from sottovoce.device.chats.model import Chat, Kind, Message
from sottovoce.device.chats.titles import app_title, title_of

__all__ = ["import_chat", "read_chat"]

_MAX_ARCHIVE: Final = 1024 * 1024 * 1024
_MAX_SENDER: Final = 120
"""Longer than any name or group title that the app allows."""
_SAME_PREFIX: Final = 3
"""So many messages of one sender that all begin with the same words and a colon: the words belong to the name."""
_LISTED: Final = 10

_HEADS: Final = frozenset("[0123456789")
_HINT: Final = (
    "export it in WhatsApp: chat, More, Export chat, Without media; then give the .txt or .zip here"
)
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_chat(path: Path) -> Chat:
    """Import the exported chat at `path`, a .txt or .zip file.

    Raises:
        ChatError: unreadable, too large, damaged, or no chat; each with a class of its own.
    """
    try:
        if not path.is_file():
            raise UnreadableChat("there is no such file", hint=f"looked for {path}")
        with path.open("rb") as file:
            size = path.stat().st_size
            if is_zip(file.read(4)):
                if size > _MAX_ARCHIVE:
                    raise ChatTooLarge(
                        "the zip file is above the size limit", hint="export the chat without media"
                    )
                file.seek(0)
                return _import_text(*read_text_member(file), archive=path.name)
            file.seek(0)
            return import_chat(file.read(MAX_CHAT + 1), name=path.name)
    except OSError:
        raise UnreadableChat("the file cannot be read", hint=f"looked at {path}") from None


def import_chat(data: bytes, *, name: str) -> Chat:
    """Import an exported chat; `name` is its file's name, which often holds the title.

    Raises:
        NotAChat: no message in it.
        UnknownEncoding: neither UTF-8 nor UTF-16 with a byte order mark.
        ChatTooLarge: above `MAX_CHAT` bytes of text.
        BadArchive: a zip file that is damaged, encrypted, or does not hold exactly one chat.
    """
    if is_zip(data[:4]):
        return _import_text(*read_text_member(io.BytesIO(data)), archive=name)
    return _import_text(name, data, archive="")


def _import_text(name: str, data: bytes, *, archive: str) -> Chat:
    if len(data) > MAX_CHAT:
        raise ChatTooLarge("the chat is above the size limit", hint=f"at most {MAX_CHAT} bytes")
    cut = _cut(_lines(_decode(data)))
    if not cut.drafts:
        raise NotAChat("the file is not an exported chat", hint=_HINT)
    order, note = decide((draft.header.date for draft in cut.drafts), cut.shape)
    dated, undated = _date(cut.drafts, DateReader(order))
    if not dated:
        raise NotAChat("the file is not an exported chat: no line has a date that exists", hint=_HINT)
    _split_senders([draft for draft, _ in dated])
    title = _title(archive, name, dated[0][0])
    unparsed = sorted([*cut.before, *undated])
    notes = (note, _note_on_others(cut.other_shape))
    return Chat(
        title=title,
        messages=tuple(_message(number, draft, time) for number, (draft, time) in enumerate(dated, 1)),
        unparsed=tuple(unparsed),
        notes=tuple(filter(None, notes)),
    )


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise UnknownEncoding(
            "the text is neither UTF-8 nor UTF-16", hint="save it as UTF-8, or export it again"
        ) from None
    if "\0" in text:
        raise UnknownEncoding("the file is not a text", hint=_HINT)
    return text


def _lines(text: str) -> list[str]:
    lines = clean(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return lines if lines[-1] else lines[:-1]


@dataclass(slots=True, kw_only=True, repr=False)
class _Draft:
    """A message before it is understood: its first line taken apart, and the lines after it."""

    number: int
    header: Header
    rest: str
    more: list[str] = field(default_factory=list)
    sender: str = ""
    text: str = ""


@dataclass(slots=True, kw_only=True, repr=False)
class _Cut:
    shape: Shape
    drafts: list[_Draft]
    before: list[int]
    other_shape: list[int]


def _cut(lines: Sequence[str]) -> _Cut:
    """Cut the file where messages begin."""
    stripped = (line.lstrip(LRM) if line.startswith(LRM) else line for line in lines)
    shape = next(filter(None, map(find_shape, stripped)), None)
    if shape is None:
        raise NotAChat("the file is not an exported chat", hint=_HINT)
    read = HeaderReader(shape).read
    cut = _Cut(shape=shape, drafts=[], before=[], other_shape=[])
    for number, raw in enumerate(lines, 1):
        line = raw.lstrip(LRM) if raw.startswith(LRM) else raw
        header = read(line)
        if header is not None:
            cut.drafts.append(_Draft(number=number, header=header, rest=line[header.end :]))
        elif cut.drafts:
            cut.drafts[-1].more.append(raw)
            if line[:1] in _HEADS and find_shape(line):
                cut.other_shape.append(number)
        elif line.strip():
            cut.before.append(number)
    return cut


def _date(drafts: Iterable[_Draft], reader: DateReader) -> tuple[list[tuple[_Draft, datetime]], list[int]]:
    """The drafts with their times, and the lines of those whose date or time does not exist."""
    dated: list[tuple[_Draft, datetime]] = []
    undated: list[int] = []
    for draft in drafts:
        day, time = reader.read(draft.header.date), draft.header.time
        if day is None or time is None:
            undated.append(draft.number)
            undated.extend(number for number, line in enumerate(draft.more, draft.number + 1) if line.strip())
        else:
            dated.append((draft, datetime.combine(day, time)))
    return dated, undated


def _split_senders(drafts: Sequence[_Draft]) -> None:
    for draft in drafts:
        draft.sender, draft.text = _split(draft.rest)
    names = _names_with_colons(drafts)
    for draft in drafts:
        # A line that begins with such a name has been split at the name's first colon, so it can be no other.
        if name := names.get(draft.sender):
            _join_name(draft, name)
        draft.text = "\n".join([draft.text, *draft.more]) if draft.more else draft.text
        draft.sender = _plain_name(draft.sender)


def _split(rest: str) -> tuple[str, str]:
    """Sender and text of what follows the time; no sender where the app speaks."""
    sender, colon, text = rest.partition(": ")
    if not colon and rest.endswith(":"):
        sender, colon = rest[:-1], ":"
    if not colon or not sender.strip(f" {LRM}") or len(sender) > _MAX_SENDER:
        return "", rest
    if systemlines.is_event_with_a_name(sender):
        return "", rest
    return sender, text


def _names_with_colons(drafts: Iterable[_Draft]) -> dict[str, str]:
    """Names such as "Anna: work" by their first part, known by what follows "Anna: " being the same every time."""
    by_sender: dict[str, list[str]] = defaultdict(list)
    for draft in drafts:
        by_sender[draft.sender].append(draft.text)
    names: dict[str, str] = {}
    for sender, texts in by_sender.items():
        second = next((text.partition(": ")[0] for text in texts if ": " in text), "")
        if sender and 0 < len(second) <= _MAX_SENDER and _all_begin_with(texts, second):
            names[sender] = f"{sender}: {second}"
    return names


def _all_begin_with(texts: Sequence[str], second: str) -> bool:
    others = [text for text in texts if not text.startswith(f"{second}: ")]
    if len(texts) - len(others) < _SAME_PREFIX or len(others) > len(texts) // 2:
        return False
    # "Anna: work left" on Android is an event, and no text of "Anna".
    return all(text.startswith(f"{second} ") and systemlines.is_event(text) for text in others)


def _join_name(draft: _Draft, name: str) -> None:
    if draft.rest.startswith(f"{name}: "):
        draft.sender, draft.text = name, draft.rest[len(name) + 2 :]
    elif draft.rest.startswith(f"{name} "):
        draft.sender, draft.text = "", draft.rest


def _plain_name(name: str) -> str:
    return " ".join(name.replace(LRM, "").split())


def _message(number: int, draft: _Draft, time: datetime) -> Message:
    kind, text, edited = _classify(draft)
    return Message(
        id=str(number),
        time=time,
        sender=draft.sender,
        text=text.replace(LRM, "").strip(),
        kind=kind,
        line=draft.number,
        edited=edited,
    )


def _classify(draft: _Draft) -> tuple[Kind, str, bool]:
    """Kind, text and whether it was edited."""
    marked = draft.text.strip()
    plain = marked.lstrip(LRM).strip()
    if not draft.sender:
        return "system", plain, False
    if systemlines.is_deleted(plain):
        return "deleted", "", False
    if _is_system(plain, app_may_speak=marked.startswith(LRM)):
        return "system", plain, False
    text, edited = systemlines.without_edited(plain)
    caption = _caption(marked, text)
    return ("text", text, edited) if caption is None else ("media", caption, edited)


def _is_system(text: str, *, app_may_speak: bool) -> bool:
    if systemlines.is_call(text) or systemlines.is_encryption_notice(text):
        return True
    # iOS marks polls, places and files like its own events; only these hold a line break, a link or a bracket.
    return app_may_speak and not systemlines.is_content(text) and systemlines.is_event(text)


def _caption(marked: str, text: str) -> str | None:
    """What goes with media (often nothing), or None where `text` is no media."""
    if not text or systemlines.is_omitted(text):
        return ""
    for caption in (systemlines.ends_with_omitted(marked), systemlines.attachment_caption(text)):
        if caption is not None:
            return caption
    return systemlines.place(text)


def _title(archive: str, name: str, first: _Draft) -> str:
    """The app's own name for the chat wherever it stands, else the name that the file has now."""
    # iOS names the chat as the sender of the encryption notice.
    inside = first.sender if systemlines.is_encryption_notice(first.text.lstrip(LRM)) else ""
    return app_title(archive) or app_title(name) or inside or title_of(archive) or title_of(name)


def _note_on_others(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    listed = ", ".join(map(str, numbers[:_LISTED])) + (", …" if len(numbers) > _LISTED else "")
    return f"lines that look like messages of another form were kept as part of the message before them: {listed}"

"""What the pages show: templates, and the values that they are filled with. Everything that came from outside is escaped by the template engine."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jinja2

from sottovoce.app.shelf import NoSuchChat, Saved, Shelf, Shelved
from sottovoce.device.chats import Message
from sottovoce.device.reports import Report

__all__ = ["Row", "SavedLine", "compared", "render", "rows", "saved_lines"]

_PREVIEW: Final = 60
_BEFORE: Final = 30
"""Messages before the marker that a page shows; the rest a click away."""
_AT_LEAST: Final = 200
_HUES: Final = 8
_FEATURES: Final = {"summary": "the messages", "rewrite": "the draft", "chat": "what the program sent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A message as a messaging app shows it: under a new day or not, by the user or not, joined to the one before or not."""

    message: Message
    day: str
    first_unread: bool
    mine: bool
    joined: bool
    hue: int


def rows(shelved: Shelved, first: str = "") -> tuple[list[Row], str]:
    """The rows of a chat, from the message with the id `first` on or from some before the marker; and where an earlier page begins ("" for none)."""
    messages = shelved.chat.messages
    unread = shelved.first_unread()
    begin = max(0, min(unread - _BEFORE, len(messages) - _AT_LEAST))
    if first.isascii() and first.isdigit() and len(first) < len(str(len(messages))) + 1:
        begin = min(begin, max(0, int(first) - 1))
    hues = {name: index % _HUES for index, name in enumerate(shelved.senders)}
    shown, before = [], None
    for index in range(begin, len(messages)):
        message = messages[index]
        new_day = before is None or before.time.date() != message.time.date()
        marked = index == unread
        joined = (
            before is not None
            and not new_day
            and not marked
            and before.sender == message.sender
            and before.kind != "system"
        )
        shown.append(
            Row(
                message=message,
                day=_day(message.time) if new_day else "",
                first_unread=marked,
                mine=bool(shelved.reader) and message.sender == shelved.reader,
                joined=joined,
                hue=hues.get(message.sender, 0),
            )
        )
        before = message
    earlier = messages[max(0, begin - _AT_LEAST)].id if begin else ""
    return shown, earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLine:
    """A line of a saved answer: under the title of a chat where one begins, and what it cites, each the chat's id ("" for this one) and the message's."""

    heading: str
    text: str
    cites: list[tuple[str, str]]


def saved_lines(saved: Saved, shelf: Shelf) -> tuple[Saved, list[SavedLine]]:
    """A saved answer, and its lines for a page."""
    lines, under = [], ""
    for text, ids in saved.lines:
        cites = [_cite(one, saved.chats) for one in ids]
        chat = cites[0][0] if cites else under
        heading = _title(shelf, chat) if chat != under else ""
        lines.append(SavedLine(heading=heading, text=text, cites=cites))
        under = chat
    return saved, lines


def _cite(message: str, chats: tuple[str, ...]) -> tuple[str, str]:
    number, colon, plain = message.partition(":")
    if not colon or not number.isdecimal() or not 0 < int(number) <= len(chats):
        return "", message
    return chats[int(number) - 1], plain


def _title(shelf: Shelf, chat: str) -> str:
    try:
        return shelf.get(chat).title
    except NoSuchChat:
        return ""


def compared(report: Report) -> list[tuple[str, str, str]]:
    """Who got what in the session of `report`, and what each keeps."""
    sent = report.size_class > 0
    what = _FEATURES.get(report.feature, "the request")
    if report.message_count:
        what = f"{report.message_count} messages" + (" and the draft" if report.feature == "rewrite" else "")
    relay = f"relay ({report.relay})" if report.relay else "relay"
    sealed = f"your IP address and {report.size_class} sealed bytes" if sent else "at most your IP address"
    return [
        ("this device", "the answer" if report.outcome == "done" else "-", "this report, without a message"),
        (relay, sealed, "what it likes of that; it is not the operator's"),
        (
            "gateway",
            "an anonymous token, sealed records" if report.evidence else "at most an anonymous token",
            "that the token was spent",
        ),
        (
            "confidential VM",
            f"{what}, in the open" if sent else "nothing of yours",
            "nothing: its memory ends with the session",
        ),
        ("issuer", "nothing of this session", "how many tokens your account got"),
        ("directory mirror, log", "nothing of this session", "-"),
    ]


def render(name: str, values: Mapping[str, Any]) -> str:
    """The page made by the template `name`."""
    return _ENVIRONMENT.get_template(name).render(values)


def _day(moment: datetime) -> str:
    return f"{moment:%A}, {moment.day} {moment:%B} {moment.year}"


def _short(moment: datetime) -> str:
    today = datetime.now().date()  # noqa: DTZ005 - exports name no zone: the wall clock is what they have
    return f"{moment:%H:%M}" if moment.date() == today else f"{moment.day} {moment:%b} {moment.year}"


def _preview(message: Message) -> str:
    text = " ".join(message.text.split())
    if not text:
        return "(deleted)" if message.kind == "deleted" else "(picture, voice or file)"
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "\u2026"


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _blocks(text: str) -> list[tuple[str, list[str]]]:
    """A text that was broken into lines for a terminal: its paragraphs ("p", one text) and lists ("ul", their items), each in one piece."""
    found: list[tuple[str, list[str]]] = []
    for block in text.split("\n\n"):
        first, *items = re.split(r"(?:^|\n) *- ", block)
        kind, texts = ("ul", items) if items else ("p", [first])
        found.append((kind, [" ".join(one.split()) for one in texts]))
    return found


_ENVIRONMENT: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("sottovoce.app"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"short": _short, "preview": _preview, "moment": _moment, "blocks": _blocks}

"""Who makes a summary: Sottovoce, and what it is compared with.

The others get the room that Sottovoce took for the same chat, in characters, so that none of them covers more by saying more.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from unittest import mock

from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
from sumy.summarizers.lex_rank import LexRankSummarizer

from evaluation.dataset import Chat
from evaluation.engine import Silent
from evaluation.measure import Line
from sottovoce.simulator.roles import DirectRoles
from sottovoce.tee.engines import Engine, Sampling, Turn
from sottovoce.tee.features.highlights import DETAILS
from sottovoce.tee.features.text import words
from sottovoce.tee.http import ASGIApp

__all__ = ["few_lines", "first_lines", "lexrank", "plain", "request", "sottovoce"]

_FEW: Final = 0.2
"""Quotes by the square root of a chat's messages; quick summaries have 0.5, full ones 1.2."""


def request(chat: Chat) -> dict[str, Any]:
    """The chat as a device sends it."""
    messages = [
        {"id": line.id, "sender": line.sender, "text": line.text, "time": line.time.replace(" ", "T")}
        for line in chat.lines
    ]
    return {"chats": [{"messages": messages, "reader": chat.reader}]}


def sottovoce(engine: Engine, chat: Chat, *, guard: ASGIApp | None = None, quick: bool = False) -> list[Line]:
    """The lines of Sottovoce's summary, through all three roles."""
    events = asyncio.run(
        DirectRoles(engine, guard=guard).ask(
            "/v1/summaries", request(chat) | ({"detail": "quick"} if quick else {})
        )
    )
    lines: list[Line] = []
    headline = ""
    for event in events:
        if event["event"] == "line":
            lines.append(Line(sender=event["sender"], text=event["text"], messages=tuple(event["messages"])))
        elif event["event"] == "piece":
            headline += event["text"]
        elif event["event"] in {"line_end", "dropped"} and headline:
            if event["event"] == "line_end":
                lines.append(Line(text=headline, messages=tuple(event["messages"])))
            headline = ""
    return lines


def few_lines(chat: Chat) -> list[Line]:
    """Sottovoce's quotes, about half as many as in a quick summary: to compare with systems that say as little."""
    with mock.patch.dict(DETAILS, {"quick": _FEW}):
        return sottovoce(Silent(), chat, quick=True)


def first_lines(chat: Chat, room: int) -> list[Line]:
    """The chat's first messages."""
    return _quoted(chat, range(len(chat.lines)), room)


_PLAIN: Final = "Summarise this chat."
_TOKENS: Final = 200
_CHARACTERS: Final = 7000
"""Of a chat, so that it fits into the model's context: its end."""


def plain(engine: Engine, chat: Chat) -> list[Line]:
    """What the same model makes of the chat with a prompt of one line; its lines, without citations."""
    told = "\n".join(f"{line.sender}: {line.text}" for line in chat.lines)[-_CHARACTERS:]
    turns = [Turn(role="system", text=_PLAIN), Turn(role="user", text=told)]
    answer = "".join(engine.generate(turns, Sampling(max_tokens=_TOKENS)))
    return [Line(text=line.strip()) for line in answer.splitlines() if line.strip()]


class _Words:
    """How sumy gets the words of a message: as the rest of the evaluation does, in any language."""

    def to_words(self, text: str) -> tuple[str, ...]:
        return tuple(words(text))


class _Ranks(LexRankSummarizer):  # type: ignore[misc]  # sumy has no types
    """The ranks, and no choice by them: how many messages there is room for is decided here."""

    def _get_best_sentences(self, sentences: Any, _count: Any, rating: Any) -> list[float]:
        return [rating[sentence] for sentence in sentences]


def lexrank(chat: Chat, room: int) -> list[Line]:
    """The messages that LexRank ranks first (Erkan and Radev 2004, as sumy has it), in the chat's order."""
    sentences = [Sentence(line.text, _Words()) for line in chat.lines]
    ranks = _Ranks()(ObjectDocumentModel([Paragraph(sentences)]), len(sentences))
    order = sorted(range(len(sentences)), key=lambda at: (-ranks[at], at))
    return _quoted(chat, order, room)


def _quoted(chat: Chat, order: Sequence[int], room: int) -> list[Line]:
    """Messages in `order` until the room is full, at least one; told in the chat's order."""
    chosen: list[int] = []
    for at in order:
        line = chat.lines[at]
        room -= len(line.sender) + len(line.text) + 2
        if room < 0 and chosen:
            break
        chosen.append(at)
    return [
        Line(sender=line.sender, text=line.text, messages=(line.id,))
        for line in (chat.lines[at] for at in sorted(chosen))
    ]

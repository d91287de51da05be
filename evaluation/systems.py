"""Who makes a summary: Sottovoce, and what it is compared with.

The others get the room that Sottovoce took for the same chat, in characters, so that none of them covers more by saying more.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from evaluation.dataset import Chat
from evaluation.measure import Line
from sottovoce.simulator.roles import DirectRoles
from sottovoce.tee.engines import Engine

__all__ = ["System", "first_lines", "lexrank", "sottovoce"]

System = Callable[[Chat, int], list[Line]]
"""A chat and the room in characters, to the lines of a summary."""


def request(chat: Chat) -> dict[str, Any]:
    """The chat as a device sends it."""
    return {
        "messages": [
            {"id": line.id, "sender": line.sender, "text": line.text, "time": line.time.replace(" ", "T")}
            for line in chat.lines
        ]
    }


def sottovoce(engine: Engine | None, chat: Chat) -> list[Line]:
    """The lines of Sottovoce's summary, through all three roles."""
    events = asyncio.run(DirectRoles(engine).ask("/v1/summaries", request(chat)))
    lines: list[Line] = []
    headline = ""
    for event in events:
        if event["event"] == "line":
            lines.append(Line(sender=event["sender"], text=event["text"], messages=tuple(event["messages"])))
        elif event["event"] == "piece":
            headline += event["text"]
        elif event["event"] == "line_end":
            lines.insert(0, Line(text=headline, messages=tuple(event["messages"])))
    return lines


def first_lines(chat: Chat, room: int) -> list[Line]:
    """The chat's first messages."""
    return _until(chat, range(len(chat.lines)), room)


def _until(chat: Chat, order: Sequence[int], room: int) -> list[Line]:
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

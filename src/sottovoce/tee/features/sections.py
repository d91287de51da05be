"""Sections of a long chat: where people paused longest, so that each is about few things."""

import itertools
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sottovoce.tee.features.messages import Message

__all__ = ["sections"]

_LONG: Final = 80
"""Messages of a chat that is summarised in one piece."""
_USUAL: Final = 60
_MOST: Final = 8
_FEWEST: Final = 15
"""Messages of a section, at least: what is said in fewer belongs to what is around it."""


def sections(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """`messages` in order, in one section or up to eight."""
    if len(messages) <= _LONG:
        return [messages]
    wanted = min(_MOST, math.ceil(len(messages) / _USUAL))
    pauses = [_pause(before, after) for before, after in itertools.pairwise(messages)]
    cuts: list[int] = []
    for at in sorted(range(1, len(messages)), key=lambda at: (-pauses[at - 1], at)):
        if len(cuts) == wanted - 1:
            break
        if all(abs(at - other) >= _FEWEST for other in (0, len(messages), *cuts)):
            cuts.append(at)
    edges = [0, *sorted(cuts), len(messages)]
    return [messages[start:end] for start, end in itertools.pairwise(edges)]


def _pause(before: Message, after: Message) -> float:
    """Seconds; 0 where a device wrote no times."""
    try:
        return (datetime.fromisoformat(after.time) - datetime.fromisoformat(before.time)).total_seconds()
    except (ValueError, TypeError):
        return 0.0

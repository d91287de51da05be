"""What becomes of drafts: whether each suggestion keeps what it must, and how many there are."""

import asyncio
from dataclasses import dataclass

from evaluation.dataset import Draft
from evaluation.matching import fold, says
from sottovoce.simulator.roles import DirectRoles
from sottovoce.tee.engines import Engine

__all__ = ["Suggested", "suggest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """The suggestions for one draft, and which of them keep its meaning."""

    draft: str
    language: str
    style: str
    suggestions: tuple[str, ...]
    kept: tuple[bool, ...]
    unchanged: int
    """Suggestions that are the draft, but for capitals and spaces."""


def suggest(engine: Engine, draft: Draft) -> Suggested:
    """Ask for suggestions through all three roles, and look at them."""
    events = asyncio.run(DirectRoles(engine).ask("/v1/rewrites", {"draft": draft.text, "style": draft.style}))
    found = tuple(event["text"] for event in events if event["event"] == "suggestion")
    return Suggested(
        draft=draft.id,
        language=draft.language,
        style=draft.style,
        suggestions=found,
        kept=tuple(says(text, draft.keep, draft.never) for text in found),
        unchanged=sum(fold(text) == fold(draft.text) for text in found),
    )

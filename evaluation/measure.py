"""What a summary is measured by: the facts that it holds, the false statements that it makes, and its length."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.dataset import Chat, Fact
from evaluation.matching import says
from sottovoce.tee.features.quoting import LEFT_OUT

__all__ = ["Line", "Measured", "Total", "measure", "stands_in", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a summary: a quote where it has a sender, else somebody's own words."""

    text: str
    sender: str = ""
    messages: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """As a reader sees it."""
        return f"{self.sender}: {self.text}" if self.sender else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One summary. `missed` and `false` name facts and wrong statements of the chat."""

    chat: str
    weight: int
    held: int
    missed: tuple[str, ...]
    false: tuple[str, ...]
    lines: int
    characters: int

    @property
    def coverage(self) -> float:
        """The part of the facts, by weight, that the summary holds; 1 where there are none."""
        return self.held / self.weight if self.weight else 1.0


def _windows(lines: Sequence[Line]) -> Iterator[str]:
    """Every two lines that follow each other: a reader puts a question and its answer together."""
    told = [line.told for line in lines]
    yield from ("\n".join(told[at : at + 2]) for at in range(max(1, len(told) - 1)))


def _holds(fact: Fact, windows: Sequence[str]) -> bool:
    groups = [*fact.says, fact.who] if fact.who else fact.says
    return any(says(window, groups) for window in windows)


def measure(chat: Chat, lines: Sequence[Line]) -> Measured:
    """Compare `lines`, a summary of `chat`, with what it must and must not say."""
    windows = list(_windows(lines)) if lines else []
    missed = [name for name, fact in chat.facts.items() if not _holds(fact, windows)]
    false = [
        name
        for name, wrong in chat.wrong.items()
        if any(says(line.told, wrong.says, wrong.unless) for line in lines)
    ]
    weights: Mapping[str, int] = {name: fact.weight for name, fact in chat.facts.items()}
    return Measured(
        chat=chat.name,
        weight=sum(weights.values()),
        held=sum(weight for name, weight in weights.items() if name not in missed),
        missed=tuple(missed),
        false=tuple(false),
        lines=len(lines),
        characters=sum(len(line.told) for line in lines),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Many summaries by one method."""

    chats: int
    coverage: float
    """The mean over chats."""
    false: float
    """False statements in a summary, on average."""
    lines: float
    characters: float


def total(found: Sequence[Measured]) -> Total:
    """The averages of at least one summary."""
    count = len(found)
    return Total(
        chats=count,
        coverage=sum(one.coverage for one in found) / count,
        false=sum(len(one.false) for one in found) / count,
        lines=sum(one.lines for one in found) / count,
        characters=sum(one.characters for one in found) / count,
    )


def stands_in(quote: str, text: str) -> bool:
    """Whether `text` has all of `quote` in its order, but for what a summary leaves out."""
    parts = re.split("|".join(map(re.escape, LEFT_OUT)), quote.removesuffix("…"))
    return re.search(".+?".join(map(re.escape, parts)), text, re.DOTALL) is not None

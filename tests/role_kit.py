"""Questions to the three roles in one process, and an engine that says what it is told to say."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from sottovoce.simulator.roles import DirectRoles
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.features.messages import Message

Event = dict[str, Any]


class UnsafeScriptedEngineForTests:
    """Says what it is told to say, whatever it is asked. There is no model in it."""

    name = "scripted"

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = itertools.cycle(answers) if answers else itertools.repeat("")
        self.asked: list[tuple[str, str]] = []
        self.turns: list[Turn] = []
        self.sampling = Sampling(max_tokens=0)

    def count(self, turns: Sequence[Turn]) -> int:
        return sum(len(turn.text.split()) for turn in turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        self.asked.append((prompt, turns[-1].text))
        self.turns, self.sampling = list(turns), sampling
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        for at, word in enumerate(answer.split(" ")[: sampling.max_tokens]):
            yield f" {word}" if at else word


class Roles(DirectRoles):
    """The same, with questions of documents."""

    def answer(self, target: str, document: Any) -> list[Event]:
        """The events of an answer."""
        return asyncio.run(self.ask(target, document))

    def summary(self, messages: Sequence[Message]) -> list[Event]:
        sent = [{"id": m.id, "sender": m.sender, "text": m.text, "time": m.time} for m in messages]
        return self.answer("/v1/summaries", {"chats": [{"messages": sent}]})

    def rewrite(self, draft: str, style: str) -> list[Event]:
        return self.answer("/v1/rewrites", {"draft": draft, "style": style})


def chat(text: str) -> list[Message]:
    """Messages from lines of "Sender: text"."""
    pairs = [line.strip().split(": ", 1) for line in text.strip().splitlines()]
    return [Message(id=str(at), sender=sender, text=said) for at, (sender, said) in enumerate(pairs, start=1)]


def headline_of(events: Sequence[Event]) -> str:
    return "".join(one["text"] for one in events if one["event"] == "piece")


def quotes_of(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(one["sender"], one["text"]) for one in events if one["event"] == "line"]

"""Other wordings of a draft: asked of the model, judged by the guard, filled up by rules."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec

from sottovoce.core.errors import DecodeError, LimitError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.application import Lines, SentMessage, Strict, take_messages
from sottovoce.tee.asking import Backends
from sottovoce.tee.features import rewrite
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.languages import WRITTEN, language

__all__ = ["RewriteRequest", "Rewriting"]


class RewriteRequest(Strict, frozen=True, kw_only=True):
    """A draft, how it should sound, and the messages before it, if the user sends them."""

    draft: str
    style: Literal["professional", "rephrase", "proofread", "supportive", "funny", "shorten"]
    context: Annotated[tuple[SentMessage, ...], msgspec.Meta(max_length=rewrite.CONTEXT)] = ()


class Rewriting:
    """Suggestions for one draft."""

    def __init__(self, backends: Backends, request: RewriteRequest) -> None:
        """Take a request.

        Raises:
            LimitError, DecodeError: a draft that is too long or empty; the messages before it, as `take_messages`.
        """
        if len(request.draft) > LIMITS.draft:
            raise LimitError("the draft is longer than the limits allow")
        if not request.draft.strip():
            raise DecodeError("there is nothing to rewrite")
        self._context = take_messages(request.context)
        self._backends = backends
        self._request = request
        self._given = 0

    async def run(self, lines: Lines) -> None:
        """Write the whole answer."""
        self._backends.told = lines.waiting
        draft, style = self._request.draft, self._request.style
        context = [{"sender": one.sender, "text": one.text} for one in self._context]
        sent = [{"id": one.id, "sender": one.sender, "text": one.text} for one in self._context]
        await self._backends.show_guard({"task": "rewrite", "draft": draft, "style": style, "messages": sent})
        if await asyncio.to_thread(self._has_orders):
            await lines.write({"event": "dropped", "kind": "message", "reason": "instructions"})
        written = language(draft) in WRITTEN
        if not written:
            await lines.write({"event": "notice", "about": "language"})
        for variant in range(rewrite.ATTEMPTS if written else 0):
            if self._given == rewrite.SUGGESTIONS:
                break
            question = {
                "task": "rewrite",
                "style": style,
                "draft": draft,
                "variant": variant,
                "context": context,
            }
            async with aclosing(self._backends.ask(question)) as pieces:
                text = "".join([piece async for piece in pieces])
            await self._offer(lines, rewrite.tidy(text))
        by_model = self._given
        for text in rewrite.by_rules(style, draft):
            if self._given < rewrite.SUGGESTIONS:
                await self._offer(lines, text, quietly=True)
        await lines.write(
            {"event": "done", "method": _method(by_model, self._given), "model": self._backends.model}
        )

    def _has_orders(self) -> bool:
        return any(addresses_machine(one.text) or addresses_machine(one.sender) for one in self._context)

    async def _offer(self, lines: Lines, text: str, *, quietly: bool = False) -> None:
        verdict = await self._backends.judge({"kind": "suggestion", "text": text})
        if verdict.verdict == "pass":
            self._given += 1
            await lines.write({"event": "suggestion", "text": verdict.text})
        elif not quietly and verdict.reason != "same":
            await lines.write({"event": "dropped", "kind": "suggestion", "reason": verdict.reason})


def _method(by_model: int, given: int) -> str:
    if not given:
        return "no suggestion was good enough"
    if by_model == given:
        return "suggestions by the model"
    if not by_model:
        return "suggestions by spelling rules, none by the model"
    return f"{by_model} by the model, then {given - by_model} by spelling rules"

"""The orchestrator: what the device talks to. It asks the predictor, and lets out what the guard has passed.

    POST /v1/summaries  quotes at once, then a headline word by word
    POST /v1/rewrites   up to three suggestions, each as soon as it is there
    POST /v1/chat/completions, GET /v1/models   as other services have them (tee.completions)

Answers of the first two are lines of JSON; the last one is `done` or `error` (docs/protocol.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

from sottovoce.core.asgi import Send
from sottovoce.core.errors import DecodeError, LimitError, SottovoceError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.application import Application, Lines, SentMessage, Strict, decode, take_messages
from sottovoce.tee.asking import NO_MODEL, Backends, Verdict
from sottovoce.tee.completions import Completions
from sottovoce.tee.features import rewrite
from sottovoce.tee.features.headline import salient
from sottovoce.tee.features.highlights import Highlight, highlights
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.messages import Message
from sottovoce.tee.roles import ASGIApp, Session
from sottovoce.tee.settings import Settings

__all__ = ["OrchestratorRole", "create_role"]

_NOTICES: Final = 3
_END: Final = ""
"""No piece is empty."""


class _Summary(Strict, frozen=True, kw_only=True):
    messages: tuple[SentMessage, ...]


class _Rewrite(Strict, frozen=True, kw_only=True):
    draft: str
    style: Literal["professional", "rephrase", "proofread", "supportive", "funny", "shorten"]


async def _answer(send: Send, fill: Callable[[Lines], Awaitable[None]]) -> None:
    """Send what `fill` writes; an error after the beginning is the answer's last line."""
    lines = Lines(send)
    try:
        await fill(lines)
    except SottovoceError as error:
        if not lines.begun:
            raise
        await lines.write({"event": "error", "code": error.code})
    await lines.end()


class _Summarising:
    """One summary."""

    def __init__(self, backends: Backends, messages: list[Message]) -> None:
        self._backends = backends
        self._messages = messages
        self._salient = salient(messages)
        self._held: str | SottovoceError | None = None
        self._pieces: asyncio.Queue[str | SottovoceError] = asyncio.Queue()

    async def run(self, lines: Lines) -> None:
        """Write the whole answer."""
        asking = asyncio.ensure_future(self._ask())  # the model reads while the quotes go out
        try:
            await self._backends.show_guard(
                {"task": "summary", "messages": [_sent(message) for message in self._messages]}
            )
            quoted = await self._quotes(lines)
            told = bool(self._salient) and await self._headline(lines)
        finally:
            asking.cancel()
        method = ["headline by the model"] * told + ["highlights by selection"] * (quoted or not told)
        await lines.write(
            {
                "event": "done",
                "method": ", ".join(method),
                "model": self._backends.model if told else NO_MODEL,
            }
        )

    async def _ask(self) -> None:
        if not self._salient:
            return
        shown = [{"sender": one.sender, "text": one.text} for one in self._salient]
        try:
            async with aclosing(self._backends.ask({"task": "headline", "messages": shown})) as pieces:
                async for piece in pieces:
                    self._pieces.put_nowait(piece)
        except SottovoceError as error:
            self._pieces.put_nowait(error)
        self._pieces.put_nowait(_END)

    async def _quotes(self, lines: Lines) -> bool:
        passed = False
        for quote in highlights(self._messages):
            verdict = await self._backends.judge(_quote(quote))
            if verdict.verdict == "pass":
                passed = True
                await lines.write({"event": "line", **_quote(quote)})
            else:
                await lines.write({"event": "dropped", "kind": "highlight", "reason": verdict.reason})
        # Said in plain sight: a message that gives orders to the machine is neither quoted nor shown to it.
        hostile = sum(addresses_machine(message.text) for message in self._messages)
        for _ in range(min(hostile, _NOTICES)):
            await lines.write({"event": "dropped", "kind": "highlight", "reason": "instructions"})
        return passed

    async def _headline(self, lines: Lines) -> bool:
        verdict = Verdict(verdict="pass")
        told = False
        while not verdict.closed and (piece := await self._next()) is not None:
            verdict = await self._backends.judge({"kind": "headline_piece", "text": piece})
            if verdict.verdict == "drop":
                break
            told = await self._release(lines, verdict.text) or told
        if verdict.verdict == "pass":
            verdict = await self._backends.judge({"kind": "headline_end"})
            told = await self._release(lines, verdict.text) or told
        if verdict.verdict == "pass" and told:
            await lines.write({"event": "line_end", "kind": "headline", "messages": verdict.messages})
            return True
        await lines.write({"event": "dropped", "kind": "headline", "reason": verdict.reason or "form"})
        return False

    async def _next(self) -> str | None:
        """What the model has said since the last time; waits for something."""
        piece = self._held if self._held is not None else await self._pieces.get()
        self._held = None
        if isinstance(piece, SottovoceError):
            raise piece
        while piece is not _END and not self._pieces.empty():
            more = self._pieces.get_nowait()
            if more is _END or isinstance(more, SottovoceError):
                self._held = more
                break
            piece += more
        return None if piece is _END else piece

    @staticmethod
    async def _release(lines: Lines, text: str) -> bool:
        if text:
            await lines.write({"event": "piece", "kind": "headline", "text": text})
        return bool(text)


def _sent(message: Message) -> dict[str, str]:
    return {"id": message.id, "sender": message.sender, "text": message.text}


def _quote(quote: Highlight) -> dict[str, Any]:
    return {"kind": "highlight", "sender": quote.sender, "text": quote.text, "messages": quote.messages}


class _Rewriting:
    """Suggestions for one draft."""

    def __init__(self, backends: Backends, request: _Rewrite) -> None:
        self._backends = backends
        self._request = request
        self._given = 0

    async def run(self, lines: Lines) -> None:
        """Write the whole answer."""
        draft, style = self._request.draft, self._request.style
        await self._backends.show_guard({"task": "rewrite", "draft": draft, "style": style})
        for variant in range(rewrite.ATTEMPTS):
            if self._given == rewrite.SUGGESTIONS:
                break
            question = {"task": "rewrite", "style": style, "draft": draft, "variant": variant}
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


class OrchestratorRole:
    """The role: nothing to load; a predictor and a guard for each session."""

    name = "orchestrator"
    backends: tuple[str, ...] = ("predictor", "guard")

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Nothing is shared but code."""

    def app(self, session: Session) -> ASGIApp:
        """The application of one session."""

        async def summaries(body: bytes, send: Send) -> None:
            messages = take_messages(decode(body, _Summary).messages)
            if not messages:
                raise DecodeError("there is nothing to summarise")
            await _answer(send, _Summarising(Backends(session), messages).run)

        async def rewrites(body: bytes, send: Send) -> None:
            request = decode(body, _Rewrite)
            if len(request.draft) > LIMITS.draft:
                raise LimitError("the draft is longer than the limits allow")
            if not request.draft.strip():
                raise DecodeError("there is nothing to rewrite")
            await _answer(send, _Rewriting(Backends(session), request).run)

        completions = Completions(Backends(session))
        return Application(
            session.settings,
            {
                "POST /v1/summaries": summaries,
                "POST /v1/rewrites": rewrites,
                "POST /v1/chat/completions": completions.create,
                "GET /v1/models": completions.models,
            },
        )


def create_role() -> OrchestratorRole:
    """The role for the server."""
    return OrchestratorRole()

"""Summaries: of up to five chats in one answer, long ones in sections.

What goes out, a line of JSON each (docs/protocol.md): for each chat, if there are several, `chat`; for each section of a long one `section`, with its quotes;
`notice` where something is not done. Then the headlines, as the model writes them: of each section, and last of the chat, which is made from those. The quotes do
not wait for the model, and the model begins to read while they go out.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from sottovoce.core.errors import DecodeError, SottovoceError
from sottovoce.tee.application import Lines, SentMessage, Strict, take_messages
from sottovoce.tee.asking import NO_MODEL, Backends, Verdict
from sottovoce.tee.features.headline import salient
from sottovoce.tee.features.highlights import Detail, Highlight, highlights
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.languages import WRITTEN, language
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.sections import sections

__all__ = ["CHATS", "Summarising", "SummaryRequest"]

CHATS: Final = 5
"""Chats in one request."""
_NOTICES: Final = 3
_NAME: Final = 200
_END: Final = ""
"""No piece is empty."""


class _Chat(Strict, frozen=True, kw_only=True):
    messages: tuple[SentMessage, ...]
    reader: Annotated[str, msgspec.Meta(max_length=_NAME)] = ""
    """The name under which the reader sends in this chat."""


class SummaryRequest(Strict, frozen=True, kw_only=True):
    """What the device sends. The ids of the messages are its own names for them, one each in all chats together."""

    chats: Annotated[tuple[_Chat, ...], msgspec.Meta(min_length=1, max_length=CHATS)]
    detail: Detail = "full"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Headline:
    """One headline to be made: of a section, or of a whole chat."""

    about: dict[str, Any]
    """Names of the chat and the section, in its lines."""
    cites: Sequence[Message]
    """What it may rest on."""
    shown: Sequence[Message] | None
    """What the model sees; None: the headlines of this chat's sections."""


class _Reading:
    """What the model says about some messages, from when it is asked; the words that have come meanwhile together."""

    def __init__(self, backends: Backends, shown: Sequence[Message]) -> None:
        self._backends = backends
        self._pieces: asyncio.Queue[str | SottovoceError] = asyncio.Queue()
        self._held: str | SottovoceError | None = None
        self._task = asyncio.ensure_future(self._ask(shown))

    async def _ask(self, shown: Sequence[Message]) -> None:
        sent = [{"sender": one.sender, "text": one.text} for one in shown]
        try:
            async with aclosing(self._backends.ask({"task": "headline", "messages": sent})) as pieces:
                async for piece in pieces:
                    self._pieces.put_nowait(piece)
        except SottovoceError as error:
            self._pieces.put_nowait(error)
        self._pieces.put_nowait(_END)

    async def next(self) -> str | None:
        """What has come since the last time; waits for something. None at the end."""
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

    def cancel(self) -> None:
        """Nothing more is wanted."""
        self._task.cancel()


class Summarising:
    """One summary."""

    def __init__(self, backends: Backends, request: SummaryRequest) -> None:
        """Take the messages of a request.

        Raises:
            LimitError, DecodeError: as `take_messages`; DecodeError where a chat has none.
        """
        self._backends = backends
        self._chats = request.chats
        self._detail = request.detail
        messages = take_messages([message for chat in request.chats for message in chat.messages])
        found = iter(messages)
        self._messages = [[next(found) for _ in chat.messages] for chat in request.chats]
        if not all(self._messages):
            raise DecodeError("there is nothing to summarise")
        self._headlines = list(self._plan())
        self._told: dict[int, list[Message]] = {}

    def _about(self, chat: int) -> dict[str, Any]:
        return {"chat": chat} if len(self._chats) > 1 else {}

    def _plan(self) -> Iterator[_Headline]:
        for chat, messages in enumerate(self._messages):
            if self._language(messages) not in WRITTEN:
                continue
            parts = sections(messages)
            for number, part in enumerate(parts if len(parts) > 1 else ()):
                about = {**self._about(chat), "section": number}
                yield _Headline(about=about, cites=part, shown=salient(part))
            whole = salient(messages) if len(parts) == 1 else None
            yield _Headline(about=self._about(chat), cites=messages, shown=whole)

    @staticmethod
    def _language(messages: Sequence[Message]) -> str:
        return language(" ".join(message.text for message in messages))

    async def run(self, lines: Lines) -> None:
        """Write the whole answer."""
        self._backends.told = lines.waiting
        first = self._shown(self._headlines[0]) if self._headlines else ()
        # The model reads while the quotes go out.
        reading = _Reading(self._backends, first) if first else None
        told = False
        try:
            sent = [_sent(message) for messages in self._messages for message in messages]
            await self._backends.show_guard({"task": "summary", "messages": sent})
            quoted = [await self._quotes(lines, chat) for chat in range(len(self._chats))]
            for number, headline in enumerate(self._headlines):
                if number:
                    shown = self._shown(headline)
                    reading = _Reading(self._backends, shown) if shown else None
                if reading is not None:
                    told = await self._headline(lines, headline, reading) or told
                    reading.cancel()
                if len(self._headlines) > 1:
                    await lines.write({"event": "progress", "done": number + 1, "of": len(self._headlines)})
        finally:
            if reading is not None:
                reading.cancel()
        method = ["headline by the model"] * told + ["highlights by selection"] * (any(quoted) or not told)
        model = self._backends.model if told else NO_MODEL
        await lines.write({"event": "done", "method": ", ".join(method), "model": model})

    # Quotes.

    async def _quotes(self, lines: Lines, chat: int) -> bool:
        messages, reader, about = self._messages[chat], self._chats[chat].reader, self._about(chat)
        if about:
            await lines.write({"event": "chat", **about})
        if self._language(messages) not in WRITTEN:
            await lines.write({"event": "notice", **about, "about": "language"})
        chosen = await asyncio.to_thread(highlights, messages, reader=reader, detail=self._detail)
        parts = sections(messages)
        passed = False
        for number, part in enumerate(parts):
            ids = {message.id for message in part}
            inside = about
            if len(parts) > 1:
                inside = {**about, "section": number}
                edges = {"first": part[0].id, "last": part[-1].id, "count": len(part)}
                await lines.write({"event": "section", **inside, **edges})
            for quote in chosen:
                if quote.messages[0] in ids:
                    passed = await self._quote(lines, quote, inside) or passed
        # Said in plain sight: a message that gives orders to the machine is neither quoted nor shown to it.
        hostile = await asyncio.to_thread(
            lambda: sum(addresses_machine(message.text) for message in messages)
        )
        for _ in range(min(hostile, _NOTICES)):
            await lines.write({"event": "dropped", **about, "kind": "highlight", "reason": "instructions"})
        return passed

    async def _quote(self, lines: Lines, quote: Highlight, about: dict[str, Any]) -> bool:
        said = {"sender": quote.sender, "text": quote.text, "messages": quote.messages}
        verdict = await self._backends.judge({"kind": "highlight", **said})
        if verdict.verdict != "pass":
            await lines.write({"event": "dropped", **about, "kind": "highlight", "reason": verdict.reason})
            return False
        marks = {"for_reader": True} if quote.for_reader else {}
        await lines.write({"event": "line", **about, "kind": quote.kind, **said, **marks})
        return True

    # Headlines.

    def _shown(self, headline: _Headline) -> Sequence[Message]:
        """What the model sees: the messages that matter, or the headlines of the sections; one of these alone would only be said again."""
        if headline.shown is not None:
            return headline.shown
        told = self._told.get(headline.about.get("chat", 0), ())
        return told if len(told) > 1 else ()

    async def _headline(self, lines: Lines, headline: _Headline, reading: _Reading) -> bool:
        cites = [message.id for message in headline.cites]
        verdict = await self._backends.judge({"kind": "headline_begin", "messages": cites})
        text = ""
        while not verdict.closed and (piece := await reading.next()) is not None:
            verdict = await self._backends.judge({"kind": "headline_piece", "text": piece})
            if verdict.verdict == "drop":
                break
            text += await self._release(lines, verdict, headline)
        if verdict.verdict == "pass":
            verdict = await self._backends.judge({"kind": "headline_end"})
            text += await self._release(lines, verdict, headline)
        if verdict.verdict == "pass" and text:
            await lines.write(
                {"event": "line_end", **headline.about, "kind": "headline", "messages": verdict.messages}
            )
            told = self._told.setdefault(headline.about.get("chat", 0), [])
            told.append(Message(id=str(len(told)), sender="", text=text))
            return True
        reason = verdict.reason or "form"
        await lines.write({"event": "dropped", **headline.about, "kind": "headline", "reason": reason})
        return False

    @staticmethod
    async def _release(lines: Lines, verdict: Verdict, headline: _Headline) -> str:
        if verdict.text:
            await lines.write({"event": "piece", **headline.about, "kind": "headline", "text": verdict.text})
        return verdict.text


def _sent(message: Message) -> dict[str, str]:
    return {"id": message.id, "sender": message.sender, "text": message.text}

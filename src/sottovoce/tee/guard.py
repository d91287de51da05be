"""The guard: sees every answer before the device does, and lets out only what rests on what the device sent.

    POST /v1/sources     what the device sent; once, before anything is judged                       → 204
    POST /v1/judgements  a quote, a suggestion; the beginning, the next piece or the end of a headline, or of a chat's answer → pass or drop

It holds no model: rules in code stand where prompts fall to adaptive writers (threats, section C).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from sottovoce.core.asgi import Send, respond
from sottovoce.core.errors import ProtocolError
from sottovoce.tee.application import (
    Application,
    SentMessage,
    Strict,
    decode,
    respond_json,
    take_messages,
)
from sottovoce.tee.features.chatgate import ChatGate
from sottovoce.tee.features.checks import check_suggestion
from sottovoce.tee.features.gate import HeadlineGate, check_quote
from sottovoce.tee.features.rewrite import SUGGESTIONS
from sottovoce.tee.features.spelling import correct
from sottovoce.tee.features.text import clean, content_words
from sottovoce.tee.roles import ASGIApp, Session
from sottovoce.tee.settings import Settings

if TYPE_CHECKING:
    from sottovoce.tee.features.messages import Message

__all__ = ["Guard", "GuardRole", "Judgement", "create_role"]

_NO_CONTENT: Final = 204
_QUOTES: Final = 64


class _Sources(Strict, frozen=True, kw_only=True):
    task: Literal["summary", "rewrite", "chat"]
    messages: tuple[SentMessage, ...] = ()
    draft: str = ""
    style: str = ""


class _Quote(Strict, frozen=True, kw_only=True, tag_field="kind", tag="highlight"):
    sender: str
    text: str
    messages: list[str]


class _Suggestion(Strict, frozen=True, kw_only=True, tag_field="kind", tag="suggestion"):
    text: str


class _Begin(Strict, frozen=True, kw_only=True, tag_field="kind", tag="headline_begin"):
    messages: list[str]


class _Piece(Strict, frozen=True, kw_only=True, tag_field="kind", tag="headline_piece"):
    text: str


class _End(Strict, frozen=True, kw_only=True, tag_field="kind", tag="headline_end"):
    pass


class _Said(Strict, frozen=True, kw_only=True, tag_field="kind", tag="chat_piece"):
    text: str


class _SaidAll(Strict, frozen=True, kw_only=True, tag_field="kind", tag="chat_end"):
    pass


_Part = _Quote | _Suggestion | _Begin | _Piece | _End | _Said | _SaidAll
Judgement = dict[str, Any]


def _drop(reason: str) -> Judgement:
    return {"verdict": "drop", "reason": reason}


class Guard:
    """One session's guard."""

    def __init__(self) -> None:
        self._sources: _Sources | None = None
        self._messages: dict[str, Message] = {}
        self._gate: HeadlineGate | None = None
        self._chat: ChatGate | None = None
        self._given: list[str] = []
        self._quotes = 0

    def take(self, body: bytes) -> None:
        """Take what the device sent; each request of the device begins anew.

        Raises:
            DecodeError, LimitError: not of the form, or beyond the limits.
        """
        sources = decode(body, _Sources)
        messages = take_messages(sources.messages)
        self._sources = sources
        self._messages = {message.id: message for message in messages}
        self._gate = None
        self._chat = ChatGate(message.text for message in messages) if sources.task == "chat" else None
        self._given, self._quotes = [], 0

    def judge(self, body: bytes) -> Judgement:
        """The verdict on one part of an answer.

        Raises:
            DecodeError: not of the form.
            ProtocolError: there are no sources, or they are of another task.
        """
        part: _Part = decode(body, _Part)  # type: ignore[arg-type]  # a union is a type to msgspec
        if self._sources is None:
            raise ProtocolError("nothing can be judged without its sources")
        if isinstance(part, _Suggestion):
            return self._suggestion(part.text, self._sources)
        if isinstance(part, _Said | _SaidAll):
            return self._said(part, self._chat)
        if self._sources.task != "summary":
            raise ProtocolError("this part does not belong to the task")
        if isinstance(part, _Quote):
            return self._quote(part)
        if isinstance(part, _Begin):
            return self._begin(part)
        if self._gate is None:
            raise ProtocolError("no headline has begun")
        return self._headline(part, self._gate)

    def _begin(self, part: _Begin) -> Judgement:
        """A headline that may rest on these messages and no others."""
        if not self._messages.keys() >= set(part.messages):
            return _drop("citation")
        self._gate = HeadlineGate([self._messages[one] for one in part.messages])
        return {"verdict": "pass"}

    @staticmethod
    def _said(part: _Said | _SaidAll, gate: ChatGate | None) -> Judgement:
        if gate is None:
            raise ProtocolError("this part does not belong to the task")
        text = gate.feed(part.text) if isinstance(part, _Said) else gate.end()
        return {"verdict": "pass", "text": text, "reason": "link" if gate.removed else ""}

    def _quote(self, part: _Quote) -> Judgement:
        self._quotes += 1
        reason = check_quote(part.sender, part.text, part.messages, self._messages)
        if self._quotes > _QUOTES:
            reason = "length"
        return _drop(reason) if reason else {"verdict": "pass", "text": part.text, "messages": part.messages}

    def _suggestion(self, text: str, sources: _Sources) -> Judgement:
        reason = check_suggestion(sources.draft, text, sources.style, self._given)
        if reason is None and self._is_from_the_chat(text, sources.draft):
            reason = "context"
        if sources.task != "rewrite" or len(self._given) >= SUGGESTIONS:
            reason = "form"
        if reason is not None:
            return _drop(reason)
        self._given.append(text)
        return {"verdict": "pass", "text": text, "messages": []}

    def _is_from_the_chat(self, text: str, draft: str) -> bool:
        """Whether a suggestion has words that matter from the messages before the draft, and not from the draft."""
        theirs = {word for one in self._messages.values() for word in content_words(one.text)}
        return bool(content_words(text) & (theirs - content_words(correct(clean(draft)))))

    def _headline(self, part: _Piece | _End, gate: HeadlineGate) -> Judgement:
        if gate.closed and gate.reason is not None:
            return _drop(gate.reason)
        text = gate.feed(part.text) if isinstance(part, _Piece) else gate.end()
        if gate.reason is not None and not text:
            return _drop(gate.reason)
        cited: list[str] = []
        if isinstance(part, _End):
            cited = gate.citations()
            if not cited:
                return _drop("unsupported")
        return {"verdict": "pass", "text": text, "messages": cited, "closed": gate.closed}


class GuardRole:
    """The role: nothing to load, no back ends."""

    name = "guard"
    backends: tuple[str, ...] = ()

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Nothing is shared but code."""

    def app(self, session: Session) -> ASGIApp:
        """The application of one session."""
        guard = Guard()

        async def sources(body: bytes, send: Send) -> None:
            guard.take(body)
            await respond(send, _NO_CONTENT)

        async def judgements(body: bytes, send: Send) -> None:
            await respond_json(send, guard.judge(body))

        return Application(session.settings, {"POST /v1/sources": sources, "POST /v1/judgements": judgements})


def create_role() -> GuardRole:
    """The role for the server."""
    return GuardRole()

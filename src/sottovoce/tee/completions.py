"""Chat completions as other services have them, so that any client of theirs can be used.

    POST /v1/chat/completions   text in, text out; whole, or as server-sent events
    GET  /v1/models             the predictor's models

The interface is OpenAI's: https://platform.openai.com/docs/api-reference/chat (read in November 2026).
What is not done is refused and never passed over in silence: no tools, no images, one choice, no penalties, no log probabilities. Fields that would tell
who asks (`user`, `metadata`) are unknown here. The guard judges each piece (`features.chatgate`).
"""

import json
import secrets
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

import msgspec

from sottovoce.core.asgi import Send, respond
from sottovoce.core.errors import LimitError, SottovoceError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.asking import Backends

__all__ = ["MAX_TOKENS", "Completions"]

MAX_TOKENS: Final = 1024
"""Tokens of an answer at most; one that was asked to be longer ends here, with the reason "length"."""
_PIECE: Final = 32
"""Characters, so that what is around them does not take the room of the answer (`LIMITS.answer`)."""
_ROOM: Final = LIMITS.answer - 4096
_OK: Final = 200
_EVENTS: Final = b"text/event-stream"
_SEED_BITS: Final = 32
_NO_TIME: Final = 0
"""A CVM has no clock but the host's."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    refusal: None = None
    tool_calls: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None

    @property
    def turn(self) -> dict[str, str]:
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "text": text}


class _StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False


class _Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text"]


_Count = Annotated[int, msgspec.Meta(ge=1)]
_Zero = Annotated[float, msgspec.Meta(ge=0, le=0)]
_None = Annotated[list[Any], msgspec.Meta(max_length=0)]


class _Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request; what has one allowed value does nothing."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] | None = None
    presence_penalty: _Zero | None = None
    frequency_penalty: _Zero | None = None
    logprobs: Literal[False] | None = None
    response_format: _Format | None = None
    tools: _None | None = None
    tool_choice: Literal["none"] | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class _RefusedError(Exception):
    """The answer is an error of the interface."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message

    @property
    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "api_error"  # noqa: PLR2004 - RFC 9110 section 15.6
        error = {"message": self.message, "type": kind, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()


class Completions:
    """The two resources, for one session."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def models(self, _body: bytes, send: Send) -> None:
        """`GET /v1/models`."""
        try:
            names = await self._backends.models()
        except SottovoceError as error:
            await _refuse(send, _told(error))
            return
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "sottovoce"} for name in names]
        await respond(send, _OK, _json({"object": "list", "data": data}))

    async def create(self, body: bytes, send: Send) -> None:
        """`POST /v1/chat/completions`."""
        answer = _Answer(send)
        try:
            request = _decode(body)
            await self._require_model(request.model)
            answer.begin(request)
            await self._answer(request, answer)
        except _RefusedError as refused:
            await answer.fail(refused)
        except SottovoceError as error:
            await answer.fail(_told(error))

    async def _require_model(self, name: str) -> None:
        if name not in await self._backends.models():
            message = "there is no such model; GET /v1/models names those that are here"
            raise _RefusedError(404, "model_not_found", message)

    async def _answer(self, request: _Create, answer: "_Answer") -> None:
        turns = [message.turn for message in request.messages]
        await self._backends.show_guard(
            {
                "task": "chat",
                "messages": [
                    {"id": str(at), "sender": turn["role"], "text": turn["text"]}
                    for at, turn in enumerate(turns)
                ],
            }
        )
        question = {
            "task": "chat",
            "turns": turns,
            "max_tokens": min(request.max_completion_tokens or request.max_tokens or MAX_TOKENS, MAX_TOKENS),
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "seed": secrets.randbits(_SEED_BITS)
            if request.seed is None
            else request.seed % (1 << _SEED_BITS),
            "stop": request.stops,
        }
        if request.stream:
            await answer.start()
            self._backends.told = answer.waiting
        ended = "length"
        async with aclosing(self._backends.ask(question)) as pieces:
            held, begun = "", False
            async for piece in pieces:
                held += piece
                # The first word as soon as the guard lets it go, then as many pieces together as make `_PIECE` characters.
                if begun and len(held) < _PIECE:
                    continue
                text, held = await self._judged(held), ""
                begun = begun or bool(text.strip())
                if not await answer.put(text):
                    break
            else:
                if not held or await answer.put(await self._judged(held)):
                    ended = self._backends.ended.reason
        await answer.put((await self._backends.judge({"kind": "chat_end"})).text)
        await answer.end(ended, self._backends)

    async def _judged(self, text: str) -> str:
        return (await self._backends.judge({"kind": "chat_piece", "text": text})).text


class _Answer:
    """One answer, whole or in events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._request: _Create | None = None
        self._text = ""
        self._sent = 0
        self._begun = False

    def begin(self, request: _Create) -> None:
        """The request is one of the interface."""
        self._request = request

    async def start(self) -> None:
        """The first event, before there is a word: whoever waits sees that somebody writes."""
        self._begun = True
        headers = [(b"content-type", _EVENTS), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": _OK, "headers": headers})
        await self._event(self._chunk({"role": "assistant", "content": ""}, None))

    async def waiting(self, place: int) -> None:
        """Others are before this session: a comment, which programs overlook (HTML, section 9.2.6)."""
        data = b": waiting, place %d\n\n" % place
        self._sent += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def put(self, text: str) -> bool:
        """Add to the answer; False where there is no room for it."""
        if self._sent + len(text.encode()) * 6 > _ROOM:  # as JSON writes the worst of characters
            return False
        self._text += text
        if self._begun and text:
            await self._event(self._chunk({"content": text}, None))
        elif text:
            self._sent += len(_json(text))
        return True

    async def end(self, reason: str, backends: Backends) -> None:
        """The answer is complete."""
        ended = backends.ended
        usage = {
            "prompt_tokens": ended.asked,
            "completion_tokens": ended.said,
            "total_tokens": ended.asked + ended.said,
        }
        if not self._begun:
            message = {"role": "assistant", "content": self._text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
            await respond(
                self._send, _OK, _json(self._document("chat.completion", choices=[choice], usage=usage))
            )
            return
        await self._event(self._chunk({}, reason))
        options = self._request.stream_options if self._request else None
        if options is not None and options.include_usage:
            await self._event(self._document("chat.completion.chunk", choices=[], usage=usage))
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def fail(self, refused: _RefusedError) -> None:
        """The answer is an error; of one that has begun, the last event."""
        if not self._begun:
            await _refuse(self._send, refused)
            return
        await self._send({"type": "http.response.body", "body": b"data: " + refused.body + b"\n\n"})

    async def _event(self, document: dict[str, Any]) -> None:
        data = b"data: " + _json(document) + b"\n\n"
        self._sent += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def _chunk(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self._document("chat.completion.chunk", choices=[choice])

    def _document(self, kind: str, **fields: Any) -> dict[str, Any]:
        model = self._request.model if self._request else ""
        return {"id": self._id, "object": kind, "created": _NO_TIME, "model": model, **fields}


def _decode(body: bytes) -> _Create:
    try:
        request = msgspec.json.decode(body, type=_Create)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # What msgspec says could repeat what was sent.
        message = "a field is missing, unknown, or has a value that is not supported (docs/openai.md lists those that are)"
        raise _RefusedError(400, "unsupported_parameter", message) from None
    if any(len(message.turn["text"]) > LIMITS.message_text for message in request.messages):
        raise _told(LimitError("a message is longer than the limits allow"))
    return request


def _told(error: SottovoceError) -> _RefusedError:
    if isinstance(error, LimitError):
        return _RefusedError(400, "context_length_exceeded", "the messages are longer than the model takes")
    return _RefusedError(503, error.code, "a part of the service is down; nothing is kept, try again")


async def _refuse(send: Send, refused: _RefusedError) -> None:
    await respond(send, refused.status, refused.body)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)

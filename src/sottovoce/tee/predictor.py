"""The predictor: holds the model, and answers one question at a time in the session's own process.

    POST /v1/infer  {"task": "headline", "messages": [{"sender", "text"}]}
                    {"task": "rewrite", "style", "draft", "variant": 0 to 5}
                    → lines {"text": "…"}, then {"end": "stop" | "length", "model": "…"} or {"error": "code"};
                      a headline's as they come, a rewrite's at once

The parent loads the weights and evaluates the fixed prompts; a session's process inherits both by fork, and what it adds ends with it.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec

from sottovoce.core.asgi import Send
from sottovoce.core.errors import ConfigError, LimitError, SottovoceError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.application import Application, Lines, Strict, decode
from sottovoce.tee.engines import Engine
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.features import headline, rewrite
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.prompts import PROMPTS, check_prompts
from sottovoce.tee.roles import ASGIApp, Session, pump
from sottovoce.tee.settings import Settings

__all__ = ["PROMPTS", "PredictorRole", "create_role"]

_ENDS: Final = (". ", "! ", "? ", "\n")
_MESSAGES: Final = 32


class _Line(Strict, frozen=True, kw_only=True):
    sender: str
    text: str


class _Headline(Strict, frozen=True, kw_only=True, tag_field="task", tag="headline"):
    messages: list[_Line]


class _Rewrite(Strict, frozen=True, kw_only=True, tag_field="task", tag="rewrite"):
    style: Literal["professional", "rephrase", "proofread", "supportive", "funny", "shorten"]
    draft: str
    variant: Annotated[int, msgspec.Meta(ge=0, lt=rewrite.ATTEMPTS)] = 0


class PredictorRole:
    """The role. `engine` is for tests; otherwise `warm` loads the settings' model."""

    name = "predictor"
    backends: tuple[str, ...] = ()

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Load the model and evaluate the fixed prompts.

        Raises:
            ConfigError: the settings name no model or other prompts, or the model cannot be loaded.
        """
        if self._engine is not None:
            return
        if settings.model is None:
            raise ConfigError("a predictor needs a model")
        check_prompts(settings.prompts)
        engine = LlamaEngine(
            artifacts[settings.model.name],
            name=settings.model.name,
            threads=settings.threads,
            prompts=PROMPTS,
        )
        for _ in engine.generate("rewrite", "Hello", max_tokens=2):
            pass  # what the first answer needs is loaded now: later there are no files
        self._engine = engine

    def app(self, session: Session) -> ASGIApp:
        """The application of one session."""
        engine = self._engine
        if engine is None:
            raise ConfigError("the predictor has not been warmed")

        async def infer(body: bytes, send: Send) -> None:
            await _infer(engine, session, body, send)

        return Application(session.settings, {"POST /v1/infer": infer})


async def _infer(engine: Engine, session: Session, body: bytes, send: Send) -> None:
    question = decode(body, _Headline | _Rewrite)  # type: ignore[arg-type]  # a union is a type to msgspec
    limit, pieces = _begin(engine, question)
    # Nobody can use half a suggestion, and an answer at once has no cadence to wait for.
    lines, count, told = Lines(send, at_once=isinstance(question, _Rewrite)), 0, ""
    try:
        async with session.slot():
            async for piece in pump(pieces):
                count += 1
                told += piece
                await lines.write({"text": piece})
                if isinstance(question, _Headline) and any(end in told for end in _ENDS):
                    break
    except SottovoceError as error:
        if not lines.begun:
            raise
        await lines.write({"error": error.code})
    else:
        await lines.write({"end": "length" if count >= limit else "stop", "model": engine.name})
    await lines.end()


def _begin(engine: Engine, question: _Headline | _Rewrite) -> tuple[int, Iterator[str]]:
    if isinstance(question, _Rewrite):
        if len(question.draft) > LIMITS.draft:
            raise LimitError("the draft is longer than the limits allow")
        limit = rewrite.max_tokens(question.draft)
        turn, temperature, seed = rewrite.request(question.style, question.draft, question.variant)
        pieces = engine.generate("rewrite", turn, max_tokens=limit, temperature=temperature, seed=seed)
        return limit, pieces
    if len(question.messages) > _MESSAGES:
        raise LimitError("more messages than a headline is made from")
    messages = [
        Message(id=str(at), sender=line.sender, text=line.text) for at, line in enumerate(question.messages)
    ]
    pieces = engine.generate(
        "headline",
        headline.user_turn(messages),
        opening=headline.opening(messages),
        max_tokens=headline.MAX_TOKENS,
    )
    return headline.MAX_TOKENS, pieces


def create_role() -> PredictorRole:
    """The role for the server."""
    return PredictorRole()

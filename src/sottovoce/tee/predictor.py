"""The predictor: holds the model, and answers one question at a time in the session's own process.

    POST /v1/infer  {"task": "headline", "messages": [{"sender", "text"}]}
                    {"task": "rewrite", "style", "draft", "variant": 0 to 5, "context": [{"sender", "text"}]}
                    {"task": "chat", "turns": [{"role", "text"}], "max_tokens", "temperature", "top_p", "seed", "stop": ["…"]}
                    → lines {"waiting": place} while others are before it, {"text": "…"}, then {"end": "stop" | "length", "model": "…", "asked": tokens, "said": tokens} or
                      {"error": "code"}; a rewrite's at once, others as they come
    GET  /v1/models → {"models": ["…"]}

The parent loads the weights and evaluates the fixed prompts; a session's process inherits both by fork, and what it adds ends with it.
Or the weights are in a server beside it (docs/engines.md), to which each session's process has connections of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from sottovoce.core.asgi import Send
from sottovoce.core.errors import ConfigError, DecodeError, LimitError, SottovoceError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.application import Application, Lines, Strict, decode, respond_json
from sottovoce.tee.engines import Engine, EngineError, Sampling, Turn
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.engines.remote import SOCKET, RemoteEngine
from sottovoce.tee.features import headline, rewrite
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.prompts import PROMPTS, check_prompts
from sottovoce.tee.features.stops import StopAt
from sottovoce.tee.roles import ASGIApp, Session, pump
from sottovoce.tee.settings import EngineSettings, Settings

__all__ = ["PROMPTS", "PredictorRole", "create_role"]

_ENDS: Final = (". ", "! ", "? ", "\n")
_MESSAGES: Final = 32
_TURNS: Final = 256
_STOPS: Final = 4
_SILENCE: Final = LIMITS.engine_silence


class _Line(Strict, frozen=True, kw_only=True):
    sender: str
    text: str


class _Headline(Strict, frozen=True, kw_only=True, tag_field="task", tag="headline"):
    messages: list[_Line]


class _Rewrite(Strict, frozen=True, kw_only=True, tag_field="task", tag="rewrite"):
    style: Literal["professional", "rephrase", "proofread", "supportive", "funny", "shorten"]
    draft: str
    variant: Annotated[int, msgspec.Meta(ge=0, lt=rewrite.ATTEMPTS)] = 0
    context: Annotated[tuple[_Line, ...], msgspec.Meta(max_length=rewrite.CONTEXT)] = ()


class _Turn(Strict, frozen=True, kw_only=True):
    role: Literal["system", "user", "assistant"]
    text: str


class _Chat(Strict, frozen=True, kw_only=True, tag_field="task", tag="chat"):
    turns: list[_Turn]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    stop: tuple[str, ...] = ()


_Question = _Headline | _Rewrite | _Chat


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Asked:
    """What the engine is to do."""

    turns: list[Turn]
    sampling: Sampling
    prompt: str = ""
    opening: str = ""
    stop: tuple[str, ...] = ()
    keeps_stop: bool = False
    """Whether the text that ended the answer belongs to it."""


class PredictorRole:
    """The role. `engine` is for tests; otherwise `warm` loads the settings' model."""

    name = "predictor"
    backends: tuple[str, ...] = ()

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Load the model and evaluate the fixed prompts, or check the server that has it.

        Raises:
            ConfigError: the settings name no model or other prompts, the model cannot be loaded, or the server would keep something.
            UnavailableError: the server does not serve.
        """
        if self._engine is not None:
            return
        if settings.engine is not None:
            check_prompts(settings.prompts)
            self._engine = _server(settings.engine)
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
        hello = [Turn(role="user", text="Hello")]
        for _ in engine.generate(hello, Sampling(max_tokens=2), prompt="rewrite"):
            pass  # what the first answer needs is loaded now: later there are no files
        self._engine = engine

    def connect(self) -> None:
        """See `Connects.connect`."""
        if isinstance(self._engine, RemoteEngine):
            self._engine.connect()

    def app(self, session: Session) -> ASGIApp:
        """The application of one session."""
        engine = self._engine
        if engine is None:
            raise ConfigError("the predictor has not been warmed")

        async def infer(body: bytes, send: Send) -> None:
            await _infer(engine, session, body, send)

        async def models(_body: bytes, send: Send) -> None:
            await respond_json(send, {"models": [engine.name]})

        return Application(session.settings, {"POST /v1/infer": infer, "GET /v1/models": models})


def _server(settings: EngineSettings) -> RemoteEngine:
    address = SOCKET if settings.port is None else ("127.0.0.1", settings.port)
    engine = RemoteEngine(kind=settings.kind, name=settings.model, prompts=PROMPTS, address=address)
    engine.warm()
    return engine


async def _infer(engine: Engine, session: Session, body: bytes, send: Send) -> None:
    question: _Question = decode(body, _Question)  # type: ignore[arg-type]  # a union is a type to msgspec
    asked = _asked(question)
    # Nobody can use half a suggestion, and an answer at once has no cadence to wait for.
    lines = Lines(send, at_once=isinstance(question, _Rewrite))

    async def waiting(place: int) -> None:
        await lines.write({"waiting": place})
        await lines.flush()

    pieces = engine.generate(asked.turns, asked.sampling, prompt=asked.prompt, opening=asked.opening)
    try:
        async with session.slot(waiting):
            said, end = await _write(lines, pieces, asked)
    except TimeoutError:
        # Its thread cannot be stopped, but with the process.
        session.give_up()
        raise EngineError("the engine hangs") from None
    except SottovoceError as error:
        if not lines.begun:
            raise
        await lines.write({"error": error.code})
    else:
        count = engine.count(asked.turns)
        await lines.write({"end": end, "model": engine.name, "asked": count, "said": said})
    await lines.end()


async def _write(lines: Lines, pieces: Iterator[str], asked: _Asked) -> tuple[int, str]:
    """Write what the engine says; how many pieces it said, and why it ended: "stop" or "length"."""
    told, said = StopAt(asked.stop, keep=asked.keeps_stop), 0
    async for piece in pump(pieces, patience=_SILENCE):
        said += 1
        if said > asked.sampling.max_tokens + 1:  # an engine that goes on behind the opening and all tokens
            return said, "length"
        if text := told.feed(piece):
            await lines.write({"text": text})
        if told.stopped:
            return said, "stop"
    if text := told.end():
        await lines.write({"text": text})
    return said, "length" if said >= asked.sampling.max_tokens else "stop"


def _asked(question: _Question) -> _Asked:
    if isinstance(question, _Chat):
        return _chat(question)
    if isinstance(question, _Rewrite):
        if len(question.draft) > LIMITS.draft:
            raise LimitError("the draft is longer than the limits allow")
        turn, temperature, seed = rewrite.request(
            question.style, question.draft, question.variant, _messages(question.context)
        )
        return _Asked(
            prompt="rewrite",
            turns=[Turn(role="user", text=turn)],
            sampling=Sampling(
                max_tokens=rewrite.max_tokens(question.draft),
                temperature=temperature,
                seed=seed,
                grammar=rewrite.grammar(question.draft),
            ),
        )
    if len(question.messages) > _MESSAGES:
        raise LimitError("more messages than a headline is made from")
    messages = _messages(question.messages)
    return _Asked(
        prompt="headline",
        turns=[Turn(role="user", text=headline.user_turn(messages))],
        opening=headline.opening(messages),
        sampling=Sampling(max_tokens=headline.MAX_TOKENS, grammar=headline.GRAMMAR),
        stop=_ENDS,
        keeps_stop=True,
    )


def _messages(lines: Sequence[_Line]) -> list[Message]:
    return [Message(id=str(at), sender=line.sender, text=line.text) for at, line in enumerate(lines)]


def _chat(question: _Chat) -> _Asked:
    if len(question.turns) > _TURNS or len(question.stop) > _STOPS:
        raise LimitError("more turns, or more stop sequences, than the limits allow")
    if not question.turns or not all(question.stop):
        raise DecodeError("there is nothing to answer, or a stop sequence is empty")
    return _Asked(
        turns=[Turn(role=turn.role, text=turn.text) for turn in question.turns],
        sampling=Sampling(
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            top_p=question.top_p,
            seed=question.seed,
        ),
        stop=question.stop,
    )


def create_role() -> PredictorRole:
    """The role for the server."""
    return PredictorRole()

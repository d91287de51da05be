"""An engine in a process of its own: a server with OpenAI's interface, in the same CVM.

The predictor's parent looks at the server's process (`servers`), at what the server says of itself, and at its tokenizer (`control`) before
anything listens. Each session's process opens its connections before its sandbox closes and can open no other later.

Sent with every request: one choice, no log probabilities, no user, nothing to be stored, and a salt for the prefix cache that is the
session's own. The cache must be off in any case; an answer that says that it came from one is an error.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from sottovoce.core.errors import ConfigError, LimitError, SottovoceError, UnavailableError
from sottovoce.tee.engines import EngineError, Prompt, Sampling, Turn
from sottovoce.tee.engines.control import ControlTokens, control_tokens
from sottovoce.tee.engines.grammar import LineGrammar
from sottovoce.tee.engines.rules import RULES
from sottovoce.tee.engines.servers import Address, Identity, judge, look, model_path, owner, reach
from sottovoce.tee.engines.wire import Wire, WireClosedError

__all__ = ["SOCKET", "RemoteEngine"]

_T = TypeVar("_T")
SOCKET: Final = "/run/sottovoce/engine.sock"
"""Where the server listens if the settings name no port."""
_CONNECT: Final = 5.0
"""Seconds for a connection within one machine."""
_LOADING: Final = 1800.0
"""Seconds until the server has loaded its model: hundreds of gigabytes from a disk."""
_PAUSE: Final = 0.5
_OK: Final = 200
_TOO_LONG: Final = (b"context length", b"exceed_context_size_error", b"input_tokens")
"""What the servers' refusals of a text that is too long have in them (docs/engines.md)."""
_DONE: Final = b"[DONE]"
_STOP, _LENGTH = "stop", "length"
_HELLO: Final = (Turn(role="user", text="Hello"),)
_KEPT: Final = "a form is kept"
_BATCH: Final = 100
"""Control tokens in one question to the tokenizer."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Timings(msgspec.Struct):
    """What llama.cpp's server says with each piece, in place of the usage."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Chunk(msgspec.Struct):
    """`chat.completion.chunk`; other fields are passed over."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: Any = None

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """Tokens asked, said so far, and taken from a cache."""
        if self.timings is not None:
            timings = self.timings
            return timings.cache_n + timings.prompt_n, timings.predicted_n, timings.cache_n
        if self.usage is not None:
            details = self.usage.prompt_tokens_details
            cached = (details.cached_tokens or 0) if details is not None else 0
            return self.usage.prompt_tokens, self.usage.completion_tokens or 0, cached
        return None


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class RemoteEngine:
    """A server's model. `kind` is one of `RULES`; `name` is what the server calls the model; `prompts` are the fixed prompts."""

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        prompts: Mapping[str, Prompt],
        address: Address = SOCKET,
        proc: Path = Path("/proc"),
    ) -> None:
        self.name: Final = name
        self._kind = kind
        self._rules = RULES[kind]
        self._address = address
        self._proc = proc
        self._fixed = {prompt: list(_fixed(what)) for prompt, what in prompts.items()}
        self._fixed_tokens: dict[str, int] = {}
        self._server: Identity | None = None
        self._control = ControlTokens({})
        self._wires: list[Wire] = []
        self._salt = ""
        self._asked: tuple[list[Turn], int] | None = None

    # Once, in the parent.

    def warm(self, *, patience: float = _LOADING) -> None:
        """Check the server, wait until it serves, and ask everything once that sessions ask.

        Raises:
            ConfigError: the server is not what it must be.
            UnavailableError: it does not serve within `patience` seconds.
        """
        try:
            self._wait(time.monotonic() + patience)
            self._check_words()
            self._check_tokenizer()
            self._check_idle()
            self._check_grammar()
            self._measure_prompts()
        except (EngineError, LimitError) as error:
            raise ConfigError(f"the engine's server failed its check: {error}") from None
        finally:
            self.close()
        self._check_process()  # what it listens to may have come with the model

    def _wait(self, deadline: float) -> None:
        while True:
            with contextlib.suppress(OSError, EngineError, UnavailableError):
                self._check_process()
                self.connect()
                status, _ = self._plain("GET", "/v1/models")
                if status == _OK:
                    return
            if time.monotonic() >= deadline:
                raise UnavailableError("the engine's server does not serve", party="engine")
            time.sleep(_PAUSE)

    def _check_process(self) -> None:
        with contextlib.closing(reach(self._address, timeout=_CONNECT)) as sock:
            server = look(owner(sock, proc=self._proc), proc=self._proc)
        if self._server not in {None, server.identity}:
            raise ConfigError("the engine's server was started again")
        judge(self._kind, server)
        if self._server is None:
            self._control = control_tokens(model_path(self._kind, server, proc=self._proc))
        self._server = server.identity

    def _check_words(self) -> None:
        """What the server says of itself: its model, its version, its cache."""
        models = self._document("GET", "/v1/models", type=_Models)
        if [model.id for model in models.data] != [self.name]:
            raise ConfigError("the engine's server has another model than the settings name")
        for target, wanted in self._rules.states.items():
            said = self._document("GET", target, type=dict[str, Any])
            wrong = sorted(name for name, value in wanted.items() if name not in said or said[name] != value)
            if wrong:
                raise ConfigError(f"the engine's server says otherwise at {target}: " + ", ".join(wrong))
        if self._rules.version_at:
            said = self._document("GET", self._rules.version_at, type=dict[str, Any])
            if not str(said.get("version")).startswith(tuple(f"{one}." for one in self._rules.versions)):
                raise ConfigError("the rules were written for other versions of the engine's server")
        if self._rules.metric:
            name, value = (part.encode() for part in self._rules.metric)
            lines = [line for line in self._plain("GET", "/metrics")[1].splitlines() if line.startswith(name)]
            if not lines or not all(value in line for line in lines):
                raise ConfigError("the engine's server says that its prefix cache is on")

    def _check_tokenizer(self) -> None:
        """That the server reads no control token out of a text in which they were broken up."""
        texts = [text for text, number in self._control.tokens.items() if number is not None]
        if not texts or not self._reads(texts[0]) & self._control.numbers:
            raise ConfigError("the engine's server has another tokenizer than its model's folder")
        for at in range(0, len(texts), _BATCH):
            if self._reads(self._control.broken("\n".join(texts[at : at + _BATCH]))) & self._control.numbers:
                raise ConfigError("the engine's server reads control tokens out of text")

    def _reads(self, text: str) -> set[int]:
        if self._kind == "llama-server":
            question = {"content": text, "add_special": False, "parse_special": True}
        else:
            question = {"model": self.name, "prompt": text, "add_special_tokens": False}
        return set(self._document("POST", "/tokenize", question, type=_Tokens).tokens)

    def _check_idle(self) -> None:
        """That it leaves idle connections open, where no setting of it says for how long."""
        if self._rules.idle:
            time.sleep(self._rules.idle)
            if not all(wire.usable() for wire in self._wires):
                raise ConfigError("the engine's server closes idle connections within seconds")

    def _check_grammar(self) -> None:
        """That it keeps to a grammar, and does not pass over the field."""
        question = self._question(_HELLO, Sampling(max_tokens=32)) | _nested(
            self._rules.grammar, f'root ::= "{_KEPT}"\n'
        )
        if "".join(self._told(question, _HELLO)) != _KEPT:
            raise ConfigError("the engine's server does not keep to a grammar")

    def _measure_prompts(self) -> None:
        alone = self._measure("")
        self._fixed_tokens = {prompt: self._measure(prompt) - alone for prompt in self._fixed}
        for _ in self.generate(_HELLO, Sampling(max_tokens=2), opening="Hi"):
            pass

    def _measure(self, prompt: str) -> int:
        for _ in self.generate(_HELLO, Sampling(max_tokens=2), prompt=prompt):
            pass
        if self._asked is None:
            raise EngineError("it does not say how many tokens it was asked")
        return self._asked[1]

    # For each session.

    def connect(self) -> None:
        """Open a session's connections. To be called before its sandbox closes.

        Raises:
            UnavailableError: the server does not answer, or is not the one that was checked.
        """
        self.close()
        self._salt, self._asked = secrets.token_urlsafe(32), None
        try:
            for _ in range(self._rules.wires):
                sock = reach(self._address, timeout=_CONNECT)
                self._wires.append(Wire(sock))
                same = owner(sock, proc=self._proc) == self._server
                if not same:
                    break
        except (OSError, ConfigError):
            same = False
        if not same:
            self.close()
            raise UnavailableError("the engine's server is gone, or was started again", party="engine")

    def close(self) -> None:
        """Close every connection."""
        for wire in self._wires:
            wire.close()
        self._wires = []

    def count(self, turns: Sequence[Turn]) -> int:
        """See `Engine.count`. Known for the turns that were asked last; a template's own system prompt counts too, and an opening.

        Raises:
            EngineError: nothing was asked with these turns.
        """
        if self._asked is None or self._asked[0] != list(turns):
            raise EngineError("only the turns that were asked last are counted")
        return self._asked[1]

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        """See `Engine.generate`. Closing the iterator early tells the server to stop, as long as there is another connection.

        Raises:
            LimitError: the text is longer than the model takes.
            EngineError: the server failed, was silent for too long, or closed all connections.
        """
        question = self._question(turns, sampling, prompt=prompt, opening=opening)
        return self._told(question, turns, prompt=prompt, opening=opening)

    def _told(
        self, question: dict[str, Any], turns: Sequence[Turn], *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        self._asked = None
        wire, status, kind = self._ask("POST", "/v1/chat/completions", question)
        answer = _Answer(question["max_tokens"])
        whole = False
        try:
            if status != _OK or kind != "text/event-stream":
                raise _refusal(wire.read())
            yield from filter(None, [opening])
            for data in wire.events():
                pieces = answer.feed(data)
                if answer.asked:
                    self._asked = list(turns), answer.asked - self._fixed_tokens.get(prompt, 0)
                yield from pieces
            answer.end()
            whole = True
        finally:
            if not whole:
                self._abandon(wire)

    def _question(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> dict[str, Any]:
        said = [*turns, Turn(role="assistant", text=opening)] if opening else turns
        question: dict[str, Any] = {
            "model": self.name,
            "messages": [
                *self._fixed.get(prompt, ()),
                *({"role": turn.role, "content": self._control.broken(turn.text)} for turn in said),
            ],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "n": 1,
            "store": False,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if opening:
            question |= {"continue_final_message": True, "add_generation_prompt": False}
        # A server keeps what it compiles, and another session could find out: it is given the form alone, without this session's numbers; and where words of
        # another form may stand, nothing.
        if sampling.grammar is not None and not sampling.grammar.literals:
            question |= _nested(self._rules.grammar, LineGrammar().gbnf)
        if self._rules.salted:
            return question | {"cache_salt": self._salt}
        return question | {"cache_prompt": False, "timings_per_token": True}

    # Connections.

    def _ask(self, method: str, target: str, document: object = None) -> tuple[Wire, int, str]:
        """Ask on the first connection that is still open."""
        body = msgspec.json.encode(document) if document is not None else b""
        while self._wires:
            wire = self._wires[0]
            try:
                if wire.usable():
                    return wire, *wire.ask(method, target, body)
            except WireClosedError:
                pass  # between two requests it was closed; the server has not seen this one
            except EngineError:
                self._drop(wire)
                raise
            self._drop(wire)
        raise EngineError("the engine closed its connections")

    def _abandon(self, wire: Wire) -> None:
        # The last one is kept: its answer is read to the end before the next question.
        if len(self._wires) > 1:
            self._drop(wire)

    def _drop(self, wire: Wire) -> None:
        wire.close()
        self._wires = [other for other in self._wires if other is not wire]

    def _plain(self, method: str, target: str, document: object = None) -> tuple[int, bytes]:
        wire, status, _ = self._ask(method, target, document)
        return status, wire.read()

    def _document(self, method: str, target: str, document: object = None, *, type: type[_T]) -> _T:  # noqa: A002 - msgspec's word
        status, body = self._plain(method, target, document)
        if status != _OK:
            raise EngineError(f"it does not answer at {target}")
        try:
            return msgspec.json.decode(body, type=type)
        except msgspec.MsgspecError:
            raise EngineError(f"it answers at {target} in another form") from None


class _Answer:
    """A streamed answer: one piece of text for each token."""

    def __init__(self, most: int) -> None:
        self.asked = 0
        self._most = most
        self._said = 0
        self._end: str | None = None
        self._done = False

    def feed(self, data: bytes) -> list[str]:
        """The pieces in an event."""
        if self._done:
            raise EngineError("the engine's answer goes on after its end")
        if data == _DONE:
            self._done = True
            return []
        chunk = _decode(data)
        numbers = chunk.numbers
        if numbers is not None:
            self.asked = numbers[0]
            if numbers[2]:
                raise EngineError("the engine answers from a cache")
        text = "".join(choice.delta.content or "" for choice in chunk.choices)
        self._end = next((c.finish_reason for c in chunk.choices if c.finish_reason), self._end)
        return self._pieces(text, numbers[1] if numbers is not None else self._said)

    def _pieces(self, text: str, said: int) -> list[str]:
        # A piece of text can hold several tokens, and a token no text. The token that ended the answer is counted, but is none of it.
        told = min(said - (self._end == _STOP), self._most)
        new = max(told - self._said, int(bool(text)))
        self._said += new
        return [text, *[""] * (new - 1)] if new else []

    def end(self) -> None:
        """Demand that it came to an end."""
        if not self._done or self._end not in {_STOP, _LENGTH}:
            raise EngineError("the engine's answer ends in the middle")


def _nested(path: Sequence[str], value: str) -> dict[str, Any]:
    first, *rest = path
    return {first: _nested(rest, value) if rest else value}


def _decode(data: bytes) -> _Chunk:
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except msgspec.MsgspecError:
        raise EngineError("the engine's answer has another form") from None
    if chunk.error is not None:
        raise EngineError("the engine failed in the middle of an answer")
    return chunk


def _refusal(body: bytes) -> SottovoceError:
    text = body.lower()
    if any(words in text for words in _TOO_LONG):
        return LimitError("the text is longer than the model takes")
    return EngineError("the engine refused the question")


def _fixed(prompt: Prompt) -> Iterator[dict[str, str]]:
    """A fixed prompt as messages; what we wrote ourselves needs no breaking up."""
    yield {"role": "system", "content": prompt.system}
    for user, answer in prompt.examples:
        yield {"role": "user", "content": user}
        yield {"role": "assistant", "content": answer}

"""The predictor as an application, over a scripted engine."""

import asyncio
import json
from typing import Any

import pytest

from asgi import fetch
from role_kit import UnsafeScriptedEngineForTests
from sottovoce.core.errors import ConfigError, DecodeError, LimitError, SottovoceError
from sottovoce.simulator.roles import role_settings, session
from sottovoce.tee.engines import EngineError
from sottovoce.tee.predictor import PredictorRole

HEADLINE = {"task": "headline", "messages": [{"sender": "Ada", "text": "Friday at 6?"}]}
REWRITE = {"task": "rewrite", "style": "shorten", "draft": "i am late", "variant": 1}

CHAT: dict[str, Any] = {
    "task": "chat",
    "turns": [{"role": "system", "text": "Be kind."}, {"role": "user", "text": "Say it."}],
    "max_tokens": 6,
}


def ask(engine: Any, document: Any) -> list[dict[str, Any]]:
    app = PredictorRole(engine).app(session("predictor"))
    answer = asyncio.run(fetch(app, "POST", "/v1/infer", body=json.dumps(document).encode()))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def test_pieces_and_an_end() -> None:
    engine = UnsafeScriptedEngineForTests("The group meets")
    assert ask(engine, HEADLINE) == [
        {"text": "The"},
        {"text": " group"},
        {"text": " meets"},
        {"end": "stop", "model": "scripted", "asked": 5, "said": 3},
    ]
    assert engine.asked == [("headline", "Messages:\nFriday at 6?\n\nHeadline:")]


def test_one_sentence_ends_a_headline() -> None:
    lines = ask(UnsafeScriptedEngineForTests("The group meets. And then it goes on"), HEADLINE)
    assert "".join(line.get("text", "") for line in lines) == "The group meets. "


def test_a_limit_is_told() -> None:
    assert ask(UnsafeScriptedEngineForTests("x " * 500), REWRITE)[-1]["end"] == "length"


def test_a_conversation() -> None:
    engine = UnsafeScriptedEngineForTests("one two three four five six seven eight")
    lines = ask(engine, CHAT)
    assert "".join(line.get("text", "") for line in lines) == "one two three four five six"
    assert lines[-1] == {"end": "length", "model": "scripted", "asked": 4, "said": 6}
    assert engine.asked == [("", "Say it.")]


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        ([" three"], "one two"),
        (["zzz", "our"], "one two three f"),
        (["six s"], "one two three four five six"),
    ],
)
def test_a_conversation_stops_before_what_it_is_told(stop: list[str], told: str) -> None:
    lines = ask(
        UnsafeScriptedEngineForTests("one two three four five six"), {**CHAT, "stop": stop, "max_tokens": 9}
    )
    assert "".join(line.get("text", "") for line in lines) == told
    assert lines[-1]["end"] == "stop"


def test_an_engine_that_fails_on_the_way() -> None:
    class Failing(UnsafeScriptedEngineForTests):
        def generate(self, *_args: Any, **_more: Any) -> Any:
            yield "The"
            raise EngineError("it failed")

    assert ask(Failing(), HEADLINE) == [{"text": "The"}, {"error": "service.engine"}]


def raised(document: Any, engine: Any = None) -> type[BaseException]:
    app = PredictorRole(engine or UnsafeScriptedEngineForTests()).app(session("predictor"))
    with pytest.raises(SottovoceError) as caught:
        asyncio.run(fetch(app, "POST", "/v1/infer", body=json.dumps(document).encode()))
    return caught.type


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"task": "other"}, DecodeError),
        ({"task": "chat"}, DecodeError),
        ({**CHAT, "turns": []}, DecodeError),
        ({**CHAT, "turns": [{"role": "tool", "text": "x"}]}, DecodeError),
        ({**CHAT, "turns": CHAT["turns"] * 129}, LimitError),
        ({**CHAT, "max_tokens": 0}, DecodeError),
        ({**CHAT, "max_tokens": 1025}, DecodeError),
        ({**CHAT, "temperature": 2.1}, DecodeError),
        ({**CHAT, "top_p": 0}, DecodeError),
        ({**CHAT, "seed": -1}, DecodeError),
        ({**CHAT, "stop": ["x"] * 5}, LimitError),
        ({**CHAT, "stop": [""]}, DecodeError),
        ({**REWRITE, "variant": 6}, DecodeError),
        ({**REWRITE, "variant": -1}, DecodeError),
        ({**REWRITE, "style": "rude"}, DecodeError),
        ({**REWRITE, "more": 1}, DecodeError),
        ({**REWRITE, "draft": "x" * 5000}, LimitError),
        ({"task": "headline", "messages": [{"sender": "", "text": ""}] * 33}, LimitError),
    ],
)
def test_bad_questions(document: Any, error: type[BaseException]) -> None:
    assert raised(document) is error


def test_an_engine_that_fails_before_the_first_piece() -> None:
    assert raised(HEADLINE, UnsafeScriptedEngineForTests(EngineError("it failed"))) is EngineError


def test_it_needs_a_model() -> None:
    role = PredictorRole()
    with pytest.raises(ConfigError):
        role.warm(role_settings("predictor"), {})
    with pytest.raises(ConfigError):
        role.app(session("predictor"))

"""Chat completions: what other services' clients send, and what they get."""

import asyncio
import json
from typing import Any

import pytest

from asgi import Answer, fetch
from role_kit import Roles, UnsafeScriptedEngineForTests
from sottovoce.core.asgi import App, respond
from sottovoce.core.errors import LimitError
from sottovoce.core.limits import LIMITS
from sottovoce.tee.completions import MAX_TOKENS
from sottovoce.tee.engines import EngineError

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Say it."}]}


def post(engine: Any, document: Any, **parts: App) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return asyncio.run(fetch(Roles(engine, **parts).app, "POST", "/v1/chat/completions", body=body))


def whole(engine: Any, **changes: Any) -> tuple[int, Any]:
    answer = post(engine, ASK | changes)
    return answer.status, json.loads(answer.body)


def events(engine: Any, **changes: Any) -> list[Any]:
    answer = post(engine, ASK | {"stream": True} | changes)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    found = [part.removeprefix(b"data: ") for part in answer.body.split(b"\n\n")]
    assert found.pop() == b""
    return [one.decode() if one == b"[DONE]" else json.loads(one) for one in found]


def text_of(found: list[Any]) -> str:
    return "".join(
        one["choices"][0]["delta"].get("content", "") for one in found if one != "[DONE]" and one["choices"]
    )


def test_a_whole_answer() -> None:
    status, answer = whole(UnsafeScriptedEngineForTests("one two three"))
    assert status == 200
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") == 0
    assert answer == {
        "object": "chat.completion",
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "one two three", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }


def test_a_streamed_answer() -> None:
    said = " ".join(f"word{number}" for number in range(40))
    first, *rest, last, end = events(UnsafeScriptedEngineForTests(said))
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    ]
    assert {one["object"] for one in (first, *rest, last)} == {"chat.completion.chunk"}
    assert len({(one["id"], one["created"], one["model"]) for one in (first, *rest, last)}) == 1
    assert text_of([first, *rest]) == said
    # The first word alone, as soon as the guard can know that it is whole; the rest in pieces that are worth what is around them.
    assert rest[0]["choices"][0]["delta"] == {"content": "word0"}
    assert 3 < len(rest) < 12
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert end == "[DONE]"


def test_usage_in_a_stream_only_where_it_is_asked_for() -> None:
    found = events(UnsafeScriptedEngineForTests("one two"), stream_options={"include_usage": True})
    assert found[-2]["choices"] == []
    assert found[-2]["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert all("usage" not in one for one in events(UnsafeScriptedEngineForTests("one two"))[:-1])


def test_what_reaches_the_model() -> None:
    engine = UnsafeScriptedEngineForTests("one two three four")
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "it."}]},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Please."},
    ]
    _, answer = whole(
        engine, messages=messages, max_tokens=2, temperature=0.5, top_p=0.25, seed=-1, stop=[" two", "x"]
    )
    assert [(turn.role, turn.text) for turn in engine.turns] == [
        ("system", "Be brief."),
        ("user", "Say it."),
        ("assistant", "No."),
        ("user", "Please."),
    ]
    sampling = engine.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (
        2,
        0.5,
        0.25,
        2**32 - 1,
    )
    assert answer["choices"][0]["message"]["content"] == "one"


def test_what_is_not_said_is_as_elsewhere() -> None:
    engine = UnsafeScriptedEngineForTests("x")
    whole(engine)
    assert (engine.sampling.temperature, engine.sampling.top_p) == (1.0, 1.0)
    seeds = set()
    for _ in range(8):
        whole(engine)
        seeds.add(engine.sampling.seed)
    assert len(seeds) > 1
    assert engine.sampling.max_tokens == MAX_TOKENS


def test_an_answer_has_a_strict_maximum() -> None:
    engine = UnsafeScriptedEngineForTests("one " * 2000)
    _, answer = whole(engine, max_completion_tokens=5000)
    assert engine.sampling.max_tokens == MAX_TOKENS
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == MAX_TOKENS


@pytest.mark.parametrize("word", ["\u0915" * 100, "\x7f" + "\U0001f600" * 60, "w" * 200])
def test_whatever_the_model_says_the_answer_stays_below_its_maximum(word: str) -> None:
    engine = UnsafeScriptedEngineForTests(" ".join([word] * 1000))
    answer = post(engine, ASK | {"stream": True})
    assert len(answer.body) <= LIMITS.answer
    assert answer.body.endswith(b"data: [DONE]\n\n")
    status, found = whole(engine)
    assert status == 200
    assert len(json.dumps(found, ensure_ascii=False).encode()) <= LIMITS.answer
    assert found["choices"][0]["finish_reason"] == "length"


def test_the_guard_judges_it() -> None:
    engine = UnsafeScriptedEngineForTests("See https://evil.example/x and www.good.example now")
    said = "See [removed] and www.good.example now"
    messages = [{"role": "user", "content": "What of www.good.example?"}]
    _, answer = whole(engine, messages=messages)
    assert answer["choices"][0]["message"]["content"] == said
    assert text_of(events(engine, messages=messages)) == said


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "Ada"}]},
        {"n": 2},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "auto"},
        {"logprobs": True},
        {"presence_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 0},
        {"temperature": 3},
        {"user": "ada"},
        {"metadata": {"a": "b"}},
        {"model": 1},
    ],
)
def test_what_is_not_done_is_refused(changes: Any) -> None:
    status, answer = whole(UnsafeScriptedEngineForTests("x"), **changes)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["code"] == "unsupported_parameter"
    assert "Say it" not in json.dumps(answer)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_no_json(body: bytes) -> None:
    assert post(UnsafeScriptedEngineForTests("x"), body).status == 400


def test_values_that_change_nothing_are_taken() -> None:
    changes = {"n": 1, "tools": [], "tool_choice": "none", "presence_penalty": 0, "logprobs": False}
    assert whole(UnsafeScriptedEngineForTests("x"), **changes, response_format={"type": "text"})[0] == 200


def test_no_such_model() -> None:
    status, answer = whole(UnsafeScriptedEngineForTests("x"), model="gpt-4o")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("engine", [UnsafeScriptedEngineForTests(LimitError("too long")), None])
def test_too_long(engine: Any) -> None:
    text = "x" if engine else "x" * (LIMITS.message_text + 1)
    status, answer = whole(
        engine or UnsafeScriptedEngineForTests("x"), messages=[{"role": "user", "content": text}]
    )
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


def test_a_model_that_fails() -> None:
    status, answer = whole(UnsafeScriptedEngineForTests(EngineError("it failed")))
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (503, "api_error", "unavailable")


def test_a_model_that_fails_on_the_way() -> None:
    class Failing(UnsafeScriptedEngineForTests):
        def generate(self, *_args: Any, **_more: Any) -> Any:
            yield "one "
            raise EngineError("it failed")

    *_, last = events(Failing())
    assert last["error"]["code"] == "unavailable"
    assert whole(Failing())[0] == 503


def test_a_guard_that_is_down() -> None:
    async def down(_scope: Any, _receive: Any, send: Any) -> None:
        await respond(send, 503, b"{}")

    engine = UnsafeScriptedEngineForTests("secret words")
    answer = post(engine, ASK, guard=down)
    assert answer.status == 503
    assert b"secret" not in answer.body


def test_the_models() -> None:
    answer = asyncio.run(fetch(Roles(UnsafeScriptedEngineForTests("x")).app, "GET", "/v1/models"))
    assert json.loads(answer.body) == {
        "object": "list",
        "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "sottovoce"}],
    }


def test_no_models() -> None:
    async def down(_scope: Any, _receive: Any, send: Any) -> None:
        await respond(send, 503, b"{}")

    roles = Roles(UnsafeScriptedEngineForTests("x"), predictor=down)
    assert asyncio.run(fetch(roles.app, "GET", "/v1/models")).status == 503

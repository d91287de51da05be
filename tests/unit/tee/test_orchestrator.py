"""The orchestrator with the real guard and a scripted engine."""

import asyncio
import json
from typing import Any

import pytest

from role_kit import Roles, UnsafeScriptedEngineForTests, chat, headline_of, quotes_of
from sottovoce.core.errors import DecodeError, LimitError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.device.answers import AnswerDecoder
from sottovoce.simulator.roles import DirectBackend, call, role_settings, session
from sottovoce.tee.engines.llama import EngineError
from sottovoce.tee.orchestrator import OrchestratorRole

CHAT = chat("""
Ada: Shall we rehearse on Thursday?
Bo: Thursday is bad
Ada: OK, decided: rehearsal on Friday at 18:00 in the school hall
Bo: I'll bring the big drum
Ada: Thanks!
""")
GOOD = "The group rehearses on Friday at 18:00 in the school hall."
DRAFT = "cant make it tmrw sry, can we do friday 6pm instead?"
SUGGESTIONS = (
    "I'm sorry, but I can't make it tomorrow. Could we do Friday at 6 PM instead?",
    "Tomorrow I can't make it, I'm afraid. Does Friday 6 PM suit you instead?",
    "Unfortunately tomorrow is not possible for me. Can we meet on Friday at 6 PM?",
)


def test_quotes_come_first_and_then_the_headline() -> None:
    roles = Roles(UnsafeScriptedEngineForTests(GOOD))
    events = roles.summary(CHAT)
    assert [one["event"] for one in events[:2]] == ["line", "line"]
    assert quotes_of(events) == [
        ("Ada", "OK, decided: rehearsal on Friday at 18:00 in the school hall"),
        ("Bo", "I'll bring the big drum"),
    ]
    assert headline_of(events) == GOOD
    assert events[-2] == {"event": "line_end", "kind": "headline", "messages": ["3"]}
    assert events[-1] == {
        "event": "done",
        "method": "headline by the model, highlights by selection",
        "model": "scripted",
    }


def test_the_device_understands_every_line() -> None:
    for events in (
        Roles(UnsafeScriptedEngineForTests(GOOD)).summary(CHAT),
        Roles(UnsafeScriptedEngineForTests("The group pays 99 euros")).summary(CHAT),
        Roles(UnsafeScriptedEngineForTests(*SUGGESTIONS)).rewrite(DRAFT, "professional"),
    ):
        decoder = AnswerDecoder()
        decoder.feed(b"".join(json.dumps(event).encode() + b"\n" for event in events))
        decoder.finish()


def test_the_model_sees_what_matters_and_nobody_s_name() -> None:
    engine = UnsafeScriptedEngineForTests(GOOD)
    Roles(engine).summary(CHAT)
    ((prompt, text),) = engine.asked
    assert prompt == "headline"
    assert "decided: rehearsal" in text
    assert "Ada" not in text


def test_a_headline_with_a_wrong_fact_is_cut_and_the_device_told() -> None:
    events = Roles(UnsafeScriptedEngineForTests("The group rehearses on Sunday at noon")).summary(CHAT)
    assert headline_of(events) == "The group rehearses on…"
    assert events[-2] == {"event": "dropped", "kind": "headline", "reason": "day"}
    assert events[-1]["method"] == "highlights by selection"
    assert events[-1]["model"] == "none"


def test_an_empty_headline_is_told() -> None:
    events = Roles(UnsafeScriptedEngineForTests("")).summary(CHAT)
    assert {"event": "dropped", "kind": "headline", "reason": "unsupported"} in events
    assert quotes_of(events)


def test_a_chat_of_emoji_has_neither() -> None:
    engine = UnsafeScriptedEngineForTests(GOOD)
    events = Roles(engine).summary(chat("Ada: 😂\nBo: 👍"))
    assert events == [{"event": "done", "method": "highlights by selection", "model": "none"}]
    assert engine.asked == []


def test_three_suggestions() -> None:
    events = Roles(UnsafeScriptedEngineForTests(*SUGGESTIONS)).rewrite(DRAFT, "professional")
    assert [one["text"] for one in events[:-1]] == list(SUGGESTIONS)
    assert events[-1] == {"event": "done", "method": "suggestions by the model", "model": "scripted"}


def test_bad_suggestions_are_replaced_and_told() -> None:
    engine = UnsafeScriptedEngineForTests("Sure, Friday works", *SUGGESTIONS)
    events = Roles(engine).rewrite(DRAFT, "professional")
    assert events[0] == {"event": "dropped", "kind": "suggestion", "reason": "number"}
    assert [one["text"] for one in events if one["event"] == "suggestion"] == list(SUGGESTIONS)


def test_a_model_that_fails_at_it_leaves_the_rules_and_it_is_said() -> None:
    engine = UnsafeScriptedEngineForTests("Thank you for your message!")
    events = Roles(engine).rewrite(DRAFT, "professional")
    assert [one["text"] for one in events if one["event"] == "suggestion"] == [
        "I am sorry, but I cannot make it tomorrow. Could we do Friday 6 PM instead?"
    ]
    assert events[-1]["method"] == "suggestions by spelling rules, none by the model"
    assert len(engine.asked) == 6


def test_nothing_good_is_said_to_be_nothing() -> None:
    events = Roles(UnsafeScriptedEngineForTests("No.")).rewrite("Ich komme später, sorry", "funny")
    assert [one for one in events if one["event"] == "suggestion"] == []
    assert events[-1]["method"] == "no suggestion was good enough"


async def _refuse(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _saying(*lines: bytes) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for line in lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    "predictor",
    [
        _refuse,
        _saying(b'{"text":"The group "}\n'),
        _saying(b'{"text":"The group "}\n', b'{"error":"service.engine"}\n'),
        _saying(b"not json\n"),
        _saying(b'{"text":1}\n'),
        _saying(b"\xff" * 20000),
    ],
)
def test_a_predictor_that_fails_ends_the_answer_with_its_code(predictor: Any) -> None:
    events = Roles(UnsafeScriptedEngineForTests(), predictor=predictor).summary(CHAT)
    assert quotes_of(events)
    assert events[-1] == {"event": "error", "code": "unavailable"}


def test_an_engine_that_fails_ends_the_answer_with_its_code() -> None:
    events = Roles(UnsafeScriptedEngineForTests(EngineError("it failed"))).summary(CHAT)
    assert events[-1] == {"event": "error", "code": "unavailable"}


def _ask(app: Any, target: str, document: Any) -> int:
    sent: list[Any] = []
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    asyncio.run(call(app, "POST", target, body, sent.append))
    return int(sent[0]["status"])


@pytest.mark.parametrize("guard", [_refuse, _saying(b"{}"), _saying(b'{"verdict":"maybe"}')])
def test_nothing_leaves_without_the_guard(guard: Any) -> None:
    roles = Roles(UnsafeScriptedEngineForTests(GOOD), guard=guard)
    assert _ask(roles.app, "/v1/rewrites", {"draft": DRAFT, "style": "funny"}) == 503
    sent = [{"id": m.id, "sender": m.sender, "text": m.text} for m in CHAT]
    assert _ask(roles.app, "/v1/summaries", {"messages": sent}) == 503


def _raises(app: Any, target: str, document: Any) -> type[BaseException]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_message: Any) -> None:
        pass

    async def run() -> None:
        await app({"type": "http", "method": "POST", "path": target, "headers": []}, receive, send)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller compares its type
        asyncio.run(run())
    assert "canary" not in repr(caught.value)
    return caught.type


MESSAGE = {"id": "1", "sender": "canary", "text": "canary"}


@pytest.mark.parametrize(
    ("target", "document", "error"),
    [
        ("/v1/summaries", b"canary", DecodeError),
        ("/v1/summaries", b"\xff\xfe", DecodeError),
        ("/v1/summaries", b"[" * 50000, DecodeError),
        ("/v1/summaries", {}, DecodeError),
        ("/v1/summaries", {"messages": []}, DecodeError),
        ("/v1/summaries", {"messages": [{**MESSAGE, "canary": 1}]}, DecodeError),
        ("/v1/summaries", {"messages": [{**MESSAGE, "id": 1}]}, DecodeError),
        ("/v1/summaries", {"messages": [MESSAGE, MESSAGE]}, DecodeError),
        ("/v1/summaries", {"messages": [{**MESSAGE, "text": "x" * (LIMITS.message_text + 1)}]}, LimitError),
        ("/v1/summaries", {"messages": [{**MESSAGE, "sender": "x" * 500}]}, LimitError),
        ("/v1/summaries", {"messages": [{**MESSAGE, "id": str(n)} for n in range(1001)]}, LimitError),
        ("/v1/rewrites", {"draft": "canary", "style": "canary"}, DecodeError),
        ("/v1/rewrites", {"draft": " ", "style": "funny"}, DecodeError),
        ("/v1/rewrites", {"draft": "x" * (LIMITS.draft + 1), "style": "funny"}, LimitError),
        ("/v1/rewrites", b'"\\ud800"', DecodeError),
        ("/v1/rewrites", {"draft": "hello", "style": "funny"}, UnavailableError),
        ("/v1/summaries", b" " * (LIMITS.request + 1), LimitError),
    ],
)
def test_bad_requests(target: str, document: Any, error: type[BaseException]) -> None:
    assert _raises(OrchestratorRole().app(session("orchestrator")), target, document) is error


def test_status() -> None:
    async def run() -> Any:
        app = DirectBackend(OrchestratorRole().app(session("orchestrator")))
        async with app.request("GET", "/v1/status") as response:
            return json.loads(await response.read())

    told = asyncio.run(run())
    assert told["role"] == "orchestrator"
    assert told["limits"]["messages"] == LIMITS.messages


def test_the_role() -> None:
    role = OrchestratorRole()
    role.warm(role_settings("orchestrator"), {})
    assert role.backends == ("predictor", "guard")

"""The guard as an application: sources first, then one verdict a part."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi import fetch
from sottovoce.core.errors import DecodeError, LimitError, ProtocolError, SottovoceError
from sottovoce.simulator.roles import role_settings, session
from sottovoce.tee.guard import Guard, GuardRole

SOURCES = {
    "task": "summary",
    "messages": [
        {"id": "1", "sender": "Ada", "text": "Rehearsal on Friday at 18:00"},
        {"id": "2", "sender": "Bo", "text": "Fine"},
    ],
}


def guard(sources: Any = SOURCES) -> Guard:
    made = Guard()
    made.take(json.dumps(sources).encode())
    return made


def judge(made: Guard, **part: Any) -> Any:
    return made.judge(json.dumps(part).encode())


def test_quotes() -> None:
    made = guard()
    part = {
        "kind": "highlight",
        "sender": "Ada",
        "text": "Rehearsal on Friday at 18:00",
        "messages": ["1", "2"],
    }
    assert judge(made, **part) == {"verdict": "pass", "text": part["text"], "messages": ["1", "2"]}
    assert judge(made, **{**part, "sender": "Bo"}) == {"verdict": "drop", "reason": "sender"}
    assert judge(made, **{**part, "text": "Rehearsal on Friday at 19:00"})["reason"] == "not verbatim"


def test_there_are_only_so_many_quotes() -> None:
    made = guard()
    part = {"kind": "highlight", "sender": "Bo", "text": "Fine", "messages": ["2"]}
    verdicts = [judge(made, **part)["verdict"] for _ in range(65)]
    assert verdicts == ["pass"] * 64 + ["drop"]


def begun() -> Guard:
    """A guard to which a headline about all messages has begun."""
    made = guard()
    assert judge(made, kind="headline_begin", messages=["1", "2"]) == {"verdict": "pass"}
    return made


def test_a_headline() -> None:
    made = begun()
    said = [
        judge(made, kind="headline_piece", text=text) for text in ("The group re", "hearses on Fri", "day")
    ]
    assert [one["text"] for one in said] == ["", "The group rehearses on", ""]
    end = judge(made, kind="headline_end")
    assert end == {"verdict": "pass", "text": " Friday", "messages": ["1"], "closed": True}


def test_a_headline_rests_on_the_messages_that_it_is_about_alone() -> None:
    made = guard()
    judge(made, kind="headline_begin", messages=["2"])
    assert judge(made, kind="headline_piece", text="The group rehearses on Friday ")["verdict"] == "drop"
    judge(made, kind="headline_begin", messages=["1"])
    assert judge(made, kind="headline_piece", text="The group rehearses on Friday ")["verdict"] == "pass"
    assert judge(made, kind="headline_end")["messages"] == ["1"]
    assert judge(made, kind="headline_begin", messages=["1", "3"]) == {
        "verdict": "drop",
        "reason": "citation",
    }


def test_a_bad_word_ends_it_for_good() -> None:
    made = begun()
    assert judge(made, kind="headline_piece", text="The group rehearses for 500 on ") == {
        "verdict": "pass",
        "text": "The group rehearses for…",
        "messages": [],
        "closed": True,
    }
    for kind in ({"kind": "headline_piece", "text": " more"}, {"kind": "headline_end"}):
        assert judge(made, **kind) == {"verdict": "drop", "reason": "number"}


def test_a_headline_that_rests_on_nothing_is_dropped() -> None:
    made = begun()
    judge(made, kind="headline_piece", text="The group talks. ")
    assert judge(made, kind="headline_end") == {"verdict": "drop", "reason": "unsupported"}


def test_suggestions() -> None:
    made = guard({"task": "rewrite", "draft": "i am late, see u at 6", "style": "rephrase"})
    assert judge(made, kind="suggestion", text="I'm running late, see you at 6.")["verdict"] == "pass"
    assert judge(made, kind="suggestion", text="I'm running late, see you at 6.")["reason"] == "same"
    assert judge(made, kind="suggestion", text="I'm running late, see you at 7.")["reason"] == "number"


def test_new_sources_begin_anew() -> None:
    made = begun()
    judge(made, kind="headline_piece", text="The group pays 500 to ")
    made.take(json.dumps(SOURCES).encode())
    with pytest.raises(ProtocolError):
        judge(made, kind="headline_piece", text="The group rehearses ")
    judge(made, kind="headline_begin", messages=["1"])
    assert judge(made, kind="headline_piece", text="The group rehearses ")["verdict"] == "pass"


@pytest.mark.parametrize(
    ("sources", "part"),
    [
        (None, {"kind": "headline_end"}),
        (SOURCES, {"kind": "headline_end"}),
        (SOURCES, {"kind": "chat_end"}),
        ({"task": "chat"}, {"kind": "headline_begin", "messages": []}),
        ({"task": "rewrite", "draft": "x", "style": "funny"}, {"kind": "headline_end"}),
        (
            {"task": "rewrite", "draft": "x", "style": "funny"},
            {"kind": "highlight", "sender": "", "text": "x", "messages": []},
        ),
    ],
)
def test_nothing_is_judged_without_its_sources(sources: Any, part: Any) -> None:
    made = guard(sources) if sources else Guard()
    with pytest.raises(ProtocolError):
        judge(made, **part)


def test_a_chat_s_answer() -> None:
    made = guard(
        {"task": "chat", "messages": [{"id": "0", "sender": "user", "text": "What of good.example.com?"}]}
    )
    assert judge(made, kind="chat_piece", text="See good.example.com and evil") == {
        "verdict": "pass",
        "text": "See good.example.com and",
        "reason": "",
    }
    assert judge(made, kind="chat_piece", text=".example.com now ")["text"] == " [removed] now"
    assert judge(made, kind="chat_end") == {"verdict": "pass", "text": " ", "reason": "link"}


def test_a_suggestion_to_a_summary_is_dropped() -> None:
    assert judge(guard(), kind="suggestion", text="Hello") == {"verdict": "drop", "reason": "form"}


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"task": "other"},
        {"task": "summary", "messages": "x"},
        {"task": "summary", "extra": 1},
        {"task": "summary", "messages": [{"id": "1", "sender": "Ada"}]},
        {"task": "summary", "messages": [{"id": "", "sender": "Ada", "text": "x"}]},
        {"task": "summary", "messages": [{"id": "1", "sender": "Ada", "text": "x"}] * 2},
    ],
)
def test_malformed_sources(sources: Any) -> None:
    with pytest.raises(DecodeError):
        guard(sources)


def test_too_many_messages_and_too_long_ones() -> None:
    one = {"sender": "Ada", "text": "x"}
    with pytest.raises(LimitError):
        guard({"task": "summary", "messages": [{**one, "id": str(at)} for at in range(1001)]})
    with pytest.raises(LimitError):
        guard({"task": "summary", "messages": [{"id": "1", "sender": "Ada", "text": "x" * 20000}]})


@given(st.binary(max_size=100))
def test_any_bytes_give_a_typed_error(data: bytes) -> None:
    for call in (Guard().take, guard().judge):
        with pytest.raises(SottovoceError):
            call(data)


def test_errors_never_repeat_what_was_sent() -> None:
    with pytest.raises(DecodeError) as caught:
        guard({"task": "summary", "messages": [{"id": 1, "sender": "canary", "text": "canary"}]})
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_application() -> None:
    app = GuardRole().app(session("guard"))

    async def run() -> None:
        answer = await fetch(app, "POST", "/v1/sources", body=json.dumps(SOURCES).encode())
        assert (answer.status, answer.body) == (204, b"")
        begin, piece = (
            b'{"kind":"headline_begin","messages":["1"]}',
            b'{"kind":"headline_piece","text":"The group rehearses "}',
        )
        await fetch(app, "POST", "/v1/judgements", body=begin)
        answer = await fetch(app, "POST", "/v1/judgements", body=piece)
        assert json.loads(answer.body)["text"] == "The group rehearses"
        answer = await fetch(app, "GET", "/v1/status")
        assert json.loads(answer.body)["role"] == "guard"
        assert json.loads(answer.body)["simulated"] is True
        assert (await fetch(app, "GET", "/v1/else")).status == 404

    asyncio.run(run())


def test_the_role_needs_nothing() -> None:
    role = GuardRole()
    role.warm(role_settings("guard"), {})
    assert role.backends == ()

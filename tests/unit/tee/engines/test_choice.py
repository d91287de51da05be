"""The measured settings choose the engine, and nothing else does."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asgi import fetch
from engine_kit import MODEL, free_port, running
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError
from sottovoce.simulator.roles import role_settings, session
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.tee.engines import remote, servers
from sottovoce.tee.features.prompts import prompts_digest
from sottovoce.tee.predictor import PredictorRole
from sottovoce.tee.roles import Connects
from sottovoce.tee.settings import ArtifactMismatchError, EngineSettings, Settings, parse_settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(settings_of(EvidenceWorld(), "predictor"))
    return value


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama-server"])
@pytest.mark.parametrize("more", [{}, {"port": 1024}, {"port": 65535}, {"port": None}])
def test_engines(document: dict[str, Any], kind: str, more: dict[str, Any]) -> None:
    settings = parse_settings(
        canonical.encode(document | {"engine": {"kind": kind, "model": "it-7b", **more}})
    )
    assert settings.engine == EngineSettings(kind=kind, model="it-7b", **more)  # type: ignore[arg-type]
    assert parse_settings(canonical.encode(msgspec.to_builtins(settings))) == settings


@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "vllm"},
        {"model": "it"},
        {"kind": "llama", "model": "it"},
        {"kind": "ollama", "model": "it"},
        {"kind": "vllm", "model": "../it"},
        {"kind": "vllm", "model": "org/it"},
        {"kind": "vllm", "model": ""},
        {"kind": "vllm", "model": "it", "port": 80},
        {"kind": "vllm", "model": "it", "port": 65536},
        {"kind": "vllm", "model": "it", "port": "8000"},
        {"kind": "vllm", "model": "it", "socket": "/run/x"},
        {"kind": "vllm", "model": "it", "host": "10.0.0.1"},
        "vllm",
    ],
)
def test_what_is_outside_the_grammar(document: dict[str, Any], engine: Any) -> None:
    with pytest.raises(ConfigError):
        parse_settings(canonical.encode(document | {"engine": engine}))


def test_only_a_predictor_without_a_model_has_a_server(document: dict[str, Any]) -> None:
    engine = {"kind": "vllm", "model": "it"}
    other = msgspec.to_builtins(settings_of(EvidenceWorld(), "guard"))
    model = {"name": "m", "digest": "0" * 64, "bytes": 1, "purpose": "inference"}
    for wrong in (other | {"engine": engine}, document | {"engine": engine, "model": model}):
        with pytest.raises(ConfigError, match="without a model"):
            parse_settings(canonical.encode(wrong))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Of a predictor with a server that runs."""
    known = servers.look
    monkeypatch.setattr(remote, "look", lambda *asked, **more: replace(known(*asked, **more), swap=False))
    port = free_port()
    with running(tmp_path, port=port):
        yield msgspec.structs.replace(
            role_settings("predictor"),
            engine=EngineSettings(kind="vllm", model=MODEL, port=port),
            prompts=prompts_digest(),
        )


def test_a_predictor_with_a_server(settings: Settings) -> None:
    role = PredictorRole()
    role.warm(settings, {})
    assert isinstance(role, Connects)
    role.connect()
    app = role.app(session("predictor"))
    chat = {"task": "chat", "turns": [{"role": "user", "text": "hello"}], "max_tokens": 5}
    headline = {"task": "headline", "messages": [{"sender": "Ada", "text": "Friday at 6?"}]}
    for question in (chat, headline):
        answer = asyncio.run(fetch(app, "POST", "/v1/infer", body=json.dumps(question).encode()))
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert "".join(line.get("text", "") for line in lines).endswith("one two three")
        assert (lines[-1]["end"], lines[-1]["model"]) == ("stop", MODEL)
        assert lines[-1]["asked"] > 5
    answer = asyncio.run(fetch(app, "GET", "/v1/models"))
    assert json.loads(answer.body) == {"models": [MODEL]}
    role._engine.close()  # type: ignore[union-attr]


def test_a_predictor_with_other_prompts(settings: Settings) -> None:
    with pytest.raises(ArtifactMismatchError):
        PredictorRole().warm(msgspec.structs.replace(settings, prompts="0" * 64), {})

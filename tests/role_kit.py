"""The three roles in one process: an orchestrator whose back ends are the other roles' applications, called directly."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from sottovoce.core.errors import SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tee.backend import Backend, BackendResponse
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.features.messages import Message
from sottovoce.tee.guard import GuardRole
from sottovoce.tee.http import ASGIApp, status_of
from sottovoce.tee.orchestrator import OrchestratorRole
from sottovoce.tee.predictor import PredictorRole
from sottovoce.tee.roles import Session
from sottovoce.tee.settings import Settings
from tee_kit import settings_of

Event = dict[str, Any]


class UnsafeScriptedEngineForTests:
    """Says what it is told to say, whatever it is asked. There is no model in it."""

    name = "scripted"

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = itertools.cycle(answers) if answers else itertools.repeat("")
        self.asked: list[tuple[str, str]] = []
        self.turns: list[Turn] = []
        self.sampling = Sampling(max_tokens=0)

    def count(self, turns: Sequence[Turn]) -> int:
        return sum(len(turn.text.split()) for turn in turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        self.asked.append((prompt, turns[-1].text))
        self.turns, self.sampling = list(turns), sampling
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        for at, word in enumerate(answer.split(" ")[: sampling.max_tokens]):
            yield f" {word}" if at else word


class DirectBackend(Backend):
    """A back end that is an application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests: list[tuple[str, Any]] = []

    @contextlib.asynccontextmanager
    async def request(self, method: str, target: str, body: bytes = b"") -> AsyncIterator[BackendResponse]:
        self.requests.append((target, json.loads(body) if body else None))
        sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        task = asyncio.ensure_future(call(self._app, method, target, body, sent.put_nowait))
        try:
            start = await sent.get()
            yield BackendResponse(start["status"], _pieces(sent))
        finally:
            task.cancel()


async def _pieces(sent: asyncio.Queue[MutableMapping[str, Any]]) -> AsyncIterator[bytes]:
    while True:
        message = await sent.get()
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def call(
    app: ASGIApp, method: str, target: str, body: bytes, take: Callable[[MutableMapping[str, Any]], None]
) -> None:
    """Send a request to `app`; what raises before an answer begins becomes a status, as in `tee.http`."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        take(message)

    try:
        await app({"type": "http", "method": method, "path": target, "headers": []}, receive, send)
    except Exception as error:  # noqa: BLE001 - the test sees it in the status
        status = status_of(error) if isinstance(error, SottovoceError) else 500
        take({"type": "http.response.start", "status": status, "headers": []})
        take({"type": "http.response.body", "body": b""})


_WORLD: list[EvidenceWorld] = []


def role_settings(role: str) -> Settings:
    if not _WORLD:
        _WORLD.append(EvidenceWorld())
    return settings_of(_WORLD[0], role)


def session(role: str, backends: Mapping[str, Backend] | None = None) -> Session:
    return Session(settings=role_settings(role), log=EventLog(lambda _: None), backends=backends or {})


class Roles:
    """An orchestrator with its predictor and guard."""

    def __init__(
        self, engine: Any, *, guard: ASGIApp | None = None, predictor: ASGIApp | None = None
    ) -> None:
        self.predictor = DirectBackend(predictor or PredictorRole(engine).app(session("predictor")))
        self.guard = DirectBackend(guard or GuardRole().app(session("guard")))
        backends = {"predictor": self.predictor, "guard": self.guard}
        self.app = OrchestratorRole().app(session("orchestrator", backends))

    def ask(self, target: str, document: Any) -> list[Event]:
        """The events of an answer."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return asyncio.run(self._ask(target, body))

    async def _ask(self, target: str, body: bytes) -> list[Event]:
        data = b""
        async with DirectBackend(self.app).request("POST", target, body) as response:
            assert response.status == 200, response.status
            data = await response.read()
        return [json.loads(line) for line in data.splitlines()]

    def summary(self, messages: Sequence[Message]) -> list[Event]:
        sent = [{"id": m.id, "sender": m.sender, "text": m.text, "time": m.time} for m in messages]
        return self.ask("/v1/summaries", {"messages": sent})

    def rewrite(self, draft: str, style: str) -> list[Event]:
        return self.ask("/v1/rewrites", {"draft": draft, "style": style})


def chat(text: str) -> list[Message]:
    """Messages from lines of "Sender: text"."""
    pairs = [line.split(": ", 1) for line in text.strip().splitlines()]
    return [Message(id=str(at), sender=sender, text=said) for at, (sender, said) in enumerate(pairs, start=1)]


def headline_of(events: Sequence[Event]) -> str:
    return "".join(one["text"] for one in events if one["event"] == "piece")


def quotes_of(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(one["sender"], one["text"]) for one in events if one["event"] == "line"]

"""The three roles in one process: an orchestrator whose back ends are the other roles' applications, called directly.

For measuring answers and for tests: no attestation, no isolation, no network.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from typing import Any

from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.core.events import EventLog
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.tee.backend import Backend, BackendResponse
from sottovoce.tee.engines import Engine
from sottovoce.tee.guard import GuardRole
from sottovoce.tee.http import ASGIApp, status_of
from sottovoce.tee.orchestrator import OrchestratorRole
from sottovoce.tee.predictor import PredictorRole
from sottovoce.tee.roles import Session
from sottovoce.tee.settings import Settings

__all__ = ["DirectBackend", "DirectRoles", "call", "role_settings", "session"]

_OK = 200


class DirectBackend(Backend):
    """A back end that is an application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests: list[tuple[str, Any]] = []
        """What it was asked: target and document."""

    @contextlib.asynccontextmanager
    async def request(self, method: str, target: str, body: bytes = b"") -> AsyncIterator[BackendResponse]:
        """See `Backend.request`."""
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


@functools.cache
def role_settings(role: str) -> Settings:
    """The settings of a role, in a world that is made once."""
    return settings_of(_world(), role)


@functools.cache
def _world() -> EvidenceWorld:
    return EvidenceWorld()


def session(role: str, backends: Mapping[str, Backend] | None = None) -> Session:
    """A session of a role, without a log."""
    return Session(settings=role_settings(role), log=EventLog(lambda _: None), backends=backends or {})


class DirectRoles:
    """An orchestrator with its predictor and guard; `guard` and `predictor` take the place of the real ones."""

    def __init__(
        self, engine: Engine | None, *, guard: ASGIApp | None = None, predictor: ASGIApp | None = None
    ) -> None:
        self.predictor = DirectBackend(predictor or PredictorRole(engine).app(session("predictor")))
        self.guard = DirectBackend(guard or GuardRole().app(session("guard")))
        backends = {"predictor": self.predictor, "guard": self.guard}
        self.app = OrchestratorRole().app(session("orchestrator", backends))

    async def ask(self, target: str, document: Any) -> list[dict[str, Any]]:
        """The events of an answer to a document, or to bytes.

        Raises:
            UsageError: the answer is a refusal.
        """
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        async with DirectBackend(self.app).request("POST", target, body) as response:
            data = await response.read()
        if response.status != _OK:
            raise UsageError(f"the orchestrator answered {response.status}")
        return [json.loads(line) for line in data.splitlines()]

"""The orchestrator: what the device talks to. It asks the predictor, and lets out what the guard has passed.

    POST /v1/summaries  quotes at once, then headlines word by word (tee.summarising)
    POST /v1/rewrites   up to three suggestions, each as soon as it is there (tee.rewriting)
    POST /v1/chat/completions, GET /v1/models   as other services have them (tee.completions)

Answers of the first two are lines of JSON; the last one is `done` or `error` (docs/protocol.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from sottovoce.core.asgi import Send
from sottovoce.core.errors import SottovoceError
from sottovoce.tee.application import Application, Lines, decode
from sottovoce.tee.asking import Backends
from sottovoce.tee.completions import Completions
from sottovoce.tee.rewriting import RewriteRequest, Rewriting
from sottovoce.tee.roles import ASGIApp, Session
from sottovoce.tee.settings import Settings
from sottovoce.tee.summarising import Summarising, SummaryRequest

__all__ = ["OrchestratorRole", "create_role"]


async def _answer(send: Send, fill: Callable[[Lines], Awaitable[None]]) -> None:
    """Send what `fill` writes; an error after the beginning is the answer's last line."""
    lines = Lines(send)
    try:
        await fill(lines)
    except SottovoceError as error:
        if not lines.begun:
            raise
        await lines.write({"event": "error", "code": error.code})
    await lines.end()


class OrchestratorRole:
    """The role: nothing to load; a predictor and a guard for each session."""

    name = "orchestrator"
    backends: tuple[str, ...] = ("predictor", "guard")

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Nothing is shared but code."""

    def app(self, session: Session) -> ASGIApp:
        """The application of one session."""

        async def summaries(body: bytes, send: Send) -> None:
            # Beside the thread that sends: reading a long chat must not hold up the cadence.
            summarising = await asyncio.to_thread(
                lambda: Summarising(Backends(session), decode(body, SummaryRequest))
            )
            await _answer(send, summarising.run)

        async def rewrites(body: bytes, send: Send) -> None:
            await _answer(send, Rewriting(Backends(session), decode(body, RewriteRequest)).run)

        completions = Completions(Backends(session))
        return Application(
            session.settings,
            {
                "POST /v1/summaries": summaries,
                "POST /v1/rewrites": rewrites,
                "POST /v1/chat/completions": completions.create,
                "GET /v1/models": completions.models,
            },
        )


def create_role() -> OrchestratorRole:
    """The role for the server."""
    return OrchestratorRole()

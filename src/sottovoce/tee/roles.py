"""What a role is to the server: something that is warmed once and then makes an ASGI application a session."""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar, runtime_checkable

from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.core.events import EventLog
from sottovoce.tee.backend import Backend
from sottovoce.tee.http import ASGIApp
from sottovoce.tee.settings import Settings

__all__ = ["ASGIApp", "Connects", "Role", "Session", "Told", "load_role", "pump"]

Told = Callable[[int], Awaitable[None]]
"""Hears at which place in the queue a session waits, from 1."""

_T = TypeVar("_T")
_END: Final = object()
_MODULES: Final = {
    "orchestrator": "sottovoce.tee.orchestrator",
    "predictor": "sottovoce.tee.predictor",
    "guard": "sottovoce.tee.guard",
}


@contextlib.asynccontextmanager
async def _no_queue(_told: Told) -> AsyncIterator[None]:
    yield


def _nothing() -> None:
    pass


class Session:
    """What an application may use of its session. It lives in the session's process and ends with it."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: EventLog,
        backends: Mapping[str, Backend],
        slot: Callable[[Told], AbstractAsyncContextManager[None]] = _no_queue,
        give_up: Callable[[], None] = _nothing,
    ) -> None:
        self.settings: Final = settings
        self.log: Final = log
        self._backends = backends
        self._slot = slot
        self.give_up: Final = give_up
        """End this session's process now: something in it hangs, and cannot be stopped otherwise. Where there is no such process, nothing."""

    def backend(self, name: str) -> Backend:
        """The attested connection to the back end of role `name` that belongs to this session.

        Raises:
            UnavailableError: there is none.
        """
        try:
            return self._backends[name]
        except KeyError:
            raise UnavailableError("a back end is not there", party=name) from None

    @contextlib.asynccontextmanager
    async def slot(self, told: Told) -> AsyncIterator[None]:
        """One of the CVM's `settings.slots` turns to compute; waits until one is free, in the order of asking."""
        async with self._slot(told):
            yield


class Role(Protocol):
    """A role's module has `create_role() -> Role`."""

    name: str
    backends: tuple[str, ...]
    """The back ends that its sessions need, by role."""

    def warm(self, settings: Settings, artifacts: Mapping[str, int]) -> None:
        """Load what sessions share: imports, weights, fixed prompts. Runs once, before anything listens.

        `artifacts` maps names to file descriptors, already checked against the settings. No session's process can
        open a file or import a module later, so everything that it needs is loaded here.
        """

    def app(self, session: Session) -> ASGIApp:
        """The application of one session. Called in the session's process before its sandbox closes."""


@runtime_checkable
class Connects(Protocol):
    """A role whose sessions need connections to something else in this CVM."""

    def connect(self) -> None:
        """Open them. Called in the session's process, after other descriptors are closed and before its sandbox closes.

        Raises:
            UnavailableError: nobody answers there; the session answers nothing then.
        """


def load_role(name: str) -> Role:
    """The role called `name`.

    Raises:
        ConfigError: there is none.
    """
    if name not in _MODULES:
        raise ConfigError("there is no such role")
    role: Role = importlib.import_module(_MODULES[name]).create_role()
    return role


async def pump(items: Iterator[_T], *, patience: float | None = None) -> AsyncIterator[_T]:
    """The items of an iterator that computes, each made in the session's one computing thread.

    So the cadence of the answer goes on while the next item is being made.

    Raises:
        TimeoutError: the next item takes longer than `patience` seconds. The thread still computes.
    """
    loop = asyncio.get_running_loop()
    while True:
        async with asyncio.timeout(patience):
            item = await loop.run_in_executor(None, next, items, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]  # _END is not of type _T, and is never yielded

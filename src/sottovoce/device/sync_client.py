"""The client for programs without an event loop: the same requests, as ordinary iterators."""

import asyncio
import queue
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sottovoce.core.errors import UsageError
from sottovoce.device.chats import Chat
from sottovoce.device.client import CONTEXT, COUNT, Client, ClientEvent, RawEvent, Unread
from sottovoce.device.wallet import Stock

__all__ = ["SyncClient"]

_E = TypeVar("_E")
_T = TypeVar("_T")


class SyncClient:
    """A device whose state is in `home`, `~/.sottovoce` by default. Sessions run in a thread, so a slow reader does not stall them.

    The end of the `with` block ends every session; an iterator that is read after it raises `UsageError`.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._client = Client(home)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        """Held where something begins, and where the block ends: nothing begins in a loop that is about to stop."""

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise UsageError("the client is open already")
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(loop,), name="sottovoce", daemon=True)
        self._thread.start()
        self._loop = loop
        try:
            self._wait(self._client.__aenter__)
        except BaseException:
            # There is no `__exit__` after this.
            self._stop(loop)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def leave() -> None:
            # Sessions first: they need the network to end.
            try:
                await _end_all()
            finally:
                await self._client.__aexit__(kind, error, trace)

        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            raise _not_open()
        try:
            _result(_Reading(lambda: _once(leave)).events(lambda reading: reading.begin(loop)))
        finally:
            self._stop(loop)

    def summarize(
        self, *chats: Chat | Unread, count: int = COUNT, reader: str = "", quick: bool = False
    ) -> Iterator[ClientEvent]:
        """As `Client.summarize`."""
        return self._each(lambda: self._client.summarize(*chats, count=count, reader=reader, quick=quick))

    def rewrite(
        self, draft: str, style: str, *, context: Chat | None = None, count: int = CONTEXT
    ) -> Iterator[ClientEvent]:
        """As `Client.rewrite`."""
        return self._each(lambda: self._client.rewrite(draft, style, context=context, count=count))

    def complete(self, target: str, body: bytes = b"", *, method: str = "POST") -> Iterator[RawEvent]:
        """As `Client.complete`."""
        return self._each(lambda: self._client.complete(target, body, method=method))

    def refill_wallet(self, *, only_if_due: bool) -> int:
        """As `Client.refill_wallet`."""
        return self._wait(lambda: self._client.refill_wallet(only_if_due=only_if_due))

    def refresh_directory(self) -> bool:
        """As `Client.refresh_directory`."""
        return self._wait(self._client.refresh_directory)

    def stock(self) -> tuple[Stock, int]:
        """As `Client.stock`."""
        return self._client.stock()

    def _wait(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return _result(_Reading(lambda: _once(ask)).events(self._begin))

    def _each(self, ask: Callable[[], AsyncGenerator[_E, None]]) -> Iterator[_E]:
        """What an asynchronous iterator brings; whoever stops reading ends the session."""
        return _Reading(ask).events(self._begin)

    def _begin(self, reading: "_Reading[Any]") -> None:
        with self._lock:
            if self._loop is None:
                raise _not_open()
            reading.begin(self._loop)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()


class _Reading(Generic[_E]):
    """An asynchronous iterator that is read to its end in a loop's thread, and what it has brought."""

    def __init__(self, ask: Callable[[], AsyncGenerator[_E, None]]) -> None:
        self._ask = ask
        self._loop: asyncio.AbstractEventLoop | None = None
        self._found: queue.SimpleQueue[_E | asyncio.Task[None]] = queue.SimpleQueue()
        """What came; the task itself, once it is done, is the end."""
        self._done = threading.Event()
        """The same for who waits for nothing else: an interrupt may take something out of the queue and lose it."""
        self._task: asyncio.Task[None] | None = None
        self._thread = 0

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read it in `loop`."""
        self._loop = loop
        loop.call_soon_threadsafe(self._start)

    def events(self, begin: Callable[[Self], None]) -> Generator[_E, None, None]:
        """What it brings, as it comes, once `begin` has begun it. All in one generator: an interrupt may come at any place.

        Raises:
            UsageError: the client was closed.
        """
        try:
            begin(self)
            while not isinstance(found := self._found.get(), asyncio.Task):
                yield found
                self._require_open()
        except BaseException:
            self._end()
            raise
        if found.cancelled():
            raise _closed()
        found.result()

    def _require_open(self) -> None:
        # Also where more has come: what a program gets is not to depend on how fast its session was.
        if self._loop is None or self._loop.is_closed():
            raise _closed()

    def _start(self) -> None:
        if self._task is None:
            self._thread = threading.get_ident()
            self._task = asyncio.get_running_loop().create_task(self._read())
            # Not in the task, which never runs if it is cancelled at once.
            self._task.add_done_callback(self._over)

    async def _read(self) -> None:
        async with aclosing(self._ask()) as events:
            async for event in events:
                self._found.put(event)

    def _over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # Seen: where nobody reads on, asyncio is not to log it.
            task.exception()
        self._found.put(task)
        self._done.set()

    def _cancel(self) -> None:
        # It has not begun where the interrupt came just before that.
        self._start()
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        """Cancel it, and wait until it is over."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            # The loop is closed, and has ended it.
            return
        # The loop's thread may be where an iterator that nobody holds is found, and it is not there any more when the interpreter ends.
        if threading.get_ident() != self._thread and not sys.is_finalizing():
            self._done.wait()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: whatever is still there when the loop is stopped is ended before it is closed."""
    try:
        loop.run_forever()
        loop.run_until_complete(_end_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)


async def _once(ask: Callable[[], Coroutine[Any, Any, _T]]) -> AsyncGenerator[_T, None]:
    yield await ask()


def _result(events: Generator[_T, None, None]) -> _T:
    with closing(events):
        return next(events)


def _not_open() -> UsageError:
    return UsageError("the client is not open", hint="use it in a `with` statement")


def _closed() -> UsageError:
    return UsageError("the client was closed before the answer was read", hint="read it in the `with` block")

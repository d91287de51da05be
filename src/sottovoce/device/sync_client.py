"""The client for programs without an event loop: the same requests, as ordinary iterators."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sottovoce.core.errors import UsageError
from sottovoce.device.chats import Chat
from sottovoce.device.client import CONTEXT, COUNT, Client, ClientEvent, RawEvent, Unread
from sottovoce.device.wallet import Stock

__all__ = ["SyncClient"]

_E = TypeVar("_E")
_T = TypeVar("_T")
_OVER: Final = object()


class SyncClient:
    """A device whose state is in `home`, `~/.sottovoce` by default. Sessions run in a thread, so a slow reader does not stall them."""

    def __init__(self, home: Path | None = None) -> None:
        self._client = Client(home)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="sottovoce", daemon=True)
        self._thread.start()
        self._loop = loop
        self._wait(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._client.__aexit__(kind, error, trace))
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

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
        return self._wait(self._client.refill_wallet(only_if_due=only_if_due))

    def refresh_directory(self) -> bool:
        """As `Client.refresh_directory`."""
        return self._wait(self._client.refresh_directory())

    def stock(self) -> tuple[Stock, int]:
        """As `Client.stock`."""
        return self._client.stock()

    def _wait(self, what: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            what.close()
            raise UsageError("the client is not open", hint="use it in a `with` statement")
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def _each(self, ask: Callable[[], AsyncGenerator[_E, None]]) -> Iterator[_E]:
        """What an asynchronous iterator brings; whoever stops reading ends the session."""
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()

        async def read() -> None:
            events = ask()
            try:
                async for event in events:
                    found.put(event)
            finally:
                await events.aclose()
                found.put(_OVER)

        if self._loop is None:
            raise UsageError("the client is not open", hint="use it in a `with` statement")
        reading = asyncio.run_coroutine_threadsafe(read(), self._loop)
        try:
            while (event := found.get()) is not _OVER:
                yield event
        except BaseException:
            reading.cancel()
            while found.get() is not _OVER:
                pass
            raise
        reading.result()

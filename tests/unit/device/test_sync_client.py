"""The client without an event loop."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from app_kit import EXPORT, SUMMARY, Scripted, prepare
from sottovoce.core.errors import UsageError
from sottovoce.device.chats import Chat, import_chat
from sottovoce.device.client import Client, Kept
from sottovoce.device.settings import NotEnabled
from sottovoce.device.sync_client import SyncClient


def chat() -> Chat:
    return import_chat(EXPORT.encode(), name="Party.txt")


def scripted(home: Path, *, enabled: bool = True) -> tuple[SyncClient, Scripted]:
    prepare(home, enabled=enabled)
    client = SyncClient(home)
    inner = Scripted(home)
    client._client = inner
    return client, inner


def test_what_comes_is_what_the_other_gives(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    with client:
        events = list(client.summarize(chat(), count=2, reader="Ben", quick=True))
        assert events[:-1] == list(SUMMARY)
        assert isinstance(events[-1], Kept)
        assert inner.asked == [{"messages": ("3", "4"), "readers": ["Ben"], "quick": True}]
    assert not [thread for thread in threading.enumerate() if thread.name == "sottovoce"]


def test_an_error_comes_at_its_place(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path, enabled=False)
    with client, pytest.raises(NotEnabled):
        next(client.summarize(chat()))
    assert inner.asked == []


def test_whoever_stops_reading_ends_the_session(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    with client:
        inner.waits = asyncio.Event()
        for _ in client.summarize(chat()):
            break
        events = client.summarize(chat())
        assert next(events) == SUMMARY[0]
        events.close()  # type: ignore[attr-defined]
    assert inner.cancelled == 2


def test_a_client_that_is_not_open(tmp_path: Path) -> None:
    client, _ = scripted(tmp_path)
    with pytest.raises(UsageError, match="not open"):
        next(client.summarize(chat()))
    with pytest.raises(UsageError, match="not open"):
        client.refresh_directory()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sottovoce"]


def interrupt() -> None:
    """What Ctrl-C does, from another thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def held(client: SyncClient, inner: Scripted) -> Iterator[Any]:
    """An iterator that is held when its block ends."""
    with client:
        inner.waits = asyncio.Event()
        events = client.summarize(chat())
        assert next(events) == SUMMARY[0]
    assert inner.cancelled == 1
    assert not threads()
    return events


def test_an_iterator_that_is_held_after_the_block_says_so(tmp_path: Path) -> None:
    events = held(*scripted(tmp_path))
    with pytest.raises(UsageError, match="closed before the answer was read"):
        next(events)
    assert list(events) == []


def test_an_iterator_that_is_held_after_the_block_can_be_closed(tmp_path: Path) -> None:
    events = held(*scripted(tmp_path))
    events.close()  # type: ignore[attr-defined]
    assert list(events) == []


def test_an_iterator_belongs_to_its_block(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    late = client.summarize(chat())
    events = held(client, inner)
    with pytest.raises(UsageError, match="not open"):
        next(late)
    with client:
        inner.waits = None
        with pytest.raises(UsageError, match="closed"):
            next(events)
        assert isinstance(list(client.summarize(chat()))[-1], Kept)
    assert not threads()


def test_a_thread_that_waits_when_the_block_ends(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    reached, said = threading.Event(), []

    def read() -> None:
        try:
            for event in client.summarize(chat()):
                if event == SUMMARY[-1]:
                    reached.set()
        except UsageError as error:
            said.append(str(error))

    async def forever(*, only_if_due: bool) -> int:
        reached_too.set()
        await asyncio.Event().wait()
        return 0

    def refill() -> None:
        try:
            client.refill_wallet(only_if_due=False)
        except UsageError as error:
            said.append(str(error))

    reached_too = threading.Event()
    inner.refill_wallet = forever  # type: ignore[method-assign]
    readers = [threading.Thread(target=read), threading.Thread(target=refill)]
    with client:
        inner.waits = asyncio.Event()
        for reader in readers:
            reader.start()
        assert reached.wait(60)
        assert reached_too.wait(60)
    for reader in readers:
        reader.join(60)
    assert said == ["the client was closed before the answer was read"] * 2
    assert inner.cancelled == 1


def test_two_iterators_at_once(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    with client:
        pairs = list(zip(client.summarize(chat(), count=1), client.rewrite("Hello", "shorter"), strict=True))
        assert [one for one, _ in pairs] == [other for _, other in pairs]
        assert [one for one, _ in pairs][:-1] == list(SUMMARY)
        inner.waits = asyncio.Event()
        first, second = client.summarize(chat()), client.summarize(chat())
        assert (next(first), next(second)) == (SUMMARY[0], SUMMARY[0])
        first.close()  # type: ignore[attr-defined]
        assert inner.cancelled == 1
        assert next(second) == SUMMARY[1]
    assert inner.cancelled == 2


def test_what_cannot_be_asked_at_all(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)

    def broken(*_: Any, **__: Any) -> Any:
        raise UsageError("no such thing")

    inner.rewrite = broken  # type: ignore[method-assign]
    with client, pytest.raises(UsageError, match="no such thing"):
        next(client.rewrite("Hello", "shorter"))


def test_a_client_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)

    async def fails() -> Any:
        raise OSError("no more files")

    async def interrupted() -> Any:
        interrupt()
        await asyncio.Event().wait()

    inner.__aenter__ = fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no more files"), client:
        pass
    assert not threads()
    inner.__aenter__ = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt), client:
        pass
    assert not threads()
    with pytest.raises(UsageError, match="not open"):
        client.refresh_directory()


def test_a_client_that_cannot_be_closed_leaves_no_thread(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)

    async def fails(*_: Any) -> None:
        await inner._network.__aexit__(None, None, None)
        raise OSError("broken")

    inner.__aexit__ = fails  # type: ignore[assignment,method-assign]
    with pytest.raises(OSError, match="broken"), client:
        pass
    assert not threads()


def test_a_client_is_opened_once(tmp_path: Path) -> None:
    client, _ = scripted(tmp_path)
    with client:
        with pytest.raises(UsageError, match="open already"):
            client.__enter__()
        assert len(threads()) == 1
    assert not threads()


def test_an_interrupt_ends_the_session(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)

    class Interrupts(asyncio.Event):
        async def wait(self) -> Any:
            interrupt()
            return await super().wait()

    with client:
        inner.waits = Interrupts()
        with pytest.raises(KeyboardInterrupt):
            list(client.summarize(chat()))
        assert inner.cancelled == 1
        inner.waits = None
        assert isinstance(list(client.summarize(chat()))[-1], Kept)


def test_an_interrupt_before_the_session_has_begun(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)

    def busy() -> None:
        time.sleep(0.2)
        interrupt()
        # The session and its end are both waiting when the loop goes on.
        time.sleep(0.2)

    def ask() -> None:
        assert client._loop is not None
        client._loop.call_soon_threadsafe(busy)
        next(client.summarize(chat()))

    with client:
        with pytest.raises(KeyboardInterrupt):
            ask()
        assert inner.asked == []
        assert isinstance(list(client.summarize(chat()))[-1], Kept)


def test_an_interrupt_ends_what_is_no_session(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    ended = []

    async def forever() -> bool:
        interrupt()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return True

    inner.refresh_directory = forever  # type: ignore[method-assign]
    with client:
        with pytest.raises(KeyboardInterrupt):
            client.refresh_directory()
        assert ended == [True]


def test_an_iterator_that_the_threads_own_collector_finds(tmp_path: Path) -> None:
    client, inner = scripted(tmp_path)
    with client:
        inner.waits = asyncio.Event()
        events = client.summarize(chat())
        next(events)
        closed = threading.Event()

        def close() -> None:
            events.close()  # type: ignore[attr-defined]
            closed.set()

        assert client._loop is not None
        client._loop.call_soon_threadsafe(close)
        assert closed.wait(60)
    assert inner.cancelled == 1


_NEVER_CLOSED = """
import asyncio, sys
from pathlib import Path
from sottovoce.device.sync_client import SyncClient

class Waits:
    async def __aenter__(self): return self
    async def complete(self, target, body=b"", *, method="POST"):
        yield target
        await asyncio.Event().wait()

client = SyncClient(Path(sys.argv[1]))
client._client = Waits()
client.__enter__()
events = client.complete("/v1/models")
print(next(events))
"""


def test_an_interpreter_ends_with_an_iterator_held(tmp_path: Path) -> None:
    # asyncio tells on the standard error that nobody has closed the client; what counts is that it ends.
    done = subprocess.run(
        [sys.executable, "-c", _NEVER_CLOSED, str(tmp_path)], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"/v1/models\n"


def test_what_the_package_offers() -> None:
    assert sottovoce.Client is Client
    assert sottovoce.SyncClient is SyncClient
    with pytest.raises(AttributeError, match="Nothing"):
        _ = sottovoce.Nothing
    for name in sottovoce.__all__:
        assert getattr(sottovoce, name)


def test_it_gives_the_same_types() -> None:
    for name in ("summarize", "rewrite", "complete", "refill_wallet", "refresh_directory", "stock"):
        assert (
            getattr(Client, name).__annotations__.keys() == getattr(SyncClient, name).__annotations__.keys()
        )

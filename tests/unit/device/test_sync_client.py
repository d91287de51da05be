"""The client without an event loop."""

import asyncio
import threading
from pathlib import Path

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

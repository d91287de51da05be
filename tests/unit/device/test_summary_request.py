"""What a summary's request holds, and what refuses it before anything is connected."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.core.frames import FrameReader
from sottovoce.core.limits import LIMITS
from sottovoce.device.chats import Chat, Message, chat_id
from sottovoce.device.client import Client, Unread, _Timer
from sottovoce.device.http import TooMuchError
from sottovoce.device.settings import ChatIsPrivate, NotEnabled, SettingsStore

START = datetime(2026, 3, 2, 18, 0)  # noqa: DTZ001 - exports name no zone


def chat(title: str, count: int = 3, text: str = "See you on Friday") -> Chat:
    messages = tuple(
        Message(
            id=str(at),
            time=START + timedelta(minutes=at),
            sender="Ada",
            text=f"{text} {title}",
            kind="text",
            line=at,
        )
        for at in range(1, count + 1)
    )
    return Chat(title=title, messages=messages)


def enabled(home: Path) -> Client:
    SettingsStore(home).enable(now=1)
    return Client(home)


def refused(client: Client, *chats: Chat, count: int = 1000) -> type[SottovoceError]:
    async def ask() -> None:
        async for _ in client.summarize(*chats, count=count):
            pass

    with pytest.raises(SottovoceError) as caught:
        asyncio.run(ask())
    return caught.type


def document(client: Client, *chats: Chat, count: int = 1000, reader: str = "", quick: bool = False) -> Any:
    parts = [Unread(chat=chat, count=count, reader=reader) for chat in chats]
    job = client._summary_job(parts, quick=quick)
    request = FrameReader().feed(job.request.take()[0])
    found = json.loads(request.partition(b"\r\n\r\n")[2])
    assert job.messages == tuple(one["id"] for part in found["chats"] for one in part["messages"])
    assert job.count == len(job.messages)
    return found


def test_one_chat(tmp_path: Path) -> None:
    found = document(enabled(tmp_path), chat("club"), count=2, reader="Bo")
    assert found == {
        "chats": [
            {
                "messages": [
                    {
                        "id": "2",
                        "sender": "Ada",
                        "text": "See you on Friday club",
                        "time": "2026-03-02T18:02",
                    },
                    {
                        "id": "3",
                        "sender": "Ada",
                        "text": "See you on Friday club",
                        "time": "2026-03-02T18:03",
                    },
                ],
                "reader": "Bo",
            }
        ],
        "detail": "full",
    }


def test_several_chats_have_ids_of_their_own_and_no_titles(tmp_path: Path) -> None:
    named = [Chat(title=f"secret title {n}", messages=chat("club").messages) for n in range(5)]
    found = document(enabled(tmp_path), *named, quick=True)
    assert found["detail"] == "quick"
    assert [one["id"] for one in found["chats"][4]["messages"]] == ["5:1", "5:2", "5:3"]
    assert "secret" not in json.dumps(found)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert refused(Client(tmp_path), chat("club")) is NotEnabled


@pytest.mark.parametrize("place", [0, 1, 4])
def test_one_private_chat_among_several_refuses_all(tmp_path: Path, place: int) -> None:
    chats = [chat(f"club {n}") for n in range(5)]
    client, private = enabled(tmp_path), chats[place]
    SettingsStore(tmp_path).mark_private(chat_id(private.title, private.messages), title="x", now=1)
    assert refused(client, *chats) is ChatIsPrivate


def test_limits(tmp_path: Path) -> None:
    client = enabled(tmp_path)
    assert refused(client) is UsageError
    assert refused(client, *[chat(str(n)) for n in range(6)]) is UsageError
    assert refused(client, chat("a"), chat("b", 0)) is UsageError
    assert refused(client, chat("a", LIMITS.messages), chat("b", 1)) is TooMuchError
    assert refused(client, chat("a", text="x" * (LIMITS.message_text + 1))) is TooMuchError
    assert refused(client, chat("a", 20, text="x" * (LIMITS.message_text - 10))) is TooMuchError


@pytest.mark.parametrize("no", ["off", "private", "damaged"])
def test_a_no_that_comes_while_the_machine_is_verified(tmp_path: Path, no: str) -> None:
    client, party = enabled(tmp_path), chat("Party")
    job = client._summary_job([Unread(chat=party, count=3)], quick=False)
    job.session = job.verified = cast("Any", object())
    store = SettingsStore(tmp_path)
    if no == "off":
        store.disable()
    elif no == "private":
        # In another program, under the name that the file has there.
        store.mark_private(chat_id("Renamed", party.messages), title="Renamed", now=2)
    else:
        (tmp_path / "settings.json").write_bytes(b"{")

    async def read(*_: Any) -> AsyncGenerator[Any, None]:
        pytest.fail("it was sent")
        yield

    async def answer() -> None:
        async for _ in client._answer(job, _Timer(), read):
            pass

    with pytest.raises((NotEnabled, ChatIsPrivate, ConfigError)):
        asyncio.run(answer())
    assert not job.sent

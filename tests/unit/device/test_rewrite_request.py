"""What a rewrite's request holds: of the chat nothing, unless the user says so."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.core.frames import FrameReader
from sottovoce.core.limits import LIMITS
from sottovoce.device.chats import Chat, Message, chat_id
from sottovoce.device.client import Client
from sottovoce.device.http import TooMuchError
from sottovoce.device.settings import ChatIsPrivate, SettingsStore

START = datetime(2026, 3, 2, 18, 0)  # noqa: DTZ001 - exports name no zone


def chat(*texts: str) -> Chat:
    messages = tuple(
        Message(id=str(at), time=START + timedelta(minutes=at), sender="Ada", text=text, kind="text", line=at)
        for at, text in enumerate(texts, start=1)
    )
    return Chat(title="Trip", messages=messages)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    SettingsStore(tmp_path).enable(now=1)
    return Client(tmp_path)


def document(client: Client, context: Chat | None = None, count: int = 6) -> Any:
    job = client._rewrite_job(" see you ", "funny", context, count)
    found = json.loads(FrameReader().feed(job.request.take()[0]).partition(b"\r\n\r\n")[2])
    assert job.messages == tuple(one["id"] for one in found.get("context", []))
    assert job.count == len(job.messages)
    return found


def refused(client: Client, draft: str, context: Chat | None = None, count: int = 6) -> type[SottovoceError]:
    async def ask() -> None:
        async for _ in client.rewrite(draft, "funny", context=context, count=count):
            pass

    with pytest.raises(SottovoceError) as caught:
        asyncio.run(ask())
    return caught.type


def test_a_draft_alone(client: Client) -> None:
    assert document(client) == {"draft": "see you", "style": "funny"}


def test_the_last_messages_where_the_user_wants_it(client: Client) -> None:
    before = chat("one", "two", "", "four")
    sent = document(client, before, 3)["context"]
    assert [(one["id"], one["sender"], one["text"]) for one in sent] == [
        ("2", "Ada", "two"),
        ("4", "Ada", "four"),
    ]
    assert "Trip" not in json.dumps(sent)
    assert document(client, chat(""), 3) == {"draft": "see you", "style": "funny"}


def test_a_private_chat_is_sent_with_no_draft(client: Client, tmp_path: Path) -> None:
    private = chat("one")
    SettingsStore(tmp_path).mark_private(chat_id(private.title, private.messages), title="Trip", now=1)
    assert refused(client, "hello", private) is ChatIsPrivate


def test_what_is_too_much(client: Client) -> None:
    assert refused(client, "x" * (LIMITS.draft + 1)) is TooMuchError
    assert refused(client, "hello", chat("x" * (LIMITS.message_text + 1))) is TooMuchError
    assert refused(client, " ") is UsageError
    for count in (0, 7):
        assert refused(client, "hello", chat("one"), count) is UsageError

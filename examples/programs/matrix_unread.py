"""What is unread in a room of Matrix, encrypted or not, summarised: `pip install sottovoce "matrix-nio[e2e]"`.

    python matrix_unread.py login https://matrix.example.org @you:example.org    once; it asks for the password
    python matrix_unread.py '!room:example.org'                                  what is unread there

It is one more session of yours, on this machine, and shows the summary here alone. As any new session it can read what is written after it was added.
"""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nio

from sottovoce import Client, Unread
from sottovoce.device.answers import Dropped, Line, LineEnd, Piece
from sottovoce.device.chats import Chat, Message

PLACE = Path.home() / ".sottovoce-matrix"
SESSION = PLACE / "session.json"
MOST = 1000


def session_of(homeserver: str, user: str) -> nio.AsyncClient:
    PLACE.mkdir(mode=0o700, exist_ok=True)
    config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
    return nio.AsyncClient(homeserver, user, store_path=str(PLACE), config=config)


async def login(homeserver: str, user: str) -> None:
    matrix = session_of(homeserver, user)
    answer = await matrix.login(getpass.getpass("Password: "), device_name="Sottovoce on this machine")
    if not isinstance(answer, nio.LoginResponse):
        sys.exit("The server did not accept that.")
    await matrix.keys_upload()
    said = [homeserver, answer.user_id, answer.device_id, answer.access_token]
    with os.fdopen(os.open(SESSION, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(said, file)
    await matrix.close()


async def after_marker(matrix: nio.AsyncClient, room: nio.MatrixRoom, start: str) -> AsyncIterator[nio.Event]:
    """The newest events first, back to the one up to which you have read."""
    count, at = 0, start
    while at and count < MOST:
        page = await matrix.room_messages(room.room_id, at, limit=100)
        if not isinstance(page, nio.RoomMessagesResponse):
            sys.exit("The server does not give the messages of this room.")
        for event in page.chunk[: MOST - count]:
            if event.event_id == room.fully_read_marker:
                return
            count += 1
            yield event
        at = page.end


async def read(room_id: str) -> tuple[Chat, str]:
    """The messages after the one up to which you have read, and your name in the room."""
    homeserver, user, device, token = json.loads(SESSION.read_text())
    matrix = session_of(homeserver, user)
    matrix.restore_login(user, device, token)
    try:
        # With it come the keys that the others' sessions have sent to this one.
        synced = await matrix.sync(full_state=True)
        if not isinstance(synced, nio.SyncResponse) or room_id not in matrix.rooms:
            sys.exit("You are in no such room, or the server does not know this session any more.")
        if matrix.should_upload_keys:
            await matrix.keys_upload()
        room = matrix.rooms[room_id]
        found = [event async for event in after_marker(matrix, room, synced.next_batch)]
    finally:
        await matrix.close()
    sealed = sum(isinstance(event, nio.MegolmEvent) for event in found)
    if sealed:
        print(f"{sealed} messages are sealed for this session and left out.", file=sys.stderr)
    written = [event for event in reversed(found) if isinstance(event, nio.RoomMessage)]
    messages = tuple(
        Message(
            id=str(number),
            time=local(event.server_timestamp),
            sender=room.user_name(event.sender) or event.sender,
            text=event.body,
            kind="text" if isinstance(event, nio.RoomMessageFormatted) else "media",
            line=number,
        )
        for number, event in enumerate(written, 1)
    )
    return Chat(title=room.display_name, messages=messages), room.user_name(user) or ""


def local(milliseconds: int) -> datetime:
    """As a clock on the wall here showed it."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone().replace(tzinfo=None)


async def summarise(room_id: str) -> None:
    chat, reader = await read(room_id)
    if not chat.messages:
        sys.exit("Nothing is unread.")
    async with Client() as client:
        unread = Unread(chat=chat, count=len(chat.messages), reader=reader)
        async for event in client.summarize(unread):
            match event:
                case Line():
                    print(f"{event.sender}: {event.text}  {event.messages}")
                case Piece():
                    print(event.text, end="")
                case LineEnd():
                    print(f"  {event.messages}")
                case Dropped():
                    print(" (held back)")


if sys.argv[1:2] == ["login"]:
    asyncio.run(login(sys.argv[2], sys.argv[3]))
else:
    asyncio.run(summarise(sys.argv[1]))

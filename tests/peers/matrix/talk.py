"""Ben's side of an encrypted room, run beside a server: joins Anna's account to it, and says what comes as JSON on standard input. Anna reads the first of it, on another device.

python talk.py URL PLACE < messages.json      prints the room's id
"""

import asyncio
import json
import sys

import nio


async def talk(url: str, place: str, said: list[str]) -> str:
    ben = nio.AsyncClient(url, "ben", store_path=place, config=nio.AsyncClientConfig(encryption_enabled=True))
    anna = nio.AsyncClient(url, "anna")
    for client in (ben, anna):
        answer = await client.login(f"password of {client.user}")
        assert isinstance(answer, nio.LoginResponse), answer
    sealed = [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
    made = await ben.room_create(name="Party", invite=[anna.user_id], initial_state=sealed)
    assert isinstance(made, nio.RoomCreateResponse), made
    room = str(made.room_id)
    assert isinstance(await anna.join(room), nio.JoinResponse)
    await ben.keys_upload()
    await ben.sync(full_state=True)
    for text in said:
        # Anna's sessions have proved nothing to Ben, as is usual between people who have not compared emojis.
        sent = await ben.room_send(
            room, "m.room.message", {"msgtype": "m.text", "body": text}, ignore_unverified_devices=True
        )
        assert isinstance(sent, nio.RoomSendResponse), sent
        if text == said[0]:
            marked = await anna.room_read_markers(room, fully_read_event=sent.event_id)
            assert isinstance(marked, nio.RoomReadMarkersResponse), marked
    await anna.logout()
    await anna.close()
    await ben.close()
    return room


sys.stdout.write(asyncio.run(talk(sys.argv[1], sys.argv[2], json.load(sys.stdin))))

"""A summary of the last messages of an exported chat, in ten lines: `python summary.py chat.txt`."""

import asyncio
import sys
from pathlib import Path

from sottovoce import Client, read_chat
from sottovoce.device.answers import Line


async def main() -> None:
    async with Client() as client:
        async for event in client.summarize(read_chat(Path(sys.argv[1])), count=40):
            if isinstance(event, Line):
                print(f"{event.sender}: {event.text}  {event.messages}")


asyncio.run(main())

"""The `openai` client through attested sessions: `pip install "sottovoce[httpx]" openai`, then `python openai_client.py "Name a colour."`."""

import asyncio
import sys

import httpx2
import openai

from sottovoce import Client
from sottovoce.device.httpx_transport import AttestedTransport


async def main() -> None:
    async with Client() as client, httpx2.AsyncClient(transport=AttestedTransport(client)) as http:
        ask = openai.AsyncOpenAI(
            base_url="https://sottovoce/v1", api_key="none", http_client=http, max_retries=0
        )
        (model,) = [one.id async for one in await ask.models.list()]
        answer = await ask.chat.completions.create(
            model=model, messages=[{"role": "user", "content": sys.argv[1]}], max_tokens=40
        )
        print(answer.choices[0].message.content)


asyncio.run(main())

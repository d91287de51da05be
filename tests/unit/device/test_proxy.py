"""The proxy with the real `openai` client in front of it, and an orchestrator's application behind it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from role_kit import Roles, UnsafeScriptedEngineForTests
from sottovoce.core.errors import ConfigError, SottovoceError, UnavailableError, UsageError, VerificationError
from sottovoce.core.limits import LIMITS
from sottovoce.device.client import Kept, RawEvent
from sottovoce.device.http import Body, Head, Over, TooMuchError
from sottovoce.device.proxy import KEY_FILE, create_app, proxy_key, serving
from sottovoce.device.settings import NotEnabled
from sottovoce.simulator.roles import call

KEY = "sottovoce-key"
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say it."}]
SAID = "All the words of a whole answer, one after the other, in the order in which they were said"


class Device:
    """A client without a way: its requests go straight into an orchestrator's application."""

    hangs = False
    """Whether the service stops speaking in the middle of its answer."""

    def __init__(self, engine: Any = None, error: SottovoceError | None = None, after: int = 0) -> None:
        self.roles = Roles(engine or UnsafeScriptedEngineForTests(SAID))
        self.asked: list[tuple[str, str, Any]] = []
        self._error = error
        self._after = after
        self.ended = asyncio.Event()
        self.padded = asyncio.Event()
        """Until it is set, the session goes on after its answer."""
        self.padded.set()

    async def complete(
        self, target: str, body: bytes = b"", *, method: str = "POST"
    ) -> AsyncGenerator[RawEvent, None]:
        self.asked.append((method, target, json.loads(body) if body else None))
        sent: asyncio.Queue[Any] = asyncio.Queue()
        task = asyncio.ensure_future(call(self.roles.app, method, target, body, sent.put_nowait))
        try:
            async for event in self._events(sent):
                yield event
            await self.padded.wait()
            yield Kept(report_id="ab" * 16)
        finally:
            self.ended.set()
            task.cancel()

    async def _events(self, sent: asyncio.Queue[Any]) -> AsyncGenerator[RawEvent, None]:
        for count in range(1000):
            if self._error is not None and count == self._after:
                raise self._error
            if self.hangs and count > 2:
                await asyncio.Event().wait()
            message = await sent.get()
            if message["type"] == "http.response.start":
                media = dict(message["headers"]).get(b"content-type", b"application/json").decode()
                yield Head(status=message["status"], media=media)
                continue
            yield Body(data=message["body"])
            if not message.get("more_body"):
                yield Over()
                return


def play(device: Device, test: Callable[[str], Awaitable[None]]) -> list[Any]:
    """What the proxy told while `test` used it."""
    told: list[Any] = []

    async def run() -> None:
        async with serving(create_app(device, key=KEY, tell=told.append), 0) as port:
            await test(f"http://127.0.0.1:{port}")

    asyncio.run(asyncio.wait_for(run(), 30))
    return told


def with_openai(
    device: Device, test: Callable[[openai.AsyncOpenAI], Awaitable[None]], key: str = KEY
) -> list[Any]:
    async def run(base: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0) as client:
            await test(client)

    return play(device, run)


def test_a_whole_answer() -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="scripted", messages=MESSAGES, temperature=0)
        assert answer.choices[0].message.content == SAID
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len(SAID.split())

    told = with_openai(Device(), test)
    assert isinstance(told[-1], Kept)


def test_a_streamed_answer() -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        pieces, usage = [], None
        stream = await client.chat.completions.create(
            model="scripted", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
        assert "".join(pieces) == SAID
        assert len(pieces) > 3
        assert usage is not None
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    with_openai(Device(), test)


def test_the_models() -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in await client.models.list()] == ["scripted"]

    with_openai(Device(), test)


def test_who_asks_stays_here() -> None:
    device = Device()

    async def test(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.create(
            model="scripted",
            messages=MESSAGES,
            user="ada",
            safety_identifier="ada",
            metadata={"name": "ada"},
            store=True,
            prompt_cache_key="ada",
        )

    with_openai(device, test)
    assert device.asked == [("POST", "/v1/chat/completions", {"model": "scripted", "messages": MESSAGES})]


def test_what_the_service_refuses_is_its_error() -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="scripted", messages=MESSAGES, n=2)
        assert refused.value.code == "unsupported_parameter"

    with_openai(Device(), test)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (
            NotEnabled("private processing is off", hint="`sottovoce settings enable` says what it means"),
            openai.PermissionDeniedError,
            403,
        ),
        (TooMuchError("the request is longer than the limits allow"), openai.APIStatusError, 413),
        (VerificationError("a check failed", check="signature"), openai.InternalServerError, 502),
        (UnavailableError("no relay answers", party="relay"), openai.InternalServerError, 503),
    ],
)
def test_what_the_device_refuses_is_an_error_too(
    error: SottovoceError, kind: type[openai.APIStatusError], status: int
) -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="scripted", messages=MESSAGES)
        assert (caught.value.status_code, caught.value.code) == (status, error.code)
        assert str(error) in str(caught.value)
        assert error.hint in str(caught.value)

    assert with_openai(Device(error=error), test) == [error]


def test_an_answer_that_breaks_off() -> None:
    async def test(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="scripted", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "unavailable"

    with_openai(Device(error=UnavailableError("the way is cut", party="relay"), after=3), test)


def test_a_client_that_leaves_ends_its_session() -> None:
    device = Device(UnsafeScriptedEngineForTests(" ".join(["word"] * 900)))
    device.hangs = True

    async def test(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="scripted", messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await asyncio.wait_for(device.ended.wait(), 10)

    with_openai(device, test)


@pytest.mark.parametrize("stream", [False, True])
def test_padding_goes_on_when_the_program_has_its_answer(stream: bool) -> None:
    device = Device()
    device.padded.clear()

    async def test(client: openai.AsyncOpenAI) -> None:
        if stream:
            async for _ in await client.chat.completions.create(
                model="scripted", messages=MESSAGES, stream=True
            ):
                pass
        else:
            await client.chat.completions.create(model="scripted", messages=MESSAGES)
        assert not device.ended.is_set()
        await client.close()
        await asyncio.sleep(0.1)  # for the proxy to see that the program has left
        assert not device.ended.is_set()
        device.padded.set()

    assert isinstance(with_openai(device, test)[-1], Kept)


async def ask(
    base: str,
    headers: dict[str, str] | None = None,
    *,
    path: str = "/v1/chat/completions",
    data: bytes = b"{}",
) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            base + path, data=data, headers={"Authorization": f"Bearer {KEY}"} | (headers or {})
        ) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Basic {KEY}"},
    ],
)
def test_without_the_key(headers: dict[str, str]) -> None:
    device = Device()

    async def test(base: str) -> None:
        status, answer = await ask(base, headers)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")

    play(device, test)
    assert device.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://a.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8642"},
    ],
)
def test_a_web_page_is_refused_even_with_the_key(headers: dict[str, str]) -> None:
    device = Device()

    async def test(base: str) -> None:
        status, answer = await ask(base, headers)
        assert (status, answer["error"]["code"]) == (403, "forbidden")

    play(device, test)
    assert device.asked == []


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/v1/chat/completions", b"not json", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b"[" * 100_000, 400),
        ("/v1/chat/completions", b'{"x": "' + b"x" * LIMITS.request + b'"}', 413),
        ("/v1/embeddings", b"{}", 404),
        ("/v1/models", b"{}", 405),
    ],
)
def test_what_is_no_request(path: str, data: bytes, status: int) -> None:
    async def test(base: str) -> None:
        found, answer = await ask(base, path=path, data=data)
        assert found == status
        assert answer["error"]["message"]

    play(Device(), test)


def test_a_port_that_is_taken() -> None:
    async def test(base: str) -> None:
        with pytest.raises(UsageError):
            async with serving(create_app(Device(), key=KEY), int(base.rpartition(":")[2])):
                pass

    play(Device(), test)


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = proxy_key(home)
    assert len(key) == len("sottovoce-") + 48
    assert proxy_key(home) == key
    assert (home / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (home / KEY_FILE).write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        proxy_key(home)

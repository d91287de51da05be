"""The transport under the real `openai` client, and an orchestrator's application behind it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import openai
import pytest

from role_kit import Roles, UnsafeScriptedEngineForTests
from sottovoce.core.errors import SottovoceError, UnavailableError
from sottovoce.device import httpx_transport
from sottovoce.device.client import Kept, RawEvent
from sottovoce.device.http import Body, Head, Over
from sottovoce.device.httpx_transport import AttestedTransport
from sottovoce.device.settings import NotEnabled
from sottovoce.simulator.roles import call

MESSAGES: Any = [{"role": "user", "content": "Say it."}]
MODEL = "scripted"
SAID = "All the words of a whole answer"


class Device:
    """A client without a way: its requests go straight into an orchestrator's application, and what the service says comes `after` events before `error`."""

    def __init__(self, error: SottovoceError | None = None, after: int = 0) -> None:
        self.roles = Roles(UnsafeScriptedEngineForTests(SAID))
        self.asked: list[tuple[str, str, Any]] = []
        self.padding = asyncio.Event()
        self.kept = self.ended = False
        self.slow_to_end = False
        self._error, self._after = error, after

    async def complete(
        self, target: str, body: bytes = b"", *, method: str = "POST"
    ) -> AsyncGenerator[RawEvent, None]:
        self.asked.append((method, target, json.loads(body) if body else None))
        sent: asyncio.Queue[Any] = asyncio.Queue()
        task = asyncio.ensure_future(call(self.roles.app, method, target, body, sent.put_nowait))
        try:
            for count in range(1000):
                if self._error is not None and count == self._after:
                    raise self._error
                message = await sent.get()
                if message["type"] == "http.response.start":
                    media = dict(message["headers"]).get(b"content-type", b"").decode().partition(";")[0]
                    yield Head(status=message["status"], media=media)
                    continue
                yield Body(data=message.get("body", b""))
                if not message.get("more_body"):
                    break
            yield Over()
            await self.padding.wait()
            self.kept = True
            yield Kept(report_id="ab" * 16)
        finally:
            task.cancel()
            if self.slow_to_end:
                # As a session that tells the service of its end, and then keeps its report.
                await asyncio.sleep(0.05)
            self.ended = True


def client(device: Device) -> tuple[openai.AsyncOpenAI, AttestedTransport]:
    transport = AttestedTransport(device)
    http = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(base_url="https://sottovoce/v1", api_key="secret", http_client=http), transport


def test_an_answer_whole_and_in_pieces() -> None:
    async def test() -> None:
        device = Device()
        device.padding.set()
        asking, transport = client(device)
        (model,) = [one.id async for one in await asking.models.list()]
        answer = await asking.chat.completions.create(
            model=model, messages=MESSAGES, user="me", metadata={"a": "b"}
        )
        assert answer.choices[0].message.content == SAID
        stream = await asking.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        parts = [part.choices[0].delta.content or "" async for part in stream if part.choices]
        assert "".join(parts) == SAID
        assert len(parts) > 2
        await transport.aclose()
        assert device.kept
        # Who asks stays here: no key, no name, no label.
        assert [(method, path) for method, path, _ in device.asked] == [
            ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/chat/completions"),
        ]  # fmt: skip
        for said in device.asked[1:]:
            assert set(said[2]) <= {"model", "messages", "stream"}

    asyncio.run(test())


def test_the_padding_goes_on_when_the_program_has_all_of_it() -> None:
    async def test() -> None:
        device = Device()
        asking, transport = client(device)
        await asking.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert not device.ended
        device.padding.set()
        await transport.aclose()
        assert device.kept

    asyncio.run(test())


def test_a_session_that_takes_too_long_is_over_when_the_transport_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx_transport, "_CLOSE", 0.01)

    async def test() -> None:
        device = Device()
        device.slow_to_end = True
        asking, transport = client(device)
        await asking.chat.completions.create(model=MODEL, messages=MESSAGES)
        await transport.aclose()
        assert device.ended
        assert not device.kept
        await transport.aclose()

    asyncio.run(test())


def test_a_program_that_does_not_wait_for_the_padding() -> None:
    async def test() -> None:
        device = Device()
        device.slow_to_end = True
        asking, transport = client(device)
        await asking.chat.completions.create(model=MODEL, messages=MESSAGES)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transport.aclose(), 0.01)
        assert device.ended
        assert not device.kept

    asyncio.run(test())


def test_a_program_that_leaves_ends_the_session() -> None:
    async def test() -> None:
        device = Device()
        asking, _ = client(device)
        stream = await asking.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()
        assert device.ended
        assert not device.kept

    asyncio.run(test())


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (NotEnabled("private processing is off"), openai.PermissionDeniedError),
        (UnavailableError("no relay could be reached", party="relay"), openai.InternalServerError),
    ],
)
def test_what_refuses_it_here(error: SottovoceError, wanted: type[Exception]) -> None:
    async def test() -> None:
        device = Device(error)
        asking, _ = client(device)
        with pytest.raises(wanted, match=str(error)):
            await asking.chat.completions.create(model=MODEL, messages=MESSAGES)
        # The client would try again by itself; each time costs a token.
        assert len(device.asked) == 1

    asyncio.run(test())


def test_an_end_in_the_middle() -> None:
    async def test() -> None:
        lost = UnavailableError("the gateway gave no answer", party="gateway")
        asking, _ = client(Device(lost, after=3))
        stream = await asking.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="gave no answer"):
            async for _ in stream:
                pass
        asking, _ = client(Device(lost, after=1))
        with pytest.raises(openai.APIConnectionError):
            await asking.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=MESSAGES)

    asyncio.run(test())


def test_what_the_service_has_not() -> None:
    async def test() -> None:
        device = Device()
        asking, transport = client(device)
        with pytest.raises(openai.NotFoundError):
            await asking.embeddings.create(model="m", input="x")
        async with httpx2.AsyncClient(transport=transport) as http:
            answer = await http.post("https://sottovoce/v1/chat/completions", content=b"[]")
        assert answer.status_code == 400
        assert device.asked == []

    asyncio.run(test())


async def _sent(method: str, url: str, **more: Any) -> tuple[httpx2.Response, Device]:
    device = Device()
    device.padding.set()
    async with httpx2.AsyncClient(transport=AttestedTransport(device)) as http:
        return await http.request(method, url, **more), device


@pytest.mark.parametrize(
    "url",
    [
        "https://sottovoce/v1/models?api_key=secret&user=me",
        "https://me:secret@api.example.com:8443/v1/models#me",
        "https://sottovoce/secret/../v1/models",
        "https://sottovoce/v1/%6dodels",
    ],
)
def test_only_the_path_is_sent(url: str) -> None:
    async def test() -> None:
        more = {"headers": {"cookie": "secret"}, "content": b'{"user": "me"}'}
        answer, device = await _sent("GET", url, **more)
        assert answer.status_code == 200
        assert device.asked == [("GET", "/v1/models", None)]

    asyncio.run(test())


def test_a_query_beside_a_body_is_not_sent() -> None:
    async def test() -> None:
        body = {"model": MODEL, "messages": MESSAGES}
        url = "https://sottovoce/v1/chat/completions"
        answer, device = await _sent("POST", url, params={"user": "me"}, json=body | {"user": "me"})
        assert answer.status_code == 200
        assert device.asked == [("POST", "/v1/chat/completions", body)]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models"),
        ("GET", "//v1/models"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models%3Fuser=me"),
        ("GET", "/v1/models/%0d%0ahost:me"),
        ("GET", "/v1/models%ff"),
        ("GET", ""),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/models"),
        ("POST", "/openai/deployments/scripted/chat/completions"),
    ],
)
def test_an_odd_path_is_refused_here(method: str, path: str) -> None:
    async def test() -> None:
        answer, device = await _sent(method, f"https://sottovoce{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
        assert answer.headers["x-should-retry"] == "false"
        assert device.asked == []

    asyncio.run(test())


@pytest.mark.parametrize(
    "base", ["https://sottovoce", "https://sottovoce/v1/v1", "https://sottovoce/v2", "https://sottovoce//v1"]
)
def test_a_base_url_that_is_wrong_is_told_as_the_interface_does(base: str) -> None:
    async def test() -> None:
        device = Device()
        http = httpx2.AsyncClient(transport=AttestedTransport(device))
        asking = openai.AsyncOpenAI(base_url=base, api_key="secret", http_client=http)
        with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
            await asking.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert device.asked == []

    asyncio.run(test())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"words"', b'{"a":' * 100_000, b"1" * 5000])
def test_a_body_that_is_no_request(content: bytes) -> None:
    async def test() -> None:
        answer, device = await _sent("POST", "https://sottovoce/v1/chat/completions", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_json"
        assert device.asked == []

    asyncio.run(test())

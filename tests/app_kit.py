"""The app for tests: with a client that says what a test has it say, and served as `sottovoce app` serves it."""

import asyncio
import functools
import json
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from asgi import Answer, fetch
from pins import pins
from sottovoce.app.access import Access, Gate
from sottovoce.app.application import create_app
from sottovoce.app.desk import Desk
from sottovoce.app.serving import serving
from sottovoce.attest.verdict import Check, Rule, Status, Verdict
from sottovoce.device import client as device_client
from sottovoce.device.answers import Done, Line, LineEnd, Piece, Suggestion
from sottovoce.device.chats import Chat
from sottovoce.device.client import Attested, Client, ClientEvent, Kept, Step, Unread
from sottovoce.device.environment import Environment
from sottovoce.device.settings import SettingsStore
from sottovoce.simulator.testing import EvidenceWorld

if TYPE_CHECKING:
    from sottovoce.core.errors import SottovoceError

HOST = "127.0.0.1:2"
"""Where `asgi.fetch` says that the application is."""
RULE = Rule("6.3", "the processor signed the report", "SNP ABI", "say anything")
PASSED = Check("signature", RULE, Status.PASS, "good", "good")
FAILED = Check("measurement", RULE, Status.FAIL, "other code", "a logged release")
VERDICT = Verdict(checks=(PASSED,))
STEPS: tuple[ClientEvent, ...] = (
    Step(name="directory", seconds=0.01, detail="epoch 3"),
    Step(name="token", seconds=0.001, detail="one anonymous token"),
    Step(name="first trip", seconds=0.02, detail="relay-a"),
    Step(name="verification", seconds=0.002, detail="1 checks"),
    Attested(verdict=VERDICT),
)
SUMMARY: tuple[ClientEvent, ...] = (
    *STEPS,
    Line(kind="plan", sender="Ada", text="Friday at eight", messages=["2"]),
    Step(name="first line", seconds=0.3, detail="second trip"),
    Line(kind="question", sender="Ben", text="Can you bring cake?", messages=["3"], for_reader=True),
    Piece(kind="headline", text="They meet "),
    Piece(kind="headline", text="on Friday."),
    LineEnd(kind="headline", messages=["2"]),
    Done(method="quotes", model="a model"),
)
SUGGESTIONS: tuple[ClientEvent, ...] = (
    *STEPS,
    Suggestion(text="I cannot come tomorrow, sorry."),
    Suggestion(text="Sorry, I can't make it tomorrow."),
    Done(method="rewriting", model="a model"),
)
REPORT = "ab" * 16
EXPORT = """3/14/26, 18:00 - Ada: Hello all
3/14/26, 18:01 - Ada: Friday at eight
3/14/26, 18:02 - Ben: Can you bring cake?
3/15/26, 09:00 - Cem: I can <b>bring</b> juice
"""


class Scripted(Client):
    """A client that judges a request as the real one does, and then says `says`, waits as long as `waits` is not set, and fails with `fails`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.says: Sequence[ClientEvent] = SUMMARY
        self.fails: SottovoceError | None = None
        self.waits: asyncio.Event | None = None
        self.asked: list[dict[str, Any]] = []
        self.cancelled = 0
        self.putting_away: asyncio.Event | None = None
        """What a session that is cancelled waits for before it ends."""

    def summarize(self, *chats: Chat | Unread, count: int = device_client.COUNT, reader: str = "", quick: bool = False) -> AsyncGenerator[ClientEvent, None]:  # fmt: skip
        parts = [
            one if isinstance(one, Unread) else Unread(chat=one, count=count, reader=reader) for one in chats
        ]

        def judge() -> None:
            job = self._summary_job(parts, quick=quick)
            self.asked.append(
                {"messages": job.messages, "readers": [one.reader for one in parts], "quick": quick}
            )

        return self._said(judge)

    def rewrite(self, draft: str, style: str, *, context: Chat | None = None, count: int = device_client.CONTEXT) -> AsyncGenerator[ClientEvent, None]:  # fmt: skip
        def judge() -> None:
            job = self._rewrite_job(draft, style, context, count)
            self.asked.append({"draft": draft, "style": style, "messages": job.messages})

        return self._said(judge)

    async def _said(self, judge: Any) -> AsyncGenerator[ClientEvent, None]:
        self._settings.require_enabled()
        judge()
        try:
            for event in self.says:
                yield event
            if self.waits is not None:
                await self.waits.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            if self.putting_away is not None:
                await self.putting_away.wait()
            raise
        if self.fails is not None:
            raise self.fails
        yield Kept(report_id=REPORT)


@functools.cache
def _environment() -> Environment:
    return pins(EvidenceWorld())


def prepare(home: Path, *, enabled: bool) -> None:
    """Make `home` that of a device that pins a test world, with private processing on or off."""
    _environment().install(home)
    if enabled:
        SettingsStore(home).enable(now=1)


class Browser:
    """A browser that was let in, in process: no socket and no time."""

    def __init__(self, home: Path, *, enabled: bool = True) -> None:
        prepare(home, enabled=enabled)
        self.home = home
        self.client = Scripted(home)
        self.access = Access()
        self.app = Desk(home, self.client, self.access.base)
        self.gate: Gate = create_app(self.app, self.access)
        self._cookie = ""

    async def open(self) -> "Browser":
        token = self.access.link(2).partition("token=")[2]
        answer = await self.raw("GET", f"?token={token}")
        assert answer.status == 303
        self._cookie = answer.headers["set-cookie"].partition(";")[0]
        return self

    async def raw(self, method: str, path: str, **headers: str) -> Answer:
        """A request as it is given, with the cookie if there is one."""
        known = {"host": HOST} | ({"cookie": self._cookie} if self._cookie else {})
        return await fetch(
            self.gate, method, self.access.base + path, headers=known | {name.replace("_", "-"): value for name, value in headers.items()}
        )  # fmt: skip

    async def get(self, path: str = "") -> str:
        answer = await self.raw("GET", path, sec_fetch_site="same-origin")
        assert answer.status == 200, answer.body
        return answer.body.decode()

    async def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {
            "host": HOST,
            "cookie": self._cookie,
            "origin": f"http://{HOST}",
            "sec-fetch-site": "same-origin",
        }
        answer = await fetch(self.gate, "POST", self.access.base + path, headers=headers, body=data)
        assert answer.status == status, answer.body
        return json.loads(answer.body)

    async def add(self, text: str = EXPORT, name: str = "WhatsApp Chat with Party.txt") -> str:
        added = await self.post(f"import?name={quote(name)}", text.encode())
        return str(added["id"])

    async def events(self, asking: str, since: int | None = None) -> list[dict[str, Any]]:
        """All of an answer's events, once it has ended."""
        more = {} if since is None else {"last_event_id": str(since)}
        answer = await self.raw("GET", f"ask/{asking}/events", sec_fetch_site="same-origin", **more)
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(one) for one in re.findall(r"^data: (.*)$", answer.body.decode(), re.MULTILINE)]


@contextmanager
def served(home: Path) -> Iterator[tuple[Callable[[], str], Scripted]]:
    """The app as `sottovoce app` serves it, in a thread; gives what makes links, and its client."""
    found: list[tuple[Callable[[], str], Scripted]] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        clients: list[Scripted] = []

        def make(at: Path) -> Client:
            clients.append(Scripted(at))
            return clients[0]

        async with serving(home, 0, make) as (link, _):
            found.append((link, clients[0]))
            ready.set()
            await asyncio.to_thread(stop.wait)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: asyncio.run(run()))
        running.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            if not found:
                running.result()
            yield found[0]
        finally:
            stop.set()
    running.result()

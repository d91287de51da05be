"""What privacy costs a user: the whole private path against the same computation with no privacy, in one run.

private: a device that stays running, with directory and tokens at hand → relay → gateway → router → orchestrator, with
         attested predictor and guard, each a process or more of its own. From the call to the end, so its own files
         (token taken, report kept) count as well.
plain:   the same device → HTTP on loopback → one process that holds the same engine with the same weights, prompts,
         threads and seeds, and runs the applications of the same three roles. It has no TLS, no padding, no cadence, no
         sandbox, no process a session; its orchestrator calls the other two directly, without a socket. So it is
         faster than a real service in three parts would be, and all of that counts as the cost of privacy here.

They take turns, in an order that changes, with a pause for what a session leaves to be made anew, so that noise hits
both. Answers are compared: the computation is the same only where they are. The bounds hold until the answer is complete, as a user
sees it. The call is over later, when the answer's class of time is full (decision 26), which is told and has no bound.

It is run twice: with the default model on every core, as a person has it who tries everything on one machine, where
each millisecond of any party is taken from the model; and with the smallest model on one core less, which is nearer to
parties that have machines of their own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final, cast
from unittest import mock

if TYPE_CHECKING:
    from sottovoce.tee.backend import Backend

COLD = 11
PAUSE: Final = 0.6
"""Seconds before each measurement: the spare process of the session before is made anew meanwhile."""
COUNT: Final = 40
FEATURES: Final = ("rewrite", "summary")
DRAFT, STYLE = "cant make it tmrw sry", "professional"
CHAT: Final = Path(__file__).parents[1] / "examples" / "chats" / "book-club.txt"
BOUNDS: Final = {"ratio first": 1.10, "more first": 30.0, "ratio answer": 1.05}
CPU_BOUND: Final = 25.0
TIMES: Final = {"first": "first of the model's answer", "answer": "answer complete", "whole": "call over"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is compared: with which model, on how many cores, how often; and whether a cold device is measured."""

    small: bool
    spare_cores: int
    pairs: int
    cold: bool


SETTINGS: Final = {
    "default model, every core": Setting(small=False, spare_cores=0, pairs=7, cold=False),
    "smallest model, one core left": Setting(small=True, spare_cores=1, pairs=15, cold=True),
}


@dataclass(slots=True, kw_only=True)
class Sample:
    """One request. Times in seconds from the call; `steps` as the device tells them."""

    first: float = 0.0
    answer: float = 0.0
    whole: float = 0.0
    said: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)


class Watch:
    """Notes when what came."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.sample = Sample()

    def see(self, event: Any) -> None:
        """An event of a client, or of an answer."""
        now = time.perf_counter() - self._began
        kind = type(event).__name__
        # What the guard holds back is an answer of the model too. Quotes are not.
        by_model = kind in {"Suggestion", "Piece"} or (
            kind == "Dropped" and event.kind in {"suggestion", "headline"}
        )
        if by_model:
            self.sample.first = self.sample.first or now
            self.sample.said.append(event.text if hasattr(event, "text") else event.reason)
        if kind == "Done":
            self.sample.answer = now
        if kind == "Step":
            self.sample.steps[event.name] = event.seconds

    def end(self) -> Sample:
        """The call is over."""
        self.sample.whole = time.perf_counter() - self._began
        return self.sample


# Plain: the applications of the three roles in one process.


class _Response:
    def __init__(self, queue: "asyncio.Queue[MutableMapping[str, Any]]", status: int) -> None:
        self._queue = queue
        self.status = status
        self.body = self._body()

    async def _body(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._queue.get()
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.body])


class Direct:
    """A back end in the same process: what `tee.backend.Backend` is to an application, without a connection."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    @contextlib.asynccontextmanager
    async def request(self, method: str, target: str, body: bytes = b"") -> AsyncIterator[_Response]:
        """Call the application."""
        queue: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {"type": "http", "method": method, "path": target, "headers": []}
        task = asyncio.ensure_future(self._app(scope, receive, queue.put))
        start = asyncio.ensure_future(queue.get())
        try:
            await asyncio.wait((task, start), return_when=asyncio.FIRST_COMPLETED)
            yield _Response(queue, (await start)["status"])
        finally:
            start.cancel()
            task.cancel()


def serve_plain(settings_file: Path, model: Path, sock: socket.socket) -> None:
    """Serve until killed; the settings are those of the world's predictor."""
    import gc  # noqa: PLC0415 - what only this process needs

    import uvicorn  # noqa: PLC0415

    from sottovoce.core.events import EventLog  # noqa: PLC0415
    from sottovoce.tee.guard import GuardRole  # noqa: PLC0415
    from sottovoce.tee.orchestrator import OrchestratorRole  # noqa: PLC0415
    from sottovoce.tee.predictor import PredictorRole  # noqa: PLC0415
    from sottovoce.tee.roles import Session  # noqa: PLC0415
    from sottovoce.tee.settings import parse_settings  # noqa: PLC0415

    settings = parse_settings(settings_file.read_bytes())
    assert settings.model is not None
    predictor, guard, orchestrator = PredictorRole(), GuardRole(), OrchestratorRole()
    with model.open("rb") as file:
        predictor.warm(settings, {settings.model.name: file.fileno()})
    gc.freeze()

    def session(backends: Mapping[str, Any]) -> Session:
        log = EventLog(lambda _: None)
        return Session(settings=settings, log=log, backends=cast("Mapping[str, Backend]", backends))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        backends = {role.name: Direct(role.app(session({}))) for role in (predictor, guard)}
        await orchestrator.app(session(backends))(scope, receive, send)

    async def serve() -> None:
        # One thread computes, as in a session's process.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False)
        await uvicorn.Server(config).serve([sock])

    asyncio.run(serve())


@contextlib.contextmanager
def plain_service(settings: Path, model: Path) -> Iterator[str]:
    """The plain service in its process: its URL."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        command = [sys.executable, "-m", "benchmarks.private", "--plain", str(sock.fileno())]
        command += ["--settings", str(settings), "--model", str(model)]
        process = subprocess.Popen(command, pass_fds=[sock.fileno()])
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


# What takes turns.

Run = Callable[[str], Awaitable[Sample]]


def private_runs(client: Any, chat: Any) -> Run:
    """By a device."""

    async def run(feature: str) -> Sample:
        watch = Watch()
        events = client.summarize(chat, count=COUNT) if feature == "summary" else client.rewrite(DRAFT, STYLE)
        async for event in events:
            watch.see(event)
        return watch.end()

    return run


def plain_runs(http: Any, url: str, chat: Any) -> Run:
    """By plain HTTP; what is sent is made anew each time, as a device does."""
    from sottovoce.device.answers import AnswerDecoder  # noqa: PLC0415 - not before the cold device's imports
    from sottovoce.device.chats import unread  # noqa: PLC0415

    def request(feature: str) -> tuple[str, Mapping[str, Any]]:
        if feature == "rewrite":
            return "/v1/rewrites", {"draft": DRAFT, "style": STYLE}
        messages = [
            {
                "id": one.id,
                "sender": one.sender,
                "text": one.text,
                "time": one.time.isoformat(timespec="minutes"),
            }
            for one in unread(chat, COUNT)
            if one.text.strip()
        ]
        return "/v1/summaries", {"chats": [{"messages": messages}]}

    async def run(feature: str) -> Sample:
        watch, decoder = Watch(), AnswerDecoder()
        path, document = request(feature)
        async with http.post(url + path, data=json.dumps(document).encode()) as response:
            assert response.status == 200, response.status
            async for data in response.content.iter_any():
                for event in decoder.feed(data):
                    watch.see(event)
        decoder.finish()
        return watch.end()

    return run


@contextlib.contextmanager
def world_in(folder: Path, model: Any, threads: int) -> Iterator[Any]:
    """Every party, running; the engine on so many cores."""
    import msgspec  # noqa: PLC0415 - not in the measured processes

    from sottovoce.simulator.configs import Configs  # noqa: PLC0415
    from sottovoce.simulator.world import World  # noqa: PLC0415

    usual = Configs.settings

    def settings(self: Configs, role: str) -> Any:
        made = usual(self, role)
        return msgspec.structs.replace(made, threads=min(made.threads, threads))

    with mock.patch.object(Configs, "settings", settings):
        world = World(folder, model=model)
        world.start()
        try:
            yield world
        finally:
            world.stop()


def enrol(world: Any, home: Path) -> None:
    """A device that has opted in."""
    from sottovoce.device.settings import SettingsStore  # noqa: PLC0415

    world.enrol(home)
    SettingsStore(home).enable(now=int(time.time()))


async def take_turns(runs: Mapping[str, Run], feature: str, pairs: int) -> dict[str, list[Sample]]:
    """One of each to warm up, then so many rounds."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for round_ in range(-1, pairs):
        names = list(runs) if round_ % 2 else list(runs)[::-1]
        for name in names:
            await asyncio.sleep(PAUSE)
            sample = await runs[name](feature)
            if round_ >= 0:
                samples[name].append(sample)
    return samples


async def compare(folder: Path, model: Any, setting: Setting) -> dict[str, Any]:
    """Samples of every feature and way; and the cold device's figures."""
    import aiohttp  # noqa: PLC0415

    from sottovoce.device.chats import read_chat  # noqa: PLC0415
    from sottovoce.device.client import Client  # noqa: PLC0415

    chat, pairs = read_chat(CHAT), setting.pairs
    threads = max(1, (os.cpu_count() or 1) - setting.spare_cores)
    async with contextlib.AsyncExitStack() as stack:
        world = stack.enter_context(world_in(folder / "world", model, threads))
        home = folder / "device"
        enrol(world, home)
        client = await stack.enter_async_context(Client(home))
        for _ in range((2 * pairs + COLD) // 16 + 2):
            await client.refill_wallet(only_if_due=False)
        settings = folder / "world" / "settings" / "predictor-1.json"
        url = stack.enter_context(plain_service(settings, model.path))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await answering(http, url)
        runs = {"private": private_runs(client, chat), "plain": plain_runs(http, url, chat)}
        result: dict[str, Any] = {"model": model.name, "threads": threads, "pairs": pairs}
        for feature in FEATURES:
            result[feature] = figures(await take_turns(runs, feature, pairs))
        if setting.cold:
            result["cold device"] = await asyncio.to_thread(cold_device, home, folder)
        return result


async def answering(http: Any, url: str) -> None:
    """Wait until the plain service has loaded its model."""
    import aiohttp  # noqa: PLC0415

    for _ in range(600):
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(url + "/v1/status") as response:
                assert response.status == 200
                return
        await asyncio.sleep(0.1)
    raise TimeoutError


# The cold device.


def cold_device(home: Path, folder: Path) -> dict[str, float]:
    """Medians over fresh processes."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    runs = []
    for _ in range(COLD):
        time.sleep(PAUSE)
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.private", "--device", str(home)],
            check=True,
            stdout=subprocess.PIPE,
            env=kept | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")},
        )
        runs.append(json.loads(run.stdout))
    # The first makes the bytecode, as setting up the project does.
    return {name: median(run[name] for run in runs[1:]) for name in runs[0]}


async def be_device(home: Path) -> dict[str, float]:
    """One request in this process, fresh until now: own CPU, milliseconds.

    From the token to the request sent; the end is when the answer's first line is there, so opening it counts as well.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    from sottovoce.device.client import Client, Step  # noqa: PLC0415 - what it takes is measured

    result = {
        "import, wall": 1000 * (time.perf_counter() - wall),
        "import": 1000 * (time.process_time() - cpu),
    }
    since = time.process_time()
    async with Client(home) as client:
        async for event in client.rewrite(DRAFT, STYLE):
            if isinstance(event, Step):
                now = time.process_time()
                result[event.name], since = 1000 * (now - since), now
    result["token to request"] = sum(
        result[name] for name in ("token", "first trip", "verification", "first line")
    )
    return result


# Figures.


def figures(samples: Mapping[str, list[Sample]]) -> dict[str, Any]:
    """Medians, quartiles and what is compared with the bounds. Milliseconds."""
    result: dict[str, Any] = {}
    for name, ones in samples.items():
        result[name] = {
            "times": {key: spread([1000 * getattr(one, key) for one in ones]) for key in TIMES},
            "steps": {step: 1000 * median(one.steps[step] for one in ones) for step in ones[0].steps},
        }
    # Two that were measured one after the other are compared: the machine's speed drifts more than they differ.
    rounds = list(zip(samples["private"], samples["plain"], strict=True))
    for key in TIMES:
        times = [(getattr(mine, key), getattr(theirs, key)) for mine, theirs in rounds]
        result[f"ratio {key}"] = median(mine / theirs for mine, theirs in times)
        result[f"more {key}"] = median(1000 * (mine - theirs) for mine, theirs in times)
    answers = [["".join(one.said) for one in samples[name]] for name in ("private", "plain")]
    result["same answers"] = sum(map(str.__eq__, *answers))
    return result


def spread(values: list[float]) -> list[float]:
    """The three quartiles."""
    return quantiles(values, n=4, method="inclusive")


def show(result: Mapping[str, Any]) -> None:
    """Print the tables of one setting."""
    for feature in FEATURES:
        ways = result[feature]
        print(f"\n{feature}, ms: median (quartiles)")
        for name in ("plain", "private"):
            cells = [
                f"{title} {middle:7.0f} ({low:.0f} to {high:.0f})"
                for title, (low, middle, high) in zip(
                    TIMES.values(), ways[name]["times"].values(), strict=True
                )
            ]
            print(f"  {name:8}" + "; ".join(cells))
        steps = ", ".join(f"{step} {value:.1f}" for step, value in ways["private"]["steps"].items())
        print(f"  private: {steps}; the same answer in {ways['same answers']} of {result['pairs']}")
    if "cold device" in result:
        print("\ncold device, own CPU, ms")
        print("  " + ", ".join(f"{name} {value:.1f}" for name, value in result["cold device"].items()))
    print(f"\n{'name':58}{'measured':>10}{'bound':>10}")
    for title, value, bound in rows(result):
        print(f"{title:58}{value:10.2f}{bound:10.2f}   {'met' if value <= bound else 'not met'}")


def rows(result: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """What has a bound: name, measured, bound."""
    for feature in FEATURES:
        for key, bound in BOUNDS.items():
            kind, what = key.split()
            name = f"{feature}, {TIMES[what]}, " + ("times plain" if kind == "ratio" else "ms more")
            yield name, result[feature][key], bound
    if "cold device" in result:
        yield (
            "cold device, own CPU, token to request, ms",
            result["cold device"]["token to request"],
            CPU_BOUND,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", type=int, help="of each request in each setting")
    for hidden in ("--device", "--settings", "--model"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device:
        print(json.dumps(asyncio.run(be_device(arguments.device))))
        return
    if arguments.plain is not None:
        serve_plain(arguments.settings, arguments.model, socket.socket(fileno=arguments.plain))
        return
    results = {}
    for title, setting in SETTINGS.items():
        print(f"\n-- {title}", flush=True)
        one = measure(replace(setting, pairs=arguments.pairs or setting.pairs))
        if one is not None:
            show(one)
            results[title] = one
    if arguments.json:
        arguments.json.write_text(json.dumps(results))


def measure(setting: Setting) -> dict[str, Any] | None:
    """Start everything, measure, stop everything; None without the model."""
    from sottovoce.cli.model import default_folder  # noqa: PLC0415 - the measured processes need none of it
    from sottovoce.simulator.models import DEFAULT, SMALL, ModelFile  # noqa: PLC0415

    packaged = SMALL if setting.small else DEFAULT
    path = default_folder() / packaged.file
    if not path.exists():
        print(
            f"not measured, the model is not here: sottovoce model fetch{' --small' if setting.small else ''}"
        )
        return None
    model = ModelFile(name=packaged.name, path=path, sha256=packaged.sha256, bytes=packaged.bytes)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(compare(Path(folder), model, setting))


if __name__ == "__main__":
    main()

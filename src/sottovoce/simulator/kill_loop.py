"""The kill loop: gateways, and their store, are killed with SIGKILL while tokens are spent; tokens that counted twice are counted.

    python scripts/kill_loop.py --store redis --kills 300

Two real gateways with one real store, in processes of their own. A router beside them writes down which token opened a session: that is when
a token has counted. Devices spend tokens at either gateway at once. Where an answer is lost they try the same token again, and now and then one
that was accepted. At the end every token that was accepted is tried once more, at a gateway that has just started.

A process that is killed leaves its writes to the kernel, so this shows nothing about a power failure: what a store does about that is in
its settings, which the gateway checks.
"""

import asyncio
import base64
import json
import multiprocessing
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvicorn
from aiohttp import web

from sottovoce.core import bhttp, hpke, ohttp
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.tokens import TokenChallenge, TokenRequest, authorization_value, begin, epoch_at
from sottovoce.edge import gateway
from sottovoce.edge.rsa import generate_token_key, load_token_key
from sottovoce.edge.spent import open_store
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.simulator import servers

__all__ = ["STORES", "Counts", "run"]

STORES: Final = ("sqlite", "redis", "valkey", "postgresql")
_GATEWAYS: Final = 2
_DEVICES: Final = 8
_AGAIN: Final = 0.2
"""The share of accepted tokens that are tried again at once."""
_SERVER_EVERY: Final = 10
"""One kill in ten, the fifth, is of the store's server and not of a gateway."""
_PAUSE: Final = (0.02, 0.25)
"""Seconds between a gateway's start and the next kill."""
_PATIENCE: Final = 120.0
"""Seconds for which one token is tried: a gateway and a server start anew meanwhile."""
_SERVICE, _ISSUER = "service.example", "issuer.example"
_SESSION: Final = "0" * 32
_ACCEPTED, _SPENT = "accepted", "token.spent"


@dataclass(kw_only=True)
class Counts:
    """What happened."""

    store: str
    gateway_kills: int = 0
    kills_amid_requests: int = 0
    """Of these, those while a request was on its way to that gateway."""
    server_kills: int = 0
    requests: int = 0
    tokens: int = 0
    """Tokens that were tried."""
    accepted: int = 0
    """Tokens that opened a session."""
    accepted_twice: int = 0
    lost_answers: int = 0
    """Tokens that opened a session whose answer did not arrive."""
    lost_tokens: int = 0
    """Tokens that were written down and opened nothing, as the gateway or the store died in between."""
    refused_again: int = 0
    """Tries of accepted tokens that were refused as spent, all of them if nothing is wrong."""
    unavailable: dict[str, int] = field(default_factory=dict)
    """Refusals because the store or a gateway was down, by code; such a token was tried again."""


class _Reporting(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, ready: Connection) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.send(b"1")


def serve_gateway(config: gateway.Config, sock: socket.socket, ready: Connection) -> None:
    """A gateway, in a process of its own, until it is killed."""
    app = gateway.create_app(config, log=EventLog(lambda _: None))
    settings = uvicorn.Config(app, access_log=False, log_config=None, lifespan="on")
    _Reporting(settings, ready).run(sockets=[sock])


class _Gateway:
    """One gateway: a socket that stays, and a process that does not."""

    context: Final = multiprocessing.get_context("forkserver")

    def __init__(self, config: gateway.Config) -> None:
        self._config = config
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._process: Any = None
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}/ohttp"
        self.requests = 0
        """How many are on their way to it."""

    def start(self) -> None:
        ready, told = self.context.Pipe(duplex=False)
        self._process = self.context.Process(
            target=serve_gateway, args=(self._config, self._sock, told), daemon=True
        )
        self._process.start()
        told.close()
        with ready:
            ready.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        self._sock.close()


class _World:
    """The gateways' configuration, the issuer's key, and a router that remembers."""

    def __init__(self, folder: Path, spent: str) -> None:
        self.opened: Counter[int] = Counter()
        self._folder = folder
        self._spent = spent
        self._ohttp = ohttp.GatewayKey(key_id=1, private_key=hpke.generate_private_key(hpke.X25519))
        (folder / "ohttp.key").write_bytes(self._ohttp.private_key.private_bytes())
        generate_token_key(folder / "token.pem")
        self._signer, self._key = load_token_key(folder / "token.pem")
        self._challenge = TokenChallenge(issuer_name=_ISSUER.encode(), origin_info=_SERVICE.encode())

    def config(self, router: str) -> gateway.Config:
        today, key = epoch_at(int(time.time())), base64.b64encode(self._key.spki).decode()
        return gateway.Config(
            environment="test",
            service=_SERVICE,
            issuer_name=_ISSUER,
            router=router,
            spent=self._spent,
            replays=str(self._folder / "replays.sqlite"),
            ohttp_keys=[
                gateway.OhttpKeyFile(key_id=1, kem_id=hpke.X25519, path=str(self._folder / "ohttp.key"))
            ],
            token_keys=[gateway.TokenKeyEntry(epoch=today, key=key)],
        )

    def token(self) -> bytes:
        """A fresh token, as it is spent."""
        request, pending = begin(self._key, self._challenge)
        return authorization_value(
            pending.finish(self._signer.blind_sign(TokenRequest.decode(request).blinded))
        )

    def seal(self, number: int, token: bytes) -> tuple[bytes, ohttp.ResponseOpener]:
        """A request that opens a session; the first flight is the token's number, for the router to see."""
        headers = (
            (b"date", format_http_date(int(time.time()))),
            (b"candidates", b"host-1"),
            (b"authorization", token),
        )
        request = bhttp.Request(
            method=b"POST",
            scheme=b"https",
            authority=b"gateway",
            path=b"/v1/sessions",
            headers=headers,
            content=str(number).encode(),
        )
        return ohttp.seal_request(self._ohttp.config(), bhttp.encode_request(request))

    @asynccontextmanager
    async def router(self) -> AsyncIterator[str]:
        async def open_session(request: web.Request) -> web.Response:
            self.opened[int(await request.read())] += 1
            return web.Response(status=201, headers={"Session": _SESSION}, body=b"flight")

        app = web.Application()
        app.router.add_post("/sessions", open_session)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


class _Loop:
    def __init__(self, world: _World, counts: Counts, gateways: list[_Gateway], server: Any) -> None:
        self._world = world
        self._counts = counts
        self._gateways = gateways
        self._server = server
        self._tokens: dict[int, bytes] = {}
        self._settled: dict[int, str] = {}
        self._ends = asyncio.Event()
        self._random = random.Random(1)  # noqa: S311 - which gateway, and when

    async def run(self, kills: int, after_kill: Callable[[], None]) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            devices = [asyncio.ensure_future(self._device(http)) for _ in range(_DEVICES)]
            try:
                # However slow the machine is, a token has counted before the first kill.
                while not self._world.opened and not any(device.done() for device in devices):  # noqa: ASYNC110 - a counter tells nobody
                    await asyncio.sleep(0.01)
                for number in range(kills):
                    await self._kill(number)
                    after_kill()
            finally:
                self._ends.set()
                await asyncio.gather(*devices)
            await self._try_all_again(http)
        self._count()

    async def _kill(self, number: int) -> None:
        await asyncio.sleep(self._random.uniform(*_PAUSE))
        if self._server is not None and number % _SERVER_EVERY == _SERVER_EVERY // 2 - 1:
            self._server.kill()
            await asyncio.to_thread(self._server.start)
            self._counts.server_kills += 1
            return
        victim = self._random.choice(self._gateways)
        self._counts.gateway_kills += 1
        self._counts.kills_amid_requests += victim.requests > 0
        victim.kill()
        await asyncio.to_thread(victim.start)

    async def _device(self, http: aiohttp.ClientSession) -> None:
        while not self._ends.is_set():
            number = len(self._tokens)
            self._tokens[number] = self._world.token()
            self._settled[number] = await self._settle(http, number)
            if self._settled[number] == _ACCEPTED and self._random.random() < _AGAIN:
                outcome = await self._settle(http, number)
                self._counts.refused_again += outcome == _SPENT

    async def _settle(self, http: aiohttp.ClientSession, number: int) -> str:
        """Try a token until it is accepted or spent."""
        end, outcome = time.monotonic() + _PATIENCE, ""
        while time.monotonic() < end:
            outcome = await self._spend(http, self._random.choice(self._gateways), number)
            if outcome in {_ACCEPTED, _SPENT}:
                return outcome
            self._counts.unavailable[outcome] = self._counts.unavailable.get(outcome, 0) + 1
            await asyncio.sleep(0.01)
        raise ConfigError(
            f"a token could not be settled, at last {outcome}", hint="neither accepted nor spent"
        )

    async def _spend(self, http: aiohttp.ClientSession, target: _Gateway, number: int) -> str:
        sealed, opener = self._world.seal(number, self._tokens[number])
        headers = {"Content-Type": "message/ohttp-req"}
        target.requests += 1
        self._counts.requests += 1
        try:
            async with http.post(target.url, data=sealed, headers=headers) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            return "no answer"
        finally:
            target.requests -= 1
        answer = bhttp.decode_response(opener.open(body))
        return _ACCEPTED if answer.status == 201 else str(json.loads(answer.content)["code"])  # noqa: PLR2004 - created

    async def _try_all_again(self, http: aiohttp.ClientSession) -> None:
        for target in self._gateways:
            target.kill()
            await asyncio.to_thread(target.start)
        gate = asyncio.Semaphore(_DEVICES)

        async def again(number: int) -> None:
            async with gate:
                outcome = await self._settle(http, number)
                self._counts.refused_again += outcome == _SPENT

        await asyncio.gather(*map(again, sorted(self._world.opened)))

    def _count(self) -> None:
        counts, opened = self._counts, self._world.opened
        counts.tokens = len(self._tokens)
        counts.accepted = len(opened)
        counts.accepted_twice = sum(count > 1 for count in opened.values())
        unheard = [number for number, outcome in self._settled.items() if outcome == _SPENT]
        counts.lost_answers = sum(number in opened for number in unheard)
        counts.lost_tokens = sum(number not in opened for number in unheard)


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """A store's URL and its server; the store is made."""
    if kind == "sqlite":
        yield str(folder / "spent.sqlite"), None
        return
    with servers.running(kind) as server:
        if server is None:
            raise ConfigError(f"{kind} is not installed here")
        made: Any = open_store(parse_store_url(server.url()))
        asyncio.run(made.create())
        yield server.url(), server


def run(kind: str, kills: int, *, after_kill: Callable[[str], None] = lambda _: None) -> Counts:
    """Kill so often, with a store of `kind`. `after_kill` gets the store's URL after each kill: a test does its own damage there.

    Raises:
        ConfigError: the store's server is not installed, or a token could not be settled in time.
    """
    # A gateway then starts in a few milliseconds: what it imports is there.
    _Gateway.context.set_forkserver_preload([__name__])
    counts = Counts(store=kind)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sottovoce-kill-")))
        spent, server = stack.enter_context(_store(kind, folder))
        world = _World(folder, spent)

        async def play() -> None:
            async with world.router() as router:
                gateways = [_Gateway(world.config(router)) for _ in range(_GATEWAYS)]
                try:
                    for each in gateways:
                        await asyncio.to_thread(each.start)
                    loop = _Loop(world, counts, gateways, server)
                    await loop.run(kills, lambda: after_kill(spent))
                finally:
                    for each in gateways:
                        each.close()

        asyncio.run(play())
    return counts

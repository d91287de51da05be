"""The oblivious gateway: opens sealed requests, spends the token, and passes the rest to the host router.

    POST /ohttp        message/ohttp-req → message/ohttp-res, message/ohttp-chunked-req → message/ohttp-chunked-res
    GET  /ohttp-keys   application/ohttp-keys
    GET  /healthz

The inner API is in `edge.inner`, replay protection in `edge.replays`, tokens in `edge.admission`. The gateway learns that a
valid token was spent, and carries TLS records that it cannot read. Inner errors are told inside the encryption; what
cannot be opened is answered with a status and a code outside (RFC 9458 section 5.2).
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from sottovoce.core import asgi, bhttp, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestHead
from sottovoce.core.counters import Counters
from sottovoce.core.errors import (
    ConfigError,
    CryptoError,
    LimitError,
    ProtocolError,
    SottovoceError,
    UnavailableError,
)
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokens import TokenChallenge
from sottovoce.edge.admission import Admission
from sottovoce.edge.bodies import (
    READ_TIMEOUT,
    ClientGoneError,
    RequestBody,
    TooSlowError,
    in_time,
    run_beside,
)
from sottovoce.edge.gatewaykeys import (
    BatchKeyFile,
    GatewayKeys,
    OhttpKeyFile,
    TokenKeyEntry,
    load_keys,
)
from sottovoce.edge.inner import ECHO, InnerApi, Parts
from sottovoce.edge.keyfolder import Fault, keep_looking, listing
from sottovoce.edge.replays import ReplayError, Replays
from sottovoce.edge.sealed import KEY_NAME, SealedRequest
from sottovoce.edge.storeurl import parse_store_url

__all__ = ["BatchKeyFile", "Config", "OhttpKeyFile", "TokenKeyEntry", "create_app"]

_PATH: Final = "/ohttp"
_PLAIN, _CHUNKED = b"message/ohttp-req", b"message/ohttp-chunked-req"
_MAX_REQUEST: Final = LIMITS.request + 256 * 1024
"""The longest request with its padding, frames, TLS records and chunks."""
_MAX_ANSWER: Final = 1024 * 1024
"""A whole answer that is kept until it can be sealed; longer ones are streamed."""
_ANSWER_CLASS: Final = 16 * 1024
"""Whole answers to a POST are padded to a multiple of this: the length of the evidence would tell the relay which host
answered (protocol section 1), that of a flight how long the answer is."""
_CHUNK: Final = 16 * 1024 - 64
"""Content of one chunk: its sealed form stays below 16,384 bytes, which every receiver takes (chunked OHTTP section 6.2)."""
_BENCHMARK: Final = "benchmark"
_KEY_PROBLEM: Final = {
    "type": "https://iana.org/assignments/http-problem-types#ohttp-key",
    "title": "key identifier unknown",
}
"""RFC 9458 section 5.3."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gateway's configuration. Keys are in a folder that it reads again while it runs, or are named one by one."""

    environment: str
    service: str
    """The origin to which tokens are bound."""
    issuer_name: str
    router: str
    """URL of the host router."""
    spent: str
    """The store of spent tokens, shared by all gateways: a SQLite file's path, or a URL of Redis, Valkey or PostgreSQL
    (docs/spent-tokens.md)."""
    replays: str = ""
    """The store of requests seen: a SQLite file shared by all gateways of this machine with the same OHTTP keys. Default: beside
    `spent`, where that is a file's path."""
    keys: str = ""
    """The key folder (`sottovoce directory keys gateway`)."""
    ohttp_keys: list[OhttpKeyFile] = []
    token_keys: list[TokenKeyEntry] = []
    batch_token_keys: list[BatchKeyFile] = []
    """Of type 5; such tokens are refused where there are none."""
    connections: int = 4096
    unsafe_benchmark_echo: bool = False
    """Answers POST /unsafe-benchmark-echo without a token; only in an environment called "benchmark"."""


class _MediaTypeError(ProtocolError):
    """Not a media type of Oblivious HTTP requests."""

    code = "peer.media-type"


@event
class Served(Event):
    """What the gateway did since the last such line; once an hour at most, and at the end."""

    sessions: int
    turns: int
    refused: int
    """Refusals inside the encryption: tokens, candidates, sessions that are over."""
    unopened: int
    """Requests that could not be opened."""
    replays: int
    broken_off: int
    store: int
    """Refusals, of those above, because the store of spent tokens took no write: it is down, slow, full, or could lose it."""


@event
class KeysRead(Event):
    """The key folder was read again. Where it was refused, for the reason `fault`, the keys are those of before."""

    STATE = frozenset({"ohttp", "tokens", "batch"})

    refused: bool
    fault: Fault
    ohttp: int
    tokens: int
    batch: int


class _Gateway:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        if config.unsafe_benchmark_echo and config.environment != _BENCHMARK:
            raise ConfigError("the benchmark's echo is for a benchmark's environment only")
        self._config = config
        self._clock = clock
        self._log = log
        self._listing = listing(Path(config.keys)) if config.keys else ()
        self._keys = self._load()
        challenge = TokenChallenge(
            issuer_name=config.issuer_name.encode(), origin_info=config.service.encode()
        )
        self._counters = Counters(log, Served)
        self._admission = Admission(self._keys.tokens, challenge, config.spent, batch_keys=self._keys.batch)
        self._replays = Replays(_replays_path(config), [one.name for one in self._keys.ohttp])
        self._inner = InnerApi(
            router=config.router,
            admission=self._admission,
            clock=clock,
            count=self._count,
            unsafe_benchmark_echo=config.unsafe_benchmark_echo,
        )

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        match scope["method"], scope["path"]:
            case "POST", path if path == _PATH:
                await self._oblivious(scope, receive, send)
            case "GET", "/ohttp-keys":
                configs = self._keys.configs(self._clock())
                await asgi.respond(send, 200, configs, kind=b"application/ohttp-keys")
            case "GET", "/healthz":
                await asgi.respond(send, 204)
            case _:
                await asgi.respond(send, 404)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        connector = aiohttp.TCPConnector(limit=self._config.connections, keepalive_timeout=60)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5, sock_read=LIMITS.session_idle + READ_TIMEOUT
            ),
        ) as self._inner.http:
            look = asyncio.ensure_future(keep_looking(self.reload))
            await asgi.lifespan(receive, send, shutdown=self._close)
            look.cancel()
        self._inner.http = None

    def _load(self) -> GatewayKeys:
        config = self._config
        return load_keys(config.ohttp_keys, config.token_keys, config.batch_token_keys, config.keys)

    def reload(self) -> None:
        """Read the key folder again, if it has changed. Requests that are under way keep what they began with."""
        found = listing(Path(self._config.keys)) if self._config.keys else ()
        if found == self._listing:
            return
        fault = Fault.NONE
        try:
            keys = self._load()
            self._replays.use([one.name for one in keys.ohttp])
            self._admission.use(keys.tokens, keys.batch)
            self._keys, self._listing = keys, found
        except Exception as error:  # noqa: BLE001 - whatever a file can do, it must not end the looking
            # Not a reason to stop: the keys at hand are good for today. It is tried again at the next look.
            fault = Fault.of(error)
        keys = self._keys
        self._log.emit(
            KeysRead(
                refused=fault is not Fault.NONE,
                fault=fault,
                ohttp=len(keys.ohttp),
                tokens=len(keys.tokens),
                batch=len(keys.batch),
            )
        )

    async def _close(self) -> None:
        await self._admission.close()
        self._replays.close()
        self._counters.flush()

    def _count(self, name: str) -> None:
        self._counters.add(name, self._clock())

    async def _oblivious(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """The outer exchange. An error after the answer's head leaves the answer without its end."""
        media = asgi.header(scope, b"content-type")
        body = RequestBody(receive, _MAX_REQUEST)
        answer = _Answer(send)
        try:
            if media == _PLAIN:
                await self._plain(body, answer)
            elif media == _CHUNKED:
                await self._chunked(body, answer)
            else:
                raise _MediaTypeError("not a sealed request")
        except ClientGoneError:
            self._count("broken_off")
        except ReplayError as error:
            self._count("replays")
            # RFC 8470 section 5.2: Too Early, "a request that might be replayed"
            await asgi.respond_error(send, 425, error)
        except SottovoceError as error:
            self._count("broken_off" if answer.began else "unopened")
            if not answer.began:
                await _refuse(send, error)

    async def _accept(self, key: bytes, enc: bytes, headers: bhttp.Headers) -> None:
        await self._replays.accept(key, enc, bhttp.header(headers, b"date"), self._clock())

    async def _plain(self, body: RequestBody, answer: "_Answer") -> None:
        sealed = await in_time(body.whole())
        opened = ohttp.open_request(self._keys.opening(self._clock()), sealed)
        try:
            request = bhttp.decode_request(opened.content)
            await self._accept(sealed[:KEY_NAME], opened.enc, request.headers)
            if self._config.unsafe_benchmark_echo and request.path == ECHO:
                response = bhttp.encode_response(bhttp.Response(status=200, content=request.content))
            else:
                response = await run_beside(self._answer_whole(request), body.watch())
        except (ReplayError, ClientGoneError):
            raise
        except SottovoceError as error:
            head, content = self._inner.refusal(error)
            response = bhttp.encode_response(
                bhttp.Response(status=head.status, headers=head.headers, content=content)
            )
        await answer.whole(opened.sealer.seal(response))

    async def _answer_whole(self, request: bhttp.Request) -> bytes:
        async def content() -> AsyncGenerator[bytes, None]:
            yield request.content

        head = RequestHead(
            method=request.method,
            scheme=request.scheme,
            authority=request.authority,
            path=request.path,
            headers=request.headers,
        )
        status, whole = 500, bytearray()
        headers: bhttp.Headers = ()
        async with aclosing(self._inner.answer(head, content(), flight=True)) as parts:
            async for part in parts:
                if isinstance(part, bhttp.Head):
                    status, headers = part.status, part.headers
                    continue
                whole += part
                if len(whole) > _MAX_ANSWER:
                    raise LimitError("an answer is longer than its limit")
        response = bhttp.encode_response(bhttp.Response(status=status, headers=headers, content=bytes(whole)))
        if request.method == b"POST":
            response += bytes(-len(response) % _ANSWER_CLASS)
        return response

    async def _chunked(self, body: RequestBody, answer: "_Answer") -> None:
        request = SealedRequest(self._keys.opening(self._clock()), body, content_limit=_MAX_REQUEST)
        try:
            head = await in_time(request.head())
            await self._accept(request.key, request.enc, head.headers)
            parts = self._inner.answer(head, request.content())
        except (ReplayError, ClientGoneError, CryptoError):
            raise
        except SottovoceError as error:
            if not request.is_authentic:
                raise
            parts = _once(*self._inner.refusal(error))
        await run_beside(answer.stream(parts, request.sealer()), body.watch())


class _Answer:
    """The outer answer."""

    def __init__(self, send: asgi.Send) -> None:
        self._send = send
        self.began = False

    async def whole(self, sealed: bytes) -> None:
        await asgi.respond(self._send, 200, sealed, kind=b"message/ohttp-res")

    async def stream(self, parts: Parts, sealer: ohttp_chunked.ResponseSealer) -> None:
        # The answer's head and nonce do not wait for anything: whoever is in between passes them on.
        self.began = True
        await self._send(_STREAM_START)
        await self._put(sealer.header())
        encoder, head = bhttp.ResponseEncoder, b""
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, bhttp.Head):
                    head = encoder.head(part.status, part.headers)
                    continue
                data = head + encoder.data(part)
                head = b""
                await self._put(
                    b"".join(sealer.chunk(data[at : at + _CHUNK]) for at in range(0, len(data), _CHUNK))
                )
        await self._put(sealer.final(head + encoder.end()), more=False)

    async def _put(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


_STREAM_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"message/ohttp-chunked-res"),
        (b"incremental", b"?1"),
        (b"cache-control", b"no-store"),
    ],
}


async def _once(head: bhttp.Head, content: bytes) -> Parts:
    yield head
    yield content


async def _refuse(send: asgi.Send, error: SottovoceError) -> None:
    if isinstance(error, ohttp.UnknownKeyError):
        problem = json.dumps({**_KEY_PROBLEM, "code": error.code}).encode()
        await asgi.respond(send, 400, problem, kind=b"application/problem+json")
        return
    statuses = (
        (_MediaTypeError, 415),
        (LimitError, 413),
        (TooSlowError, 408),
        (UnavailableError, 503),
        (SottovoceError, 400),
    )
    status = next(status for kind, status in statuses if isinstance(error, kind))
    await asgi.respond_error(send, status, error)


def _replays_path(config: Config) -> str:
    if not config.replays and parse_store_url(config.spent).kind != "sqlite":
        raise ConfigError("the gateway needs a file for the requests seen", hint="replays = PATH")
    return config.replays or f"{parse_store_url(config.spent).path}-replays"


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The gateway as an ASGI application; `clock` gives Unix seconds.

    Raises:
        ConfigError: a key that is missing or malformed, or an echo outside a benchmark.
        StoreError: a store cannot be used.
    """
    return _Gateway(config, log, clock)

"""The oblivious gateway: opens sealed requests, spends the token, and passes the rest to the host router.

    POST /ohttp        message/ohttp-req → message/ohttp-res, message/ohttp-chunked-req → message/ohttp-chunked-res
    GET  /ohttp-keys   application/ohttp-keys
    GET  /healthz

Inside (protocol section 2): POST /v1/sessions with a token, POST and DELETE /v1/sessions/{id}. The gateway learns that a valid token
was spent, and carries TLS records that it cannot read.

Replays: an encapsulated key is accepted once in a window of 10 to 20 minutes. An older replay opens nothing: its token
is spent, and its session has ended after 10 minutes at most.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from sottovoce.core import asgi, bhttp, hpke, ohttp, ohttp_chunked
from sottovoce.core.errors import (
    ConfigError,
    CryptoError,
    DecodeError,
    LimitError,
    PeerError,
    ProtocolError,
    SottovoceError,
    UnavailableError,
    UsageError,
)
from sottovoce.core.events import Event, EventLog, event
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokens import (
    TokenChallenge,
    TokenKey,
    accepted_epochs,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.spent import SpentTokens

__all__ = ["Config", "OhttpKeyFile", "TokenKeyEntry", "create_app"]

_PATH: Final = "/ohttp"
_SESSION: Final = re.compile(rb"/v1/sessions/([0-9a-f]{32})")
_PLAIN, _CHUNKED = b"message/ohttp-req", b"message/ohttp-chunked-req"
_MAX_REQUEST: Final = LIMITS.request + 128 * 1024
_WINDOW: Final = LIMITS.session_total
_BENCHMARK: Final = "benchmark"
_CREATED, _OK, _NO_CONTENT = 201, 200, 204
_CHUNK: Final = 16 * 1024


class OhttpKeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key pair: the file holds the private key, 32 bytes."""

    key_id: int
    kem_id: int
    path: str


class TokenKeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The issuer's public key of one epoch, base64 of its SPKI."""

    epoch: int
    key: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gateway's configuration."""

    environment: str
    service: str
    """The origin to which tokens are bound."""
    issuer_name: str
    router: str
    """URL of the host router."""
    spent: str
    """The store of spent tokens, shared by all gateways."""
    ohttp_keys: list[OhttpKeyFile]
    token_keys: list[TokenKeyEntry]
    connections: int = 256
    unsafe_benchmark_echo: bool = False
    """Answers POST /unsafe-benchmark-echo without a token; only in an environment called "benchmark"."""


class ReplayError(ProtocolError):
    """The same encapsulated request was here before."""

    code = "peer.protocol.replay"


class TokenMissingError(ProtocolError):
    """A session needs a token of the current epoch."""

    code = "token.missing"


class PassedOnError(ProtocolError):
    """The router's own refusal; `inner` is its code."""

    code = "peer.protocol.router"


@event
class Served(Event):
    """Counts since the start; written at the end."""

    sessions: int
    turns: int
    refused: int
    replays: int


class _Seen:
    """Encapsulated keys of the current window and the one before it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()

    def add(self, enc: bytes) -> None:
        """Remember `enc`.

        Raises:
            ReplayError: it was here before.
        """
        if self._clock() - self._since > _WINDOW:
            self._before, self._now, self._since = self._now, set(), self._clock()
        name = hashlib.sha256(enc).digest()[:16]
        if name in self._now or name in self._before:
            raise ReplayError("the request was here before")
        self._now.add(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """An inner answer; `stream` follows `content`."""

    status: int
    headers: bhttp.Headers = ()
    content: bytes = b""
    stream: AsyncIterator[bytes] | None = None


class _Gateway:
    def __init__(self, config: Config, log: EventLog, clock: Callable[[], float]) -> None:
        if config.unsafe_benchmark_echo and config.environment != _BENCHMARK:
            raise ConfigError("the benchmark's echo is for a benchmark's environment only")
        self._config = config
        self._log = log
        self._clock = clock
        self._keys = [_load(key) for key in config.ohttp_keys]
        self._token_keys = {entry.epoch: _token_key(entry) for entry in config.token_keys}
        if not self._keys or not self._token_keys:
            raise ConfigError("the gateway needs an OHTTP key and a token key")
        self._challenge = TokenChallenge(
            issuer_name=config.issuer_name.encode(), origin_info=config.service.encode()
        )
        self._spent = SpentTokens(config.spent)
        self._seen = _Seen(time.monotonic)
        self._session: aiohttp.ClientSession | None = None
        self._counts = dict.fromkeys(("sessions", "turns", "refused", "replays"), 0)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif (scope["method"], scope["path"]) == ("POST", _PATH):
            await self._oblivious(scope, receive, send)
        elif (scope["method"], scope["path"]) == ("GET", "/ohttp-keys"):
            keys = ohttp.encode_key_configs([key.config() for key in self._keys])
            await asgi.respond(send, 200, keys, kind=b"application/ohttp-keys")
        else:
            await asgi.respond(send, 204 if scope["path"] == "/healthz" else 404)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        connector = aiohttp.TCPConnector(limit=self._config.connections, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=LIMITS.session_total, sock_connect=5),
        )
        async with self._session:
            await asgi.lifespan(receive, send, shutdown=self._close)

    def _close(self) -> None:
        self._spent.close()
        self._log.emit(Served(**self._counts))

    # The outer exchange: what goes wrong here is seen by the relay, so it says no more than a status.
    async def _oblivious(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        media = asgi.header(scope, b"content-type")
        try:
            if media == _PLAIN:
                await self._plain(receive, send)
            elif media == _CHUNKED:
                await self._chunked(receive, send)
            else:
                await asgi.respond(send, 415)
        except ohttp.UnknownKeyError:
            # RFC 9458 section 5.3
            problem = {"type": "https://iana.org/assignments/http-problem-types#ohttp-key"}
            body = json.dumps(problem).encode()
            await asgi.respond(send, 400, body, kind=b"application/problem+json")
        except ReplayError:
            self._counts["replays"] += 1
            await asgi.respond(send, 425)
        except (DecodeError, CryptoError, LimitError):
            self._counts["refused"] += 1
            await asgi.respond(send, 400)
        except UnavailableError:
            self._counts["refused"] += 1

    async def _plain(self, receive: asgi.Receive, send: asgi.Send) -> None:
        opened = ohttp.open_request(self._keys, await asgi.read_body(receive, _MAX_REQUEST))
        self._seen.add(opened.enc)
        answer = await self._inner(opened.content)
        content = answer.content
        if answer.stream is not None:
            content += b"".join([piece async for piece in answer.stream])
        response = bhttp.Response(status=answer.status, headers=answer.headers, content=content)
        sealed = opened.sealer.seal(bhttp.encode_response(response))
        await asgi.respond(send, 200, sealed, kind=b"message/ohttp-res")

    async def _chunked(self, receive: asgi.Receive, send: asgi.Send) -> None:
        opener = ohttp_chunked.RequestOpener(self._keys)
        pieces = opener.feed(await asgi.read_body(receive, _MAX_REQUEST))
        content = b"".join([*pieces, opener.finish()])
        self._seen.add(opener.enc)
        answer = await self._inner(content)
        sealer, encoder = opener.sealer(), bhttp.ResponseEncoder
        headers = [(b"content-type", b"message/ohttp-chunked-res"), (b"cache-control", b"no-store")]
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*headers, (b"incremental", b"?1")]}
        )

        async def put(data: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        head = encoder.head(answer.status, answer.headers) + encoder.data(answer.content)
        await put(sealer.header() + sealer.chunk(head))
        if answer.stream is not None:
            async for piece in _until_gone(answer.stream, receive):
                await put(b"".join(sealer.chunk(encoder.data(part)) for part in _cut(piece)))
        await put(sealer.final(encoder.end()), more=False)

    # The inner exchange: what goes wrong here is told to the device, inside the encryption.
    async def _inner(self, content: bytes) -> _Answer:
        try:
            return await self._route(bhttp.decode_request(content))
        except SottovoceError as error:
            self._counts["refused"] += 1
            code = error.hint if isinstance(error, PassedOnError) else error.code
            body = json.dumps({"code": code}).encode()
            return _Answer(status=_status(error), headers=_JSON, content=body)

    async def _route(self, request: bhttp.Request) -> _Answer:
        match = _SESSION.fullmatch(request.path)
        if (request.method, request.path) == (b"POST", b"/v1/sessions"):
            return await self._open(request)
        if match and request.method == b"POST":
            self._counts["turns"] += 1
            return await self._turn(match[1].decode(), request.content)
        if match and request.method == b"DELETE":
            await self._ask("DELETE", f"/sessions/{match[1].decode()}")
            return _Answer(status=_NO_CONTENT)
        if self._config.unsafe_benchmark_echo and request.path == b"/unsafe-benchmark-echo":
            return _Answer(status=_OK, content=request.content)
        return _Answer(status=404, headers=_JSON, content=b'{"code":"peer.protocol.path"}')

    async def _open(self, request: bhttp.Request) -> _Answer:
        authorization = bhttp.header(request.headers, b"authorization")
        if authorization is None:
            raise TokenMissingError("a session needs a token")
        await self._spend(authorization)
        candidates = bhttp.header(request.headers, b"candidates") or b""
        status, session, flight = await self._ask(
            "POST", "/sessions", request.content, {"Candidates": candidates.decode("latin-1")}
        )
        if status != _CREATED:
            raise _passed_on(flight)
        self._counts["sessions"] += 1
        return _Answer(status=_CREATED, headers=((b"session", session.encode()),), content=flight)

    async def _spend(self, authorization: bytes) -> None:
        token = parse_authorization(authorization)
        for epoch in accepted_epochs(int(self._clock())):
            key = self._token_keys.get(epoch)
            if key is not None and key.key_id == token.key_id:
                verified = verify_token(token, key, self._challenge)
                # Written before it counts; the disk is not waited for in the event loop.
                await asyncio.to_thread(self._spent.spend, verified.digest, epoch)
                return
        raise TokenMissingError("the token is of no current epoch")

    async def _turn(self, session: str, body: bytes) -> _Answer:
        stream = self._stream(f"/sessions/{session}", body)
        first = await anext(
            stream
        )  # the status: an error of the router's must be told before the answer begins
        if first:
            raise _passed_on(first)
        return _Answer(status=_OK, stream=stream)

    async def _stream(self, path: str, body: bytes) -> AsyncIterator[bytes]:
        """First the router's refusal, or nothing; then the records."""
        try:
            async with self._client.post(self._config.router + path, data=body) as response:
                if response.status != _OK:
                    yield await response.content.read(4096) or b"{}"
                    return
                yield b""
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError("the router does not answer", party="router") from None

    async def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        try:
            url = self._config.router + path
            async with self._client.request(method, url, data=body, headers=headers) as response:
                return response.status, response.headers.get("Session", ""), await response.read()
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError("the router does not answer", party="router") from None

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise UnavailableError("the gateway is starting", party="gateway")
        return self._session


_JSON: Final[bhttp.Headers] = ((b"content-type", b"application/json"),)


def _cut(data: bytes) -> list[bytes]:
    return [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]


def _passed_on(body: bytes) -> PassedOnError:
    try:
        code = str(msgspec.json.decode(body, type=dict[str, str]).get("code", ""))
    except msgspec.DecodeError:
        code = ""
    if not re.fullmatch(r"[a-z.-]{1,64}", code):
        code = PassedOnError.code
    return PassedOnError("the router refused", hint=code)


def _status(error: SottovoceError) -> int:
    if error.code.startswith("token."):
        return 401
    if isinstance(error, UnavailableError):
        return 503
    return 400 if isinstance(error, PeerError) else 500


async def _until_gone(stream: AsyncIterator[bytes], receive: asgi.Receive) -> AsyncIterator[bytes]:
    """The pieces of `stream`; raises once the client is gone, so that what feeds the stream is closed too."""
    gone = asyncio.ensure_future(receive())
    try:
        while True:
            piece = asyncio.ensure_future(anext(stream, b""))
            await asyncio.wait((piece, gone), return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                await asyncio.wait((piece,))
                raise UnavailableError("the client went away", party="client")
            data = piece.result()
            if not data:
                return
            yield data
    finally:
        gone.cancel()


def _load(file: OhttpKeyFile) -> ohttp.GatewayKey:
    try:
        private = hpke.PrivateKey.from_bytes(file.kem_id, Path(file.path).read_bytes())
    except (OSError, UsageError):
        raise ConfigError("an OHTTP key file is missing or malformed") from None
    return ohttp.GatewayKey(key_id=file.key_id, private_key=private)


def _token_key(entry: TokenKeyEntry) -> TokenKey:
    try:
        return TokenKey.parse(base64.b64decode(entry.key, validate=True))
    except (DecodeError, binascii.Error):
        raise ConfigError("a token key is malformed") from None


def create_app(config: Config, *, log: EventLog, clock: Callable[[], float] = time.time) -> asgi.App:
    """The gateway as an ASGI application.

    Raises:
        ConfigError: a key that is missing or malformed, or an echo outside a benchmark.
    """
    return _Gateway(config, log, clock)

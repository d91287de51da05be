"""The gateway's inner API (protocol section 2): what a device asks for inside Oblivious HTTP.

    POST   /v1/sessions        Authorization: PrivateToken …, Candidates: id[, id]    → 201, Session: <id>
    POST   /v1/sessions/{id}                                                          → 200, streamed both ways
    POST   /v1/sessions/{id}   [More: ?1]                                             → 200, [More: ?1], a flight
    DELETE /v1/sessions/{id}                                                          → 204

Where the sealed request came as a whole it is a flight, and its answer one too (docs/relays.md): `More` says that the turn goes on, and asks
for the rest. An error is an answer with `{"code": "…"}`. The router's own codes are passed on.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from sottovoce.core import bhttp
from sottovoce.core.bhttp_requests import RequestHead
from sottovoce.core.errors import LimitError, PeerError, SottovoceError, UnavailableError
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokens import TokenBindingError, TokenSignatureError
from sottovoce.edge.admission import Admission, TokenMalformedError, TokenMissingError
from sottovoce.edge.bodies import ClientGoneError, TooSlowError, in_time
from sottovoce.edge.candidates import parse_candidates
from sottovoce.edge.database import StoreError
from sottovoce.edge.replays import RequestDateError
from sottovoce.edge.spentstore import TokenExpired, TokenSpent

__all__ = ["ECHO", "InnerApi", "Parts", "RouterRefusedError"]

Parts = AsyncGenerator[bhttp.Head | bytes, None]
"""An answer: its head, then pieces of its content."""


ECHO: Final = b"/unsafe-benchmark-echo"
_SESSIONS: Final = b"/v1/sessions"
_SESSION: Final = re.compile(rb"/v1/sessions/([0-9a-f]{32})")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_CODE: Final = re.compile(r"[a-z][a-z.-]{0,63}")
_MAX_FLIGHT: Final = LIMITS.evidence + 64 * 1024
_MAX_ERROR: Final = 1024
_REFUSALS: Final = range(400, 600)
_CREATED, _OK, _NO_CONTENT, _UNAUTHORIZED = 201, 200, 204, 401
_MORE: Final = "More"
_TRUE: Final = "?1"
"""RFC 9651 section 3.3.6."""
_JSON: Final[bhttp.Headers] = ((b"content-type", b"application/json"),)
_DATE_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#date"
"""RFC 9458 section 6.5.2."""


class RouterRefusedError(PeerError):
    """The router's refusal, with its status and code."""

    code = "peer.router"

    def __init__(self, status: int, router_code: str) -> None:
        super().__init__("the router refused")
        self.status = status
        self.router_code = router_code


class _NoResourceError(PeerError):
    """The gateway has no such resource."""

    code = "peer.protocol.path"


class InnerApi:
    """Answers inner requests. `count` is told the name of a counter."""

    def __init__(
        self,
        *,
        router: str,
        admission: Admission,
        clock: Callable[[], float],
        count: Callable[[str], None],
        unsafe_benchmark_echo: bool = False,
    ) -> None:
        self._router = router
        self._admission = admission
        self._clock = clock
        self._count = count
        self._echo = unsafe_benchmark_echo
        self.http: aiohttp.ClientSession | None = None
        """The pool of connections to the router; set while the gateway runs."""

    async def answer(
        self, request: RequestHead, content: AsyncIterator[bytes], *, flight: bool = False
    ) -> Parts:
        """The answer: its head, then pieces of its content; one that is soon complete, where `flight` is set.

        Raises:
            SottovoceError: after the head, when the rest cannot be had; ClientGoneError at any time.
        """
        began = False
        try:
            async with aclosing(self._route(request, content, flight=flight)) as answer:
                async for part in answer:
                    began = True
                    yield part
        except ClientGoneError:
            raise
        except SottovoceError as error:
            if began:
                raise
            self._count("refused")
            if isinstance(error, StoreError):
                self._count("store")
            for part in self.refusal(error):
                yield part

    def refusal(self, error: SottovoceError) -> tuple[bhttp.Head, bytes]:
        """The answer that tells `error`, and nothing of it but its code."""
        headers, body = _JSON, {"code": error.code}
        status = _status(error)
        if isinstance(error, RouterRefusedError):
            body = {"code": error.router_code}
        elif isinstance(error, RequestDateError):
            headers = (
                (b"content-type", b"application/problem+json"),
                (b"date", format_http_date(int(self._clock()))),
            )
            body["type"] = _DATE_PROBLEM
        elif status == _UNAUTHORIZED:
            headers = (*_JSON, (b"www-authenticate", self._admission.challenge(self._clock())))
        return bhttp.Head(status=status, headers=headers), json.dumps(body).encode()

    async def _route(self, request: RequestHead, content: AsyncIterator[bytes], *, flight: bool) -> Parts:
        match = _SESSION.fullmatch(request.path)
        if (request.method, request.path) == (b"POST", _SESSIONS):
            parts = self._open(request, content)
        elif match and request.method == b"POST":
            parts = self._turn(match[1].decode(), content, _flight_fields(request) if flight else {})
        elif match and request.method == b"DELETE":
            parts = self._close(match[1].decode())
        elif self._echo and request.path == ECHO:
            parts = _echo(content)
        else:
            raise _NoResourceError("the gateway has no such resource")
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def _open(self, request: RequestHead, content: AsyncIterator[bytes]) -> Parts:
        # What can be refused without the token is refused first: a token is spent once.
        candidates = parse_candidates(bhttp.header(request.headers, b"candidates"))
        flight = await in_time(_whole(content, LIMITS.first_flight))
        await self._admission.admit(bhttp.header(request.headers, b"authorization"), self._clock())
        async with self._ask("POST", "/sessions", flight, Candidates=", ".join(candidates)) as response:
            await _require(response, _CREATED)
            session = response.headers.get("Session", "")
            if not _ID.fullmatch(session):
                raise UnavailableError("the router gave no session", party="router")
            answer = await _whole(response.content.iter_any(), _MAX_FLIGHT)
        self._count("sessions")
        yield bhttp.Head(status=_CREATED, headers=((b"session", session.encode()),))
        yield answer

    async def _turn(self, session: str, content: AsyncIterator[bytes], fields: Mapping[str, str]) -> Parts:
        if _MORE not in fields:
            self._count("turns")
        async with self._ask("POST", f"/sessions/{session}", content, **fields) as response:
            await _require(response, _OK)
            goes_on = response.headers.get(_MORE) == _TRUE
            yield bhttp.Head(status=_OK, headers=((b"more", b"?1"),) if goes_on else ())
            async for piece in response.content.iter_any():
                yield piece

    async def _close(self, session: str) -> Parts:
        async with self._ask("DELETE", f"/sessions/{session}") as response:
            await _require(response, _NO_CONTENT)
        yield bhttp.Head(status=_NO_CONTENT, headers=())

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, data: bytes | AsyncIterator[bytes] = b"", **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self.http is None:
            raise UnavailableError("the gateway is starting", party="gateway")
        url = self._router + path
        try:
            async with self.http.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError("the router does not answer", party="router") from None


def _flight_fields(request: RequestHead) -> Mapping[str, str]:
    """What the router is told of a flight."""
    more = bhttp.header(request.headers, b"more") == _TRUE.encode()
    return {"Flight": _TRUE} | ({_MORE: _TRUE} if more else {})


async def _echo(content: AsyncIterator[bytes]) -> Parts:
    yield bhttp.Head(status=_OK, headers=())
    async for piece in content:
        yield piece


async def _whole(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    whole = bytearray()
    async for piece in pieces:
        whole += piece
        if len(whole) > limit:
            raise LimitError("a message is longer than its limit")
    return bytes(whole)


async def _require(response: aiohttp.ClientResponse, status: int) -> None:
    """Raise the router's refusal, if it is one."""
    if response.status == status:
        return
    body = await _whole(response.content.iter_any(), _MAX_ERROR)
    try:
        code = msgspec.json.decode(body, type=_Refusal).code
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        code = ""
    if response.status not in _REFUSALS or not _CODE.fullmatch(code):
        raise UnavailableError("the router gave no answer of its protocol", party="router")
    raise RouterRefusedError(response.status, code)


class _Refusal(msgspec.Struct, frozen=True):
    code: str


_STATUS: Final[tuple[tuple[type[SottovoceError], int], ...]] = (
    (TokenMissingError, _UNAUTHORIZED),
    (TokenMalformedError, _UNAUTHORIZED),
    (TokenBindingError, _UNAUTHORIZED),
    (TokenSignatureError, _UNAUTHORIZED),
    (TokenExpired, _UNAUTHORIZED),
    (TokenSpent, _UNAUTHORIZED),
    (_NoResourceError, 404),
    (TooSlowError, 408),
    (LimitError, 413),
    (PeerError, 400),
    (UnavailableError, 502),
    (StoreError, 503),
    (SottovoceError, 500),
)


def _status(error: SottovoceError) -> int:
    if isinstance(error, RouterRefusedError):
        return error.status
    return next(status for kind, status in _STATUS if isinstance(error, kind))

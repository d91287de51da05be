"""The inner API of the gateway (protocol section 2), from the device.

Every request has a `Date`, rounded down to the minute, so that the gateway need not remember it for long (RFC 9458 section 6.5.1).
A gateway that finds the date wrong says in its sealed answer what time it has; that is used to ask once more, and for
nothing else (section 6.5.2).

A turn travels by one of two carriers (docs/relays.md): as one streamed exchange, or, where the relay takes in whole messages only, as
flights, each a request with one answer; the first has the records, the others ask for the rest.
"""

import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from sottovoce.core import bhttp, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestEncoder
from sottovoce.core.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    RefusedError,
    SottovoceError,
    UnavailableError,
)
from sottovoce.core.hpke import OpenError
from sottovoce.core.httpdate import format_http_date, parse_http_date
from sottovoce.core.limits import LIMITS
from sottovoce.device.transport import WHOLE_WITHIN, AlreadyArrivedError, NotSentError, RelayClient

__all__ = [
    "CandidatesRefusedError",
    "OhttpClient",
    "RemoteTokenError",
    "RemoteTokenSpentError",
    "SessionGoneError",
    "coarse_date",
]

_AUTHORITY: Final = b"gateway"
_SESSION: Final = re.compile(rb"[0-9a-f]{32}")
_CREATED, _OK = 201, 200
_REQUEST_CLASS: Final = 4096
"""Requests that open a session are padded to a multiple of this: names of hosts differ in length."""
_CHUNK: Final = 16 * 1024 - 64
"""Chunked OHTTP section 6.2: every receiver takes sealed chunks of 16,384 bytes."""
_DATE_CODE: Final = "peer.protocol.date"
_MAX_REFUSAL: Final = 4096
_MORE: Final = b"more"
_TRUE: Final = b"?1"
"""RFC 9651 section 3.3.6."""
_MAX_FLIGHTS: Final = 256
"""In one turn. A flight brings ten seconds of the answer or 256 KiB of it, and a session lasts ten minutes."""


class RemoteTokenError(RefusedError):
    """The gateway refused the token. It counts as spent; the next request takes another."""

    code = "token.refused"


class RemoteTokenSpentError(RemoteTokenError):
    """The gateway says that the token was spent before."""

    code = "token.spent"


class CandidatesRefusedError(RefusedError):
    """The operator serves none of the hosts that the device drew."""

    code = "refused.candidates"


class SessionGoneError(ProtocolError):
    """The session is over."""

    code = "peer.protocol.session"


class _DateRefusedError(ProtocolError):
    """The gateway finds the request's date wrong, and told its own time."""

    code = _DATE_CODE

    def __init__(self, moment: int) -> None:
        super().__init__("the device's clock and the gateway's differ", hint="set the clock")
        self.moment = moment


class OhttpClient:
    """Opens, uses and closes sessions. Every message is sealed to the gateway's key from the directory."""

    def __init__(
        self, relay: RelayClient, config: ohttp.KeyConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._relay = relay
        self._config = config
        self._clock = clock

    @property
    def relay(self) -> str:
        """The relay that carried the last message."""
        return self._relay.used

    async def open_session(
        self, first_flight: bytes, authorization: bytes, candidates: Sequence[str]
    ) -> tuple[str, bytes]:
        """The session's id and the CVM's first flight. The token counts as spent, but for `NotSentError`.

        Raises:
            NotSentError: no relay could be connected with; not a byte of the token has left the device.
            RemoteTokenError: the token was refused.
            CandidatesRefusedError: the operator serves none of the candidates.
            AlreadyArrivedError, OpenError: a relay lost or spoilt the answer of a gateway that has spent the token.
            UnavailableError: a relay, the gateway, the router or the CVM is down.
            ProtocolError: the gateway refuses.
        """
        headers = ((b"authorization", authorization), (b"candidates", ", ".join(candidates).encode()))
        response = await self._exchange(b"POST", b"/v1/sessions", first_flight, headers)
        if response.status != _CREATED:
            error = _error(response.content)
            if isinstance(error, RemoteTokenSpentError) and self._relay.failed:
                # The relay before this one did pass the message on, to a gateway on another machine.
                raise AlreadyArrivedError("the gateway has had this message before", hint="Try again.")
            raise error
        session = bhttp.header(response.headers, b"session") or b""
        if not _SESSION.fullmatch(session):
            raise ProtocolError("the gateway gave no session")
        return session.decode(), response.content

    async def turn(self, session: str, data: bytes) -> AsyncGenerator[bytes, None]:
        """Send records, once; the answer's records as they come.

        Raises:
            SessionGoneError: the session is over.
            UnavailableError: somebody on the way is down, or the session was broken off.
            ProtocolError: the gateway refuses.
            DecodeError, OpenError: the answer is cut short or not authentic.
        """
        if self._relay.streams:
            try:
                async with aclosing(self._stream(session, data)) as pieces:
                    async for piece in pieces:
                        yield piece
            except NotSentError:
                # No relay that streams is there; any other can carry flights, and so far nothing was sent.
                pass
            else:
                return
        async with aclosing(self._flights(session, data)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self, session: str) -> None:
        """End a session; it would end by itself too."""
        await self._exchange(b"DELETE", f"/v1/sessions/{session}".encode(), b"", ())

    async def _stream(self, session: str, data: bytes) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._stream_at(session, data, self._clock())) as pieces:
                async for piece in pieces:
                    yield piece
        except _DateRefusedError as refused:
            # The gateway has read the head only, so nothing was passed on.
            async with aclosing(self._stream_at(session, data, refused.moment)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _flights(self, session: str, data: bytes) -> AsyncGenerator[bytes, None]:
        path = f"/v1/sessions/{session}".encode()
        headers: bhttp.Headers = ()
        for _ in range(_MAX_FLIGHTS):
            # What holds no records may be sent again: the gateway takes a message once.
            # Its answer is held back for ten seconds, and long: on a slow line it takes its time.
            within = LIMITS.session_total
            response = await self._exchange(b"POST", path, data, headers, once=bool(data), within=within)
            if response.status != _OK:
                raise _error(response.content)
            if response.content:
                yield response.content
            if bhttp.header(response.headers, _MORE) != _TRUE:
                return
            data, headers = b"", ((_MORE, _TRUE),)
        raise LimitError("the answer takes more flights than its limit")

    async def _stream_at(self, session: str, data: bytes, moment: float) -> AsyncGenerator[bytes, None]:
        request = _request(b"POST", f"/v1/sessions/{session}".encode(), moment)
        sealer = ohttp_chunked.RequestSealer(self._config)
        plain = RequestEncoder.head(request) + RequestEncoder.data(data) + RequestEncoder.end()
        chunks = [plain[at : at + _CHUNK] for at in range(0, len(plain), _CHUNK)]
        body = sealer.header() + b"".join(map(sealer.chunk, chunks[:-1])) + sealer.final(chunks[-1])
        answer = _StreamedAnswer(sealer.opener())
        async with aclosing(self._relay.stream(body)) as stream:
            async for sealed in stream:
                for piece in answer.feed(sealed):
                    yield piece
        for piece in answer.finish():
            yield piece

    async def _exchange(
        self,
        method: bytes,
        path: bytes,
        content: bytes,
        headers: bhttp.Headers,
        *,
        once: bool = False,
        within: float = WHOLE_WITHIN,
    ) -> bhttp.Response:
        request = _request(method, path, self._clock(), content, headers)
        response = await self._exchange_at(request, once=once, within=within)
        refused = _date_refused(response.headers, response.content)
        if refused is None:
            return response
        request = _request(method, path, refused.moment, content, headers)
        try:
            return await self._exchange_at(request, once=once, within=within)
        except NotSentError as error:
            # The one that was refused for its date has left the device, with all that is in it.
            raise UnavailableError(str(error), party=error.party, hint=error.hint) from None

    async def _exchange_at(self, request: bhttp.Request, *, once: bool, within: float) -> bhttp.Response:
        encoded = bhttp.encode_request(request)
        encoded += bytes(-len(encoded) % _REQUEST_CLASS)
        sealed, opener = ohttp.seal_request(self._config, encoded)
        answer = await self._relay.exchange(sealed, once=once, within=within)
        try:
            opened = opener.open(answer)
        except DecodeError:
            # Cut short or changed: a relay can do either, and gains nothing by the choice.
            raise OpenError("the answer is cut short") from None
        return bhttp.decode_response(opened)


def coarse_date(moment: float) -> int:
    """The `Date` of a request sent at `moment`, unix seconds: rounded down to the minute."""
    return int(moment) // 60 * 60


def _request(
    method: bytes, path: bytes, moment: float, content: bytes = b"", headers: bhttp.Headers = ()
) -> bhttp.Request:
    date = format_http_date(coarse_date(moment))
    return bhttp.Request(
        method=method,
        scheme=b"https",
        authority=_AUTHORITY,
        path=path,
        headers=((b"date", date), *headers),
        content=content,
    )


class _StreamedAnswer:
    """Opens a streamed answer; a refusal is raised at its end."""

    def __init__(self, opener: ohttp_chunked.ResponseOpener) -> None:
        self._opener = opener
        self._decoder = bhttp.ResponseDecoder(content_limit=LIMITS.stream)
        self._head: bhttp.Head | None = None
        self._refusal = b""

    def feed(self, sealed: bytes) -> list[bytes]:
        """Records that are complete with `sealed`."""
        return [
            piece for chunk in self._opener.feed(sealed) for piece in self._take(self._decoder.feed(chunk))
        ]

    def finish(self) -> list[bytes]:
        """The last records, once the stream has ended; raises the gateway's refusal, if it is one."""
        pieces = self._take(self._decoder.feed(self._opener.finish()) + self._decoder.finish())
        if self._head is not None and self._head.status != _OK:
            raise _date_refused(self._head.headers, self._refusal) or _error(self._refusal)
        return pieces

    def _take(self, events: Sequence[object]) -> list[bytes]:
        pieces = []
        for event in events:
            if isinstance(event, bhttp.Head):
                self._head = event
            elif isinstance(event, bhttp.Content) and self._head is not None:
                if self._head.status == _OK:
                    pieces.append(event.data)
                else:
                    self._refusal = (self._refusal + event.data)[:_MAX_REFUSAL]
        return pieces


class _Refusal(msgspec.Struct, frozen=True):
    code: str = ""


def _code(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).code
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _date_refused(headers: bhttp.Headers, body: bytes) -> _DateRefusedError | None:
    if _DATE_CODE.encode() not in body or _code(body) != _DATE_CODE:
        return None
    moment = parse_http_date(bhttp.header(headers, b"date") or b"")
    return None if moment is None else _DateRefusedError(moment)


_KNOWN: Final[Mapping[str, tuple[Callable[..., SottovoceError], str, str]]] = {
    "token.spent": (
        RemoteTokenSpentError,
        "the token was spent before",
        "the next request takes another one",
    ),
    "peer.protocol.candidates": (
        CandidatesRefusedError,
        "no candidate is served",
        "the directory may be out of date",
    ),
    "peer.protocol.session": (
        SessionGoneError,
        "the session is over",
        "it ends after 60 seconds without a request",
    ),
    "peer.limit": (LimitError, "the request is longer than the limits allow", ""),
}


def _error(body: bytes) -> SottovoceError:
    code = _code(body)
    if code in _KNOWN:
        kind, text, hint = _KNOWN[code]
        return kind(text, hint=hint)
    if code.startswith("token."):
        return RemoteTokenError("the gateway refused the token", hint="the next request takes another one")
    if code.startswith("unavailable"):
        of_cvm = code == "unavailable.cvm"
        text = "no orchestrator answers" if of_cvm else "the gateway cannot serve now"
        return UnavailableError(text, party="orchestrator" if of_cvm else "gateway", hint="Try again later.")
    return ProtocolError("the gateway refused the request")

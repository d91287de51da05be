"""One attested session (protocol section 2): two trips, and no word of the user's before every check has passed.

open_session ──trip 1: ClientHello ▶ evidence──▶ Offered ──verify──▶ ask ──trip 2: Finished, request ▶ answer
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Final

import msgspec

from sottovoce.core.errors import DecodeError, ProtocolError, SottovoceError
from sottovoce.core.tls import ClientHandshake, Closed, EvidenceOffer, Verified
from sottovoce.device.answers import AnswerDecoder, AnswerEvent, ServiceError
from sottovoce.device.http import Body, Head, HttpExchange, Over, TooMuchError
from sottovoce.device.ohttp_client import OhttpClient

__all__ = ["Request", "Session"]

_OK: Final = 200
_TOO_LARGE: Final = 413
_PROBLEM: Final = 4096


class Request:
    """What will be sent, framed and padded; made before anything is connected, so that a limit refuses first."""

    def __init__(self, target: str, body: bytes, *, method: str = "POST") -> None:
        """Frame a request with the JSON document `body`.

        Raises:
            TooMuchError: longer than a request may be.
        """
        self._exchange = HttpExchange()
        self._frames = self._exchange.request(method, target, body)

    def __repr__(self) -> str:
        return f"<Request of {self.size_class} bytes>"

    @property
    def size_class(self) -> int:
        """Bytes of the frames: all that shows of the request's length."""
        return len(self._frames)

    def take(self) -> tuple[bytes, HttpExchange]:
        """The frames, and the exchange that reads the answer."""
        return self._frames, self._exchange


class Session:
    """A session that a CVM has offered with its evidence. Nothing of the user's has been sent."""

    def __init__(self, ohttp: OhttpClient, session: str, offer: EvidenceOffer) -> None:
        self._ohttp = ohttp
        self._session = session
        self.offer: Final = offer

    @classmethod
    async def open(cls, ohttp: OhttpClient, *, authorization: bytes, candidates: Sequence[str]) -> "Session":
        """The first trip: spend the token, get the evidence.

        Raises:
            RemoteTokenError, CandidatesRefusedError: the gateway says no.
            UnavailableError: somebody on the way is down.
            TlsError, ProtocolError, DecodeError: an answer that is not allowed.
        """
        handshake = ClientHandshake()
        session, flight = await ohttp.open_session(handshake.first_flight(), authorization, candidates)
        offer = handshake.receive(flight)
        if offer is None:
            raise ProtocolError("the service's first flight is not complete")
        return cls(ohttp, session, offer)

    async def ask(self, verified: Verified, request: Request) -> AsyncGenerator[AnswerEvent, None]:
        """As `exchange`, for answers that are events.

        Raises:
            ServiceError: the service says that it failed.
            TooMuchError: the service takes less.
            SottovoceError: as `exchange`.
        """
        answer = _Answer()
        async with aclosing(self.exchange(verified, request)) as events:
            async for event in events:
                for said in answer.feed(event):
                    yield said
        answer.finish()

    async def exchange(
        self, verified: Verified, request: Request
    ) -> AsyncGenerator[Head | Body | Over, None]:
        """The second trip: the TLS Finished and the request; the answer as it comes. Its padding goes on after its end.

        Raises:
            UsageError: `verified` was made for another connection.
            UnavailableError: somebody on the way is down; the answer is not whole.
            TlsError, DecodeError, ProtocolError, LimitError: an answer that is not allowed, or cut short.
        """
        tls = self.offer.accept(verified)
        frames, exchange = request.take()
        tls.send(frames)
        over = False
        try:
            async with aclosing(self._ohttp.turn(self._session, tls.outgoing())) as pieces:
                async for records in pieces:
                    plaintexts = [
                        event.data for event in tls.receive(records) if not isinstance(event, Closed)
                    ]
                    for event in exchange.feed(b"".join(plaintexts)):
                        over = over or isinstance(event, Over)
                        yield event
            _require_end(over=over)
        finally:
            # It would end by itself after a minute; whatever goes wrong here changes nothing.
            with suppress(SottovoceError):
                await self._ohttp.close(self._session)


def _require_end(*, over: bool) -> None:
    if not over:
        raise DecodeError("the answer ended before it was complete", hint="Try again.")


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""


class _Answer:
    """From the answer's parts to events; a refusal becomes an error."""

    def __init__(self) -> None:
        self._decoder = AnswerDecoder()
        self._status = 0
        self._problem = b""
        self._failure: ServiceError | None = None

    def feed(self, event: Head | Body | Over) -> list[AnswerEvent]:
        match event:
            case Head():
                self._status = event.status
            case Body() if self._status == _OK:
                return self._said(event.data)
            case Body():
                self._problem = (self._problem + event.data)[:_PROBLEM]
        return []

    def _said(self, data: bytes) -> list[AnswerEvent]:
        try:
            return self._decoder.feed(data) if self._failure is None else []
        except ServiceError as failure:
            # Told when the padding is over: who left at once would show that it failed, and when.
            self._failure = failure
            return []

    def finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._status != _OK:
            raise self._refusal()
        self._decoder.finish()

    def _refusal(self) -> SottovoceError:
        if self._status == _TOO_LARGE:
            return TooMuchError("the request is longer than the service allows", hint="send fewer messages")
        try:
            known = msgspec.json.decode(self._problem, type=_Problem).code.startswith("unavailable")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            known = False
        what = "a part of the service is down" if known else "the service could not answer"
        return ServiceError(what, hint="nothing is kept; try again")

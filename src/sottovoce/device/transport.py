"""How bytes leave the device: to relays, mirrors and the issuer, with headers that are the same for everybody."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Final, Self

import aiohttp

from sottovoce.core.errors import LimitError, PeerError, ProtocolError, SottovoceError, UnavailableError
from sottovoce.core.limits import LIMITS

__all__ = ["WHOLE_WITHIN", "AlreadyArrivedError", "GatewayKeyError", "Network", "NotSentError", "RelayClient"]

_CONNECT: Final = 5.0
_REACHED_WITHIN: Final = 10.0
"""Seconds until a relay counts as not there, from the look-up of its name to the end of the TLS handshake."""
_SILENCE: Final = LIMITS.session_idle + 5
"""Seconds without a byte of an answer until it counts as lost: the operator's side has ended the session by then."""
_SHORT: Final = aiohttp.ClientTimeout(total=10.0, sock_connect=_CONNECT)
"""For public files and tokens."""
_ANSWERS_WITHIN: Final = 15.0
"""Seconds without a byte until another relay gets a message that may be sent again. A session opens in well under one."""
WHOLE_WITHIN: Final = 20.0
"""Seconds until it gets one whose short answer is still not whole, however steadily its bytes come."""
_MAX_PROBLEM: Final = 4 * 1024
_RESOURCE: Final = "/ohttp"
_PLAIN: Final = ("message/ohttp-req", "message/ohttp-res")
_CHUNKED: Final = ("message/ohttp-chunked-req", "message/ohttp-chunked-res")
"""Media types of a request and of its answer."""
_KEY_PROBLEM: Final = b'"https://iana.org/assignments/http-problem-types#ohttp-key"'
"""RFC 9458 section 5.3."""
_OK: Final = 200
_TOO_EARLY: Final = 425
_FAILED: Final = range(500, 600)


class Network:
    """One connection pool. No cookies, no user agent, no redirects, no proxies from the environment."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=LIMITS.session_total, sock_connect=_CONNECT, sock_read=_SILENCE
            ),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool.

        Raises:
            UnavailableError: outside `async with`.
        """
        if self._session is None:
            raise UnavailableError("the device is offline", party="device")
        return self._session

    async def get(self, url: str, *, party: str, limit: int) -> bytes:
        """The file at `url`.

        Raises:
            UnavailableError: nobody answers there, or it has no such file.
            LimitError: longer than `limit` bytes.
        """
        try:
            async with self.session.get(url, allow_redirects=False, timeout=_SHORT) as response:
                if response.status != _OK:
                    raise UnavailableError(f"the {party} does not have the file", party=party)
                return await _bounded(response, limit)
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError(f"the {party} does not answer", party=party) from None

    async def post(
        self, url: str, body: bytes, *, party: str, headers: Mapping[str, str], limit: int
    ) -> tuple[int, bytes]:
        """Status and body of the answer to a POST.

        Raises:
            UnavailableError: nobody answers there.
            LimitError: an answer longer than `limit` bytes.
        """
        try:
            async with self.session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=_SHORT
            ) as response:
                return response.status, await _bounded(response, limit)
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError(f"the {party} does not answer", party=party) from None


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise LimitError("an answer is longer than its limit")
    return body


class GatewayKeyError(ProtocolError):
    """The gateway does not have the key to which the message is sealed (any more)."""

    code = "peer.protocol.ohttp-key"


class AlreadyArrivedError(ProtocolError):
    """The gateway has had this very message: a relay passed it on, and lost the answer."""

    code = "peer.protocol.replay"


class NotSentError(UnavailableError):
    """No relay could be connected with, so not a byte of this message has left the device."""


class RelayClient:
    """Posts sealed messages to one of several relays, drawn anew for each client: one session has one client.

    `relays` are URLs of relays or of their oblivious resources, `…/ohttp`; those in `flights` do not stream, those in `avoid`
    have just failed and come last. What happens when a relay fails depends on what was sent (docs/relays.md):

    - where nothing was, another relay gets the message;
    - a message without content of the user's (`exchange`) goes to another relay whatever the first did: the gateway takes it once;
    - one with content (`exchange(…, once=True)`, `stream`) is sent once.
    """

    def __init__(
        self,
        network: Network,
        relays: Sequence[str],
        *,
        flights: Collection[str] = (),
        avoid: Collection[str] = (),
        rng: random.Random | None = None,
    ) -> None:
        self._network = network
        # The choice does not depend on the user, nor on what is sent; nothing of it is kept.
        bases = list(map(_base, relays))
        drawn = (rng or random.SystemRandom()).sample(bases, len(bases))
        late = set(map(_base, avoid))
        self._relays = sorted(drawn, key=lambda relay: relay in late)
        self._flights = set(map(_base, flights))
        self.used = ""
        """The relay that carried the last message."""
        self.failed: set[str] = set()
        """Relays that have failed this client."""

    @property
    def streams(self) -> bool:
        """Whether the relay that is next in turn passes chunked messages piece by piece."""
        return bool(self._relays) and self._relays[0] not in self._flights

    async def exchange(self, body: bytes, *, once: bool = False, within: float = WHOLE_WITHIN) -> bytes:
        """The answer to a whole message (message/ohttp-req), which is sent `once` if it holds content of the user's.

        Each relay that is asked has `within` seconds for it.

        Raises:
            NotSentError: no relay could be connected with.
            UnavailableError: no relay, or no gateway behind it, answers.
            GatewayKeyError: the gateway does not have the key.
            AlreadyArrivedError: a relay passed the message on and lost the answer.
            ProtocolError: the gateway, or whoever answers in its place, refuses the message.
        """
        error: SottovoceError = _nobody("relay")
        for relay in list(self._relays):
            try:
                return await self._exchange(relay, body, _SILENCE if once else _ANSWERS_WITHIN, within)
            except AlreadyArrivedError:
                self.used = relay
                # Whoever had the message before this one lost the answer. Where nobody had, this one did, or lies.
                if isinstance(error, NotSentError):
                    self._put_last(relay)
                raise
            except (UnavailableError, PeerError) as failed:
                self._put_last(relay)
                if once and not isinstance(failed, NotSentError):
                    raise
                error = max(error, failed, key=_weight)
        raise error

    async def stream(self, body: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The streamed answer to a chunked message (message/ohttp-chunked-req); raises as `exchange`.

        A `body` that is an iterator is sent as it comes, while the answer is read: both ways at once.

        Raises:
            NotSentError: no relay that streams could be connected with.
        """
        for relay in [relay for relay in self._relays if relay not in self._flights]:
            try:
                async with self._posted(relay, body, _CHUNKED, _SILENCE, LIMITS.session_total) as response:
                    await _require(response, _CHUNKED[1])
                    self.used = relay
                    async with aclosing(_limited(response, LIMITS.stream)) as pieces:
                        async for piece in pieces:
                            yield piece
                    return
            except NotSentError:
                self._put_last(relay)
        raise _nobody("relay")

    async def directory(self, name: str) -> bytes:
        """A file of the directory, as a relay's own mirror has it: a document or its proof (`tlog.directoryfiles`).

        Raises:
            UnavailableError: no relay has it.
            LimitError: longer than a directory may be.
        """
        for relay in list(self._relays):
            try:
                data = await self._network.get(
                    f"{relay}/directory/{name}", party="relay", limit=LIMITS.directory
                )
            except UnavailableError:
                self._put_last(relay)
            else:
                self.used = relay
                return data
        raise UnavailableError("no relay has the directory", party="relay", hint="Try again later.")

    async def _exchange(self, relay: str, body: bytes, silence: float, within: float) -> bytes:
        async with self._posted(relay, body, _PLAIN, silence, within) as response:
            await _require(response, _PLAIN[1])
            answer = b"".join([piece async for piece in _limited(response, LIMITS.stream)])
        self.used = relay
        return answer

    @asynccontextmanager
    async def _posted(
        self,
        relay: str,
        body: bytes | AsyncIterator[bytes],
        media: tuple[str, str],
        silence: float,
        within: float,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        headers = {"Content-Type": media[0]}
        if media == _CHUNKED:
            headers["Incremental"] = "?1"
        timeout = aiohttp.ClientTimeout(
            total=within, connect=_REACHED_WITHIN, sock_connect=_CONNECT, sock_read=silence
        )
        try:
            async with self._network.session.post(
                relay + _RESOURCE, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            # Of no connection, its TLS handshake included. A connection that broke later may have taken the message.
            raise _nobody("relay") from None
        except (aiohttp.ClientError, TimeoutError):
            raise UnavailableError("the connection was cut", party="relay") from None

    def _put_last(self, relay: str) -> None:
        self.failed.add(relay)
        self._relays.remove(relay)
        self._relays.append(relay)


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix(_RESOURCE)


def _nobody(party: str) -> NotSentError:
    return NotSentError(f"no {party} answers", party=party, hint="Try again later.")


def _weight(error: SottovoceError) -> int:
    """Which failure of several is told: a relay that said something tells more than one that is not there."""
    if isinstance(error, GatewayKeyError):
        # Outside the seal, so a relay can write it: it counts only if no other brought an answer.
        return 2
    return 0 if isinstance(error, NotSentError) else 1


async def _limited(response: aiohttp.ClientResponse, limit: int) -> AsyncGenerator[bytes, None]:
    async for piece in response.content.iter_any():
        limit -= len(piece)
        if limit < 0:
            raise LimitError("an answer is longer than its limit")
        yield piece


async def _require(response: aiohttp.ClientResponse, media: str) -> None:
    kind = response.headers.get("Content-Type", "")
    if response.status == _OK and kind == media:
        return
    if response.status in _FAILED:
        raise UnavailableError("no gateway answers", party="gateway", hint="Try again later.")
    if response.status == _TOO_EARLY:
        raise AlreadyArrivedError("the gateway has had this message before", hint="Try again.")
    if kind == "application/problem+json" and _KEY_PROBLEM in await _bounded(response, _MAX_PROBLEM):
        raise GatewayKeyError("the gateway has another key", hint="fetch the directory again")
    raise ProtocolError("the gateway refuses the message", hint="the directory may be out of date")

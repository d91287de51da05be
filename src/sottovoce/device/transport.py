"""How bytes leave the device: to relays, mirrors and the issuer, with headers that are the same for everybody."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

import aiohttp

from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.core.limits import LIMITS

__all__ = ["GatewayKeyError", "Network", "RelayClient"]

_CONNECT: Final = 5.0
_SILENCE: Final = LIMITS.session_idle + 5
"""Seconds without a byte of an answer until it counts as lost: the operator's side has ended the session by then."""
_SHORT: Final = aiohttp.ClientTimeout(total=10.0, sock_connect=_CONNECT)
"""For public files and tokens."""
_MAX_PROBLEM: Final = 4 * 1024
_RESOURCE: Final = "/ohttp"
_CHUNKED: Final = "message/ohttp-chunked-req"
_KEY_PROBLEM: Final = b'"https://iana.org/assignments/http-problem-types#ohttp-key"'
"""RFC 9458 section 5.3."""
_OK: Final = 200
_RETRY: Final = range(500, 600)


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


class RelayClient:
    """Posts sealed messages to one of several relays; another is used when one is down before it has answered.

    `relays` are URLs of relays or of their oblivious resources, `…/ohttp`.
    """

    def __init__(self, network: Network, relays: Sequence[str], *, rng: random.Random | None = None) -> None:
        self._network = network
        # The choice does not depend on the user, nor on what is sent.
        bases = [url.rstrip("/").removesuffix(_RESOURCE) for url in relays]
        self._relays = (rng or random.SystemRandom()).sample(bases, len(bases))
        self.used = ""
        """The relay that carried the last message."""

    async def exchange(self, body: bytes) -> bytes:
        """The answer to a whole message (message/ohttp-req).

        Raises:
            UnavailableError: no relay, or no gateway behind it, answers.
            GatewayKeyError: the gateway does not have the key.
            ProtocolError: the gateway refuses the message.
        """
        pieces = [piece async for piece in self._post(body, "message/ohttp-req", "message/ohttp-res")]
        return b"".join(pieces)

    def stream(self, body: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The streamed answer to a chunked message (message/ohttp-chunked-req); raises as `exchange`.

        A `body` that is an iterator is sent as it comes, while the answer is read.
        """
        return self._post(body, "message/ohttp-chunked-req", "message/ohttp-chunked-res")

    async def directory(self, name: str) -> bytes:
        """A file of the directory, as a relay's own mirror has it: a document or its proof (`tlog.directoryfiles`).

        Raises:
            UnavailableError: no relay has it.
            LimitError: longer than a directory may be.
        """
        for relay in self._in_order():
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

    async def _post(
        self, body: bytes | AsyncIterator[bytes], media: str, answer: str
    ) -> AsyncGenerator[bytes, None]:
        headers = {"Content-Type": media}
        if media == _CHUNKED:
            headers["Incremental"] = "?1"
        party = "relay"
        for relay in self._in_order():
            began = False
            try:
                async with self._network.session.post(
                    relay + _RESOURCE, data=body, headers=headers, allow_redirects=False
                ) as response:
                    began = not isinstance(body, bytes)
                    if response.status in _RETRY and not began:
                        party = "gateway"
                        self._put_last(relay)
                        continue
                    await _require(response, answer)
                    began, self.used = True, relay
                    async with aclosing(_limited(response, LIMITS.stream)) as pieces:
                        async for piece in pieces:
                            yield piece
                    return
            except (aiohttp.ClientError, TimeoutError) as error:
                # A stream that somebody may have read a part of cannot be sent again.
                if began or not (isinstance(body, bytes) or isinstance(error, aiohttp.ClientConnectorError)):
                    raise UnavailableError("the connection was cut", party="relay") from None
                self._put_last(relay)
        raise UnavailableError(f"no {party} answers", party=party, hint="Try again later.")

    def _in_order(self) -> list[str]:
        return list(self._relays)

    def _put_last(self, relay: str) -> None:
        self._relays.remove(relay)
        self._relays.append(relay)


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
    if response.status in _RETRY:
        raise UnavailableError("no gateway answers", party="gateway", hint="Try again later.")
    if kind == "application/problem+json" and _KEY_PROBLEM in await _bounded(response, _MAX_PROBLEM):
        raise GatewayKeyError("the gateway has another key", hint="fetch the directory again")
    raise ProtocolError("the gateway refuses the message", hint="the directory may be out of date")

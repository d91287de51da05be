"""How bytes leave the device: to relays, mirrors and the issuer, with headers that are the same for everybody."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import aiohttp

from sottovoce.core.errors import LimitError, ProtocolError, UnavailableError
from sottovoce.core.limits import LIMITS

__all__ = ["Network", "RelayClient"]

_CONNECT: Final = 5.0
_ANSWER: Final = LIMITS.answer + 512 * 1024
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
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=LIMITS.session_total, sock_connect=_CONNECT),
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
            async with self.session.get(url, allow_redirects=False) as response:
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
            async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
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


class RelayClient:
    """Posts sealed messages to one of several relays; another is used when one is down before it has answered."""

    def __init__(self, network: Network, relays: Sequence[str], *, rng: random.Random | None = None) -> None:
        self._network = network
        # The choice does not depend on the user, nor on what is sent.
        self._relays = (rng or random.SystemRandom()).sample(list(relays), len(relays))
        self.used = ""
        """The relay that carried the last message."""

    async def exchange(self, body: bytes) -> bytes:
        """The answer to a whole message (message/ohttp-req).

        Raises:
            UnavailableError: no relay, or no gateway behind it, answers.
            ProtocolError: the gateway refuses the message.
        """
        pieces = [piece async for piece in self._post(body, "message/ohttp-req", "message/ohttp-res")]
        return b"".join(pieces)

    def stream(self, body: bytes) -> AsyncIterator[bytes]:
        """The streamed answer to a chunked message (message/ohttp-chunked-req); raises as `exchange`."""
        return self._post(body, "message/ohttp-chunked-req", "message/ohttp-chunked-res")

    async def _post(self, body: bytes, media: str, answer: str) -> AsyncIterator[bytes]:
        party = "relay"
        for relay in list(self._relays):
            began = False
            try:
                async with self._network.session.post(
                    relay, data=body, headers={"Content-Type": media}, allow_redirects=False
                ) as response:
                    if response.status in _RETRY:
                        party = "gateway"
                        continue
                    _require(response, answer)
                    began, self.used = True, relay
                    total = 0
                    async for piece in response.content.iter_any():
                        total += len(piece)
                        if total > _ANSWER:
                            raise LimitError("an answer is longer than its limit")
                        yield piece
                    return
            except (aiohttp.ClientError, TimeoutError):
                if began:
                    raise UnavailableError("the connection was cut", party="relay") from None
                self._relays.append(self._relays.pop(0))
        raise UnavailableError(f"no {party} answers", party=party, hint="Nothing was sent. Try again later.")


def _require(response: aiohttp.ClientResponse, media: str) -> None:
    if response.status != _OK or response.headers.get("Content-Type") != media:
        raise ProtocolError("the gateway refuses the message", hint="the directory may be out of date")

"""The inner API of the gateway (protocol section 2), from the device."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from sottovoce.core import bhttp, ohttp, ohttp_chunked
from sottovoce.core.errors import ProtocolError, RefusedError, SottovoceError, UnavailableError
from sottovoce.device.transport import RelayClient

__all__ = ["OhttpClient", "RemoteTokenError"]

_AUTHORITY: Final = b"gateway"
_SESSION: Final = re.compile(rb"[0-9a-f]{32}")
_CREATED, _OK = 201, 200


class RemoteTokenError(RefusedError):
    """The gateway refused the token. It counts as spent; the next request takes another."""

    code = "token.refused"


class OhttpClient:
    """Opens, uses and closes sessions. Every message is sealed to the gateway's key from the directory."""

    def __init__(self, relay: RelayClient, config: ohttp.KeyConfig) -> None:
        self._relay = relay
        self._config = config

    @property
    def relay(self) -> str:
        """The relay that carried the last message."""
        return self._relay.used

    async def open_session(
        self, first_flight: bytes, authorization: bytes, candidates: Sequence[str]
    ) -> tuple[str, bytes]:
        """The session's id and the CVM's first flight.

        Raises:
            RemoteTokenError: the token was refused.
            UnavailableError: a relay, the gateway, the router or the CVM is down.
            ProtocolError: the gateway refuses.
        """
        headers = ((b"authorization", authorization), (b"candidates", ", ".join(candidates).encode()))
        response = await self._exchange(b"POST", b"/v1/sessions", first_flight, headers)
        session = bhttp.header(response.headers, b"session") or b""
        if response.status != _CREATED:
            raise _error(response.content)
        if not _SESSION.fullmatch(session):
            raise ProtocolError("the gateway gave no session")
        return session.decode(), response.content

    async def turn(self, session: str, data: bytes) -> AsyncIterator[bytes]:
        """Send records; the answer's records as they come.

        Raises:
            UnavailableError: somebody on the way is down.
            ProtocolError: the session is over, or the gateway refuses.
            DecodeError, OpenError: the answer is cut short or not authentic.
        """
        request = self._request(b"POST", f"/v1/sessions/{session}".encode(), data)
        sealer = ohttp_chunked.RequestSealer(self._config)
        body = sealer.header() + sealer.final(bhttp.encode_request(request))
        opener, decoder, refused = sealer.opener(), bhttp.ResponseDecoder(), b""
        status = 0
        async for sealed in self._relay.stream(body):
            for event in _events(decoder, opener.feed(sealed)):
                if isinstance(event, bhttp.Head):
                    status = event.status
                elif isinstance(event, bhttp.Content) and status == _OK:
                    yield event.data
                elif isinstance(event, bhttp.Content):
                    refused += event.data
        decoder.feed(opener.finish())
        decoder.finish()
        if status != _OK:
            raise _error(refused)

    async def close(self, session: str) -> None:
        """End a session; it would end by itself too."""
        await self._exchange(b"DELETE", f"/v1/sessions/{session}".encode(), b"", ())

    @staticmethod
    def _request(method: bytes, path: bytes, content: bytes, headers: bhttp.Headers = ()) -> bhttp.Request:
        return bhttp.Request(
            method=method, scheme=b"https", authority=_AUTHORITY, path=path, headers=headers, content=content
        )

    async def _exchange(
        self, method: bytes, path: bytes, content: bytes, headers: bhttp.Headers
    ) -> bhttp.Response:
        request = bhttp.encode_request(self._request(method, path, content, headers))
        sealed, opener = ohttp.seal_request(self._config, request)
        return bhttp.decode_response(opener.open(await self._relay.exchange(sealed)))


def _events(
    decoder: bhttp.ResponseDecoder, chunks: list[bytes]
) -> list[bhttp.Head | bhttp.Content | bhttp.End]:
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def _error(body: bytes) -> SottovoceError:
    try:
        code = msgspec.json.decode(body, type=dict[str, str]).get("code", "")
    except msgspec.DecodeError:
        code = ""
    if code.startswith("token."):
        return RemoteTokenError("the gateway refused the token", hint="the next request takes another one")
    if code == "peer.protocol.session":
        return ProtocolError("the session is over", hint="it ends after 60 seconds without a request")
    if code.startswith("unavailable"):
        return UnavailableError(
            "no CVM answers", party="orchestrator", hint="Nothing was sent. Try again later."
        )
    return ProtocolError("the gateway refused the request")

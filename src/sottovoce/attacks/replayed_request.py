"""A sealed request is posted a second time (part B)."""

import asyncio
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Attack, Outcome, Result
from sottovoce.core import bhttp, ohttp
from sottovoce.core.httpdate import format_http_date
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.transport import Network

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK"]

_PLAIN: Final = "message/ohttp-req"
_TIMEOUT: Final = 20.0
_OK: Final = 200
_REPLAY: Final = frozenset({"peer.protocol.replay"})
_DATE: Final = frozenset({"peer.protocol.date"})
_HOUR: Final = 3600


def post(port: int, sealed: bytes) -> tuple[int, bytes]:
    """Post a sealed request to the gateway on `port`, as a relay does: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("POST", "/ohttp", body=sealed, headers={"Content-Type": _PLAIN})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def _config(lab: "Lab") -> ohttp.KeyConfig:
    async with Network() as network:
        source = DirectorySource(lab.world.environment(), network, lab.home)
        directory, _ = await source.get(int(time.time()))
        return directory.ohttp_config


def _seal(config: ohttp.KeyConfig, moment: float) -> tuple[bytes, ohttp.ResponseOpener]:
    """A device's request, sealed as the device does; it asks for nothing that costs a token."""
    request = bhttp.Request(
        method=b"DELETE",
        scheme=b"https",
        authority=b"gateway",
        path=b"/v1/sessions/" + b"0" * 32,
        headers=((b"date", format_http_date(int(moment) // 60 * 60)),),
        content=b"",
    )
    return ohttp.seal_request(config, bhttp.encode_request(request))


def _code(status: int, body: bytes) -> Outcome:
    """What the gateway says outside the encryption; a sealed answer says that it went on."""
    if status == _OK:
        return Outcome(stopped_by=frozenset())
    return Outcome(stopped_by=frozenset({str(json.loads(body).get("code", ""))}))


def _live(lab: "Lab") -> Iterator[Result]:
    port, config = lab.world.port("gateway"), asyncio.run(_config(lab))
    sealed, opener = _seal(config, time.time())
    status, answer = post(port, sealed)
    opener.open(answer)  # the first time it is answered
    yield Result(tries="at once", wanted=_REPLAY, outcome=_code(*post(port, sealed)))
    os.kill(lab.world.pids["gateway"], signal.SIGKILL)
    lab.world.restart("gateway")
    yield Result(
        tries="after the gateway was killed and started again",
        wanted=_REPLAY,
        outcome=_code(*post(port, sealed)),
    )
    with lab.second_gateway() as other:
        yield Result(
            tries="at another gateway with the same keys", wanted=_REPLAY, outcome=_code(*post(other, sealed))
        )
    kept, opener = _seal(config, time.time() - _HOUR)
    status, answer = post(port, kept)
    found = _inner(status, answer, opener)
    yield Result(tries="a request that was kept back for an hour", wanted=_DATE, outcome=found)


def _inner(status: int, answer: bytes, opener: ohttp.ResponseOpener) -> Outcome:
    """What the gateway says inside the encryption."""
    if status != _OK:
        return _code(status, answer)
    refusal = json.loads(bhttp.decode_response(opener.open(answer)).content or b"{}")
    return Outcome(stopped_by=frozenset({str(refusal.get("code", ""))}))


ATTACK: Final = Attack(
    name="replayed-request",
    row="B",
    who="relay or network, with the ciphertexts that it carries",
    tries="a sealed request posted again: at once, after a crash, at another gateway, an hour later",
    stopped_by=("peer.protocol.replay", "peer.protocol.date"),
    live=_live,
)

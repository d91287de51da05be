"""An answer without its end is refused, and is taken for whole by a client that does not ask for the end."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import pytest

from attack_kit import MemoryStage
from sottovoce.attacks.lab import CONTROL
from sottovoce.attacks.rogue import RogueServer
from sottovoce.attacks.stage import Target
from sottovoce.attacks.truncated_answer import _TRIALS, records
from sottovoce.attest.evidence import Evidence
from sottovoce.core.errors import DecodeError, SottovoceError
from sottovoce.core.frames import encode_message
from sottovoce.core.tls import AttestationWanted, ClientHandshake
from sottovoce.device import session
from sottovoce.device.session import Request, Session, _Answer

if TYPE_CHECKING:
    from sottovoce.device.ohttp_client import OhttpClient

STAGE = MemoryStage()
LINES = b'{"event":"suggestion","text":"no"}\n' * 300
END = b'{"event":"done","method":"by rules","model":"none"}\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(LINES + END)


class Carrier:
    """In the place of relay, gateway and router: carries what `change` leaves of the CVM's records, and ends in order."""

    def __init__(self, server: RogueServer, change: Any) -> None:
        self._server = server
        self._change = change

    async def turn(self, _: str, data: bytes) -> AsyncGenerator[bytes, None]:
        self._server.receive(data)
        for at in range(0, len(HEAD + LINES + END), 512):
            self._server.send(encode_message((HEAD + LINES + END)[at : at + 512]))
        answer: Iterator[bytes] = self._change(records(iter([self._server.outgoing()])))
        for record in answer:
            yield record

    async def close(self, _: str) -> None:
        """End the session."""


def ask(change: Any) -> int:
    """How many suggestions the device takes from an answer that it believes to be whole."""
    server, client = RogueServer(), ClientHandshake()
    (wanted,) = server.receive(client.first_flight())
    assert isinstance(wanted, AttestationWanted)
    shown = CONTROL.forge(STAGE.stage, Target(exporter=wanted.exporter, spki=wanted.spki))
    assert isinstance(shown, Evidence)
    server.attest(shown.encode())
    offer = client.receive(server.outgoing())
    assert offer is not None
    opened = Session(cast("OhttpClient", Carrier(server, change)), "0" * 32, offer)
    verified = STAGE.verify(offer)

    async def run() -> int:
        async with aclosing(opened.ask(verified, Request("/v1/rewrites", b"{}"))) as events:
            return len([event async for event in events])

    return asyncio.run(run())


def test_a_whole_answer() -> None:
    assert ask(lambda found: found) == 301


@pytest.mark.parametrize(("change", "code"), [t[1:] for t in _TRIALS], ids=[t[0] for t in _TRIALS])
def test_it_is_refused(change: Any, code: str) -> None:
    with pytest.raises(SottovoceError) as caught:
        ask(change)
    assert caught.value.code == code


@pytest.mark.parametrize("change", [change for _, change, code in _TRIALS if code == "peer.decode"])
def test_a_client_that_does_not_ask_for_the_end_takes_it_for_whole(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DecodeError):
        ask(change)
    monkeypatch.setattr(_Answer, "finish", lambda _: None)
    monkeypatch.setattr(session, "_require_end", lambda *, over: over)
    assert ask(change) < 301


def test_records_are_found_wherever_the_stream_is_cut() -> None:
    whole = [b"\x17\x03\x03\x00\x03abc", b"\x17\x03\x03\x00\x00", b"\x17\x03\x03\x00\x01z"]
    joined = b"".join(whole)
    for step in range(1, len(joined) + 1):
        pieces = (joined[at : at + step] for at in range(0, len(joined), step))
        assert list(records(pieces)) == whole
    assert list(records(iter([joined[:-1]]))) == whole[:2]
    assert list(itertools.islice(records(iter([])), 1)) == []

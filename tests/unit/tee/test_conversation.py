"""One session over a socket pair, on one event loop, without processes."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from sottovoce.core.errors import UnavailableError, VerificationError
from sottovoce.core.frames import FRAME
from sottovoce.core.link import END_OF_TURN, LinkReader, encode_turn, link_messages
from sottovoce.core.tls import AttestationWanted, ClientConnection, ClientHandshake, Data, ServerConnection
from sottovoce.tee.conversation import Conversation
from sottovoce.tee.http import ASGIApp, ClientExchange, Head
from sottovoce.tee.logfilter import Code
from sottovoce.tee.roles import pump
from tee_kit import Proof, respond, stream


async def evidence(_: AttestationWanted) -> bytes:
    return b"evidence"


def admit(_: AttestationWanted, shown: bytes) -> None:
    if shown:
        raise VerificationError("refused", check="role")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    if scope["path"] == "/stream":
        await stream(send, [b"piece"] * 2, 0.005)
    else:
        await respond(send, 200, message["body"])


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.link = LinkReader()
        self.loop = asyncio.get_running_loop()
        self.tls: ClientConnection | None = None

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def messages(self) -> list[bytes]:
        """The messages up to the next end of turn."""
        found: list[bytes] = []
        while not found or found[-1]:
            data = await self.loop.sock_recv(self.sock, 65536)
            assert data, "closed"
            found += self.link.feed(data)
        assert found.count(b"") == 1
        return found[:-1]

    async def open(self, own_evidence: bytes = b"") -> ClientConnection:
        handshake = ClientHandshake()
        await self.send(encode_turn(handshake.first_flight()))
        offer = handshake.receive(b"".join(await self.messages()))
        assert offer is not None
        self.tls = offer.accept(Proof(offer.exporter, offer.spki), own_evidence=own_evidence)
        return self.tls

    async def answer(self, exchange: ClientExchange) -> tuple[int, bytes]:
        assert self.tls is not None
        status, body = 0, b""
        for event in self.tls.receive(b"".join(await self.messages())):
            assert isinstance(event, Data)
            for piece in exchange.feed(event.data):
                if isinstance(piece, Head):
                    status = piece.status
                else:
                    body += piece.data
        return status, body


class Session:
    """A conversation and its client."""

    def __init__(self, app: ASGIApp = echo, **options: Any) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        self.client = Client(ours)
        self._theirs = theirs
        self.conversation = Conversation(
            theirs,
            tls=ServerConnection(),
            app=app,
            evidence=evidence,
            admit=admit,
            cadence=0.002,
            **options,
        )

    async def __aenter__(self) -> Self:
        self.end = asyncio.ensure_future(self.conversation.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end.cancel()
        self.client.sock.close()
        self._theirs.close()


@pytest.mark.anyio
async def test_finished_evidence_and_request_in_one_turn() -> None:
    async with Session() as session:
        tls, exchange = await session.client.open(), ClientExchange("x")
        tls.send(exchange.request("POST", "/", b"question"))
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.client.answer(exchange) == (200, b"question")


@pytest.mark.anyio
async def test_a_request_in_several_turns_and_single_bytes() -> None:
    async with Session() as session:
        tls, exchange = await session.client.open(), ClientExchange("x")
        await session.client.send(encode_turn(tls.outgoing()))
        assert tls.receive(b"".join(await session.client.messages())) == []
        tls.send(exchange.request("POST", "/", b"question"))
        data = tls.outgoing()
        await session.client.send(encode_turn(data[:700]))
        assert await session.client.messages() == []
        for byte in link_messages(data[700:]) + END_OF_TURN:
            await session.client.send(bytes([byte]))
        assert await session.client.answer(exchange) == (200, b"question")


@pytest.mark.anyio
async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with Session() as session:
        tls = await session.client.open()
        first, second = ClientExchange("x"), ClientExchange("x")
        tls.send(first.request("GET", "/stream", b"") + second.request("POST", "/", b"second"))
        await session.client.send(encode_turn(tls.outgoing()))
        messages = await session.client.messages()
        plain = b"".join(e.data for e in tls.receive(b"".join(messages)) if isinstance(e, Data))
        pieces = first.feed(plain[: 8 * FRAME]) + second.feed(plain[8 * FRAME :])
        assert [p.status for p in pieces if isinstance(p, Head)] == [200, 200]
        assert b"".join(p.data for p in pieces if not isinstance(p, Head)) == b"piecepiecesecond"


@pytest.mark.anyio
async def test_frames_go_on_while_the_next_piece_is_computed() -> None:
    enough = threading.Event()

    def compute() -> Iterator[bytes]:
        yield b"first"
        assert enough.wait(10)  # a computation that lasts until three frames have come
        yield b"second"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        async for piece in pump(compute()):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with Session(app) as session:
        tls, exchange = await session.client.open(), ClientExchange("x")
        tls.send(exchange.request("GET", "/", b""))
        await session.client.send(encode_turn(tls.outgoing()))
        plain, body = b"", b""
        while not exchange.complete:
            for message in session.client.link.feed(
                await session.client.loop.sock_recv(session.client.sock, 65536)
            ):
                for event in tls.receive(message) if message else []:
                    assert isinstance(event, Data)
                    plain += event.data
                    body += b"".join(p.data for p in exchange.feed(event.data) if not isinstance(p, Head))
            if len(plain) >= 3 * FRAME:
                assert enough.is_set() or body == b"first"
                enough.set()
        assert body == b"firstsecond"


async def plaintext_of(session: Session, path: str) -> tuple[list[int], tuple[int, bytes]]:
    """The sizes of what comes after the library's tickets, and the answer in it."""
    tls, exchange = await session.client.open(), ClientExchange("x")
    await session.client.send(encode_turn(tls.outgoing()))
    assert tls.receive(b"".join(await session.client.messages())) == []
    tls.send(exchange.request("GET", path, b""))
    await session.client.send(encode_turn(tls.outgoing()))
    sizes, status, body = [], 0, b""
    for message in await session.client.messages():
        for event in tls.receive(message):
            assert isinstance(event, Data)
            sizes.append(len(event.data))
            for piece in exchange.feed(event.data):
                status, body = (
                    (piece.status, body) if isinstance(piece, Head) else (status, body + piece.data)
                )
    return sizes, (status, body)


@pytest.mark.anyio
@pytest.mark.parametrize("pauses", [(0.0, 0.0), (0.03, 0.0), (0.0, 0.03)])
async def test_a_steady_answer_is_frames_up_to_its_class_however_it_was_made(
    pauses: tuple[float, float],
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        before, between = pauses
        await asyncio.sleep(before)
        await stream(send, [b"piece"] * 2, between)

    async with Session(app, steady=True) as session:
        sizes, answer = await plaintext_of(session, "/")
    assert answer == (200, b"piecepiece")
    assert sizes == [FRAME] * 128


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [False, True])
async def test_a_steady_answer_that_comes_late_and_whole_is_a_stream_too(fails: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02)
        if fails:
            raise UnavailableError("gone", party="guard")
        await respond(send, 200, b"whole")

    async with Session(app, steady=True) as session:
        sizes, answer = await plaintext_of(session, "/")
    assert answer == (503, b'{"code": "unavailable"}') if fails else (200, b"whole")
    assert sizes == [FRAME] * 128


@pytest.mark.anyio
async def test_a_steady_answer_at_once_is_one_burst() -> None:
    async with Session(steady=True) as session:
        sizes, answer = await plaintext_of(session, "/")
    assert answer == (200, b"")
    assert sizes == [4096]


@pytest.mark.anyio
async def test_idle() -> None:
    async with Session(idle=0.01) as session:
        await session.client.open()
        assert await session.end is Code.IDLE


@pytest.mark.anyio
async def test_too_long() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with Session(never, total=0.05) as session:
        tls = await session.client.open()
        tls.send(ClientExchange("x").request("GET", "/", b""))
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.end is Code.TOO_LONG


@pytest.mark.anyio
async def test_a_refused_peer_is_served_nothing() -> None:
    async with Session() as session:
        tls = await session.client.open(own_evidence=b"somebody")
        tls.send(ClientExchange("x").request("GET", "/", b""))
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.end is Code.VERIFICATION
        assert session.conversation.requests == 0


@pytest.mark.anyio
async def test_a_peer_that_closes_in_order() -> None:
    async with Session() as session:
        tls = await session.client.open()
        tls.close()
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.end is Code.CLOSED


@pytest.mark.anyio
@pytest.mark.parametrize("when", ["at once", "in the handshake", "in the request"])
async def test_a_peer_that_is_cut_off(when: str) -> None:
    async with Session() as session:
        if when == "in the handshake":
            await session.client.send(encode_turn(ClientHandshake().first_flight())[:100])
        elif when == "in the request":
            tls = await session.client.open()
            tls.send(ClientExchange("x").request("GET", "/stream", b""))
            await session.client.send(encode_turn(tls.outgoing()))
            await asyncio.wait_for(session.conversation.open.wait(), 5)
        session.client.sock.shutdown(socket.SHUT_RDWR)
        assert await session.end is Code.CUT


@pytest.mark.anyio
async def test_more_than_the_limits_allow() -> None:
    async with Session() as session:
        tls = await session.client.open()
        frame = (510).to_bytes(2, "big") + b"x" * 510
        tls.send(frame * 700)
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.end in {Code.LIMIT, Code.PROTOCOL}


@pytest.mark.anyio
async def test_a_frame_with_wrong_padding() -> None:
    async with Session() as session:
        tls = await session.client.open()
        tls.send(b"\0\0" + b"x" * 510)
        await session.client.send(encode_turn(tls.outgoing()))
        assert await session.end is Code.DECODE

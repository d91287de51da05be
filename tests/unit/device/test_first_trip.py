"""A first trip that fails: its token is put back if not a byte of it has left the device, and the next attempt knows which relays failed."""

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp.resolver
import pytest

import ohttp_world
import token_kit
from http_kit import KEY_UNKNOWN, raw_answer, reply, upstream
from ohttp_world import NOON, TODAY, authorization, world
from sottovoce.core.errors import SottovoceError, UnavailableError, UsageError
from sottovoce.core.tls import TlsError
from sottovoce.core.tokens import EPOCH_SECONDS, Token
from sottovoce.device import transport
from sottovoce.device.client import Client, _Job, _outcome, _Timer
from sottovoce.device.ohttp_client import CandidatesRefusedError
from sottovoce.device.session import Request
from sottovoce.device.transport import AlreadyArrivedError, Network, NotSentError, RelayClient
from sottovoce.device.wallet import Schedule, Wallet, WalletEmpty, WalletError
from wallet_kit import new, sent_by_two_processes, tokens

MIDNIGHT = (TODAY + 1) * EPOCH_SECONDS
DOWN = "http://127.0.0.1:1"


def rows(path: Path) -> list[tuple[int, int, bytes, bytes]]:
    """All that the file holds of tokens, but for their rows' numbers."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT epoch, ready, token, seal FROM tokens").fetchall())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallet.sqlite"


# The wallet.


def test_a_token_that_is_put_back_is_as_it_was(path: Path) -> None:
    wallet = new(path, Schedule(age=(600, 7200)))
    wallet.add(tokens(5), TODAY, NOON)
    before, plan, later = rows(path), wallet.next_refill(NOON), NOON + 7200
    for _ in range(20):
        token = wallet.take(later)
        assert len(rows(path)) == 4
        wallet.put_back(token)
        assert rows(path) == before
    assert wallet.next_refill(NOON) == plan
    assert len({wallet.take(later).nonce for _ in range(5)}) == 5


def test_a_token_is_put_back_once_and_where_it_came_from(path: Path, tmp_path: Path) -> None:
    wallet, other = new(path), new(tmp_path / "other.db")
    wallet.add(tokens(1), TODAY, NOON)
    token = wallet.take(NOON)
    for stranger in (other, new(path)):
        with pytest.raises(UsageError):
            stranger.put_back(token)
    wallet.put_back(token)
    # Another process may take it now, and send it.
    assert new(path).take(NOON) == token
    with pytest.raises(UsageError):
        wallet.put_back(token)
    assert rows(path) == []


def test_a_token_that_was_put_back_after_its_day_is_dropped(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(1), TODAY, NOON)
    wallet.put_back(wallet.take(MIDNIGHT - 1))
    with pytest.raises(WalletEmpty):
        wallet.take(MIDNIGHT)
    assert rows(path) == []


def test_a_disk_that_cannot_be_written_loses_the_token_and_nothing_else(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(2), TODAY, NOON)
    token = wallet.take(NOON)
    left = rows(path)
    wallet._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(WalletError):
        wallet.put_back(token)
    wallet._connection.execute("PRAGMA query_only = OFF")
    assert rows(path) == left
    with pytest.raises(UsageError):
        wallet.put_back(token)


def test_two_processes_that_put_tokens_back_never_send_the_same_one(path: Path) -> None:
    new(path).add(tokens(40), TODAY, NOON)

    def act(wallet: Wallet, send: Callable[[Token], None]) -> None:
        for turn in range(30):
            token = wallet.take(NOON)
            if turn % 2:
                wallet.put_back(token)
            else:
                send(token)

    sent = sent_by_two_processes(path, act)
    wallet = new(path)
    left = {wallet.take(NOON).nonce for _ in range(10)}
    assert len(sent) == 30
    assert len({*sent, *left}) == 40
    assert wallet.count(NOON) == 0


# When nothing was sent, and when something may have been.


async def swallow(*_: object) -> None:
    """A relay that is cut off as soon as it is connected with."""
    raise ConnectionAbortedError


@pytest.mark.parametrize("later", [False, True], ids=["first", "second"])
def test_a_relay_that_was_connected_with_may_have_the_message(*, later: bool) -> None:
    async def play() -> None:
        async with upstream(swallow) as relay, Network() as network:
            relays = RelayClient(network, [relay.url, DOWN])
            if later:
                relays._relays.sort(key=lambda url: url != DOWN)
            with pytest.raises(UnavailableError) as caught:
                await relays.exchange(b"sealed")
            assert not isinstance(caught.value, NotSentError)

    asyncio.run(play())


def test_a_name_that_nobody_looks_up_and_a_handshake_that_fails_are_nothing_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who blocks a network may swallow questions for names, or answer in a relay's place."""

    async def never(*_: object, **__: object) -> Any:
        await asyncio.Event().wait()

    async def play() -> None:
        async with upstream(raw_answer(b"SSH-2.0-x\r\n")) as other, Network() as network:
            with pytest.raises(NotSentError):
                await RelayClient(network, [other.url.replace("http:", "https:")]).exchange(b"sealed")
            assert other.heads == []
            monkeypatch.setattr(aiohttp.resolver.DefaultResolver, "resolve", never)
            with pytest.raises(NotSentError):
                await RelayClient(network, ["http://relay.example"]).exchange(b"sealed")

    monkeypatch.setattr(transport, "_REACHED_WITHIN", 0.2)
    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_message_that_follows_one_that_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway refuses the first for its date; when the second is to go out, no relay is there."""
    exchange, sent = RelayClient.exchange, []

    async def once_only(relay: RelayClient, body: bytes, **how: Any) -> bytes:
        sent.append(body)
        if len(sent) == 2:
            raise NotSentError("no relay answers", party="relay")
        return await exchange(relay, body, **how)

    async def play() -> None:
        async with world(tmp_path) as w:
            monkeypatch.setattr(RelayClient, "exchange", once_only)
            with pytest.raises(UnavailableError) as caught:
                await w.client(clock_error=-86400.0).open_session(b"hello", authorization(), ["host-1"])
            assert not isinstance(caught.value, NotSentError)
            assert len(sent) == 2

    asyncio.run(play())


# The device.


@contextlib.asynccontextmanager
async def device(home: Path) -> AsyncIterator[Client]:
    """With one token, of the edge world's day."""
    with contextlib.closing(new(home / "wallet.sqlite")) as wallet:
        wallet.add([token_kit.token(TODAY)], TODAY, NOON)
    async with Client(home, clock=lambda: float(NOON)) as client:
        yield client


def new_job(*candidates: str) -> _Job:
    return _Job(feature="rewrite", request=Request("/", b"{}"), messages=(), count=0, candidates=candidates)


async def open_session(client: Client, *relays: str, job: _Job | None = None) -> SottovoceError:
    """How the first trip through these relays ends; the edge world's CVMs do not speak TLS."""
    job = job or new_job("host-1")
    listed = [SimpleNamespace(url=url, operator=url, streams=True) for url in relays]
    directory: Any = SimpleNamespace(
        hosts=lambda _: [SimpleNamespace(id=host) for host in ("host-1", "host-2", "not-served")],
        directory=SimpleNamespace(relays=listed),
        ohttp_config=ohttp_world.X25519,
    )
    environment: Any = SimpleNamespace(token_age=(0, 0))
    with pytest.raises(SottovoceError) as caught:
        _ = [event async for event in client._open(job, environment, directory, _Timer())]
    return caught.value


def test_a_device_whose_network_is_blocked_keeps_its_tokens(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as w, device(tmp_path) as client:
            before = rows(tmp_path / "wallet.sqlite")
            for _ in range(3):
                error = await open_session(client, DOWN, DOWN + "/2")
                assert isinstance(error, NotSentError)
                assert _outcome(error) == "unavailable.relay"
                assert rows(tmp_path / "wallet.sqlite") == before
            # The same token is good at the gateway: it was never there. Then it is gone.
            assert isinstance(await open_session(client, *w.relays), TlsError)
            assert rows(tmp_path / "wallet.sqlite") == []

    asyncio.run(play())


def test_a_device_that_is_cut_off_later_loses_one(tmp_path: Path) -> None:
    async def play() -> None:
        async with upstream(swallow) as relay, device(tmp_path) as client:
            assert isinstance(await open_session(client, relay.url, DOWN), UnavailableError)
            assert rows(tmp_path / "wallet.sqlite") == []

    asyncio.run(play())


def test_a_wallet_that_cannot_be_written_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise WalletError("the disk is full")

    async def play() -> None:
        async with device(tmp_path) as client:
            monkeypatch.setattr(Wallet, "put_back", full)
            assert isinstance(await open_session(client, DOWN), NotSentError)

    asyncio.run(play())


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays are drawn in the order given."""

    class InOrder(random.SystemRandom):
        def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
            return list(population)[:k]

    monkeypatch.setattr(random, "SystemRandom", InOrder)


@pytest.mark.usefixtures("in_order")
def test_whatever_ends_an_attempt_the_next_one_knows_which_relays_failed(tmp_path: Path) -> None:
    async def play() -> None:
        async with upstream(reply(502)) as bad, world(tmp_path) as w, device(tmp_path) as client:
            job = new_job("not-served")
            error = await open_session(client, bad.url, *w.relays, job=job)
            assert isinstance(error, CandidatesRefusedError)
            assert (job.failed, job.relay) == ({bad.url}, w.relays[0])

    asyncio.run(play())


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("before", [(), (DOWN,)], ids=["first", "after one that is down"])
def test_a_relay_that_says_too_early_of_a_message_that_no_other_had(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    async def play() -> None:
        async with upstream(reply(425)) as liar, device(tmp_path) as client:
            job = new_job("host-1")
            error = await open_session(client, *before, liar.url, DOWN + "/2", job=job)
            assert isinstance(error, AlreadyArrivedError)
            assert job.failed == {*before, liar.url}

    asyncio.run(play())


@pytest.mark.usefixtures("in_order")
def test_a_relay_that_alone_says_that_the_key_is_unknown_costs_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with upstream(KEY_UNKNOWN) as liar, world(tmp_path) as w, device(tmp_path) as client:
            job = new_job("host-1")
            # The CVM's flight came: the token was taken by the gateway.
            assert isinstance(await open_session(client, liar.url, *w.relays, job=job), TlsError)
            assert (job.failed, job.relay) == ({liar.url}, w.relays[0])

    asyncio.run(play())

"""One token opens two sessions (part B)."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Attack, Outcome, Result
from sottovoce.core.errors import SottovoceError
from sottovoce.core.tls import ClientHandshake
from sottovoce.core.tokens import authorization_value
from sottovoce.device.client import Client
from sottovoce.device.directory import VerifiedDirectory, draw_candidates
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.ohttp_client import OhttpClient
from sottovoce.device.transport import Network, RelayClient
from sottovoce.device.wallet import Schedule, Wallet

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK"]

_SPENT: Final = frozenset({"token.spent"})
_AT_ONCE: Final = 8


async def _directory(lab: "Lab", network: Network) -> VerifiedDirectory:
    directory, _ = await DirectorySource(lab.world.environment(), network, lab.home).get(int(time.time()))
    return directory


async def _take(lab: "Lab") -> bytes:
    """A genuine token, as an Authorization field."""
    async with Client(lab.home) as client:
        await client.refill_wallet(only_if_due=False)
    with closing(Wallet(lab.home / "wallet.sqlite", schedule=Schedule(age=(0, 0)))) as wallet:
        return authorization_value(wallet.take(int(time.time())))


async def _open(lab: "Lab", authorization: bytes, *ports: int) -> list[Outcome]:
    """Open a session at each of these gateways at once; whoever has the device's bytes needs no relay."""
    async with Network() as network:
        directory = await _directory(lab, network)

        async def one(port: int) -> Outcome:
            ohttp = OhttpClient(
                RelayClient(network, [f"http://127.0.0.1:{port}/ohttp"]), directory.ohttp_config
            )
            drawn = draw_candidates(directory.hosts("orchestrator"))
            try:
                session, _ = await ohttp.open_session(ClientHandshake().first_flight(), authorization, drawn)
                await ohttp.close(session)
            except SottovoceError as error:
                return Outcome(stopped_by=frozenset({error.code}))
            return Outcome(stopped_by=frozenset())

        return list(await asyncio.gather(*map(one, ports)))


def _live(lab: "Lab") -> Iterator[Result]:
    port, token = lab.world.port("gateway"), asyncio.run(_take(lab))
    with lab.passing(), lab.second_gateway() as other:
        asyncio.run(_open(lab, token, port))
        for tries, where in (("again at the same gateway", port), ("again at another gateway", other)):
            (outcome,) = asyncio.run(_open(lab, token, where))
            yield Result(tries=tries, wanted=_SPENT, outcome=outcome)
        fresh = asyncio.run(_take(lab))
        outcomes = asyncio.run(_open(lab, fresh, *[port, other] * (_AT_ONCE // 2)))
        opened = [outcome for outcome in outcomes if not outcome.stopped_by]
        refused = frozenset().union(*(outcome.stopped_by for outcome in outcomes))
        yield Result(
            tries=f"{_AT_ONCE} times at once at two gateways, where one time is the user's right",
            wanted=_SPENT,
            outcome=Outcome(stopped_by=refused if len(opened) == 1 else frozenset()),
        )
        another = asyncio.run(_take(lab))
        asyncio.run(_open(lab, another, port))
        os.kill(lab.world.pids["gateway"], signal.SIGKILL)
        lab.world.restart("gateway")
        (outcome,) = asyncio.run(_open(lab, another, port))
        yield Result(tries="after the gateway was killed and started again", wanted=_SPENT, outcome=outcome)


ATTACK: Final = Attack(
    name="double-spending",
    row="B",
    who="a user with one genuine token and a client of his own",
    tries="one token for two sessions: at one gateway, at two, at both at once, after a crash",
    stopped_by=("token.spent",),
    live=_live,
)

"""Relay, gateway, router and two fake CVMs on real sockets, and a device's client."""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

import edge_kit
import token_kit
from sottovoce.core import hpke, ohttp
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import EPOCH_SECONDS, authorization_value
from sottovoce.device.ohttp_client import OhttpClient
from sottovoce.device.transport import Network, RelayClient
from sottovoce.edge import gateway, router
from sottovoce.thirdparty import relay

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
KEYS = [
    ohttp.GatewayKey(key_id=number, private_key=hpke.generate_private_key(kem))
    for number, kem in enumerate(hpke.ENC_LENGTH)
]
X25519 = KEYS[0].config()


def gateway_config(folder: Path, **changes: Any) -> gateway.Config:
    """A gateway's configuration, with two OHTTP keys and the token keys of today and tomorrow."""
    files = []
    for key in KEYS:
        path = folder / f"ohttp-{key.key_id}"
        path.write_bytes(key.private_key.private_bytes())
        files.append(gateway.OhttpKeyFile(key_id=key.key_id, kem_id=key.private_key.kem_id, path=str(path)))
    config = gateway.Config(
        environment="test",
        service="service.example",
        issuer_name="issuer.example",
        router="http://127.0.0.1:1",
        spent=f"sqlite:{folder}/spent.db?seconds=60",
        ohttp_keys=files,
        token_keys=[
            gateway.TokenKeyEntry(epoch=epoch, key=base64.b64encode(token_kit.key(epoch).spki).decode())
            for epoch in (TODAY, TODAY + 1)
        ],
    )
    return msgspec.structs.replace(config, **changes)


def authorization(epoch: int = TODAY) -> bytes:
    """A fresh token of `epoch`, as it is spent."""
    return authorization_value(token_kit.token(epoch))


@dataclass(kw_only=True)
class World:
    """Everything that runs, and what it logged."""

    cvms: list[edge_kit.FakeCvm]
    gateway: str
    relays: list[str]
    network: Network
    now: list[float]
    lines: list[str] = field(default_factory=list)

    def client(
        self, *relays: str, key: int = 0, clock_error: float = 0.0, flights: bool = False
    ) -> OhttpClient:
        """A device's client; with `flights`, for relays that do not stream."""
        chosen = relays or self.relays
        return OhttpClient(
            RelayClient(self.network, chosen, flights=chosen if flights else ()),
            KEYS[key].config(),
            clock=lambda: self.now[0] + clock_error,
        )


@contextlib.asynccontextmanager
async def world(
    folder: Path, script: edge_kit.Script = edge_kit.echo, *, mirror: str = "http://127.0.0.1:1"
) -> AsyncIterator[World]:
    """Start everything."""
    lines: list[str] = []
    now = [float(NOON)]
    log = EventLog(lines.append)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        cvms = [await enter(edge_kit.cvm(script)) for _ in range(2)]
        hosts = [router.HostAddress(id=f"host-{n}", address=fake.address) for n, fake in enumerate(cvms, 1)]
        router_url = await enter(
            edge_kit.serving(router.create_app(router.Config(hosts=hosts), log=log, clock=lambda: now[0]))
        )
        config = gateway_config(folder, router=router_url)
        gateway_url = await enter(edge_kit.serving(gateway.create_app(config, log=log, clock=lambda: now[0])))
        relay_config = relay.Config(gateway=gateway_url + "/ohttp", mirror=mirror)
        relays = [await enter(edge_kit.serving(relay.create_app(relay_config, log=log))) for _ in range(2)]
        network = await enter(Network())
        yield World(cvms=cvms, gateway=gateway_url, relays=relays, network=network, now=now, lines=lines)


def in_world(
    folder: Path, test: Callable[[World], Awaitable[None]], script: edge_kit.Script = edge_kit.echo
) -> None:
    """Play `test` in a world of its own, within 30 seconds."""

    async def play() -> None:
        async with world(folder, script) as w:
            await test(w)

    asyncio.run(asyncio.wait_for(play(), 30))


async def opened(client: OhttpClient, token: bytes | None = None, hosts: Sequence[str] = ("host-1",)) -> str:
    """The id of a new session."""
    spent = authorization() if token is None else token
    session, _ = await client.open_session(b"hello", spent, hosts)
    return session


async def said(client: OhttpClient, session: str, data: bytes) -> list[bytes]:
    """The whole answer to a turn."""
    return [piece async for piece in client.turn(session, data)]


def canary() -> str:
    """A string that is nowhere else."""
    return f"canary-{secrets.token_hex(8)}"

"""Relay and gateway, one process each: Oblivious HTTP echo requests of 1 KiB (X25519), all distinct, over loopback.

The requests are sealed ahead; one in a hundred answers is opened to see that it is the echo. What the load generator costs is shown, as it
shares the cores. CPU per request says more than requests per second when something else runs.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, cast

import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core import bhttp, hpke, ohttp
from sottovoce.core.blindrsa import PublicKey
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.tokens import TokenKey, epoch_at
from sottovoce.edge import gateway
from sottovoce.simulator.toml import write_config
from sottovoce.thirdparty import relay

BODY: Final = os.urandom(1024)
REQUESTS, RUNS, CONNECTIONS = 6000, 3, 16
SAMPLE: Final = 100
TICKS: Final = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def party(
    role: str, config: msgspec.Struct, folder: Path, *, stderr: int | None = None
) -> Iterator[tuple[str, int]]:
    """One service as `sottovoce serve` starts it: its URL and process id."""
    file = folder / f"{role}.toml"
    write_config(file, config)
    ready, told = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        fds = (sock.fileno(), told)
        command = [sys.executable, "-P", "-m", "sottovoce", "serve", role, "--config", str(file)]
        command += ["--fd", str(fds[0]), "--ready-fd", str(told)]
        process = subprocess.Popen(command, pass_fds=fds, stderr=stderr)
        os.close(told)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        assert os.read(ready, 1), f"the {role} did not start"
        yield url, process.pid
    finally:
        os.close(ready)
        process.terminate()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time that process `pid` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def gateway_config(folder: Path, key: ohttp.GatewayKey) -> gateway.Config:
    """A gateway that echoes."""
    path = folder / "ohttp.key"
    path.write_bytes(key.private_key.private_bytes())
    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    token_key = TokenKey(rsa=PublicKey(modulus=modulus, exponent=65537))
    return gateway.Config(
        environment="benchmark",
        service="service.example",
        issuer_name="issuer.example",
        router="http://127.0.0.1:1",
        spent=str(folder / "spent.db"),
        ohttp_keys=[gateway.OhttpKeyFile(key_id=1, kem_id=hpke.X25519, path=str(path))],
        token_keys=[
            gateway.TokenKeyEntry(
                epoch=epoch_at(int(time.time())), key=base64.b64encode(token_key.spki).decode()
            )
        ],
        unsafe_benchmark_echo=True,
    )


def seal(config: ohttp.KeyConfig, count: int) -> list[tuple[bytes, ohttp.ResponseOpener]]:
    """`count` distinct requests as they go on the wire, with what opens their answers."""
    date = format_http_date(int(time.time()) // 60 * 60)
    inner = bhttp.encode_request(
        bhttp.Request(
            method=b"POST",
            scheme=b"https",
            authority=b"gateway",
            path=b"/unsafe-benchmark-echo",
            headers=((b"date", date),),
            content=BODY,
        )
    )
    requests = []
    for _ in range(count):
        sealed, opener = ohttp.seal_request(config, inner)
        head = b"POST /ohttp HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: %d\r\n\r\n"
        requests.append((head % len(sealed) + sealed, opener))
    return requests


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the last is answered. All answers have one length, so none is parsed but the samples."""

    def __init__(self, work: Iterator[tuple[bytes, ohttp.ResponseOpener]], length: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work = work
        self._length = length
        self._got: list[bytes] = []
        self._missing = 0
        self._count = 0
        self._opener: ohttp.ResponseOpener | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        """Count."""
        self._got.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        answer = b"".join(self._got)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:40]
        self._count += 1
        if self._count % SAMPLE == 0 and self._opener is not None:
            opened = bhttp.decode_response(self._opener.open(answer.partition(b"\r\n\r\n")[2]))
            assert opened.content == BODY
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that the other side closes fails the run."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError())

    def _next(self) -> None:
        assert self._transport is not None
        item = next(self._work, None)
        if item is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._got, self._missing = [], self._length
        request, self._opener = item
        self._transport.write(request)


async def answer_length(address: tuple[str, int], request: bytes) -> int:
    """Bytes of an answer with its head."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    await reader.readexactly(length)
    writer.close()
    return len(head) + length


async def load(url: str, requests: list[tuple[bytes, ohttp.ResponseOpener]], connections: int) -> float:
    """Send all, on so many connections; the seconds that it took."""
    host, port = url.removeprefix("http://").split(":")
    address = (host, int(port))
    length = await answer_length(address, requests[0][0])
    work = iter(requests[1:])
    start = time.perf_counter()
    made = [
        await asyncio.get_running_loop().create_connection(lambda: Connection(work, length), *address)
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    return time.perf_counter() - start


def measure(url: str, pids: dict[str, int], config: ohttp.KeyConfig, connections: int) -> dict[str, float]:
    """Medians over runs: requests per second, and microseconds of CPU a request for each process."""
    runs: dict[str, list[float]] = {}
    for _ in range(RUNS):
        requests = seal(config, REQUESTS)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        own = time.process_time()
        seconds = uvloop.run(load(url, requests, connections))
        used = {"load generator": time.process_time() - own}
        used |= {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        runs.setdefault("requests/s", []).append(len(requests) / seconds)
        for name, cpu in used.items():
            runs.setdefault(f"{name} µs", []).append(1e6 * cpu / len(requests))
    return {name: median(values) for name, values in runs.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    key = ohttp.GatewayKey(key_id=1, private_key=hpke.generate_private_key(hpke.X25519))
    result: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway_url, gateway_pid = stack.enter_context(party("gateway", gateway_config(folder, key), folder))
        config = relay.Config(gateway=gateway_url + "/ohttp", mirror="http://127.0.0.1:1")
        relay_url, relay_pid = stack.enter_context(party("relay", config, folder))
        both = {"relay": relay_pid, "gateway": gateway_pid}
        cases = {
            "gateway": (gateway_url, {"gateway": gateway_pid}, CONNECTIONS),
            "relay and gateway": (relay_url, both, CONNECTIONS),
            "relay and gateway, one connection": (relay_url, both, 1),
        }
        for name, (url, pids, connections) in cases.items():
            figures = measure(url, pids, key.config(), connections)
            cpu = sum(value for kind, value in figures.items() if kind.endswith("µs"))
            figures["two cores could"] = 2e6 / cpu
            print(f"{name}, {connections} connections" if connections > 1 else name)
            for kind, value in figures.items():
                print(f"    {kind:24} {value:8.0f}")
            result |= {f"{name}: {kind}": round(value, 1) for kind, value in figures.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

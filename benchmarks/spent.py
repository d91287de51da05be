"""A gateway's check and spend of one token, with each store: CPU time of the gateway's process, and wall time.

Tokens come one after the other, so that each waits for the disk alone, and 32 at a time, as at a gateway under load, where they share
writes. The servers run on this machine with all that a real store needs (`appendfsync always`, `synchronous_commit on`). What the kernel does for
a write to the disk on behalf of SQLite counts as the gateway's CPU time, so it is shown in a file system in memory too.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from sottovoce.core.tokens import TokenChallenge, TokenRequest, authorization_value, begin
from sottovoce.edge.admission import Admission
from sottovoce.edge.rsa import generate_token_key, load_token_key
from sottovoce.edge.spent import open_store
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.simulator import servers

EPOCH = 20000
NOW = EPOCH * 86400 + 43200
CHALLENGE = TokenChallenge(issuer_name=b"issuer.example", origin_info=b"service.example")
ONE_BY_ONE, AT_ONCE, WIDTH, RUNS = 100, 960, 32, 5
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system without a disk, to see what the disk costs
BOUND = 150


def tokens(signer: Any, key: Any, count: int) -> list[bytes]:
    """So many tokens as they are spent."""
    fields = []
    for _ in range(count):
        request, pending = begin(key, CHALLENGE)
        fields.append(
            authorization_value(pending.finish(signer.blind_sign(TokenRequest.decode(request).blinded)))
        )
    return fields


async def admit(admission: Admission, fields: Sequence[bytes], width: int) -> tuple[float, float]:
    """CPU and wall microseconds a token, with `width` tokens on their way at a time."""
    waiting = iter(fields)

    async def device() -> None:
        for field in waiting:
            await admission.admit(field, NOW)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(device() for _ in range(width)))
    return (
        1e6 * (time.process_time() - cpu) / len(fields),
        1e6 * (time.perf_counter() - wall) / len(fields),
    )


async def measure(url: str, fields: list[bytes], key: Any) -> dict[str, float]:
    """Medians of the runs; the tokens are used once each."""
    admission = Admission({EPOCH: key}, CHALLENGE, url)
    await admission.admit(fields.pop(), NOW)  # opens the connection and forgets what is old
    await asyncio.sleep(0.2)
    figures: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for name, count, width in (("one", ONE_BY_ONE, 1), ("many", AT_ONCE, WIDTH)):
            batch = [fields.pop() for _ in range(count)]
            cpu, wall = await admit(admission, batch, width)
            figures.setdefault(f"{name}_cpu_us", []).append(cpu)
            figures.setdefault(f"{name}_wall_us", []).append(wall)
    await admission.close()
    return {name: round(median(values), 1) for name, values in figures.items()}


def rows(folder: Path, signer: Any, key: Any) -> dict[str, dict[str, float]]:
    """Each store's figures; a store whose server is not here is left out."""
    results = {}
    count = RUNS * (ONE_BY_ONE + AT_ONCE) + 1
    fields = tokens(signer, key, count)  # each store has its own memory, so that all can have the same ones
    results["SQLite"] = asyncio.run(measure(str(folder / "spent.sqlite"), list(fields), key))
    if MEMORY.is_dir():
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            results["SQLite, without a disk"] = asyncio.run(
                measure(f"{memory}/spent.sqlite", list(fields), key)
            )
    for kind, name in (("redis", "Redis"), ("valkey", "Valkey"), ("postgresql", "PostgreSQL")):
        with servers.running(kind) as server:
            if server is None:
                print(f"{name} is not installed here")
                continue
            store: Any = open_store(parse_store_url(server.url()))
            asyncio.run(store.create())
            results[name] = asyncio.run(measure(server.url(), list(fields), key))
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        generate_token_key(folder / "key.pem")
        signer, key = load_token_key(folder / "key.pem")
        results = rows(folder, signer, key)
    print(f"{'check and spend of a token, µs':34}{'one by one':>22}{f'{WIDTH} at a time':>22}")
    print(f"{'':34}" + f"{'CPU':>11}{'wall':>11}" * 2)
    for name, figures in results.items():
        values = (figures[f"{width}_{kind}_us"] for width in ("one", "many") for kind in ("cpu", "wall"))
        print(f"{name:34}" + "".join(f"{value:11.0f}" for value in values))
    print(f"bound: {BOUND} µs of CPU with SQLite")
    if arguments.json:
        arguments.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()

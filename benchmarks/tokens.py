"""What a token costs: issue, verify, spend. Medians of wall time, microseconds, one core.

Spending waits for the disk once, so its time is shown beside a bare write of one page to the same disk.

Then of both types what a token costs in CPU time, on the device and at the issuer, and the issuer as it is served: processes on one key
and one store of accounts, over HTTP, by the CPU time that they use. Type 5 is measured where libsodium is.
"""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.edge import cpu_seconds, party

from sottovoce.core import ristretto
from sottovoce.core.genericbatch import begin_public_batch
from sottovoce.core.privatetokens import BatchRequest, PrivateTokenKey, begin_batch, issue_batch
from sottovoce.core.tokens import (
    TokenChallenge,
    TokenRequest,
    authorization_value,
    begin,
    epoch_at,
    parse_authorization,
    verify_token,
)
from sottovoce.device.schedule import Schedule
from sottovoce.edge import issuer
from sottovoce.edge.accounts_sqlite import Accounts
from sottovoce.edge.batchkeys import generate_batch_key, load_batch_key
from sottovoce.edge.rsa import generate_token_key, load_token_key
from sottovoce.edge.spent_sqlite import SqliteSpent

RUNS, GROUP, EPOCH = 300, 16, 20000
REFILL = Schedule().batch
"""What a device asks for in one request."""
BATCHES, LARGE = 12, 256
SERVED, CONNECTIONS, PROCESSES = 2400, 8, (1, 2)
SINGLE_TYPE = "application/private-token-request"
GENERIC_TYPE = "application/private-token-generic-batch-request"
BATCH_TYPE = "application/private-token-amortized-batch-request"
CHALLENGE = TokenChallenge(issuer_name=b"issuer.example", origin_info=b"service.example")
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system without a disk, to see what the disk costs
Step = Callable[[int], object]


def med(step: Step, *, runs: int = RUNS) -> float:
    """Median of `runs` calls, microseconds; each call gets its number."""
    times = []
    for number in range(runs):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
    return 1e6 * median(times)


def issuing(folder: Path) -> dict[str, float]:
    """The issuer's work for one token, and the device's before and after."""
    path = folder / "key.pem"
    generate_token_key(path)
    signer, key = load_token_key(path)
    accounts = Accounts(folder / "accounts.db")
    begun = [begin(key, CHALLENGE) for _ in range(RUNS)]
    blinded = [TokenRequest.decode(request).blinded for request, _ in begun]
    answers = [signer.blind_sign(message) for message in blinded]
    result = {
        "blind_us": med(lambda _: begin(key, CHALLENGE)),
        "sign_us": med(lambda number: signer.blind_sign(blinded[number])),
        "count_us": med(lambda number: accounts.count("bench", number // 1000, RUNS)),
        "finish_us": med(lambda number: begun[number][1].finish(answers[number])),
    }
    accounts.close()
    return result


def redeeming(key_file: Path, folder: Path) -> dict[str, float]:
    """The gateway's work for one session: parse, verify and spend one token."""
    signer, key = load_token_key(key_file)
    fields = []
    for _ in range(RUNS):
        request, pending = begin(key, CHALLENGE)
        token = pending.finish(signer.blind_sign(TokenRequest.decode(request).blinded))
        fields.append(authorization_value(token))
    store = SqliteSpent(folder / "spent.db", tokens=1_000_000, seconds=5)

    def check(number: int) -> bytes:
        return verify_token(parse_authorization(fields[number]), key, CHALLENGE).digest

    def group(_: int) -> None:
        store.write([(os.urandom(32), EPOCH) for _ in range(GROUP)])

    result = {
        "check_us": med(check),
        "spend_us": med(lambda _: store.write([(os.urandom(32), EPOCH)])),
        "redeem_us": med(lambda number: store.write([(check(number), EPOCH)])),
        "group_us": med(group) / GROUP,
    }
    store.shut()
    return result


def in_memory(key_file: Path) -> float:
    """Redeeming where a write to the disk costs nothing, or NaN where there is no such place."""
    if not MEMORY.is_dir():
        return float("nan")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        return redeeming(key_file, Path(folder))["redeem_us"]


def disk(folder: Path) -> float:
    """One page overwritten and on the disk: what any store on it must pay."""
    with (folder / "page").open("wb+", buffering=0) as file:
        file.write(bytes(4096 * RUNS))
        os.fsync(file.fileno())

        def write(number: int) -> None:
            os.pwrite(file.fileno(), os.urandom(4096), 4096 * number)
            os.fdatasync(file.fileno())

        return med(write)


def cpu(step: Step, tokens: int, *, runs: int) -> float:
    """Microseconds of CPU time a token, of a step that makes `tokens`; the median of `runs`."""
    times = []
    for number in range(runs):
        start = time.process_time()
        step(number)
        times.append(time.process_time() - start)
    return 1e6 * median(times) / tokens


def batch_cpu(key: PrivateTokenKey, size: int) -> dict[str, float]:
    """A batch of type 5 from request to tokens, and their check at a gateway; each step a token."""
    challenge = replace(CHALLENGE, token_type=5)
    begun = [begin_batch(key.public, challenge, size) for _ in range(BATCHES)]
    requests = [BatchRequest.decode(request) for request, _ in begun]
    answers = [issue_batch(key, request) for request in requests]
    made: list[Sequence[bytes]] = []

    def finish(number: int) -> None:
        tokens = begun[number][1].finish(answers[number])
        made.append([authorization_value(token) for token in tokens])

    def check(number: int) -> None:
        for value in made[number]:
            verify_token(parse_authorization(value), key, challenge)

    return {
        f"batch{size}_blind_cpu_us": cpu(
            lambda _: begin_batch(key.public, challenge, size), size, runs=BATCHES
        ),
        f"batch{size}_issue_cpu_us": cpu(
            lambda number: issue_batch(key, requests[number]), size, runs=BATCHES
        ),
        f"batch{size}_finish_cpu_us": cpu(finish, size, runs=BATCHES),
        f"batch{size}_check_cpu_us": cpu(check, size, runs=BATCHES),
    }


def both_types(folder: Path) -> dict[str, float]:
    """CPU time a token of both types, in one process."""
    signer, key = load_token_key(folder / "key.pem")
    begun = [begin(key, CHALLENGE) for _ in range(RUNS)]
    blinded = [TokenRequest.decode(request).blinded for request, _ in begun]
    answers = [signer.blind_sign(message) for message in blinded]
    result = {
        "blind_cpu_us": cpu(lambda _: begin(key, CHALLENGE), 1, runs=RUNS),
        "sign_cpu_us": cpu(lambda number: signer.blind_sign(blinded[number]), 1, runs=RUNS),
        "finish_cpu_us": cpu(lambda number: begun[number][1].finish(answers[number]), 1, runs=RUNS),
    }
    if ristretto.is_available():
        batch_key = load_batch_key(folder / "batch.key")
        result |= batch_cpu(batch_key, GROUP) | batch_cpu(batch_key, LARGE)
    return result


# The issuer as it is served.


@contextlib.contextmanager
def issuers(folder: Path, count: int) -> Iterator[tuple[list[tuple[str, int]], str]]:
    """So many issuer processes on one key and one store: URLs and process ids, and an account's key."""
    today = epoch_at(int(time.time()))
    database = folder / f"issuers-{count}.db"
    config = issuer.Config(
        database=str(database),
        keys=[issuer.KeyFile(epoch=today, path=str(folder / "key.pem"))],
        batch_keys=[issuer.KeyFile(epoch=today, path=str(folder / "batch.key"))]
        if ristretto.is_available()
        else [],
        quota=1_000_000,
    )
    account = issuer.enrol(database, "bench")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(party("issuer", config, folder)) for _ in range(count)], account


async def post_all(url: str, head: str, bodies: list[bytes]) -> None:
    """Post all, on a few connections, each as soon as the one before it is answered."""
    host, port = url.removeprefix("http://").split(":")
    work = iter(bodies)

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for body in work:
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:40]
            lines = (line.partition(b":") for line in answer.lower().split(b"\r\n"))
            await reader.readexactly(
                next(int(value) for name, _, value in lines if name == b"content-length")
            )
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def post_everywhere(urls: list[str], head: str, bodies: list[bytes]) -> None:
    """The same at several issuers at once, each with its part."""
    await asyncio.gather(*(post_all(url, head, bodies[n :: len(urls)]) for n, url in enumerate(urls)))


def serve(
    parties: list[tuple[str, int]], account: str, kind: str, bodies: list[bytes]
) -> tuple[float, float]:
    """Wall seconds for all requests, and the CPU seconds of all issuers together."""
    head = f"POST /token-request HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {account}\r\ncontent-type: {kind}\r\n"
    before = [cpu_seconds(pid) for _, pid in parties]
    start = time.perf_counter()
    asyncio.run(post_everywhere([url for url, _ in parties], head, bodies))
    wall = time.perf_counter() - start
    return wall, sum(cpu_seconds(pid) - used for (_, pid), used in zip(parties, before, strict=True))


def served(folder: Path) -> dict[str, float]:
    """Tokens a second of CPU time, and of wall time, by the number of processes."""
    _, key = load_token_key(folder / "key.pem")
    loads = {
        "single": (1, SINGLE_TYPE, [begin(key, CHALLENGE)[0] for _ in range(SERVED)]),
        f"generic{REFILL}": (
            REFILL,
            GENERIC_TYPE,
            [begin_public_batch(key, CHALLENGE, REFILL)[0] for _ in range(CONNECTIONS * 5)],
        ),
    }
    if ristretto.is_available():
        public, challenge = load_batch_key(folder / "batch.key").public, replace(CHALLENGE, token_type=5)
        for size in (GROUP, REFILL, LARGE):
            made = [
                begin_batch(public, challenge, size)[0] for _ in range(max(CONNECTIONS * 4, SERVED // size))
            ]
            loads[f"batch{size}"] = (size, BATCH_TYPE, made)
    result = {}
    for count in PROCESSES:
        with issuers(folder, count) as (parties, account):
            for name, (size, kind, bodies) in loads.items():
                wall, used = serve(parties, account, kind, bodies)
                result[f"served{count}_{name}_per_cpu_s"] = size * len(bodies) / used
                result[f"served{count}_{name}_per_s"] = size * len(bodies) / wall
    return result


ROWS = (
    ("device: blind one request", "blind_us", ""),
    ("issuer: sign it", "sign_us", "bound 1,200"),
    ("issuer: count it", "count_us", ""),
    ("device: finish and verify", "finish_us", ""),
    ("gateway: parse and verify", "check_us", ""),
    ("gateway: spend, on the disk", "spend_us", ""),
    (f"gateway: spend, in groups of {GROUP}, each", "group_us", ""),
    ("gateway: parse, verify and spend", "redeem_us", "bound 150 + the disk's page"),
    ("gateway: the same, without a disk", "memory_us", "bound 150"),
    ("this disk: one page, no store", "disk_us", ""),
)


CPU_ROWS = (
    ("type 2: device blinds", "blind_cpu_us"),
    ("type 2: issuer signs", "sign_cpu_us"),
    ("type 2: device finishes and verifies", "finish_cpu_us"),
    *(
        (f"type 5, {size} a batch: {what}", f"batch{size}_{step}_cpu_us")
        for size in (GROUP, LARGE)
        for step, what in (
            ("blind", "device blinds"),
            ("issue", "issuer evaluates and proves"),
            ("finish", "device verifies and finishes"),
            ("check", "gateway parses and verifies"),
        )
    ),
)
SERVED_ROWS = (
    ("single", "type 2, one by one", ""),
    (f"generic{REFILL}", f"type 2, {REFILL} a request", "bound 800"),
    (f"batch{GROUP}", f"type 5, {GROUP} a request", ""),
    (f"batch{REFILL}", f"type 5, {REFILL} a request", "bound 5,000"),
    (f"batch{LARGE}", f"type 5, {LARGE} a request", ""),
)


def print_cpu(result: dict[str, float]) -> None:
    """The table of CPU times."""
    print("\nCPU time a token, in one process")
    for title, figure in CPU_ROWS:
        if figure in result:
            print(f"{title:52}{result[figure]:8.0f} µs{1e6 / result[figure]:10,.0f} /s a core")
    print("\nThe issuer as it is served: HTTP, account, key and all")
    for count in PROCESSES:
        for name, title, bound in SERVED_ROWS:
            if (rate := result.get(f"served{count}_{name}_per_cpu_s")) is not None:
                wall = result[f"served{count}_{name}_per_s"]
                print(
                    f"{count} process(es), {title:24}{rate:8,.0f} tokens a CPU second {f' ({bound})' if bound else '':16}{wall:10,.0f} a second"
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--folder", type=Path, help="where the stores stand; the temporary folder if not given"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        result = issuing(folder) | redeeming(folder / "key.pem", folder)
        result |= {"memory_us": in_memory(folder / "key.pem"), "disk_us": disk(folder)}
        if ristretto.is_available():
            generate_batch_key(folder / "batch.key")
        result |= both_types(folder) | served(folder)
    for title, figure, bound in ROWS:
        print(f"{title:42}{result[figure]:8.0f} µs{f'   ({bound})' if bound else ''}")
    print_cpu(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

"""The log: appends a second, and what a proof costs. Each party is a process, over loopback, on the real disk.

Every append is acknowledged: durable, signed, cosigned by both witnesses and published. The load generator shares the cores.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from subprocess import DEVNULL

import aiohttp
from benchmarks.edge import cpu_seconds, party

from sottovoce.thirdparty import log, witness
from sottovoce.thirdparty.log import WitnessAddress
from sottovoce.thirdparty.sequencer import Sequencer
from sottovoce.thirdparty.stores import Folder
from sottovoce.tlog import tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import leaf_hash
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey, sign_note
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.proof import encode_proof, verify_proof
from sottovoce.tlog.tree import Tree

ORIGIN, NOW = "log.example/benchmark", 1_800_000_000
SECONDS, BUNDLE, SENDERS, CONNECTIONS = 5.0, 256, 4, 256
LEAVES, RUNS = 1 << 20, 2000
KEY = SigningKey.generate(ORIGIN)
WITNESSES = [SigningKey.generate(f"witness.example/{number}", COSIGNATURE) for number in range(2)]


def entry(number: int) -> bytes:
    """About what a host's entry takes."""
    return b'{"number":%d,"padding":"%s"}' % (number, os.urandom(100).hex().encode())


async def load(senders: int, send: Callable[[aiohttp.ClientSession], Awaitable[int]]) -> float:
    """Entries a second that `senders` at once get acknowledged."""
    done, end = 0, time.perf_counter() + SECONDS

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal done
        while time.perf_counter() < end:
            count = await send(session)
            done += count

    start = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=senders)) as session:
        await asyncio.gather(*(one(session) for _ in range(senders)))
    return done / (time.perf_counter() - start)


async def appending(url: str) -> dict[str, float]:
    """Entries one by one, and many in one request."""
    headers = {"Authorization": "Bearer correct horse battery staple"}

    async def post(session: aiohttp.ClientSession, path: str, body: bytes) -> int:
        async with session.post(url + path, data=body, headers=headers) as response:
            told = json.loads(await response.read())
            assert (response.status, told["cosignatures"]) == (200, 2), told
            return len(told.get("indexes", [0]))

    async def single(session: aiohttp.ClientSession) -> int:
        return await post(session, "/entries", entry(0))

    async def bundle(session: aiohttp.ClientSession) -> int:
        return await post(session, "/batch", tiles.encode_bundle([entry(one) for one in range(BUNDLE)]))

    return {
        "one_by_one_per_second": await load(CONNECTIONS, single),
        "in_batches_per_second": await load(SENDERS, bundle),
    }


def sequenced(folder: Path) -> dict[str, float]:
    """The sequencer alone: what a batch costs without HTTP and witnesses."""
    sequencer, result = Sequencer(Folder(folder / "alone"), KEY, ORIGIN), dict[str, float]()
    for size in (1, BUNDLE):
        times = []
        for _ in range(20):
            batch = [entry(0) for _ in range(size)]
            start = time.perf_counter()
            sequencer.add(batch)
            times.append(time.perf_counter() - start)
        result[f"batch_of_{size}_ms"] = 1e3 * median(times)
    return result


def served(folder: Path) -> dict[str, float]:
    """The log with two witnesses, as `sottovoce serve` starts them."""
    addresses = []
    (folder / "key").write_text(KEY.secret())
    (folder / "secret").write_text("correct horse battery staple")
    with (
        party("witness", witness_config(folder, 0), folder / "witness-0", stderr=DEVNULL) as (first, _),
        party("witness", witness_config(folder, 1), folder / "witness-1", stderr=DEVNULL) as (second, _),
    ):
        for key, url in zip(WITNESSES, (first, second), strict=True):
            addresses.append(WitnessAddress(key=str(key.verifier), url=url))
        config = log.Config(
            origin=ORIGIN,
            key=str(folder / "key"),
            folder=str(folder / "log"),
            secret=str(folder / "secret"),
            witnesses=addresses,
            quorum=2,
        )
        with party("log", config, folder, stderr=DEVNULL) as (url, pid):
            before = cpu_seconds(pid)
            result = asyncio.run(appending(url))
            result["log_cpu_seconds"] = cpu_seconds(pid) - before
            size = Checkpoint.parse(Note.parse((folder / "log/checkpoint").read_bytes()).text).size
    result["entries"] = size
    start = time.perf_counter()
    Sequencer(log.open_store(config), KEY, ORIGIN)
    result["start_again_s"] = time.perf_counter() - start
    return result


def witness_config(folder: Path, number: int) -> witness.Config:
    """One witness's configuration; its folder is made."""
    own = folder / f"witness-{number}"
    own.mkdir()
    (own / "key").write_text(WITNESSES[number].secret())
    return witness.Config(key=str(own / "key"), state=str(own / "state"), logs=[str(KEY.verifier)])


def med(step: Callable[[int], object]) -> float:
    """Median, microseconds."""
    times = []
    for number in range(RUNS):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
    return 1e6 * median(times)


def proving() -> dict[str, float]:
    """Proofs in a tree of a million entries: building one, and the device's check."""
    entries = [b"entry %d" % number for number in range(RUNS)]
    tree = Tree(number.to_bytes(32, "big") for number in range(LEAVES - RUNS))
    for each in entries:
        tree.append(leaf_hash(each))

    def checkpoint(time: int) -> Note:
        note = sign_note(Checkpoint(origin=ORIGIN, size=LEAVES, root=tree.root()).encode(), [KEY])
        made = (key.cosign(note.text, time=time) for key in WITNESSES)
        return Note(text=note.text, signatures=(*note.signatures, *made))

    keys = tuple(key.verifier for key in WITNESSES)
    policy = LogPolicy(origin=ORIGIN, log_key=KEY.verifier, witnesses=keys, quorum=2)

    def proof(number: int, head: Note) -> bytes:
        index = LEAVES - RUNS + number
        return encode_proof(index=index, path=tree.inclusion_proof(index), checkpoint=head)

    seen = checkpoint(NOW - RUNS)
    verify_proof(proof(0, seen), entries[0], policy, now=NOW)
    under_one = [proof(number, seen) for number in range(RUNS)]
    under_others = [proof(number, checkpoint(NOW - number)) for number in range(RUNS)]

    def verify(proofs: Sequence[bytes]) -> float:
        return med(lambda number: verify_proof(proofs[number], entries[number], policy, now=NOW))

    return {
        "prove_us": med(lambda number: tree.inclusion_proof(number * 523 % LEAVES)),
        "consistency_us": med(lambda number: tree.consistency_proof(1 + number * 523 % LEAVES)),
        "verify_us": verify(under_one),
        "verify_new_checkpoint_us": verify(under_others),
    }


def main() -> None:
    """Print a table; write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = served(Path(folder)) | sequenced(Path(folder)) | proving()
    print(f"appends acknowledged a second, {CONNECTIONS} at once  {result['one_by_one_per_second']:10.0f}")
    print(f"  the same, {SENDERS} requests of {BUNDLE}             {result['in_batches_per_second']:10.0f}")
    print(f"a batch of 1 on the disk, alone           {result['batch_of_1_ms']:10.1f} ms")
    print(f"  of {BUNDLE}                                  {result[f'batch_of_{BUNDLE}_ms']:10.1f} ms")
    print(f"the log started again, {result['entries']:.0f} entries   {result['start_again_s']:10.2f} s")
    print(f"a proof built, of {LEAVES} entries         {result['prove_us']:10.1f} µs")
    print(f"a consistency proof built                 {result['consistency_us']:10.1f} µs")
    print(f"a proof verified                          {result['verify_us']:10.1f} µs")
    print(f"  under a checkpoint not seen before      {result['verify_new_checkpoint_us']:10.1f} µs")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

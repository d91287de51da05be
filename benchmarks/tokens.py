"""What a token costs: issue, verify, spend. Medians of wall time, microseconds, one core.

Spending waits for the disk once, so its time is shown beside a bare write of one page to the same disk.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from sottovoce.core.tokens import (
    TokenChallenge,
    TokenRequest,
    authorization_value,
    begin,
    parse_authorization,
    verify_token,
)
from sottovoce.edge.accounts import Accounts
from sottovoce.edge.rsa import generate_token_key, load_token_key
from sottovoce.edge.spent_sqlite import SqliteSpent

RUNS, GROUP, EPOCH = 300, 16, 20000
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


ROWS = (
    ("device: blind one request", "blind_us", ""),
    ("issuer: sign it", "sign_us", "bound 1,200"),
    ("issuer: count it, on the disk", "count_us", ""),
    ("device: finish and verify", "finish_us", ""),
    ("gateway: parse and verify", "check_us", ""),
    ("gateway: spend, on the disk", "spend_us", ""),
    (f"gateway: spend, in groups of {GROUP}, each", "group_us", ""),
    ("gateway: parse, verify and spend", "redeem_us", "bound 150 + the disk's page"),
    ("gateway: the same, without a disk", "memory_us", "bound 150"),
    ("this disk: one page, no store", "disk_us", ""),
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
    for title, figure, bound in ROWS:
        print(f"{title:42}{result[figure]:8.0f} µs{f'   ({bound})' if bound else ''}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

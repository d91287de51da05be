"""Several issuer processes serve one issuer: one key, one store of accounts, one quota."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec

import token_kit
from sottovoce.core import ristretto
from sottovoce.core.privatetokens import begin_batch
from sottovoce.core.tokens import EPOCH_SECONDS, Token, verify_token
from sottovoce.edge.accounts_sqlite import Accounts
from sottovoce.edge.issuer import Config, KeyFile, enrol
from sottovoce.simulator.toml import write_config

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
PROCESSES, EACH, BATCH = 3, 8, 5
QUOTA = 30
SINGLE = "application/private-token-request"
BATCHED = "application/private-token-amortized-batch-request"

# One issuer process: posts what it is given to its own application, all at once, and prints statuses and answers.
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
import msgspec
import asgi
from sottovoce.core.events import EventLog
from sottovoce.edge.issuer import Config, create_app

config = msgspec.toml.decode(Path(sys.argv[1]).read_bytes(), type=Config)
app = create_app(config, log=EventLog(lambda _: None), clock=lambda: float(sys.argv[2]))

async def post(account, kind, body):
    headers = {"authorization": f"Bearer {account}", "content-type": kind}
    answer = await asgi.fetch(app, "POST", "/token-request", headers=headers, body=bytes.fromhex(body))
    return [answer.status, answer.body.hex()]

async def main():
    print("ready", flush=True)
    posts = [post(*each) for each in json.loads(sys.stdin.readline())]
    print(json.dumps(await asyncio.gather(*posts)), flush=True)

asyncio.run(main())
"""


def start(config: Path) -> "subprocess.Popen[str]":
    tests = Path(__file__).parents[2]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tests)!r})\n{PROGRAM}"]
    return subprocess.Popen(
        [*command, str(config), str(NOON)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def at_once(config: Path, posts: list[list[list[str]]]) -> list[list[tuple[int, str]]]:
    """Each process gets its posts once all of them are ready."""
    processes = [start(config) for _ in posts]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process, mine in zip(processes, posts, strict=True):
        assert process.stdin
        process.stdin.write(json.dumps(mine) + "\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return answers


def configured(folder: Path) -> tuple[Path, str]:
    (folder / "key.pem").write_bytes(token_kit.pem())
    keys = [KeyFile(epoch=TODAY, path=str(folder / "key.pem"))]
    database = str(folder / "accounts.db")
    config = Config(database=database, keys=keys, quota=QUOTA)
    if ristretto.is_available():
        (folder / "batch.key").write_bytes(token_kit.batch_secret())
        batch_keys = [KeyFile(epoch=TODAY, path=str(folder / "batch.key"))]
        config = msgspec.structs.replace(config, batch_keys=batch_keys)
    write_config(folder / "issuer.toml", config)
    return folder / "issuer.toml", enrol(database, "anna")


def test_they_issue_no_token_beyond_the_quota_and_all_of_one_key(tmp_path: Path) -> None:
    config, account = configured(tmp_path)
    begun = [[token_kit.pending() for _ in range(EACH)] for _ in range(PROCESSES)]
    posts = [[[account, SINGLE, request.hex()] for request, _ in mine] for mine in begun]
    # 24 tokens are within the quota of 30; the second round has room for six more.
    first = at_once(config, posts)
    assert {status for answers in first for status, _ in answers} == {200}
    for mine, answers in zip(begun, first, strict=True):
        for (_, pending), (_, body) in zip(mine, answers, strict=True):
            verify_token(pending.finish(bytes.fromhex(body)), token_kit.key(), token_kit.CHALLENGE)
    second = [status for answers in at_once(config, posts) for status, _ in answers]
    assert (second.count(200), second.count(429)) == (QUOTA - PROCESSES * EACH, 2 * PROCESSES * EACH - QUOTA)
    count = Accounts(config.parent / "accounts.db")
    (issued,) = count._connection.execute("SELECT tokens FROM issued").fetchall()
    count.close()
    assert issued == (QUOTA,)


def test_batches_count_whole_across_processes(tmp_path: Path) -> None:
    token_kit.need_sodium()
    config, account = configured(tmp_path)
    public = token_kit.batch_key().public
    begun = [
        [begin_batch(public, token_kit.BATCH_CHALLENGE, BATCH) for _ in range(EACH)] for _ in range(PROCESSES)
    ]
    posts = [[[account, BATCHED, request.hex()] for request, _ in mine] for mine in begun]
    answers = at_once(config, posts)
    tokens: list[Token] = []
    for mine, got in zip(begun, answers, strict=True):
        for (_, pending), (status, body) in zip(mine, got, strict=True):
            if status == 200:
                tokens += pending.finish(bytes.fromhex(body))
            else:
                assert (status, bytes.fromhex(body)) == (429, b'{"code": "quota"}')
    assert len({token.nonce for token in tokens}) == QUOTA
    for token in tokens:
        verify_token(token, token_kit.batch_key(), token_kit.BATCH_CHALLENGE)

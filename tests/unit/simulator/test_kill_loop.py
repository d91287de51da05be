"""A few kills with each store, in every test run; `scripts/kill_loop.py` does hundreds."""

import contextlib
import sqlite3

import pytest

from sottovoce.simulator import servers
from sottovoce.simulator.kill_loop import STORES, run


@pytest.mark.e2e
@pytest.mark.parametrize("store", STORES)
def test_no_token_is_accepted_twice_whoever_is_killed(store: str) -> None:
    program = {"postgresql": "initdb", "redis": "redis-server", "valkey": "valkey-server"}.get(store)
    if program and servers.find_program(program) is None:
        pytest.skip(f"{store} is not installed here")
    counts = run(store, 6)
    assert counts.accepted_twice == 0
    assert counts.gateway_kills + counts.server_kills == 6
    assert counts.server_kills == (store != "sqlite")
    # Tokens were spent meanwhile, and each accepted one was refused at the end.
    assert counts.accepted > 0
    assert counts.refused_again >= counts.accepted
    assert counts.tokens == counts.accepted + counts.lost_tokens


@pytest.mark.e2e
def test_the_loop_sees_a_store_that_forgets() -> None:
    def forget(path: str) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as rows:
            rows.execute("DELETE FROM spent")
            rows.commit()

    assert run("sqlite", 4, after_kill=forget).accepted_twice > 0

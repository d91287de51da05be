"""A device of an environment with tokens of type 5, in a world whose issuer and gateway have keys for both types."""

import time
from contextlib import closing

import msgspec
import pytest

import token_kit
from e2e.conftest import CHATS, Device
from sottovoce.device.wallet import Schedule, Wallet
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def test_a_summary_for_a_token_of_type_5(world: World, fresh: Device) -> None:
    token_kit.need_sodium()
    msgspec.structs.replace(world.environment(), token_type=5).install(fresh.home)
    fresh.opt_in()
    done = fresh.run("wallet", "refill", "--now")
    assert done.returncode == 0, done.stderr
    before = fresh.ready()
    assert before > 0
    done = fresh.run("summarize", str(CHATS / "book-club.txt"), "--unread", "10")
    assert done.returncode == 0, done.stderr
    assert "• " in done.stdout
    assert fresh.ready() == before - 1
    with closing(Wallet(fresh.home / "wallet.sqlite", schedule=Schedule(age=(0, 0)))) as wallet:
        assert wallet.take(int(time.time())).token_type == 5

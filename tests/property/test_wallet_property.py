"""The wallet against a model: whatever the order of refills, uses, restarts and hours."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sottovoce.core.tokens import EPOCH_SECONDS, Token, epoch_at
from sottovoce.device.wallet import Schedule, Wallet, WalletEmpty

AGE = (100, 5000)


class WalletMachine(RuleBasedStateMachine):
    """Every token that was added is taken once at most, in its day, after its rest."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 20000 * EPOCH_SECONDS
        self.added: dict[bytes, tuple[int, int]] = {}
        self.taken: set[bytes] = set()
        self.wallet = self.open()

    def open(self) -> Wallet:
        draw = random.Random(self.now)  # noqa: S311 - the test must repeat
        return Wallet(Path(self.folder.name) / "wallet.db", schedule=Schedule(age=AGE), draw=draw)

    @rule(count=st.integers(1, 5), ahead=st.integers(0, 1))
    def add(self, count: int, ahead: int) -> None:
        epoch = epoch_at(self.now) + ahead
        tokens = [Token.decode(b"\x00\x02" + os.urandom(352)) for _ in range(count)]
        self.wallet.add(tokens, epoch, self.now)
        self.added |= {token.nonce: (epoch, self.now) for token in tokens}

    @rule()
    def take(self) -> None:
        if self.wallet.stock(self.now).ready == 0:
            with pytest.raises(WalletEmpty) as caught:
                self.wallet.take(self.now)
            assert caught.value.ready_at is None or caught.value.ready_at > self.now
            return
        token = self.wallet.take(self.now)
        epoch, since = self.added[token.nonce]
        assert token.nonce not in self.taken
        assert epoch == epoch_at(self.now)
        assert self.now >= since + AGE[0]
        self.taken.add(token.nonce)

    @rule()
    def put_back(self) -> None:
        stock = self.wallet.stock(self.now)
        if stock.ready:
            self.wallet.put_back(self.wallet.take(self.now))
            assert self.wallet.stock(self.now) == stock

    @rule(seconds=st.sampled_from([1, 100, 3000, 20000, 90000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.wallet.close()
        self.wallet = self.open()

    @invariant()
    def nothing_is_lost_and_nothing_appears(self) -> None:
        today = epoch_at(self.now)
        left = {nonce for nonce, (epoch, _) in self.added.items() if epoch >= today} - self.taken
        assert self.wallet.count(self.now) == len(left)
        stock = self.wallet.stock(self.now)
        rested = {n for n in left if self.added[n][0] == today and self.added[n][1] + AGE[1] <= self.now}
        assert stock.ready >= len(rested), "no token rests for longer than the schedule says"

    def teardown(self) -> None:
        self.wallet.close()
        self.folder.cleanup()


WalletMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestWallet = WalletMachine.TestCase

"""The simulated wallet is the real one: both are played side by side, with the same random numbers."""

import os
import random
from pathlib import Path

import pytest

import token_kit
from sottovoce.core.tokens import EPOCH_SECONDS, Token
from sottovoce.device.schedule import Schedule
from sottovoce.device.wallet import PendingBatch, Wallet, WalletEmpty
from sottovoce.simulator.population.wallets import Naive, Scheduled

BORN = 20_000 * EPOCH_SECONDS + 12_345
END = BORN + 6 * EPOCH_SECONDS
ZONE = 5 * 3600 + 1800
SCHEDULE = Schedule(batch=3)
OFF = [(BORN + 40_000, BORN + 71_000), (BORN + 100_000, BORN + 290_000), (BORN + 300_000, BORN + 300_100)]


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the test must repeat


class Quiet(random.Random):
    """The real wallet also draws which token it spends; that must not use up numbers of the schedule's."""

    def choice(self, seq):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        return seq[0]


class AnyToken(PendingBatch):
    """A batch whose answers need no issuer."""

    def finish(self, _):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        return [
            (one.epoch, Token.decode(b"\x00\x02" + os.urandom(352)))
            for one in self._pending or []
            for _ in range(SCHEDULE.batch)
        ]


def play_real(wallet: Wallet, wishes: list[int]) -> tuple[list[int], list[tuple[bool, int]]]:
    """A device that looks at its wallet whenever it is on and something is planned: refills, and what came of the wishes."""
    times, outcomes, now = [], [], BORN
    while now < END:
        now = next((until for since, until in OFF if since <= now < until), now)
        while wishes and wishes[0] < min(now, END):
            outcomes.append(take(wallet, wishes.pop(0)))
        if now < END and wallet.due(now):
            keys = {now // EPOCH_SECONDS + ahead: token_kit.key(ahead) for ahead in (0, 1)}
            batch = wallet.begin_batch(keys, token_kit.CHALLENGE, now)
            known = AnyToken(batch.token_type, batch._pending or [])
            wallet.finish_batch(known, [], now)
            times.append(now)
        now = max(wallet.next_refill(now), now + 1)
    return times, outcomes


def take(wallet: Wallet, now: int) -> tuple[bool, int]:
    try:
        wallet.take(now)
    except WalletEmpty:
        return False, wallet.stock(now).ready
    return True, wallet.stock(now).ready


@pytest.mark.parametrize("seed", range(3))
def test_refills_and_tokens_are_those_of_the_real_wallet(tmp_path: Path, seed: int) -> None:
    wallet = Wallet(tmp_path / "wallet.db", schedule=SCHEDULE, draw=Quiet(seed), zone=lambda _: ZONE)
    played = Scheduled(schedule=SCHEDULE, zone=ZONE, draw=Quiet(seed), chance=seeded(0), failures=0.0)
    wish = seeded(seed + 100)
    wishes = sorted(wish.randrange(BORN, END - 50_000) for _ in range(120))
    played.run(OFF, BORN, END)
    taken = [(played.take(now).success, played.stock(now)) for now in wishes]
    refills, outcomes = play_real(wallet, wishes)
    assert played.refills == refills
    assert 5 < len(refills) < 20
    assert taken[: len(outcomes)] == outcomes
    assert len(outcomes) > 100
    assert {success for success, _ in outcomes} == {True, False}


def test_an_empty_wallet_says_from_when_on_it_has_tokens() -> None:
    played = Scheduled(
        schedule=Schedule(batch=1, age=(600, 600)),
        zone=0,
        draw=seeded(1),
        chance=seeded(1),
        failures=0.0,
    )
    played.run([], BORN, BORN + 1000)
    assert played.refills == [BORN]
    assert not played.take(BORN).success
    assert played.take(BORN).ready_at == BORN + 600
    assert played.take(BORN - 1).ready_at is None
    assert played.take(BORN + 600).success
    assert played.take(BORN + 600).ready_at == BORN // EPOCH_SECONDS * EPOCH_SECONDS + EPOCH_SECONDS, (
        "tomorrow's"
    )


def test_a_refill_that_fails_brings_nothing_and_is_seen() -> None:
    played = Scheduled(schedule=SCHEDULE, zone=0, draw=seeded(1), chance=seeded(1), failures=1.0)
    played.run([], BORN, BORN + 3000)
    assert len(played.refills) >= 3
    assert not played.take(BORN + 2999).success


def test_the_naive_wallet_fetches_when_it_needs() -> None:
    naive = Naive(batch=2)
    for now in (BORN, BORN + 1, BORN + 5, BORN + EPOCH_SECONDS):
        assert naive.take(now).success
    assert naive.refills == [BORN, BORN + 5, BORN + EPOCH_SECONDS]

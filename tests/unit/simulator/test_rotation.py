"""One change of day under load in every test run; `scripts/rotation.py` goes over more. And runs that must show what is broken."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sottovoce.core.tokens import epoch_at
from sottovoce.simulator.clock import SharedClock
from sottovoce.simulator.edge_world import EdgeWorld
from sottovoce.simulator.rotation import SHORT, Counts, run


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_no_request_fails_over_a_change_of_day() -> None:
    counts = run(1, devices=6, pace=SHORT)
    assert (counts.failed, counts.failed_beside, counts.unopened, counts.failures) == (0, 0, 0, {})
    assert counts.answered == counts.sent > 0
    # There was something to fail: both directories were in use after midnight, both parties took new keys.
    assert counts.with_old_directory > 0
    assert counts.across > 0
    assert counts.keys_read >= 2
    # Each device fetched the first day's and the second day's, and nothing else.
    assert counts.most_extra_fetches == 0
    assert counts.planned_fetches >= 2 * counts.devices
    # Each came for the second one in its first 45 minutes, by its own clock: none looked later and stayed with the first.
    assert counts.refresh_from >= 0
    assert 0 < counts.refresh_until < 2700
    assert counts.first_refresh < counts.last_refresh


def spoiled(spoil: Callable[[Path, int], None]) -> Counts:
    """A run in which the gateway's folder is spoiled as the day begins."""

    def act(world: EdgeWorld, epoch: int) -> None:
        spoil(world.gateway_keys, epoch)
        world.read_keys()

    return run(1, devices=6, pace=SHORT, spoil=act)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_run_sees_a_gateway_without_the_new_days_token_key() -> None:
    counts = spoiled(lambda folder, epoch: (folder / f"token-{epoch}.spki").unlink())
    assert counts.failures.get("token.refused", 0) > 0
    assert counts.failed > 0


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_an_ohttp_key_that_is_dropped_too_early_costs_one_extra_fetch() -> None:
    def drop(folder: Path, epoch: int) -> None:
        for path in folder.glob(f"ohttp-{epoch - 1}-*"):
            path.unlink()

    counts = spoiled(drop)
    assert counts.unopened > 0
    assert counts.extra_fetches > 0
    assert counts.most_extra_fetches == 1
    # Only sessions that were open at that moment are lost.
    assert set(counts.failures) <= {"peer.protocol.ohttp-key"}
    assert counts.failed <= counts.devices


def test_a_clock_that_two_hold_runs_as_it_is_wound(tmp_path: Path) -> None:
    clock = SharedClock.create(tmp_path / "clock", 1_000_000.0)
    other = SharedClock(tmp_path / "clock")
    assert 1_000_000 <= other() < 1_000_100
    clock.run(1000.0, 0.0)
    stopped = clock()
    time.sleep(0.02)
    assert clock() == other() == stopped
    clock.run(1_000_000.0, 0.001)
    while other() < stopped + 1000:
        time.sleep(0.001)
    assert clock() == other() == pytest.approx(stopped + 1000)
    assert epoch_at(int(clock())) == 11

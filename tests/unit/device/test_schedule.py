import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import UsageError
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.schedule import NEVER, Plan, Schedule

DAY = 20_000
NOON = DAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
HOUR = 3600
SCHEDULE = Schedule()
DAYLIGHT = replace(SCHEDULE, night=(0, 0))
ZONES = st.integers(-12 * 4, 14 * 4).map(lambda quarters: quarters * 900)
TIMES = st.integers(NOON, NOON + 30 * EPOCH_SECONDS)


def draw(seed: int = 1) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the test must repeat


def planned(time: int, covered: int = DAY + 1, *, firm: bool = False) -> Plan:
    return Plan(time=time, covered=covered, firm=firm)


def test_a_refill_brings_batches_of_today_and_tomorrow() -> None:
    assert SCHEDULE.epochs(NOON) == (DAY, DAY + 1)


def test_the_next_refill_is_drawn_from_the_whole_interval() -> None:
    times = [DAYLIGHT.refilled(DAY + 1, NOON, 0, draw(seed)).time - NOON for seed in range(400)]
    assert 3 * HOUR <= min(times) < 3 * HOUR + 600
    assert 9 * HOUR - 600 < max(times) <= 9 * HOUR


@given(now=TIMES, zone=ZONES, seed=st.integers(0, 1000), missed=st.booleans())
def test_no_refill_is_planned_for_the_night(now: int, zone: int, seed: int, *, missed: bool) -> None:
    covered = now // EPOCH_SECONDS + 1
    if missed:
        plan = SCHEDULE.look(planned(now - 301, covered), now, zone, draw(seed))
    else:
        plan = SCHEDULE.refilled(covered, now, zone, draw(seed))
    of_day = (plan.time + zone) % EPOCH_SECONDS
    assert 11 * HOUR <= of_day < 20 * HOUR or plan.time == (covered + 1) * EPOCH_SECONDS


def test_after_the_night_refills_are_spread() -> None:
    evening = NOON + 9 * HOUR
    times = [SCHEDULE.refilled(DAY + 1, evening, 0, draw(seed)).time for seed in range(300)]
    morning = (DAY + 1) * EPOCH_SECONDS + 11 * HOUR
    assert all(morning <= time <= morning + 6 * HOUR for time in times)
    assert len(set(times)) > 250


def test_without_a_batch_for_the_next_day_no_plan_is_later_than_its_midnight() -> None:
    assert SCHEDULE.refilled(DAY, NOON + 9 * HOUR, 0, draw()).time == (DAY + 1) * EPOCH_SECONDS


def test_a_device_that_is_there_refills_at_the_planned_time() -> None:
    plan = planned(NOON)
    assert not SCHEDULE.is_due(plan, NOON - 1)
    for late in (0, 1, 300):
        assert SCHEDULE.look(plan, NOON + late, 0, draw()) == plan
        assert SCHEDULE.is_due(plan, NOON + late)


def test_a_missed_refill_is_planned_anew_and_not_made_up_for_at_once() -> None:
    looked = [DAYLIGHT.look(planned(NOON - 301), NOON, 0, draw(seed)) for seed in range(400)]
    assert {plan.firm for plan in looked} == {True}
    assert {plan.covered for plan in looked} == {DAY + 1}
    times = [plan.time - NOON for plan in looked]
    assert 0 <= min(times) < 600
    assert 6 * HOUR - 600 < max(times) <= 6 * HOUR
    assert sum(DAYLIGHT.is_due(plan, NOON) for plan in looked) < 3


def test_what_was_planned_anew_and_missed_again_is_due() -> None:
    """Else a device that looks once an hour would never refill."""
    plan = planned(NOON - 5 * HOUR, firm=True)
    assert SCHEDULE.look(plan, NOON, 0, draw()) == plan
    assert SCHEDULE.is_due(plan, NOON)


@pytest.mark.parametrize("covered", [NEVER, DAY - 1])
def test_without_a_batch_of_today_a_missed_refill_is_due_at_once(covered: int) -> None:
    plan = planned(NOON - 5 * HOUR, covered)
    assert SCHEDULE.look(plan, NOON, 0, draw()) == plan
    assert SCHEDULE.is_due(plan, NOON)


def test_a_refill_that_is_under_way_is_tried_again_soon() -> None:
    plan = SCHEDULE.begun(planned(NOON), NOON, draw())
    assert NOON + 300 <= plan.time <= NOON + 900
    assert plan.covered == DAY + 1
    late = NOON + 5 * HOUR
    assert SCHEDULE.is_due(SCHEDULE.look(plan, late, 0, draw()), late)


def test_a_new_wallet_is_due() -> None:
    assert SCHEDULE.is_due(SCHEDULE.look(Plan(), NOON, 0, draw()), NOON)


@given(now=TIMES, zone=ZONES, seed=st.integers(0, 1000))
def test_a_plan_is_believed_unless_the_clock_was_set_back(now: int, zone: int, seed: int) -> None:
    plan = SCHEDULE.refilled(now // EPOCH_SECONDS + 1, now, zone, draw(seed))
    assert not SCHEDULE.is_due(plan, now)
    assert SCHEDULE.is_due(plan, now - 3 * EPOCH_SECONDS)


def test_tokens_rest_and_those_of_tomorrow_wait_for_it() -> None:
    ready = [SCHEDULE.ready(DAY, NOON, draw(seed)) - NOON for seed in range(400)]
    assert 600 <= min(ready) < 700
    assert 7100 < max(ready) <= 7200
    assert SCHEDULE.ready(DAY + 1, NOON, draw()) == (DAY + 1) * EPOCH_SECONDS


@pytest.mark.parametrize("change", [{"missed": (2, 1)}, {"slack": -1}, {"night": (0, 86_400)}, {"night": (-1, 5)}, {"batch": 0}])  # fmt: skip
def test_schedules_that_make_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Schedule(**change)  # type: ignore[arg-type]

"""Small populations, and the two things that a measure must do: see what is broken, and not see what is not there."""

import re
import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest

from sottovoce.core.errors import UsageError
from sottovoce.core.frames import stream_class
from sottovoce.simulator.population.answers import answer_class
from sottovoce.simulator.population.linking import Linker, Linking, link
from sottovoce.simulator.population.people import Settings
from sottovoce.simulator.population.play import FEATURES, Behaviour, Logs, play
from sottovoce.simulator.population.telling import Telling, tell
from sottovoce.simulator.svg import Line, plot

SMALL = Settings(devices=200, days=6, hosts=20, seed=7)
OTHER = Settings(devices=200, days=6, hosts=20, seed=8)


@cache
def played(behaviour: Behaviour, *, other: bool = False) -> Logs:
    return play(OTHER if other else SMALL, behaviour)


@cache
def linked(behaviour: Behaviour) -> Linking:
    rng = np.random.default_rng(1)
    return link(played(behaviour), Linker(played(behaviour, other=True), rng), rng, named=200, piles=100)


@cache
def told(behaviour: Behaviour) -> Telling:
    return tell(played(behaviour), played(behaviour, other=True), np.random.default_rng(1), named=200)


def test_the_measure_sees_a_wallet_that_fetches_for_use() -> None:
    broken = linked("naive")
    assert broken.one_named.low > 0.3
    assert broken.one_of_two.low > 0.5
    assert broken.pile_named.low > 0.8
    assert broken.pile_of_two.low > 0.9
    assert broken.suspected.low > 0.3


def test_the_measure_sees_nothing_in_ours_that_so_few_could_show() -> None:
    ours = linked("ours")
    for found in (ours.one_named, ours.one_of_two, ours.pile_named):
        assert found.low < 0.01
        assert found.value < 0.1
    assert ours.one_of_two.high < linked("naive").one_of_two.low


def test_more_populations_make_the_interval_narrower_and_name_nobody_else() -> None:
    """The devices of all count for what is asked between two; the naming is among those of the first."""
    logs, other = played("ours"), played("ours", other=True)
    alone, pooled = (
        link(
            logs,
            Linker(other, np.random.default_rng(1)),
            np.random.default_rng(2),
            named=50,
            piles=5,
            more=more,
        )
        for more in ((), (other,))
    )
    devices = len(np.unique(logs.users)), len(np.unique(other.users))
    assert (alone.one_of_two.trials, pooled.one_of_two.trials) == (devices[0], sum(devices))
    assert pooled.suspected.trials == pooled.pile_of_two.trials == sum(devices)
    assert pooled.one_named.trials == alone.one_named.trials
    widths = [found.one_of_two.high - found.one_of_two.low for found in (alone, pooled)]
    assert widths[1] == pytest.approx(widths[0] / 2**0.5, rel=0.2)


def test_more_days_tell_more_about_a_naive_wallet() -> None:
    by_days = linked("naive").by_days
    assert list(by_days) == [1, 2, 4, 6]
    values = [found.value for found in by_days.values()]
    assert values == sorted(values)


def test_the_measure_sees_candidates_that_stay_the_same() -> None:
    """A broken draw: once for good."""
    assert told("naive").by_feature["candidates"].low > 0.9
    assert told("ours").by_feature["candidates"].low < 0.05
    assert told("naive").named.low > 0.3
    assert told("ours").named.value < 0.1


def test_what_says_nothing_does_not_drown_what_does() -> None:
    """Of 380 pairs of candidates hardly one comes twice: each that does would seem to name its sender."""
    ours = told("ours")
    assert ours.exponents["candidates"] < 0.1 < ours.exponents["pace"]
    assert ours.of_two.value > max(alone.value for alone in ours.by_feature.values())


def test_the_measure_sees_how_long_answers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a first class of 32 frames, as there was, which holds the quick answers and no others."""
    monkeypatch.setattr(
        "sottovoce.simulator.population.play.answer_class",
        lambda seconds: 1 if seconds <= 32 * 0.04 else answer_class(seconds),
    )
    logs, other = play(SMALL, "ours"), play(OTHER, "ours")
    more = tell(logs, other, np.random.default_rng(1), named=200).by_feature["answer size"]
    assert more.low > 0.1
    assert told("ours").by_feature["answer size"].value < more.value / 1.5


def test_what_the_gateway_sees_is_what_the_devices_code_makes() -> None:
    ours, naive = played("ours"), played("naive")
    sizes = ours.sent[:, FEATURES.index("request size")]
    assert set(np.unique(sizes % 512)) == {0}
    assert sizes.min() == 4096
    assert told("ours").values["request size"] < 110 < told("naive").values["request size"]
    assert set(np.unique(naive.sent[:, FEATURES.index("request size")] % 512)) != {0}
    classes = set(np.unique(ours.sent[:, FEATURES.index("answer size")]).tolist())
    assert {stream_class(size) for size in classes} == classes
    assert 4 <= len(classes) == told("ours").values["answer size"] < told("naive").values["answer size"]


def test_refills_do_not_follow_what_is_spent() -> None:
    """The same people with other wishes: their devices come to the issuer at the same times."""
    logs = played("ours")
    assert len(logs.users) == len(logs.times) == len(logs.sent)
    assert logs.wishes - logs.refused >= len(logs.times)
    assert np.all(np.diff(logs.users) >= 0)
    assert all(np.all(np.diff(times) > 0) for times in logs.refills)
    assert logs.moved / logs.wishes < 0.05


def test_a_run_can_be_repeated() -> None:
    settings = Settings(devices=50, days=2, seed=3)
    one, two, other = (
        play(settings, "ours"),
        play(settings, "ours"),
        play(Settings(devices=50, days=2, seed=4), "ours"),
    )
    assert np.array_equal(one.times, two.times)
    assert np.array_equal(one.sent, two.sent)
    assert [list(times) for times in one.refills] == [list(times) for times in two.refills]
    assert not np.array_equal(one.times, other.times)


@pytest.mark.parametrize("change", [{"devices": 49}, {"days": 1}, {"hosts": 1}, {"days": 400}])
def test_settings_that_cannot_be_played(change: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Settings(**change)


def test_plots_are_well_formed() -> None:
    document = plot("a < b (simulated)", "x", "y", [Line("one", [(1, 0.5), (10, 0.05)])])
    assert ET.fromstring(document).tag.endswith("svg")  # noqa: S314 - our own
    assert re.search(r"<title>a &lt; b \(simulated\)</title>", document)

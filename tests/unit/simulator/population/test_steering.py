import pytest

from sottovoce.device.directory import draw_candidates
from sottovoce.simulator.population.play import Draws, hosts
from sottovoce.simulator.population.steering import Operator, auditor, exact, steer


@pytest.mark.parametrize("operator", ["honest", "prefers", "refuses"])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_the_simulation_agrees_with_the_formula(operator: Operator, count: int) -> None:
    found = steer(operator, count, seed=3, wishes=4000, audits=4)
    assert found.exact == exact(operator, count)
    # Six standard errors.
    assert found.gain.value == pytest.approx(found.exact, abs=6 * 0.5 / 4000**0.5)


def test_the_formulas() -> None:
    assert exact("prefers", 20) == pytest.approx(0.05)
    assert exact("refuses", 20) == pytest.approx(1 - 0.9**3 - 0.05)
    assert exact("prefers", 2) == 0.5
    assert exact("delays", 20) is None


def test_an_honest_operator_raises_no_alarm_and_others_do() -> None:
    operators: tuple[Operator, ...] = ("honest", "prefers", "refuses", "delays")
    found = {name: steer(name, 5, seed=1, wishes=4000, audits=8) for name in operators}
    assert found["honest"].noticed is None
    assert found["honest"].refused.value == 0
    for name in operators[1:]:
        assert found[name].noticed is not None
        assert found[name].gain.low > 0.1
    assert found["prefers"].refused.value == 0
    assert found["refuses"].refused.value > 0.3


def test_who_steers_less_is_noticed_later() -> None:
    found = [steer("prefers", 4, seed=1, wishes=20_000, audits=8, share=share) for share in (1.0, 0.5)]
    late, soon = found[1].noticed, found[0].noticed
    assert late is not None
    assert soon is not None
    assert late > 2 * soon


@pytest.mark.parametrize("draw", ["operator", "again"])
def test_a_broken_draw_is_seen(draw: str) -> None:
    """The operator names the candidates, or has them drawn again by refusing: nearly every session is the chosen host's."""
    ours = steer("refuses", 20, seed=1, wishes=1000, audits=4)
    broken = steer("refuses", 20, seed=1, wishes=1000, audits=4, draw=draw)  # type: ignore[arg-type]
    assert broken.gain.low > 0.8 > ours.gain.high
    assert broken.noticed is not None
    assert broken.noticed < 60


def test_the_draw_of_the_device_is_uniform_in_both_places() -> None:
    draws, listed = Draws(5), hosts(4)
    pairs = [draw_candidates(listed, rng=draws.below) for _ in range(12_000)]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}
    assert len(counts) == 12
    # Chi-square with 11 degrees of freedom: 31.3 once in a thousand.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 31.3


def test_an_auditor_of_real_reports() -> None:
    always = [(("a", "b"), "a")] * 100
    turns = [(("a", "b"), "a"), (("a", "b"), "b")] * 200
    assert auditor(turns, 2) is None
    assert (auditor(always, 2), auditor([(("a", "b"), None)] * 10, 2)) == (15, 2)
    assert auditor([], 2) is None

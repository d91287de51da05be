"""What the lab says of itself is true, and the documentation's table is current."""

import importlib
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sottovoce import attacks
from sottovoce.attacks import ATTACKS, NAMES, find
from sottovoce.attacks.attack import Outcome, Result
from sottovoce.attest.nvidia.rules import device_rules
from sottovoce.attest.rules import session_rules
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.cli import attack as command
from sottovoce.cli.attack import attack

ROOT = Path(__file__).parents[2]
HELPERS = {
    "attack",
    "between",
    "booted",
    "host",
    "images",
    "lab",
    "mirrors",
    "rogue",
    "shown",
    "stage",
    "workshop",
}
ROWS = {"1", "2", "3", "4", "5", "7", "8", "9", "10", "27", "28", "B", "C"} | {
    str(row) for row in (*range(13, 24), 25)
}
CODES = {
    "boot",
    "closed-port",
    "config",
    "config.artifact",
    "directory.refused",
    "empty-environment",
    "image-measure",
    "image-rebuild",
    "isolated-interpreter",
    "model",
    "one-port",
    "peer.decode",
    "peer.limit",
    "peer.tls",
    "peer.protocol.replay",
    "peer.protocol.date",
    "pid-1",
    "refused.premises",
    "token.signature",
    "token.spent",
    "unavailable.image-lock",
}


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(attack, words)
    return done.exit_code, done.output


def test_every_module_is_in_the_list_and_has_its_name() -> None:
    modules = {path.stem for path in Path(attacks.__path__[0]).glob("*.py")} - HELPERS - {"__init__"}
    assert {name.replace("-", "_") for name in NAMES} == modules
    assert [find(name).name for name in NAMES] == list(NAMES)
    assert set(ATTACKS) <= set(NAMES)


def test_every_row_has_an_attack() -> None:
    assert {find(name).row for name in NAMES} >= ROWS


@pytest.mark.parametrize("name", NAMES)
def test_every_reason_is_one_that_there_is(name: str) -> None:
    one = find(name)
    assert one.who
    assert one.tries
    if not one.runs:
        path = one.tested.partition(":")[0]
        assert (ROOT / path).exists()
        return
    known = (
        session_rules(SIMULATED_KIND).keys()
        | device_rules((("gpu-0", False), ("gpu-1", False))).keys()
        | CODES
    )
    assert set(one.stopped_by) <= known
    for trial in one.trials:
        assert trial.stopped_by
        assert trial.stopped_by <= known
    tries = [trial.tries for trial in one.trials]
    assert len(set(tries)) == len(tries)


def test_the_table_is_current() -> None:
    document = (ROOT / "docs" / "attacks.md").read_text()
    code, table = run("--list", "--markdown")
    assert code == 0
    assert table in document


def test_the_lists() -> None:
    code, text = run("--list")
    assert code == 0
    assert all(name in text for name in NAMES)
    code, text = run("--list", "--json", "replay")
    assert (code, [row["attack"] for row in json.loads(text)]) == (0, ["replay"])


@pytest.mark.parametrize("words", [(), ("--all", "replay"), ("no-such-attack",), ("--markdown", "replay")])
def test_wrong_use(words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


@pytest.mark.parametrize(
    ("stopped_by", "read", "is_stopped"),
    [
        ({"binding"}, 0, True),
        (set(), 0, False),
        (set(), 4096, False),
        ({"host"}, 0, False),
        ({"binding", "host"}, 0, False),
        ({"binding"}, 1, False),
        ({"unavailable"}, 0, False),
    ],
)
def test_only_the_reason_named_counts(stopped_by: set[str], read: int, is_stopped: bool) -> None:
    outcome = Outcome(stopped_by=frozenset(stopped_by), read=read)
    assert Result(tries="x", wanted=frozenset({"binding"}), outcome=outcome).is_stopped is is_stopped


@pytest.mark.parametrize(("says", "is_stopped"), [("the binding is another", True), ("other words", False)])
def test_a_reason_is_looked_for_in_the_words_of_the_refusal(says: str, is_stopped: bool) -> None:
    wanted = frozenset({"config"})
    outcome = Outcome(stopped_by=wanted, says=says)
    result = Result(tries="x", wanted=wanted, reason="the binding", outcome=outcome)
    assert result.is_stopped is is_stopped


def test_what_names_no_reason_is_not_stopped() -> None:
    outcome = Outcome(stopped_by=frozenset())
    assert not Result(tries="x", wanted=frozenset(), outcome=outcome).is_stopped


def test_an_attack_of_which_nothing_was_tried_is_not_stopped() -> None:
    row = command._row(find("replay"), [])
    assert row["outcome"] == "NOT STOPPED"
    assert command._row(find("moved-clock"), [])["outcome"] == "not run here"


def test_the_module_of_an_attack_is_named_after_it() -> None:
    for name in NAMES:
        module = importlib.import_module(f"sottovoce.attacks.{name.replace('-', '_')}")
        assert module.__doc__
        assert re.search(r"\brows?\b|\bpart [BC]\b", module.__doc__)

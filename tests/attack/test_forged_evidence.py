"""Every forgery is refused for the reason named, and is believed by a verifier that lacks just that check."""

import pytest

from attack_kit import REQUEST, MemoryStage
from sottovoce.attacks import NAMES, find
from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.lab import CONTROL
from sottovoce.attest.verdict import Checklist, Status

ATTACKS = [find(name) for name in NAMES]
OTHER_KIND = "an entry of another kind that says what the release says"
FORGERIES = [
    pytest.param(attack, trial, id=f"{attack.name}-{number}")
    for attack in ATTACKS
    for number, trial in enumerate(attack.trials)
]
WITHOUT_A_VALUE = {"decode", "release-log", "host-log", "peer.limit"}
"""Checks that give what is looked at next: leaving out the line alone believes nobody. They are weakened in test_weakened."""
LINES = [
    pytest.param(attack, trial, id=f"{attack.name}-{number}")
    for attack in ATTACKS
    for number, trial in enumerate(attack.trials)
    if not trial.stopped_by & WITHOUT_A_VALUE and trial.tries != OTHER_KIND
]
STAGE = MemoryStage()
for entry in [entry for attack in ATTACKS for entry in attack.entries(STAGE.stage)]:
    STAGE.world.append(entry)


def without(monkeypatch: pytest.MonkeyPatch, checks: frozenset[str]) -> None:
    """A verifier that lacks these checks, and what rests on their outcome; it has all others."""
    genuine = Checklist._put

    def put(self: Checklist, check: str, status: Status, found: str, wanted: str) -> None:
        left_out = check in checks or found.startswith("could not be checked")
        genuine(self, check, Status.PASS if left_out else status, found, wanted)

    monkeypatch.setattr(Checklist, "_put", put)


def test_the_control_is_believed() -> None:
    """What is refused elsewhere is refused for what was changed, as nothing is wrong with the rest."""
    attempt = STAGE.attempt(CONTROL)
    assert (attempt.stopped_by, attempt.read) == (set(), REQUEST)


@pytest.mark.parametrize(("attack", "trial"), FORGERIES)
def test_it_is_stopped_for_the_reason_named(attack: Attack, trial: Trial) -> None:
    attempt = STAGE.attempt(trial)
    assert attempt.stopped_by == trial.stopped_by
    assert attempt.read == b""
    assert trial.stopped_by & set(attack.stopped_by)


@pytest.mark.parametrize(("attack", "trial"), LINES)
def test_it_succeeds_where_the_check_is_missing(
    attack: Attack, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, trial.stopped_by)
    attempt = STAGE.attempt(trial)
    assert (attempt.stopped_by, attempt.read) == (set(), REQUEST)


@pytest.mark.parametrize(("attack", "trial"), LINES)
def test_no_smaller_hole_is_enough(attack: Attack, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all checks but one of those named, it is still refused, by that one."""
    for check in trial.stopped_by:
        with monkeypatch.context() as patched:
            without(patched, trial.stopped_by - {check})
            assert check in STAGE.attempt(trial).stopped_by

"""A release that is over, with a valid proof (row 21)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.entries import Release

__all__ = ["ATTACK"]

_HOUR: Final = 3600


def _expired(stage: Stage, role: str = "orchestrator") -> Release:
    over = stage.now - _HOUR
    return replace(stage.releases[role], issued=over - LIMITS.release_life, expires=over)


def _early(stage: Stage) -> Release:
    begins = stage.now + _HOUR
    return replace(stage.release, issued=begins, expires=begins + _HOUR)


def _shows(stage: Stage, target: Target, release: Release) -> Evidence:
    return replace(stage.evidence(target), release=stage.prove(release.encode()))


def _backend(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    old = replace(predictor, release=stage.prove(_expired(stage, "predictor").encode()))
    return replace(evidence, backends=(old, guard))


ATTACK: Final = Attack(
    name="expired-release",
    row="21",
    who=OPERATOR,
    tries="a release outside its 21 days, with a proof that is valid now",
    stopped_by=("release-dates", "backend-predictor"),
    trials=(
        Trial(
            tries="over since an hour",
            stopped_by=frozenset({"release-dates"}),
            forge=lambda stage, target: _shows(stage, target, _expired(stage)),
        ),
        Trial(
            tries="not begun",
            stopped_by=frozenset({"release-dates"}),
            forge=lambda stage, target: _shows(stage, target, _early(stage)),
        ),
        Trial(
            tries="a back end's, over since an hour",
            stopped_by=frozenset({"backend-predictor"}),
            forge=_backend,
        ),
    ),
    entries=lambda stage: (
        _expired(stage).encode(),
        _early(stage).encode(),
        _expired(stage, "predictor").encode(),
    ),
)

"""A release with a known hole, still within its dates, with a valid proof (row 21)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.tlog.entries import Release

__all__ = ["ATTACK"]


def _old(stage: Stage, role: str = "orchestrator") -> Release:
    return replace(stage.releases[role], security_version=0)


def _own(stage: Stage, target: Target) -> Evidence:
    return replace(stage.evidence(target), release=stage.prove(_old(stage).encode()))


def _backend(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    old = replace(guard, release=stage.prove(_old(stage, "guard").encode()))
    return replace(evidence, backends=(predictor, old))


ATTACK: Final = Attack(
    name="old-version",
    row="21",
    who=OPERATOR,
    tries="a release below the client's minimum security version, logged and within its dates",
    stopped_by=("security-version", "backend-guard"),
    trials=(
        Trial(tries="the orchestrator's", stopped_by=frozenset({"security-version"}), forge=_own),
        Trial(tries="a back end's", stopped_by=frozenset({"backend-guard"}), forge=_backend),
    ),
    entries=lambda stage: (_old(stage).encode(), _old(stage, "guard").encode()),
)

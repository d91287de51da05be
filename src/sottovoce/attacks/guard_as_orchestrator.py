"""A CVM of another role in the orchestrator's place (row 20)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.core import canonical
from sottovoce.core.limits import LIMITS

__all__ = ["ATTACK"]


def _guard(stage: Stage, target: Target) -> Evidence:
    """The guard's image on an orchestrator's machine."""
    evidence = stage.evidence(target, measurement=stage.measurement("guard"))
    return replace(evidence, release=stage.prove(stage.releases["guard"].encode()))


def _with_its_machine(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target, machine=stage.of_role("guard"), measurement=stage.measurement("guard"))
    return replace(evidence, release=stage.prove(stage.releases["guard"].encode()))


def _draft(stage: Stage) -> bytes:
    """A log entry that says what a release says, and is of another kind."""
    entry = canonical.decode(stage.release.encode(), limit=LIMITS.directory)
    return canonical.encode({**entry, "kind": "artifact"})


def _kind(stage: Stage, target: Target) -> Evidence:
    return replace(stage.evidence(target), release=stage.prove(_draft(stage)))


def _backend(stage: Stage, target: Target) -> Evidence:
    """The orchestrator's own image in the guard's place."""
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    swapped = replace(guard, measurement=stage.measurement(), release=evidence.release)
    return replace(evidence, backends=(predictor, swapped))


ATTACK: Final = Attack(
    name="guard-as-orchestrator",
    row="20",
    who=OPERATOR,
    tries="a release of one role offered as another, and an entry of one kind for another",
    stopped_by=("role", "host", "candidate", "measurement", "accelerators", "backend-guard"),
    trials=(
        Trial(
            tries="the guard's release on an orchestrator's machine",
            stopped_by=frozenset({"role"}),
            forge=_guard,
        ),
        Trial(
            tries="the guard's release on the guard's machine",
            stopped_by=frozenset({"role", "host", "candidate"}),
            forge=_with_its_machine,
        ),
        Trial(
            tries="an entry of another kind that says what the release says",
            stopped_by=frozenset({"measurement", "accelerators"}),
            forge=_kind,
        ),
        Trial(
            tries="an orchestrator's appraisal in the place of the guard's",
            stopped_by=frozenset({"backend-guard"}),
            forge=_backend,
        ),
    ),
    entries=lambda stage: (_draft(stage),),
)

"""A proof that was good a day ago (row 21)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.core.limits import LIMITS

__all__ = ["ATTACK"]

_HOUR: Final = 3600


def _old(stage: Stage) -> int:
    return stage.now - LIMITS.checkpoint_age - _HOUR


def _release(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=stage.signed_at(evidence.release, _old(stage)))


def _host(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, host=stage.signed_at(evidence.host, _old(stage)))


def _backend(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    return replace(
        evidence, backends=(predictor, replace(guard, release=stage.signed_at(guard.release, _old(stage))))
    )


def _ahead(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=stage.signed_at(evidence.release, stage.now + 24 * _HOUR))


ATTACK: Final = Attack(
    name="stale-checkpoint",
    row="21",
    who="the operator, with proofs that it has kept since yesterday (signed here with the keys of log and witnesses, as this log "
    "is younger)",
    tries="a checkpoint of 25 hours ago, from before a revocation; one from tomorrow",
    stopped_by=("release-log-age", "host-log-age", "backend-guard"),
    trials=(
        Trial(tries="under the release's proof", stopped_by=frozenset({"release-log-age"}), forge=_release),
        Trial(tries="under the host's proof", stopped_by=frozenset({"host-log-age"}), forge=_host),
        Trial(tries="under a back end's proof", stopped_by=frozenset({"backend-guard"}), forge=_backend),
        Trial(
            tries="from tomorrow, to last a day longer",
            stopped_by=frozenset({"release-log-age"}),
            forge=_ahead,
        ),
    ),
)

"""Proofs from a log that is not the pinned one (row 20)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence, Logged
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.note import SigningKey

__all__ = ["ATTACK"]

_TEST: Final = MemoryLog("log.test.invalid")


def _in(log: MemoryLog, logged: Logged, now: int) -> Logged:
    return Logged(entry=logged.entry, proof=log.proof(log.append(logged.entry), now=now))


def _release(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=_in(_TEST, evidence.release, stage.now))


def _host(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, host=_in(_TEST, evidence.host, stage.now))


def _backend(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    return replace(
        evidence, backends=(predictor, replace(guard, release=_in(_TEST, guard.release, stage.now)))
    )


def _namesake(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    log = MemoryLog(stage.log_key.name)
    return replace(evidence, release=_in(log, evidence.release, stage.now))


def _alone(stage: Stage, target: Target) -> Evidence:
    """The log's own key, and witnesses that it has made up."""
    evidence = stage.evidence(target)
    log = MemoryLog(stage.log_key.name)
    log.key = SigningKey(name=stage.log_key.name, kind=stage.log_key.kind, private=stage.log_key.private)
    return replace(evidence, release=_in(log, evidence.release, stage.now))


ATTACK: Final = Attack(
    name="other-log",
    row="20",
    who="the operator, with a log of its own; in the last trial the log's operator, with the log's key",
    tries="a proof from a test log, from a log of the same name, and from the log's key without its witnesses",
    stopped_by=("release-log", "host-log", "backend-guard"),
    trials=(
        Trial(
            tries="the release's proof from a test log",
            stopped_by=frozenset({"release-log"}),
            forge=_release,
        ),
        Trial(tries="the host's proof from a test log", stopped_by=frozenset({"host-log"}), forge=_host),
        Trial(
            tries="a back end's proof from a test log",
            stopped_by=frozenset({"backend-guard"}),
            forge=_backend,
        ),
        Trial(
            tries="another log under the pinned log's name",
            stopped_by=frozenset({"release-log"}),
            forge=_namesake,
        ),
        Trial(
            tries="the pinned log's key, with no pinned witness",
            stopped_by=frozenset({"release-log"}),
            forge=_alone,
        ),
    ),
)

"""A second history of the log, signed by its own key and by every witness (row 27)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence, Logged
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import leaf_hash
from sottovoce.tlog.proof import Proof

__all__ = ["ATTACK"]


def _elsewhere(stage: Stage, logged: Logged, more: int) -> Logged:
    """`logged` in another history with the same keys, `more` entries larger than the tree that it is in."""
    size = Checkpoint.parse(Proof.parse(logged.proof).note.text).size + more
    log = MemoryLog(stage.log_key.name)
    log.key, log.witnesses = stage.log_key, stage.witnesses
    log.leaves = [leaf_hash(b"another history %d" % number) for number in range(size - 1)]
    return Logged(entry=logged.entry, proof=log.proof(log.append(logged.entry), now=stage.now))


def _release(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=_elsewhere(stage, evidence.release, 0))


def _host(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, host=_elsewhere(stage, evidence.host, 0))


def _backend(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    predictor, guard = evidence.backends
    return replace(
        evidence, backends=(predictor, replace(guard, release=_elsewhere(stage, guard.release, 0)))
    )


def _later(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=_elsewhere(stage, evidence.release, 1))


ATTACK: Final = Attack(
    name="forked-log",
    row="27",
    who="the log's operator and all witnesses together, against a device that has seen the log before",
    tries="entries of a second history of the log, which everybody has signed",
    stopped_by=("log-fork", "release-log-seen", "host-log-seen"),
    trials=(
        Trial(
            tries="the release in another history of the same size",
            stopped_by=frozenset({"log-fork", "release-log-seen"}),
            forge=_release,
        ),
        Trial(
            tries="the host in another history of the same size",
            stopped_by=frozenset({"log-fork", "host-log-seen"}),
            forge=_host,
        ),
        Trial(
            tries="a back end's release in another history of the same size",
            stopped_by=frozenset({"log-fork"}),
            forge=_backend,
        ),
        Trial(
            tries="the release in a larger history, to which nothing leads",
            stopped_by=frozenset({"release-log-seen"}),
            forge=_later,
        ),
    ),
)

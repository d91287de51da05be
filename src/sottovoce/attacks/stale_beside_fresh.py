"""Stale evidence beside a fresh binder; empty values where something is expected (part B)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.binding import report_data
from sottovoce.attest.evidence import Batch, Evidence, Platform

__all__ = ["ATTACK"]

_EARLIER: Final = bytes(32)
_EMPTY: Final = bytes(64)


def _batched(stage: Stage, target: Target) -> Evidence:
    """A stale report, whose leaf is named as the neighbour of this connection's."""
    stale = Target(exporter=_EARLIER, spki=target.spki)
    evidence = stage.evidence(target, data=report_data(stale.leaf))
    return replace(evidence, batch=Batch(index=0, size=2, path=(stale.leaf,)))


def _papers(stage: Stage, target: Target) -> Evidence:
    """A stale report of the genuine machine, in evidence that is fresh but for that."""
    stale = Evidence.decode(stage.earlier()).platform
    return replace(stage.evidence(target), platform=Platform(kind=stale.kind, report=stale.report))


def _no_list(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, endorsements=replace(evidence.endorsements, crl=b""))


def _no_proof(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=replace(evidence.release, proof=b""))


def _no_signature(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    report = evidence.platform.report[:0x2A0].ljust(len(evidence.platform.report), b"\0")
    return replace(evidence, platform=Platform(kind=evidence.platform.kind, report=report))


ATTACK: Final = Attack(
    name="stale-beside-fresh",
    row="B",
    who=HOST,
    tries="an old report beside what is fresh; nothing where something is expected, so that nothing is compared",
    stopped_by=(
        "binding",
        "measurement",
        "revocation-list",
        "release-log",
        "signature",
        "backend-predictor",
        "backend-guard",
    ),
    trials=(
        Trial(
            tries="an earlier session's leaf as this session's neighbour in a batch",
            stopped_by=frozenset({"binding"}),
            forge=_batched,
        ),
        Trial(
            tries="a genuine machine's earlier report, all else fresh",
            stopped_by=frozenset({"binding"}),
            forge=_papers,
            beside=True,
        ),
        Trial(
            tries="a report that holds no data",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, target: stage.evidence(target, data=_EMPTY),
        ),
        Trial(
            tries="a measurement of zeros",
            stopped_by=frozenset({"measurement"}),
            forge=lambda stage, target: stage.evidence(target, measurement=bytes(48)),
        ),
        Trial(tries="no revocation list", stopped_by=frozenset({"revocation-list"}), forge=_no_list),
        Trial(tries="no log proof", stopped_by=frozenset({"release-log"}), forge=_no_proof),
        Trial(tries="a signature of zeros", stopped_by=frozenset({"signature"}), forge=_no_signature),
        Trial(
            tries="no appraisals",
            stopped_by=frozenset({"backend-predictor", "backend-guard"}),
            forge=lambda stage, target: replace(stage.evidence(target), backends=()),
        ),
    ),
)

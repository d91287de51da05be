"""Evidence of a session that goes on at the same time (row 7)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.binding import report_data
from sottovoce.attest.evidence import Batch, Evidence
from sottovoce.tlog.merkle import inclusion_proofs

__all__ = ["ATTACK"]


def _others(stage: Stage, target: Target, *, count: int, shown: int) -> Evidence:
    """Evidence of one of `count` other sessions that share a report."""
    exporters = (number.to_bytes(32, "big") for number in range(count))
    leaves = [Target(exporter=exporter, spki=target.spki).leaf for exporter in exporters]
    root, paths = inclusion_proofs(leaves)
    evidence = stage.evidence(target, data=report_data(root))
    return replace(evidence, batch=Batch(index=shown, size=count, path=paths[shown]))


ATTACK: Final = Attack(
    name="concurrent-session",
    row="7",
    who=f"{HOST}, with the sessions of other people",
    tries="evidence that a genuine CVM made for somebody else's session at the same moment",
    stopped_by=("binding",),
    trials=(
        Trial(
            tries="a genuine CVM's, whose connection is open",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, _: stage.concurrent(),
            beside=True,
        ),
        Trial(
            tries="of one of two sessions that share a report, under the very same TLS key",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, target: _others(stage, target, count=2, shown=1),
        ),
        Trial(
            tries="of one of a thousand that share a report",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, target: _others(stage, target, count=1000, shown=999),
        ),
    ),
)

"""The attacker ends the device's connection himself, and shows evidence from another one (part B; CVE-2026-33697)."""

from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.binding import peer_leaf, report_data
from sottovoce.attest.evidence import Evidence

__all__ = ["ATTACK"]


def _from_a_client(stage: Stage, target: Target) -> Evidence:
    """What a CVM says as somebody else's client, on this very connection."""
    return stage.evidence(target, data=report_data(peer_leaf(target.exporter, target.spki)))


def _other_key(stage: Stage, target: Target) -> Evidence:
    other = Target(exporter=target.exporter, spki=b"another key")
    return stage.evidence(target, data=report_data(other.leaf))


ATTACK: Final = Attack(
    name="diverted-evidence",
    row="B",
    who=f"{HOST}, who ends the device's TLS in a program of its own",
    tries="relay of a genuine CVM's evidence to another connection than the one that it was made on",
    stopped_by=("binding",),
    trials=(
        Trial(
            tries="evidence that a genuine CVM makes for the attacker's own connection to it",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, _: stage.concurrent(),
            beside=True,
        ),
        Trial(
            tries="a CVM's evidence as a client, sent back as a server's",
            stopped_by=frozenset({"binding"}),
            forge=_from_a_client,
        ),
        Trial(
            tries="this connection's exporter with another key",
            stopped_by=frozenset({"binding"}),
            forge=_other_key,
        ),
    ),
)

"""A release declares a graphics processor, and nothing is shown of it (row 28)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.tlog.entries import Accelerator, Release

__all__ = ["ATTACK"]


_GPU: Final = Accelerator(architecture="HOPPER", manifests=("ab" * 32,))


def _declares(stage: Stage) -> Release:
    return replace(stage.release, accelerators=(_GPU,))


def _silent(stage: Stage, target: Target) -> Evidence:
    return replace(stage.evidence(target), release=stage.prove(_declares(stage).encode()))


ATTACK: Final = Attack(
    name="missing-accelerator",
    row="28",
    who=OPERATOR,
    tries="inference in a graphics processor of which no evidence is shown, though the release declares it: with confidential computing off there is none",
    stopped_by=("accelerators",),
    trials=(Trial(tries="one declared, none shown", stopped_by=frozenset({"accelerators"}), forge=_silent),),
    entries=lambda stage: (_declares(stage).encode(),),
)

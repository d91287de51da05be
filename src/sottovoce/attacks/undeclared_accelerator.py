"""Evidence of a graphics processor that the release knows nothing of (row 28)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import OPERATOR, Attack, Trial
from sottovoce.attacks.stage import Stage, Target, shown_of
from sottovoce.attest.binding import accelerator_nonce
from sottovoce.attest.evidence import Evidence

__all__ = ["ATTACK"]


_WITHOUT_MANIFESTS: Final = ("gpu-0/nvidia-driver-rim", "gpu-0/nvidia-vbios-rim")
"""The release pins no manifest either."""


def _shows(stage: Stage, target: Target, *shown: bytes) -> Evidence:
    return replace(stage.evidence(target), accelerators=shown)


def _genuine(stage: Stage, target: Target) -> Evidence:
    gpu = stage.gpus[0]
    return _shows(stage, target, shown_of(gpu, gpu.report(accelerator_nonce(target.leaf))))


ATTACK: Final = Attack(
    name="undeclared-accelerator",
    row="28",
    who=OPERATOR,
    tries="a graphics processor attached to a CVM whose release declares none",
    stopped_by=("accelerators", *_WITHOUT_MANIFESTS),
    trials=(
        Trial(
            tries="a genuine one, with a fresh report",
            stopped_by=frozenset({"accelerators", *_WITHOUT_MANIFESTS}),
            forge=_genuine,
        ),
        Trial(
            tries="something shown of it",
            stopped_by=frozenset({"accelerators"}),
            forge=lambda stage, target: _shows(stage, target, b"evidence of a GPU"),
        ),
        Trial(
            tries="empty evidence of it",
            stopped_by=frozenset({"accelerators"}),
            forge=lambda stage, target: _shows(stage, target, b""),
        ),
    ),
)

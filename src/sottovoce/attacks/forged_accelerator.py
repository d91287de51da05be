"""A graphics processor's evidence that is another session's, or of one that is not as it should be (row 28)."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.stage import Stage, Target, shown_of
from sottovoce.attest.binding import accelerator_nonce
from sottovoce.attest.evidence import Evidence
from sottovoce.simulator.accelerator import SimulatedGpuVendor
from sottovoce.tlog.entries import Accelerator, Release

__all__ = ["ATTACK"]

_DEVICES: Final = 2
_FIRMWARE: Final = 3


def _declares(stage: Stage) -> Release:
    digests = tuple(hashlib.sha256(one).hexdigest() for one in stage.gpu_manifests)
    declared = Accelerator(architecture=stage.gpus[0].architecture, manifests=digests)
    return replace(stage.release, accelerators=(declared,) * _DEVICES)


def _trial(tries: str, check: str, second: Callable[[Stage, bytes], tuple[bytes, ...]]) -> Trial:
    """Two declared; the first is genuine, and what is shown of the second is `second`, which is given the nonce."""

    def forge(stage: Stage, target: Target) -> Evidence:
        nonce = accelerator_nonce(target.leaf)
        first = shown_of(stage.gpus[0], stage.gpus[0].report(nonce))
        release = stage.prove(_declares(stage).encode())
        return replace(stage.evidence(target), release=release, accelerators=(first, *second(stage, nonce)))

    return Trial(tries=tries, stopped_by=frozenset({check}), forge=forge)


def _other_firmware(stage: Stage, nonce: bytes) -> tuple[bytes]:
    gpu = stage.gpus[1]
    state = replace(gpu.state, measurements={**gpu.state.measurements, _FIRMWARE: bytes(48)})
    return (shown_of(gpu, gpu.report(nonce, state=state)),)


def _other_mode(stage: Stage, nonce: bytes) -> tuple[bytes]:
    # Multi-GPU protected PCIe, which the other field of the report denies. With confidential computing off there is no report at all:
    # that one is missing.
    gpu = stage.gpus[1]
    return (shown_of(gpu, gpu.report(nonce, state=replace(gpu.state, feature=2))),)


def _of_no_vendor(stage: Stage, nonce: bytes) -> tuple[bytes]:
    gpu = SimulatedGpuVendor.create(now=stage.now).make_device(now=stage.now)
    return (shown_of(gpu, gpu.report(nonce)),)


def _flipped(stage: Stage, nonce: bytes) -> tuple[bytes]:
    report = bytearray(stage.gpus[1].report(nonce))
    report[-1] ^= 1
    return (shown_of(stage.gpus[1], bytes(report)),)


ATTACK: Final = Attack(
    name="forged-accelerator",
    row="28",
    who=HOST,
    tries="a graphics processor's report with another nonce, a wrong measurement, in another mode, or of no vendor; one shown for two",
    stopped_by=(
        "gpu-1/nvidia-nonce",
        "gpu-1/nvidia-measurements",
        "gpu-1/nvidia-mode",
        "gpu-1/nvidia-chain",
        "gpu-1/nvidia-signature",
        "nvidia-distinct",
        "accelerators",
    ),
    trials=(
        _trial(
            "the report of an earlier session",
            "gpu-1/nvidia-nonce",
            lambda stage, nonce: (shown_of(stage.gpus[1], stage.gpus[1].report(bytes(len(nonce)))),),
        ),
        _trial("other firmware", "gpu-1/nvidia-measurements", _other_firmware),
        _trial("in another mode", "gpu-1/nvidia-mode", _other_mode),
        _trial("a device that no vendor has made", "gpu-1/nvidia-chain", _of_no_vendor),
        _trial("one bit of its signature changed", "gpu-1/nvidia-signature", _flipped),
        _trial(
            "one device shown for two",
            "nvidia-distinct",
            lambda stage, nonce: (shown_of(stage.gpus[0], stage.gpus[0].report(nonce)),),
        ),
        _trial("one of two shown, as the other is not confidential", "accelerators", lambda *_: ()),
    ),
    entries=lambda stage: (_declares(stage).encode(),),
)

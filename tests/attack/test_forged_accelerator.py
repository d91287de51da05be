"""Row 28: a GPU's evidence that is another session's, or of a GPU that is not as it should be."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from sottovoce.attest.binding import accelerator_nonce, session_leaf
from sottovoce.attest.nvidia.evidence import ARCHITECTURES, DeviceEvidence
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.session import encode_device
from sottovoce.attest.verdict import Checklist, Status, VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.simulator.accelerator import SimulatedDevice, SimulatedGpuVendor, State
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tlog.entries import Accelerator

EXPORTER, SPKI = b"e" * 32, b"public key"
NONCE = accelerator_nonce(session_leaf(EXPORTER, SPKI))
"""A single session is a tree of one, whose head is its leaf."""
EARLIER = accelerator_nonce(session_leaf(bytes(32), SPKI))


@functools.cache
def vendor() -> SimulatedGpuVendor:
    return SimulatedGpuVendor.create(now=NOW)


@functools.cache
def gpus() -> tuple[SimulatedDevice, ...]:
    return tuple(vendor().make_device(now=NOW) for _ in range(2))


@functools.cache
def manifests() -> tuple[bytes, ...]:
    return tuple(vendor().manifest(gpus()[0], part) for part in ("driver", "vbios"))


@functools.cache
def world() -> EvidenceWorld:
    made = EvidenceWorld()
    digests = tuple(hashlib.sha256(one).hexdigest() for one in manifests())
    declared = (Accelerator(architecture="HOPPER", manifests=digests),) * 2
    made.releases["orchestrator"] = replace(made.release("orchestrator"), accelerators=declared)
    made.append(made.releases["orchestrator"].encode())
    return made


def member(gpu: SimulatedDevice, nonce: bytes = NONCE, state: State | None = None) -> bytes:
    report = gpu.report(nonce, state=state)
    architecture = ARCHITECTURES[gpu.architecture]
    return encode_device(
        DeviceEvidence(architecture=architecture, nonce=None, report=report, chain=gpu.chain[:-1])
    )


def stopped_by(first: bytes, second: bytes) -> set[str]:
    """The checks that fail on their own account, without the device that they are about."""
    evidence = replace(world().evidence(EXPORTER, SPKI), accelerators=(first, second))
    try:
        verify_session(
            evidence.encode(),
            policy=world().policy(nvidia=NvidiaPolicy(roots=vendor().roots), manifests=manifests()),
            connection=world().connection(EXPORTER, SPKI),
        )
    except VerificationRefused as refused:
        return {check.id.rpartition("/")[2] for check in refused.verdict.causes}
    return set()


def with_measurement() -> bytes:
    state = gpus()[1].state
    wrong = replace(state, measurements={**state.measurements, 3: bytes(48)})
    return member(gpus()[1], state=wrong)


ATTACKS: list[tuple[str, Callable[[], bytes]]] = [
    ("nvidia-nonce", lambda: member(gpus()[1], EARLIER)),
    ("nvidia-measurements", with_measurement),
    # Multi-GPU protected PCIe, which the other field of the report denies. With confidential computing off there is no report at all:
    # that one is missing, as in `missing-accelerator`.
    ("nvidia-mode", lambda: member(gpus()[1], state=replace(gpus()[1].state, feature=2))),
    ("nvidia-distinct", lambda: member(gpus()[0])),
]


def test_what_is_declared_and_shown_is_believed() -> None:
    assert stopped_by(member(gpus()[0]), member(gpus()[1])) == set()


@pytest.mark.parametrize(("check", "forge"), ATTACKS)
def test_it_is_stopped_for_the_reason_named(check: str, forge: Callable[[], bytes]) -> None:
    assert stopped_by(member(gpus()[0]), forge()) == {check}


@pytest.mark.parametrize(("check", "forge"), ATTACKS)
def test_it_succeeds_where_the_check_is_missing(
    check: str, forge: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Checklist._put

    def put(self: Checklist, line: str, status: Status, found: str, wanted: str) -> None:
        left_out = line.rpartition("/")[2] == check
        genuine(self, line, Status.PASS if left_out else status, found, wanted)

    monkeypatch.setattr(Checklist, "_put", put)
    assert stopped_by(member(gpus()[0]), forge()) == set()

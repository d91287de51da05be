"""Accelerators in a session: those that the release declares, fresh for this connection, and no others."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.binding import accelerator_nonce, batch_root, report_data, session_leaf
from sottovoce.attest.evidence import Batch, Evidence
from sottovoce.attest.nvidia.evidence import ARCHITECTURES, DeviceEvidence
from sottovoce.attest.nvidia.opaque import ENABLED
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.session import decode_devices, encode_device
from sottovoce.attest.verdict import Status, VerificationRefused
from sottovoce.attest.verify import VerifiedSession, verify_session
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.accelerator import SimulatedDevice, SimulatedGpuVendor, State
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tlog.entries import Accelerator, Revocations

EXPORTER, SPKI = b"e" * 32, b"public key"
ROOT = session_leaf(EXPORTER, SPKI)
"""A single session is a tree of one, whose head is its leaf."""
NONCE = accelerator_nonce(ROOT)


@functools.cache
def vendor() -> SimulatedGpuVendor:
    return SimulatedGpuVendor.create(now=NOW)


@functools.cache
def gpus() -> tuple[SimulatedDevice, ...]:
    return tuple(vendor().make_device(now=NOW) for _ in range(2))


@functools.cache
def manifests() -> tuple[bytes, ...]:
    return tuple(vendor().manifest(gpus()[0], part) for part in ("driver", "vbios"))


def declared(count: int = 2, files: Sequence[bytes] | None = None) -> tuple[Accelerator, ...]:
    digests = tuple(hashlib.sha256(one).hexdigest() for one in files or manifests())
    return (Accelerator(architecture="HOPPER", manifests=digests),) * count


def member(gpu: SimulatedDevice, nonce: bytes = NONCE, state: State | None = None) -> bytes:
    return encode_device(
        DeviceEvidence(
            architecture=ARCHITECTURES[gpu.architecture],
            nonce=None,
            report=gpu.report(nonce, state=state),
            chain=gpu.chain[:-1],
        )
    )


@functools.cache
def world() -> EvidenceWorld:
    return EvidenceWorld()


def evidence(members: Sequence[bytes], accelerators: tuple[Accelerator, ...] | None = None) -> Evidence:
    """Evidence of a release that declares these accelerators; by default the two that there are."""
    made = world()
    pinned = declared() if accelerators is None else accelerators
    made.releases["orchestrator"] = replace(made.release("orchestrator"), accelerators=pinned)
    entry = made.releases["orchestrator"].encode()
    if entry not in made.logged:
        made.append(entry)
    return replace(made.evidence(EXPORTER, SPKI), accelerators=tuple(members))


def verify(shown: Evidence, *, policy: dict[str, Any] | None = None, **connection: Any) -> VerifiedSession:
    demands = {"nvidia": NvidiaPolicy(roots=vendor().roots), "manifests": manifests(), **(policy or {})}
    return verify_session(
        shown.encode(),
        policy=world().policy(**demands),
        connection=world().connection(EXPORTER, SPKI, **connection),
    )


def failed(shown: Evidence, **arguments: Any) -> dict[str, str]:
    with pytest.raises(VerificationRefused) as caught:
        verify(shown, **arguments)
    return {check.id: check.found for check in caught.value.verdict.failed}


def good() -> list[bytes]:
    return [member(gpu) for gpu in gpus()]


def test_a_mode_that_the_policy_adds_is_said_for_each_device() -> None:
    shown = evidence(
        [member(gpu, state=replace(gpu.state, feature=2, protected_pcie=ENABLED)) for gpu in gpus()]
    )
    modes = {"gpu-0/nvidia-mode", "gpu-1/nvidia-mode"}
    assert failed(shown).keys() == modes
    weak = NvidiaPolicy(roots=vendor().roots, modes=frozenset({"SPT", "PPCIE"}))
    assert verify(shown, policy={"nvidia": weak}).verdict.relaxed == tuple(sorted(modes))


def test_declared_gpus_that_are_shown() -> None:
    verdict = verify(evidence(good())).verdict
    lines = {check.id: check.status for check in verdict.checks}
    assert lines["accelerators"] is Status.PASS
    assert lines["gpu-0/nvidia-nonce"] is lines["gpu-1/nvidia-measurements"] is Status.PASS
    assert lines["gpu-1/nvidia-revoked"] is Status.PASS
    assert lines["gpu-1/nvidia-chain-dates"] is lines["gpu-1/nvidia-vbios-rim-dates"] is Status.PASS
    (declared_line,) = (check for check in verdict.checks if check.id == "accelerators")
    assert declared_line.found == "2 HOPPER shown, 2 HOPPER declared"
    assert declared_line.wanted == "those that the release declares"
    sections = [check.rule.section for check in verdict.checks]
    assert sections == sorted(sections, key=lambda name: [int(one) for one in name.split(".")])


def test_a_gpu_that_is_missing_or_too_many() -> None:
    assert failed(evidence([])) == {"accelerators": "none shown, 2 HOPPER declared"}
    assert failed(evidence(good()[:1])) == {"accelerators": "1 HOPPER shown, 2 HOPPER declared"}
    third = member(vendor().make_device(now=NOW))
    assert failed(evidence([*good(), third])) == {"accelerators": "3 HOPPER shown, 2 HOPPER declared"}
    assert "accelerators" in failed(evidence(good(), ()))
    other = vendor().make_device(now=NOW, architecture="BLACKWELL")
    assert (
        failed(evidence([good()[0], member(other)]))["accelerators"]
        == "1 BLACKWELL, 1 HOPPER shown, 2 HOPPER declared"
    )


def test_one_gpu_twice() -> None:
    assert failed(evidence([good()[0]] * 2)) == {"nvidia-distinct": "1 of 2"}


@pytest.mark.parametrize(
    "nonce",
    [
        bytes(32),
        EXPORTER,
        ROOT,
        accelerator_nonce(session_leaf(b"f" * 32, SPKI)),
        accelerator_nonce(session_leaf(EXPORTER, b"another key")),
    ],
)
def test_reports_of_another_session(nonce: bytes) -> None:
    found = failed(evidence([good()[0], member(gpus()[1], nonce)]))
    assert found.keys() == {"gpu-1/nvidia-nonce"}


def test_a_gpus_state_refuses_the_session() -> None:
    state = replace(gpus()[0].state, measurements={**gpus()[0].state.measurements, 3: bytes(48)})
    found = failed(evidence([member(gpus()[0], state=state), good()[1]]))
    assert found.keys() == {"gpu-0/nvidia-measurements"}


def test_a_manifest_that_is_not_at_hand_or_not_pinned() -> None:
    for policy in ({"manifests": ()}, {"manifests": manifests()[:1]}):
        found = failed(evidence(good()), policy=policy)
        assert {"gpu-0/nvidia-vbios-rim", "gpu-1/nvidia-vbios-rim"} <= found.keys()
    unpinned = failed(evidence(good(), declared(2, manifests()[:1])))
    assert unpinned["gpu-0/nvidia-vbios-rim"] == "0 of the 1 that were given are for it"


def test_no_root_is_pinned() -> None:
    assert failed(evidence(good()), policy={"nvidia": None}) == {"accelerators": "no vendor's root is pinned"}


def test_a_production_policy_holds_no_simulated_root() -> None:
    with pytest.raises(UsageError):
        world().policy(nvidia=NvidiaPolicy(roots=vendor().roots), allow_simulated=False)


def test_a_batch_that_does_not_hold_this_session() -> None:
    found = failed(replace(evidence(good()), batch=Batch(index=0, size=2, path=())))
    assert found["gpu-0/nvidia-nonce"].startswith("could not be checked")
    assert "binding" in found


def test_a_batch_of_several_sessions_has_one_nonce() -> None:
    """The nonce is of the batch's root, so that one report of each GPU serves all of them."""
    made = world()
    other = hashlib.sha256(b"another session").digest()
    root = batch_root(ROOT, index=0, size=2, path=(other,))
    chip = made.chips["orchestrator"]
    processor = SimulatedProcessor(chip, made.measurements["orchestrator"])
    shown = evidence([member(gpu, accelerator_nonce(root)) for gpu in gpus()])
    batched = replace(
        shown,
        batch=Batch(index=0, size=2, path=(other,)),
        platform=replace(shown.platform, report=processor.report(report_data(root))),
    )
    assert verify(batched).verdict.accepted


def test_a_gpu_that_the_policy_revokes() -> None:
    digest = hashlib.sha256(gpus()[1].chain[0]).hexdigest()
    policy = {"nvidia": NvidiaPolicy(roots=vendor().roots, revoked=frozenset({digest}))}
    for directory in (None, Revocations(), Revocations(certificates=frozenset({"ab" * 32}))):
        found = failed(evidence(good()), policy=policy, revocations=directory)
        assert found == {"gpu-1/nvidia-revoked": "a certificate is revoked"}
    unknown = verify(evidence(good()), revocations=None).verdict
    lines = {check.id: check.status for check in unknown.checks}
    assert lines["gpu-1/nvidia-revoked"] is Status.NOT_CHECKED


def test_a_revoked_gpu() -> None:
    digest = hashlib.sha256(gpus()[1].chain[1]).hexdigest()
    found = failed(evidence(good()), revocations=Revocations(certificates=frozenset({digest})))
    assert found == {"gpu-1/nvidia-revoked": "a certificate is revoked"}


def test_without_a_clock() -> None:
    verdict = verify(evidence(good()), now=None).verdict
    lines = {check.id: check.status for check in verdict.checks}
    assert lines["gpu-0/nvidia-chain-dates"] is Status.NOT_CHECKED
    assert lines["gpu-0/nvidia-nonce"] is Status.PASS


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"evidence",
        lambda value: cbor.encode(value[:2]),
        lambda value: cbor.encode([*value, b""]),
        lambda value: cbor.encode(["AMPERE", *value[1:]]),
        lambda value: cbor.encode([1, *value[1:]]),
        lambda value: cbor.encode([value[0], "text", value[2]]),
        lambda value: cbor.encode([*value[:2], b""]),
        lambda value: cbor.encode([*value[:2], ["text"]]),
        lambda value: cbor.encode(value) + b"\0",
    ],
)
def test_malformed_members(spoil: Callable[[Any], bytes]) -> None:
    bad = spoil(cbor.decode(good()[0], limit=1 << 16))
    with pytest.raises(DecodeError):
        decode_devices([bad])
    assert failed(evidence([bad, good()[1]])) == {"accelerators": "malformed evidence"}


def test_a_device_survives_the_wire() -> None:
    (device,) = decode_devices(good()[:1])
    assert encode_device(device) == good_again(device)
    assert device.chain == gpus()[0].chain[:-1]


def good_again(device: DeviceEvidence) -> bytes:
    return cbor.encode(["HOPPER", device.report, list(device.chain)])

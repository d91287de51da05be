"""What the tests of GPUs share: the fixtures' evidence, a simulated vendor, and which lines of a verdict failed."""

import base64
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixtures_dir import need
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.verify import verify_gpus
from sottovoce.attest.pem import certificates
from sottovoce.attest.vendors import nvidia_roots
from sottovoce.attest.verdict import Status, Verdict
from sottovoce.simulator.accelerator import SimulatedGpuVendor

SDK, UNIT, SAMPLES = "attestation-sdk", "attestation-sdk/unit-tests", "attestation-sdk/unit-tests/sample_rims"
DATA = f"{UNIT}/sample_attestation_data"
REAL = NvidiaPolicy(roots=nvidia_roots())
NOW = 1_780_272_000
"""1 June 2026: within the dates of the newest real manifest."""
NONCE = b"n" * 32
SWITCH_RIM = f"{UNIT}/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"


def fixture(name: str) -> Path:
    return need(f"nvidia/{name}")


def hex_report(name: str) -> bytes:
    return bytes.fromhex(fixture(name).read_text().strip())


def chain(name: str) -> tuple[bytes, ...]:
    return certificates(fixture(name).read_bytes())


def as_json(report: bytes, chain_name: str, arch: str) -> bytes:
    """A report and a chain that the fixtures hold apart, as the vendor's tools write them together."""
    member = {
        "arch": arch,
        "nonce": report[4:36].hex(),
        "evidence": base64.b64encode(report).decode(),
        "certificate": base64.b64encode(fixture(chain_name).read_bytes()).decode(),
    }
    return json.dumps([member]).encode()


@functools.cache
def vendor() -> SimulatedGpuVendor:
    return SimulatedGpuVendor.create(now=NOW)


def simulated(**changes: Any) -> NvidiaPolicy:
    return NvidiaPolicy(roots=vendor().roots, **changes)


def judge(evidence: bytes, rims: Sequence[bytes] = (), **arguments: Any) -> Verdict:
    return verify_gpus(
        evidence, **{"nonce": NONCE, "rims": rims, "policy": simulated(), "now": NOW, **arguments}
    )


def failed(verdict: Verdict) -> dict[str, str]:
    return {check.id: check.found for check in verdict.failed}


def status(verdict: Verdict, check: str) -> Status:
    (line,) = [one for one in verdict.checks if one.id == check]
    return line.status

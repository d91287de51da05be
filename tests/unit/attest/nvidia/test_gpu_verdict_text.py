"""What a verdict on GPUs and switches says, word for word."""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography import x509

from nvidia_kit import NONCE, NOW, judge, simulated, vendor
from sottovoce.attest.certificates import Certificate
from sottovoce.attest.nvidia.appraisal import Device, appraise_device, appraise_together
from sottovoce.attest.nvidia.demands import Demands, Lines, References
from sottovoce.attest.nvidia.evidence import parse_evidence
from sottovoce.attest.nvidia.opaque import ENABLED
from sottovoce.attest.nvidia.rules import device_rules
from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.accelerator import SWITCH_STATE, SimulatedDevice, State, member
from sottovoce.simulator.derwriter import sequence, wrap
from verdict_text import judged, written

LATER = b"\x01" * 32

GOOD = f"""\
pass | gpu-0/nvidia-report | yes | SPDM 1.1, whole
pass | gpu-0/nvidia-chain | yes | the pinned NVIDIA root
pass | gpu-0/nvidia-chain-dates | yes | all valid
pass | gpu-0/nvidia-revoked | yes | not in the list
pass | gpu-0/nvidia-architecture | HOPPER, GH100 | a chip of BLACKWELL or HOPPER or LS10
pass | gpu-0/nvidia-signature | yes | ECDSA P-384, SHA-384
pass | gpu-0/nvidia-nonce | {NONCE.hex()} | {NONCE.hex()}
pass | gpu-0/nvidia-firmware-id | d57c5ccc8b4a6d04… | d57c5ccc8b4a6d04…, the certificate's
pass | gpu-0/nvidia-vbios | 96.00.A5.00.01 | a version
pass | gpu-0/nvidia-vbios-rim | yes | one manifest for GH100, vbios 96.00.A5.00.01
pass | gpu-0/nvidia-vbios-rim-dates | yes | all valid
pass | gpu-0/nvidia-measurements | 31 of 31 equal; not compared: index 35, as the video decoder is off; 32 have no reference value | all that the manifests demand
pass | gpu-0/nvidia-driver | 590.12 | a version
pass | gpu-0/nvidia-driver-rim | yes | one manifest for GH100, driver 590.12
pass | gpu-0/nvidia-driver-rim-dates | yes | all valid
pass | gpu-0/nvidia-rim-conflict | none | none
pass | gpu-0/nvidia-nvdec | off | on or off
pass | gpu-0/nvidia-mode | SPT | MPT or SPT
pass | nvidia-distinct | 1 of 1 | no report, key or device twice"""

BAD = f"""\
pass | gpu-0/nvidia-report | yes | SPDM 1.1, whole
pass | gpu-0/nvidia-chain | yes | the pinned NVIDIA root
pass | gpu-0/nvidia-chain-dates | yes | all valid
pass | gpu-0/nvidia-architecture | HOPPER, GH100 | a chip of BLACKWELL or HOPPER or LS10
pass | gpu-0/nvidia-signature | yes | ECDSA P-384, SHA-384
fail | gpu-0/nvidia-nonce | {LATER.hex()} | {NONCE.hex()}
fail | gpu-0/nvidia-firmware-id | eeeeeeeeeeeeeeee… | d57c5ccc8b4a6d04…, the certificate's
fail | gpu-0/nvidia-vbios | none | a version
fail | gpu-0/nvidia-vbios-rim | 0 of the 2 that were given are for it | one manifest for GH100, vbios ?
fail | gpu-0/nvidia-vbios-rim-dates | could not be checked, as something before it failed | checked
fail | gpu-0/nvidia-measurements | could not be checked, as something before it failed | checked
fail | gpu-0/nvidia-driver | none | a version
fail | gpu-0/nvidia-driver-rim | 0 of the 2 that were given are for it | one manifest for GH100, driver ?
fail | gpu-0/nvidia-driver-rim-dates | could not be checked, as something before it failed | checked
fail | gpu-0/nvidia-rim-conflict | could not be checked, as something before it failed | checked
fail | gpu-0/nvidia-nvdec | neither | on or off
fail | gpu-0/nvidia-mode | two answers | MPT or SPT
pass | nvidia-distinct | 1 of 1 | no report, key or device twice
fail | nvidia-fabric | GPUs name 1 switches, 0 of them here; here are 0 switches and 1 GPUs | exactly those that are linked"""

WRONG = f"""\
pass | gpu-0/nvidia-report | yes | SPDM 1.1, whole
pass | gpu-0/nvidia-chain | yes | the pinned NVIDIA root
pass | gpu-0/nvidia-chain-dates | yes | all valid
pass | gpu-0/nvidia-architecture | HOPPER, GH100 | a chip of BLACKWELL or HOPPER or LS10
pass | gpu-0/nvidia-signature | yes | ECDSA P-384, SHA-384
pass | gpu-0/nvidia-nonce | {NONCE.hex()} | {NONCE.hex()}
pass | gpu-0/nvidia-firmware-id | d57c5ccc8b4a6d04… | d57c5ccc8b4a6d04…, the certificate's
pass | gpu-0/nvidia-vbios | 96.00.A5.00.01 | a version
pass | gpu-0/nvidia-vbios-rim | yes | one manifest for GH100, vbios 96.00.A5.00.01
pass | gpu-0/nvidia-vbios-rim-dates | yes | all valid
fail | gpu-0/nvidia-measurements | 30 of 32 equal; indexes 2, 34 are not; 32 have no reference value | all that the manifests demand
pass | gpu-0/nvidia-driver | 590.12 | a version
pass | gpu-0/nvidia-driver-rim | yes | one manifest for GH100, driver 590.12
pass | gpu-0/nvidia-driver-rim-dates | yes | all valid
pass | gpu-0/nvidia-rim-conflict | none | none
pass | gpu-0/nvidia-nvdec | on | on or off
fail | gpu-0/nvidia-mode | PPCIE | MPT or SPT
pass | nvidia-distinct | 1 of 1 | no report, key or device twice"""

SWITCH = f"""\
pass | switch-0/nvidia-report | yes | SPDM 1.1, whole
pass | switch-0/nvidia-chain | yes | the pinned NVIDIA root
pass | switch-0/nvidia-chain-dates | yes | all valid
pass | switch-0/nvidia-architecture | LS10, LS_10 | a chip of BLACKWELL or HOPPER or LS10
pass | switch-0/nvidia-signature | yes | ECDSA P-384, SHA-384
pass | switch-0/nvidia-nonce | {NONCE.hex()} | {NONCE.hex()}
pass | switch-0/nvidia-vbios | 96.10.55.00.01 | a version
pass | switch-0/nvidia-vbios-rim | yes | one manifest for LS10, vbios 96.10.55.00.01
pass | switch-0/nvidia-vbios-rim-dates | yes | all valid
pass | switch-0/nvidia-measurements | 16 of 16 equal; 48 have no reference value | all that the manifests demand
pass | switch-0/nvidia-locked | locked | locked
pass | nvidia-distinct | 1 of 1 | no report, key or device twice"""

BAD_SWITCH = f"""\
pass | switch-0/nvidia-report | yes | SPDM 1.1, whole
pass | switch-0/nvidia-chain | yes | the pinned NVIDIA root
pass | switch-0/nvidia-chain-dates | yes | all valid
pass | switch-0/nvidia-architecture | LS10, LS_10 | a chip of BLACKWELL or HOPPER or LS10
pass | switch-0/nvidia-signature | yes | ECDSA P-384, SHA-384
pass | switch-0/nvidia-nonce | {NONCE.hex()} | {NONCE.hex()}
fail | switch-0/nvidia-vbios | none | a version
fail | switch-0/nvidia-vbios-rim | 0 of the 1 that were given are for it | one manifest for LS10, vbios ?
fail | switch-0/nvidia-vbios-rim-dates | could not be checked, as something before it failed | checked
fail | switch-0/nvidia-measurements | could not be checked, as something before it failed | checked
fail | switch-0/nvidia-locked | not reported | locked
pass | nvidia-distinct | 1 of 1 | no report, key or device twice"""

GPU_OPEN = """\
gpu-0/nvidia-revoked | no list was given
gpu-0/nvidia-revocation-service | the vendor answers this on line only (OCSP); this verifier asks nobody
gpu-0/nvidia-debug | the certificate of this architecture states no flags
gpu-0/nvidia-vbios-rim | no reference manifest was given
gpu-0/nvidia-vbios-rim-dates | no reference manifest was given
gpu-0/nvidia-measurements | no reference manifest was given
gpu-0/nvidia-driver-rim | no reference manifest was given
gpu-0/nvidia-driver-rim-dates | no reference manifest was given
gpu-0/nvidia-rim-conflict | no reference manifest was given
gpu-0/nvidia-developer-mode | the report has no field for it: only the CVM itself can ask the driver
nvidia-fabric | no GPU here reports a link"""

SWITCH_OPEN = """\
switch-0/nvidia-revoked | no list was given
switch-0/nvidia-revocation-service | the vendor answers this on line only (OCSP); this verifier asks nobody
switch-0/nvidia-firmware-id | the report of this firmware has none
switch-0/nvidia-debug | the certificate of this architecture states no flags
switch-0/nvidia-vbios-rim | no reference manifest was given
switch-0/nvidia-vbios-rim-dates | no reference manifest was given
switch-0/nvidia-measurements | no reference manifest was given
nvidia-fabric | there is no GPU here"""


@functools.cache
def gpu() -> SimulatedDevice:
    return vendor().make_device(now=NOW)


@functools.cache
def switch() -> SimulatedDevice:
    return vendor().make_device(now=NOW, architecture="LS10", state=replace(SWITCH_STATE, pdi=b"switch-1"))


@functools.cache
def rims() -> tuple[bytes, ...]:
    return tuple(vendor().manifest(gpu(), part) for part in ("driver", "vbios"))


def shown(*devices: SimulatedDevice, state: State | None = None, nonce: bytes = NONCE) -> bytes:
    return json.dumps([member(one, one.report(nonce, state=state)) for one in devices]).encode()


def test_a_good_gpu() -> None:
    assert judged(judge(shown(gpu()), rims(), policy=simulated(revoked=frozenset()))) == GOOD


def test_a_gpu_whose_report_says_nothing_right() -> None:
    state = replace(
        gpu().state,
        driver=None,
        vbios=None,
        nvdec0=0,
        firmware_id=b"\xee" * 48,
        feature=2,
        links=(b"12345678",),
    )
    assert judged(judge(shown(gpu(), state=state, nonce=LATER), rims())) == BAD


def test_a_gpu_in_another_mode_with_other_firmware() -> None:
    state = replace(
        gpu().state,
        nvdec0=ENABLED,
        feature=None,
        opaque_version=None,
        protected_pcie=ENABLED,
        measurements={**gpu().state.measurements, 3: bytes(48), 35: bytes(48)},
    )
    assert judged(judge(shown(gpu(), state=state), rims())) == WRONG


def test_a_gpu_without_reference_values() -> None:
    assert written(judge(shown(gpu()))) == GPU_OPEN


def test_a_switch() -> None:
    rim = vendor().manifest(switch(), "vbios")
    assert judged(judge(shown(switch()), [rim])) == SWITCH
    state = replace(switch().state, vbios=None, locked=None)
    assert judged(judge(shown(switch(), state=state), [rim])) == BAD_SWITCH
    assert written(judge(shown(switch()))) == SWITCH_OPEN
    unlocked = judged(judge(shown(switch(), state=replace(switch().state, locked=0))))
    assert "fail | switch-0/nvidia-locked | not locked | locked" in unlocked


FABRIC = "fail | nvidia-fabric | GPUs name {} switches, {} of them here; here are {} switches and {} GPUs{} | exactly those that are linked"
FEWER, OTHERS = "; 1 GPUs do not name all", "; switches list other GPUs"


@pytest.mark.parametrize(
    ("links", "with_switch", "words"),
    [
        ((b"1-hctiws",), False, FABRIC.format(1, 0, 0, 2, FEWER)),
        ((b"1-hctiws",), True, FABRIC.format(1, 1, 1, 2, FEWER + OTHERS)),
        ((b"1-hctiws", b"2-hctiws"), True, FABRIC.format(2, 1, 1, 2, FEWER + OTHERS)),
    ],
)
def test_what_is_linked(links: Sequence[bytes], with_switch: bool, words: str) -> None:
    linked = vendor().make_device(now=NOW, state=replace(gpu().state, links=tuple(links)))
    devices = (linked, gpu(), switch()) if with_switch else (linked, gpu())
    assert words in judged(judge(shown(*devices))).splitlines()


def lines_of(devices: bytes, *, now: int | None, references: References) -> str:
    """As in a session: reference manifests are needed, and there may be no clock."""
    checks = Checklist(device_rules((("gpu-0", False),)))
    demands = Demands(policy=simulated(), nonce=NONCE, references=references, now=now, references_needed=True)
    appraise_device(parse_evidence(devices)[0], demands, Lines(checks, "gpu-0"))
    verdict = checks.verdict()
    return f"{judged(verdict)}\n{written(verdict)}"


def test_without_a_clock_no_dates_are_judged() -> None:
    references = References.of(rims(), vendor().roots.manifests)
    lines = lines_of(shown(gpu()), now=None, references=references).splitlines()
    for check in ("nvidia-chain-dates", "nvidia-driver-rim-dates", "nvidia-vbios-rim-dates"):
        assert f"gpu-0/{check} | there is no trusted clock here" in lines


def test_a_chain_of_nobody_leaves_what_rests_on_it_open() -> None:
    """Nothing is said of manifests for a chip that no trusted certificate names."""
    other = type(vendor()).create(now=NOW).make_device(now=NOW)
    references = References.of(rims(), vendor().roots.manifests)
    lines = lines_of(shown(other), now=NOW, references=references).splitlines()
    unreached = "could not be checked, as something before it failed | checked"
    for check in ("nvidia-driver-rim", "nvidia-vbios-rim", "nvidia-measurements", "nvidia-signature"):
        assert f"fail | gpu-0/{check} | {unreached}" in lines


TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")


def blackwell(**extension: bytes) -> SimulatedDevice:
    """A device whose firmware's certificate has this DiceTcbInfo."""
    chip = "Simulated GB100 A01 GSP"
    rom = vendor().provisioner.issue(f"{chip} BROM", now=NOW, authority=True)
    key = rom.issue(f"{chip} FMC LF", now=NOW, authority=False, extensions={TCB_INFO: extension["info"]})
    return SimulatedDevice(architecture="BLACKWELL", key=key.key, chain=key.chain, state=State())


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (wrap(0x87, b"\0\x40"), "fail | gpu-0/nvidia-debug | stated | none of them"),
        (wrap(0x87, b"\0\0"), "pass | gpu-0/nvidia-debug | none of them | none of them"),
        (
            wrap(0x87, b"\0"),
            "fail | gpu-0/nvidia-debug | the device certificate has malformed flags | none of them",
        ),
        (
            wrap(0x87, b"\0\0"),
            "fail | gpu-0/nvidia-firmware-id | the device certificate has no firmware id | the certificate's",
        ),
    ],
)
def test_what_a_device_certificate_states(info: bytes, line: str) -> None:
    assert line in judged(judge(shown(blackwell(info=sequence(info))))).splitlines()


def test_a_report_without_a_mode() -> None:
    state = replace(gpu().state, feature=None, opaque_version=None, protected_pcie=None)
    assert "gpu-0/nvidia-mode | the report of this firmware states no mode" in written(
        judge(shown(gpu(), state=state))
    )


def test_a_claim_of_another_nonce() -> None:
    claimed = json.loads(shown(gpu()))
    claimed[0]["nonce"] = LATER.hex()
    lines = judged(judge(json.dumps(claimed).encode()))
    assert "fail | gpu-0/nvidia-nonce | another than the evidence names | one nonce" in lines
    assert f"gpu-0/nvidia-nonce | {NONCE.hex()}; no nonce was demanded" in written(
        judge(shown(gpu()), nonce=None)
    )


def test_an_architecture_that_the_policy_does_not_name() -> None:
    verdict = judge(shown(gpu()), rims(), policy=simulated(architectures=frozenset({"BLACKWELL"})))
    lines = judged(verdict).splitlines()
    assert "fail | gpu-0/nvidia-architecture | HOPPER, GH100 | a chip of BLACKWELL" in lines
    unreached = "could not be checked, as something before it failed | checked"
    assert f"fail | gpu-0/nvidia-driver-rim | {unreached}" in lines


def test_a_certificate_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: Certificate) -> str:
        raise DecodeError("the certificate has no common name")

    monkeypatch.setattr(Certificate, "common_name", property(nobody))
    lines = judged(judge(shown(gpu()))).splitlines()
    every = "a chip of BLACKWELL or HOPPER or LS10"
    assert f"fail | gpu-0/nvidia-architecture | HOPPER, another chip | {every}" in lines


@pytest.mark.parametrize(
    ("chains", "reports", "distinct"),
    [
        (((b"k1", b"i1"), (b"k2", b"i2")), (b"r1", b"r2"), 2),
        (((b"k1", b"i1"), (b"k2", b"i2")), (b"r1", b"r1"), 1),
        (((b"k1", b"i1"), (b"k1", b"i2")), (b"r1", b"r2"), 1),
        (((b"k1", b"i1"), (b"k2", b"i1")), (b"r1", b"r2"), 1),
        (((b"k1", b"i1", b"x"), (b"k2", b"i1", b"y")), (b"r1", b"r2"), 1),
    ],
)
def test_what_makes_two_devices_two(
    chains: tuple[tuple[bytes, ...], ...], reports: tuple[bytes, ...], distinct: int
) -> None:
    checks = Checklist(device_rules((("gpu-0", False), ("gpu-1", False))))
    devices = [
        Device(name=f"gpu-{number}", switch=False, report=report, chain=chain, fields=None)
        for number, (report, chain) in enumerate(zip(reports, chains, strict=True))
    ]
    appraise_together(devices, checks)
    lines = judged(checks.verdict()).splitlines()
    outcome = "pass" if distinct == 2 else "fail"
    assert f"{outcome} | nvidia-distinct | {distinct} of 2 | no report, key or device twice" in lines

"""Every check of a GPU or switch refuses for its own reason and no other, on simulated devices."""

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nvidia_kit import NONCE, NOW, failed, judge, simulated, status, vendor
from sottovoce.attest.nvidia.appraisal import appraise_device
from sottovoce.attest.nvidia.demands import Demands, Lines, References
from sottovoce.attest.nvidia.evidence import parse_evidence
from sottovoce.attest.nvidia.opaque import ENABLED
from sottovoce.attest.nvidia.policy import NvidiaPolicy, NvidiaRoots
from sottovoce.attest.nvidia.rules import GPU_RULES, LIST_RULES, SWITCH_RULES, device_rules
from sottovoce.attest.nvidia.verify import NVIDIA_CHAIN_ONLY, NVIDIA_RELAXABLE
from sottovoce.attest.vendors import nvidia_roots
from sottovoce.attest.verdict import Checklist, Status
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.accelerator import (
    DRIVER_PART,
    VBIOS_PART,
    SimulatedDevice,
    State,
    evidence_json,
    member,
)

YEAR = 365 * 86400
ARCHITECTURES = ("HOPPER", "BLACKWELL", "LS10")
OTHER = b"\xee" * 48


@functools.cache
def device(architecture: str = "HOPPER") -> SimulatedDevice:
    return vendor().make_device(now=NOW, architecture=architecture)


@functools.cache
def rims(architecture: str = "HOPPER") -> tuple[bytes, ...]:
    parts = ("vbios",) if architecture == "LS10" else ("driver", "vbios")
    return tuple(vendor().manifest(device(architecture), part) for part in parts)


def shown(gpu: SimulatedDevice, state: State | None = None, *, nonce: bytes = NONCE) -> bytes:
    return json.dumps([member(gpu, gpu.report(nonce, state=state))]).encode()


def changed(**values: Any) -> bytes:
    return shown(device(), replace(device().state, **values))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_good_device_passes_every_line_that_can_be_checked(architecture: str) -> None:
    verdict = judge(shown(device(architecture)), rims(architecture), policy=simulated(revoked=frozenset()))
    assert verdict.accepted
    open_lines = {
        "HOPPER": {"nvidia-debug", "nvidia-developer-mode", "nvidia-fabric"},
        "BLACKWELL": {"nvidia-developer-mode", "nvidia-fabric"},
        "LS10": {"nvidia-debug", "nvidia-firmware-id", "nvidia-fabric"},
    }[architecture]
    found = {check.id.rpartition("/")[2] for check in verdict.checks if check.status is Status.NOT_CHECKED}
    assert found == open_lines | {"nvidia-revocation-service"}
    assert {check.rule.section for check in verdict.checks} == {"6.11"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_rule_has_a_line_under_its_device(architecture: str) -> None:
    verdict = judge(shown(device(architecture)), rims(architecture))
    rules, name = (SWITCH_RULES, "switch-0") if architecture == "LS10" else (GPU_RULES, "gpu-0")
    assert [check.id for check in verdict.checks] == [f"{name}/{rule}" for rule in rules] + list(LIST_RULES)
    assert all(check.rule.title.startswith(f"{name}: ") for check in verdict.checks if "/" in check.id)


@pytest.mark.parametrize(
    ("values", "check"),
    [
        ({"nvdec0": 0}, "nvidia-nvdec"),
        ({"nvdec0": None}, "nvidia-nvdec"),
        ({"firmware_id": OTHER}, "nvidia-firmware-id"),
        ({"feature": 2, "protected_pcie": ENABLED}, "nvidia-mode"),
        ({"feature": 2}, "nvidia-mode"),
        ({"feature": 0, "protected_pcie": ENABLED}, "nvidia-mode"),
        ({"feature": 0, "protected_pcie": 1}, "nvidia-mode"),
        ({"feature": None, "opaque_version": None, "protected_pcie": ENABLED}, "nvidia-mode"),
        ({"feature": None, "opaque_version": None, "protected_pcie": 0}, "nvidia-mode"),
        ({"links": (b"12345678",)}, "nvidia-fabric"),
    ],
)
def test_each_field(values: Mapping[str, Any], check: str) -> None:
    found = failed(judge(changed(**values), rims()))
    assert {one.rpartition("/")[2] for one in found} == {check}


def test_a_mode_that_the_policy_adds_is_said() -> None:
    weak = simulated(modes=frozenset({"PPCIE"}))
    verdict = judge(changed(feature=2, protected_pcie=ENABLED), rims(), policy=weak)
    assert status(verdict, "gpu-0/nvidia-mode") is Status.PASS
    assert verdict.relaxed == ("gpu-0/nvidia-mode",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"feature": 1}, Status.PASS),
        ({"feature": None, "opaque_version": None}, Status.PASS),
        ({"feature": None, "opaque_version": 0}, Status.PASS),
        ({"feature": None, "opaque_version": None, "protected_pcie": None}, Status.NOT_CHECKED),
    ],
)
def test_modes_that_are_no_fault(values: Mapping[str, Any], expected: Status) -> None:
    verdict = judge(changed(**values), rims())
    assert verdict.accepted
    assert status(verdict, "gpu-0/nvidia-mode") is expected


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"driver": None}, {"nvidia-driver", "nvidia-driver-rim"}),
        ({"vbios": None}, {"nvidia-vbios", "nvidia-vbios-rim"}),
        ({"driver": "590.13"}, {"nvidia-driver-rim"}),
        ({"vbios": "96.00.A5.00.02"}, {"nvidia-vbios-rim"}),
    ],
)
def test_versions_without_a_manifest(values: Mapping[str, Any], lines: set[str]) -> None:
    found = failed(judge(changed(**values), rims()))
    direct = {one for one, text in found.items() if not text.startswith("could not be checked")}
    assert direct == {f"gpu-0/{line}" for line in lines}
    assert "gpu-0/nvidia-measurements" in found


def test_the_firmwares_version_is_compared_whatever_its_case() -> None:
    low = vendor().manifest(device(), "vbios", version="96.00.a5.00.01")
    assert judge(shown(device()), (rims()[0], low)).accepted


@pytest.mark.parametrize("index", sorted(VBIOS_PART | DRIVER_PART))
def test_each_measurement_that_a_manifest_demands(index: int) -> None:
    evidence = changed(measurements={**device().state.measurements, index: OTHER})
    found = failed(judge(evidence, rims()))
    if index == 36:  # the video decoder's, which is off
        assert not found
    else:
        assert found.keys() == {"gpu-0/nvidia-measurements"}
        assert f"30 of 31 equal; indexes {index - 1} are not" in found["gpu-0/nvidia-measurements"]


def test_the_video_decoders_measurement_counts_where_it_is_on() -> None:
    wrong = {**device().state.measurements, 36: OTHER}
    found = failed(judge(changed(measurements=wrong, nvdec0=ENABLED), rims()))
    assert found.keys() == {"gpu-0/nvidia-measurements"}
    assert "31 of 32 equal; indexes 35 are not" in found["gpu-0/nvidia-measurements"]
    assert judge(changed(nvdec0=ENABLED), rims()).accepted


def test_a_measurement_that_is_missing_or_of_another_length() -> None:
    missing = {index: value for index, value in device().state.measurements.items() if index != 1}
    assert failed(judge(changed(measurements=missing), rims())).keys() == {"gpu-0/nvidia-measurements"}


def test_one_of_several_alternatives_is_enough() -> None:
    good = device().state.measurements
    active = {index: (OTHER, good[index]) for index in DRIVER_PART}
    driver = vendor().manifest(device(), "driver", active=active)
    assert judge(shown(device()), (driver, rims()[1])).accepted


def test_both_manifests_demand_one_measurement() -> None:
    good = device().state.measurements
    driver = vendor().manifest(device(), "driver", active={index: (good[index],) for index in (16, 33)})
    found = failed(judge(shown(device()), (driver, rims()[1])))
    assert found == {
        "gpu-0/nvidia-rim-conflict": "indexes 15",
        "gpu-0/nvidia-measurements": "could not be checked, as something before it failed",
    }


def test_one_measurement_that_is_compared_is_enough() -> None:
    good = device().state.measurements
    driver = vendor().manifest(device(), "driver", active={36: (good[36],)})
    vbios = vendor().manifest(device(), "vbios", active={1: (good[1],)})
    verdict = judge(shown(device()), (driver, vbios))
    assert verdict.accepted
    (line,) = (check for check in verdict.checks if check.id == "gpu-0/nvidia-measurements")
    assert line.found.startswith("1 of 1 equal; not compared: index 35")


def test_a_manifest_that_covers_only_what_is_passed_over_proves_nothing() -> None:
    good = device().state.measurements
    driver = vendor().manifest(device(), "driver", active={36: (good[36],)})
    vbios = vendor().manifest(device(), "vbios", active={36: (good[36],)})
    assert "gpu-0/nvidia-rim-conflict" in failed(judge(shown(device()), (driver, vbios)))


@pytest.mark.parametrize(
    ("which", "index", "words"),
    [
        (0, 40, "14 of 15 equal; indexes 39 are not; not compared: index 35"),
        (1, 3, "15 of 16 equal; indexes 2 are not"),
    ],
)
def test_one_manifest_alone_refuses_measurements_and_passes_none(which: int, index: int, words: str) -> None:
    line, unreached = "gpu-0/nvidia-measurements", "could not be checked"
    wrong = changed(measurements={**device().state.measurements, index: OTHER})
    assert failed(judge(wrong, rims()[which : which + 1]))[line].startswith(words)
    assert failed(judge(wrong, rims()[1 - which : 2 - which]))[line].startswith(unreached)
    assert failed(judge(shown(device()), rims()[which : which + 1]))[line].startswith(unreached)


def test_a_manifest_that_nobody_signed_refuses_no_measurement() -> None:
    driver, vbios = rims()
    wrong = changed(measurements={**device().state.measurements, 3: OTHER})
    found = failed(judge(wrong, (driver, vbios.replace(b'patch="false"', b'patch="true"'))))
    assert found["gpu-0/nvidia-vbios-rim"] == "the manifest was changed after it was signed"
    assert found["gpu-0/nvidia-measurements"].startswith("could not be checked")


def test_a_manifest_as_the_vendors_service_answers() -> None:
    answers = [json.dumps({"rim": base64.b64encode(one).decode()}).encode() for one in rims()]
    assert judge(shown(device()), answers).accepted


def test_the_same_manifest_twice_is_one() -> None:
    assert judge(shown(device()), (*rims(), *rims())).accepted


@pytest.mark.parametrize("which", [0, 1])
def test_a_manifest_too_few_or_too_many(which: int) -> None:
    line = f"gpu-0/nvidia-{('driver', 'vbios')[which]}-rim"
    found = failed(judge(shown(device()), rims()[:which] + rims()[which + 1 :]))
    assert found[line] == "0 of the 1 that were given are for it"
    again = vendor().manifest(device(), ("driver", "vbios")[which])
    assert failed(judge(shown(device()), (*rims(), again)))[line] == "2 of the 3 that were given are for it"


def test_a_manifest_of_another_product() -> None:
    driver = vendor().manifest(device(), "driver", product="GB100")
    assert failed(judge(shown(device()), (driver, rims()[1])))["gpu-0/nvidia-driver-rim"] == (
        "0 of the 2 that were given are for it"
    )


def test_a_chip_named_in_the_report_may_name_the_product() -> None:
    gpu = device("BLACKWELL")
    driver = vendor().manifest(gpu, "driver", product="GB202")
    named = replace(gpu.state, extra=((35, b"GB202\0\0\0"),))
    evidence = json.dumps([member(gpu, gpu.report(NONCE, state=named))]).encode()
    verdict = judge(evidence, (driver, rims("BLACKWELL")[1]))
    assert verdict.accepted
    (line,) = (check for check in verdict.checks if check.id == "gpu-0/nvidia-driver-rim")
    assert line.wanted == "one manifest for GB100 or GB202, driver 590.12"
    assert "gpu-0/nvidia-driver-rim" in failed(judge(shown(gpu), (driver, rims("BLACKWELL")[1])))


def test_a_manifest_signed_by_others() -> None:
    for signer in (vendor().provisioner, vendor().manifest_authority):
        driver = vendor().manifest(device(), "driver", signer=signer)
        found = failed(judge(shown(device()), (driver, rims()[1])))
        assert "gpu-0/nvidia-driver-rim" in found
    short = vendor().manifest_authority.issue("Simulated RIM L4 Signer", now=NOW, authority=False, days=2)
    driver = vendor().manifest(device(), "driver", signer=short)
    assert judge(shown(device()), (driver, rims()[1])).accepted
    late = judge(shown(device()), (driver, rims()[1]), now=NOW + 3 * 86400)
    assert failed(late).keys() == {"gpu-0/nvidia-driver-rim-dates"}


def test_an_authority_that_may_have_none_below_it() -> None:
    third = vendor().manifest_authority.issue("Simulated L4", now=NOW, authority=True)
    signer = third.issue("Simulated RIM L5 Signer", now=NOW, authority=False)
    driver = vendor().manifest(device(), "driver", signer=signer)
    found = failed(judge(shown(device()), (driver, rims()[1])))
    assert found["gpu-0/nvidia-driver-rim"] == "the GPU chain is longer than an authority in it allows"


def test_another_nonce() -> None:
    assert failed(judge(shown(device(), nonce=b"o" * 32), rims())).keys() == {"gpu-0/nvidia-nonce"}
    items = json.loads(shown(device()))
    items[0]["nonce"] = (b"o" * 32).hex()
    mixed = json.dumps(items).encode()
    for nonce in (NONCE, b"o" * 32, None):
        found = failed(judge(mixed, rims(), nonce=nonce))
        assert found == {"gpu-0/nvidia-nonce": "another than the evidence names"}


def test_no_nonce_and_no_manifests_are_not_checked() -> None:
    verdict = judge(shown(device()), nonce=None)
    assert verdict.accepted
    unchecked = {check.id for check in verdict.checks if check.status is Status.NOT_CHECKED}
    assert {"gpu-0/nvidia-nonce", "gpu-0/nvidia-measurements", "gpu-0/nvidia-driver-rim"} <= unchecked


def test_another_vendor_is_refused() -> None:
    for roots in (nvidia_roots(), replace(vendor().roots, devices=vendor().manifest_root.chain[0])):
        found = failed(judge(shown(device()), policy=NvidiaPolicy(roots=roots)))
        assert "gpu-0/nvidia-chain" in found
        assert "gpu-0/nvidia-signature" in found


def test_out_of_date() -> None:
    for now in (NOW - 2 * 86400, NOW + 30 * YEAR):
        found = failed(judge(shown(device()), rims(), now=now))
        assert found.keys() == {
            "gpu-0/nvidia-chain-dates",
            "gpu-0/nvidia-driver-rim-dates",
            "gpu-0/nvidia-vbios-rim-dates",
        }


@pytest.mark.parametrize("place", range(4))
def test_a_revoked_certificate(place: int) -> None:
    digest = hashlib.sha256(device().chain[place]).hexdigest()
    found = failed(judge(shown(device()), rims(), policy=simulated(revoked=frozenset({digest}))))
    assert found == {"gpu-0/nvidia-revoked": "a certificate is revoked"}


def test_a_revoked_signer_of_a_manifest() -> None:
    for certificate in vendor().manifest_signer.chain:
        revoked = frozenset({hashlib.sha256(certificate).hexdigest()})
        found = failed(judge(shown(device()), rims(), policy=simulated(revoked=revoked)))
        assert found["gpu-0/nvidia-driver-rim"] == "a certificate is revoked"
        assert "gpu-0/nvidia-revoked" not in found


def test_a_report_signed_by_another_device() -> None:
    other = vendor().make_device(now=NOW)
    evidence = json.dumps([member(replace(device(), chain=other.chain), device().report(NONCE))]).encode()
    assert failed(judge(evidence, rims())).keys() == {"gpu-0/nvidia-signature"}


def test_an_architecture_that_the_certificate_does_not_name() -> None:
    gpu = replace(device("BLACKWELL"), architecture="HOPPER")
    found = failed(judge(shown(gpu), rims("BLACKWELL")))
    assert found["gpu-0/nvidia-architecture"] == "HOPPER, another chip"
    only = simulated(architectures=frozenset({"BLACKWELL"}))
    assert "gpu-0/nvidia-architecture" in failed(judge(shown(device()), rims(), policy=only))


def test_a_leaf_of_one_chip_below_another() -> None:
    rom = vendor().provisioner.issue("Simulated GB100 A01 GSP BROM", now=NOW, authority=True)
    leaf = rom.issue("Simulated GH100 A01 GSP FMC LF", now=NOW, authority=False)
    gpu = replace(device(), key=leaf.key, chain=leaf.chain)
    found = failed(judge(shown(gpu, replace(gpu.state, firmware_id=None)), rims()))
    assert "gpu-0/nvidia-architecture" in found


@pytest.mark.parametrize(
    ("flags", "refused"), [(0x80, False), (0x40, True), (0x20, True), (0x10, True), (0, False)]
)
def test_a_blackwell_in_debug_mode(*, flags: int, refused: bool) -> None:
    gpu = vendor().make_device(now=NOW, architecture="BLACKWELL", state=State(flags=flags))
    found = failed(judge(shown(gpu), rims("BLACKWELL")))
    assert found.keys() == ({"gpu-0/nvidia-debug"} if refused else set())


def test_a_device_certificate_without_a_firmware_id() -> None:
    rom = vendor().provisioner.issue("Simulated GH100 A01 GSP BROM", now=NOW, authority=True)
    leaf = rom.issue("Simulated GH100 A01 GSP FMC LF", now=NOW, authority=False)
    gpu = replace(device(), key=leaf.key, chain=leaf.chain)
    assert failed(judge(shown(gpu), rims())) == {
        "gpu-0/nvidia-firmware-id": "the device certificate has no firmware id, or two"
    }


def test_a_switch_that_is_not_locked() -> None:
    for value in (0, None):
        evidence = shown(device("LS10"), replace(device("LS10").state, locked=value))
        assert failed(judge(evidence, rims("LS10"))).keys() == {"switch-0/nvidia-locked"}


# Several devices.


def many(devices: Sequence[SimulatedDevice]) -> bytes:
    return evidence_json(devices, NONCE)


def test_each_of_several_is_judged() -> None:
    gpus = [device(), vendor().make_device(now=NOW), vendor().make_device(now=NOW)]
    assert judge(many(gpus), rims()).accepted
    gpus[1] = replace(gpus[1], key=gpus[2].key)
    assert failed(judge(many(gpus), rims())).keys() == {"gpu-1/nvidia-signature"}


def test_a_gpu_shown_twice() -> None:
    assert failed(judge(many([device(), device()]), rims())) == {"nvidia-distinct": "1 of 2"}
    report = device().report(NONCE)
    twice = json.dumps([member(device(), report)] * 2).encode()
    assert failed(judge(twice, rims())) == {"nvidia-distinct": "1 of 2"}


def test_a_gpu_shown_twice_under_two_firmware_keys() -> None:
    gpu = device()
    again = replace(gpu, chain=(vendor().make_device(now=NOW).chain[0], *gpu.chain[1:]))
    assert "nvidia-distinct" in failed(judge(many([gpu, again]), rims()))


def linked(count: int) -> list[SimulatedDevice]:
    """Two switches and so many GPUs, each linked with the others."""
    gpus = tuple(f"gpu{number:05}".encode() for number in range(count))
    switches = [
        vendor().make_device(
            now=NOW,
            architecture="LS10",
            state=replace(device("LS10").state, pdi=f"switch-{number}".encode(), links=gpus),
        )
        for number in range(2)
    ]
    state = State(feature=1, links=tuple((one.state.pdi or b"")[::-1] for one in switches))
    return [vendor().make_device(now=NOW, state=state) for _ in range(count)] + switches


def test_gpus_and_the_switches_between_them() -> None:
    devices = linked(2)
    manifests = (*rims(), *rims("LS10"))
    verdict = judge(many(devices), manifests)
    assert verdict.accepted
    assert status(verdict, "nvidia-fabric") is Status.PASS
    assert {check.id.partition("/")[0] for check in verdict.checks if "/" in check.id} == {
        "gpu-0", "gpu-1", "switch-2", "switch-3",
    }  # fmt: skip
    for missing in range(4):
        rest = devices[:missing] + devices[missing + 1 :]
        assert failed(judge(many(rest), manifests)).keys() == {"nvidia-fabric"}
    stranger = vendor().make_device(now=NOW, architecture="LS10")
    assert failed(judge(many([*devices, stranger]), manifests)).keys() == {"nvidia-fabric"}


def with_state(gpu: SimulatedDevice, **values: Any) -> SimulatedDevice:
    return replace(gpu, state=replace(gpu.state, **values))


def test_a_gpu_beside_the_fabric_does_not_stand_for_one_in_it() -> None:
    """One linked GPU is kept away, and another that is linked with nothing shown for it: the number is right."""
    first, second, *switches = linked(2)
    for links in ((), second.state.links[:1]):
        found = failed(
            judge(many([first, with_state(second, links=links), *switches]), (*rims(), *rims("LS10")))
        )
        assert found.keys() == {"nvidia-fabric"}
        assert found["nvidia-fabric"].endswith("; 1 GPUs do not name all")


def test_switches_that_list_other_gpus_than_each_other() -> None:
    *devices, last = linked(2)
    manifests = (*rims(), *rims("LS10"))
    for links in ((b"gpu00000", b"another!"), (b"gpu00000",), ()):
        found = failed(judge(many([*devices, with_state(last, links=links)]), manifests))
        assert found.keys() == {"nvidia-fabric"}
        assert found["nvidia-fabric"].endswith("; switches list other GPUs")


def test_a_switch_without_an_id() -> None:
    devices = linked(2)
    nobody = with_state(
        vendor().make_device(now=NOW, architecture="LS10"), pdi=None, links=devices[-1].state.links
    )
    found = failed(judge(many([*devices, nobody]), (*rims(), *rims("LS10"))))
    assert found == {"nvidia-fabric": "GPUs name 2 switches, 2 of them here; here are 3 switches and 2 GPUs"}


# Policies.


def test_what_may_be_relaxed() -> None:
    evidence = changed(feature=2, protected_pcie=ENABLED)
    verdict = judge(evidence, rims(), relaxed=frozenset({"nvidia-mode"}))
    assert verdict.accepted
    assert status(verdict, "gpu-0/nvidia-mode") is Status.RELAXED
    assert verdict.relaxed == ("gpu-0/nvidia-mode",)
    for name in ("nvidia-signature", "nvidia-measurements", "nvidia-nonce", "nvidia-chain", "signature"):
        with pytest.raises(UsageError):
            judge(evidence, relaxed=frozenset({name}))
    assert not {"nvidia-chain", "nvidia-signature", "nvidia-measurements"} & NVIDIA_RELAXABLE


def test_chain_only() -> None:
    evidence = changed(feature=2, nvdec0=0, firmware_id=OTHER)
    assert judge(evidence, nonce=None, left_out=NVIDIA_CHAIN_ONLY).accepted
    # What is given is compared all the same.
    with_nonce = judge(evidence, nonce=b"x" * 32, left_out=NVIDIA_CHAIN_ONLY)
    assert failed(with_nonce).keys() == {"gpu-0/nvidia-nonce"}
    wrong = changed(measurements={**device().state.measurements, 1: OTHER})
    assert failed(judge(wrong, rims(), left_out=NVIDIA_CHAIN_ONLY)).keys() == {"gpu-0/nvidia-measurements"}
    foreign = judge(evidence, policy=NvidiaPolicy(roots=nvidia_roots()), left_out=NVIDIA_CHAIN_ONLY)
    assert {"gpu-0/nvidia-chain", "gpu-0/nvidia-signature"} <= failed(foreign).keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"architectures": frozenset()},
        {"architectures": frozenset({"AMPERE"})},
        {"modes": frozenset()},
        {"modes": frozenset({"OFF"})},
    ],
)
def test_a_policy_that_cannot_be(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError):
        simulated(**wrong)


def test_wrong_use() -> None:
    with pytest.raises(UsageError):
        judge(shown(device()), nonce=b"short")
    with pytest.raises(UsageError):
        NvidiaRoots(devices=b"", manifests=b"x")
    with pytest.raises(DecodeError):
        judge(shown(device()), (b"<no-manifest/>",))


def test_a_report_that_does_not_parse_leaves_nothing_passed_behind_it() -> None:
    items = json.loads(shown(device()))
    items[0]["evidence"] = items[0]["evidence"][: len(items[0]["evidence"]) // 2 // 4 * 4]
    verdict = judge(json.dumps(items).encode(), rims())
    found = failed(verdict)
    assert found["gpu-0/nvidia-report"] == "the GPU report ends too early"
    assert {"gpu-0/nvidia-signature", "gpu-0/nvidia-measurements", "gpu-0/nvidia-nonce", "gpu-0/nvidia-mode"} <= found.keys()  # fmt: skip


def test_without_a_clock_nothing_about_dates_is_passed() -> None:
    checks = Checklist(device_rules((("gpu-0", False),)))
    references = References.of(rims(), vendor().roots.manifests)
    demands = Demands(policy=simulated(), nonce=NONCE, references=references, now=None)
    appraise_device(parse_evidence(shown(device()))[0], demands, Lines(checks, "gpu-0"))
    verdict = checks.verdict(without=LIST_RULES)
    assert verdict.accepted
    for line in ("chain-dates", "driver-rim-dates", "vbios-rim-dates"):
        assert status(verdict, f"gpu-0/nvidia-{line}") is Status.NOT_CHECKED


def test_all_that_may_be_relaxed_may_be() -> None:
    assert judge(shown(device()), rims(), relaxed=NVIDIA_RELAXABLE).accepted


@pytest.mark.parametrize("nonce", [None, NONCE])
@pytest.mark.parametrize("with_rims", [False, True])
def test_what_is_given_is_compared_whatever_is_left_out(nonce: bytes | None, with_rims: bool) -> None:
    state = replace(device().state, measurements={**device().state.measurements, 1: OTHER})
    evidence = shown(device(), state, nonce=b"\x01" * 32)
    verdict = judge(evidence, rims() if with_rims else (), nonce=nonce, left_out=NVIDIA_CHAIN_ONLY)
    wanted = {"gpu-0/nvidia-nonce"} if nonce else set()
    wanted |= {"gpu-0/nvidia-measurements"} if with_rims else set()
    assert failed(verdict).keys() == wanted


def test_a_claim_of_another_nonce_is_left_out_with_the_line() -> None:
    claimed = json.loads(shown(device()))
    claimed[0]["nonce"] = "00" * 32
    evidence = json.dumps(claimed).encode()
    assert failed(judge(evidence, nonce=None)).keys() == {"gpu-0/nvidia-nonce"}
    assert judge(evidence, nonce=None, left_out=NVIDIA_CHAIN_ONLY).accepted

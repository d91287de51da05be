"""Real NVIDIA reports, certificates and reference manifests; origin in ../shared/fixtures/PROVENANCE.tsv.

At a fixed time, as the signers of manifests expire.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from lxml import etree
from signxml.algorithms import SignatureMethod
from signxml.exceptions import InvalidSignature
from signxml.verifier import SignatureConfiguration, XMLVerifier

from nvidia_kit import (
    DATA,
    NOW,
    REAL,
    SAMPLES,
    SDK,
    SWITCH_RIM,
    UNIT,
    as_json,
    chain,
    failed,
    fixture,
    hex_report,
)
from nvidia_kit import status as status_of
from sottovoce.attest.nvidia import xml
from sottovoce.attest.nvidia.evidence import parse_evidence
from sottovoce.attest.nvidia.layout import Report
from sottovoce.attest.nvidia.manifest import Manifest, verify_manifest
from sottovoce.attest.nvidia.opaque import Fields
from sottovoce.attest.nvidia.signatures import (
    GpuChainError,
    GpuSignatureError,
    firmware_id,
    require_valid,
    verify_chain,
    verify_report,
)
from sottovoce.attest.nvidia.verify import NVIDIA_CHAIN_ONLY, verify_gpus
from sottovoce.attest.vendors import nvidia_roots
from sottovoce.attest.verdict import Status
from sottovoce.core.errors import DecodeError, PeerError

ROOTS = nvidia_roots()
SWITCH_NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
# report, chain, architecture, driver, firmware, mode
REPORTS = [
    (f"{UNIT}/hopperAttestationReport.txt", f"{UNIT}/hopperCertChain.txt", "HOPPER", "580.159.03", "96.00.74.00.20", "SPT"),
    (f"{DATA}/gpu/hopperAttestationReport.txt", f"{DATA}/gpu/hopperCertChain.txt", "HOPPER", "535.86.09", "96.00.5E.00.01", None),
    (f"{DATA}/gpu/hopperAttestationReportExpired.txt", f"{DATA}/gpu/hopperCertChainExpired.txt", "HOPPER", "570.124.03", "96.00.5E.00.04", None),
    (f"{DATA}/switch/switchAttestationReport.txt", f"{DATA}/switch/switchCertChain.txt", "LS10", None, "96.10.55.00.01", None),
    (f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt", "LS10", None, "96.10.55.00.01", None),
    ("coco-trustee/hopperAttestationReport.txt", "coco-trustee/hopper_cert_chain_case1.txt", "HOPPER", "550.90.07", "96.00.9F.00.01", None),
    ("nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt", "HOPPER", "550.90.07", "96.00.9F.00.01", None),
    # A zero stands behind its signature.
    ("coco-trustee/hopper_coco_report1.txt", "coco-trustee/hopper_coco_certs1.txt", "HOPPER", "580.95.05", "96.00.74.00.1A", "SPT"),
]  # fmt: skip
ALONE = {
    "gpu-0/nvidia-mode": "PPCIE",
    "nvidia-fabric": "GPUs name 4 switches, 0 of them here; here are 0 switches and 1 GPUs",
}
# evidence as the vendor's tools write it, devices, what the strict policy has against it
LISTS: list[tuple[str, int, dict[str, str]]] = [
    (f"{SDK}/hopper_evidence.json", 1, ALONE),
    (f"{SDK}/hopper_evidence_cert_hold.json", 1, {}),
    (f"{SDK}/switch_evidence_ls10.json", 1, {}),
    (f"{UNIT}/evidence_hopper_590_12.json", 1, ALONE),
    ("nvtrust/ppcie_gpu_evidence.json", 8, {
        **{f"gpu-{number}/nvidia-mode": "PPCIE" for number in range(8)},
        "nvidia-fabric": "GPUs name 4 switches, 0 of them here; here are 0 switches and 8 GPUs",
    }),
]  # fmt: skip
# manifest, product, version, active reference values, a time at which its signer is valid
MANIFESTS = [
    (f"{UNIT}/NV_GPU_DRIVER_GH100_550.144.03.xml", "GH100", "550.144.03", 21, NOW),
    (SWITCH_RIM, "LS10", "96.10.55.00.01", 31, NOW),
    ("nvtrust/1010_0200_882_96005E0001_PROD.swidtag", "GH100", "96.00.5E.00.01", 12, 1_700_000_000),
    ("nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag", "GH100", "96.00.5E.00.01", 12, 1_700_000_000),
    ("nvtrust/Driver_RIM_test_no_gpu.swidtag", "GH100", "545.00", 21, 1_700_000_000),
    # A genuine manifest: what does not match is a report of the vendor's tests.
    (f"{SAMPLES}/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml", "GH100", "96.00.5E.00.01", 12, 1_740_000_000),
]  # fmt: skip
BAD_MANIFESTS = [
    (f"{UNIT}/incorrect_signature_driver_rim.xml", GpuSignatureError, "the signature does not verify"),
    (f"{UNIT}/incorrect_cert_chain_driver_rim.xml", GpuChainError, "names another issuer"),
    (f"{SAMPLES}/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", GpuSignatureError, "changed after it was signed"),
    (f"{SAMPLES}/NV_GPU_DRIVER_GH100_570.124.03_expired.xml", GpuSignatureError, "changed after it was signed"),
    (f"{SAMPLES}/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml", GpuSignatureError, "changed after it was signed"),
    (f"{SAMPLES}/NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml", GpuSignatureError, "changed after it was signed"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "chain_name", "arch", "driver", "vbios", "mode"), REPORTS)
def test_real_reports_verify_to_the_root_that_ships(
    report: str, chain_name: str, arch: str, *, driver: str | None, vbios: str, mode: str | None
) -> None:
    parsed = Report.parse(hex_report(report))
    certificates = verify_chain(chain(chain_name), ROOTS.devices)
    require_valid(certificates, now=NOW)
    verify_report(parsed, certificates[0])
    fields = Fields.parse(parsed.opaque, switch=arch == "LS10")
    assert (fields.driver, fields.vbios, fields.mode) == (driver, vbios, mode)
    assert fields.firmware_id in (None, firmware_id(certificates[0]))
    evidence = as_json(hex_report(report), chain_name, arch)
    assert verify_gpus(evidence, policy=REAL, now=NOW, left_out=NVIDIA_CHAIN_ONLY).accepted
    # Without manifests, the strict policy has nothing against any of them either.
    assert not failed(verify_gpus(evidence, policy=REAL, now=NOW, nonce=parsed.nonce))


@pytest.mark.parametrize(("name", "count", "strict"), LISTS)
def test_real_evidence_of_the_vendors_tools(name: str, count: int, strict: dict[str, str]) -> None:
    data = fixture(name).read_bytes()
    verdict = verify_gpus(data, policy=REAL, now=NOW, left_out=NVIDIA_CHAIN_ONLY)
    assert verdict.accepted
    assert sum(check.id.endswith("/nvidia-signature") for check in verdict.checks) == count
    assert failed(verify_gpus(data, policy=REAL, now=NOW)) == strict


@pytest.mark.parametrize(("name", "product", "version", "active", "now"), MANIFESTS)
def test_real_manifests_verify(name: str, product: str, version: str, active: int, now: int) -> None:
    verified = verify_manifest(fixture(name).read_bytes(), ROOTS.manifests)
    require_valid(verified.chain, now=now)
    manifest = verified.manifest
    assert (manifest.product, manifest.version) == (product, version)
    assert sum(golden.active for golden in manifest.golden.values()) == active


@pytest.mark.parametrize(("name", "error", "reason"), BAD_MANIFESTS)
def test_bad_manifests_fail_for_the_reason_named(name: str, error: type[PeerError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        verify_manifest(fixture(name).read_bytes(), ROOTS.manifests)


def test_a_signer_that_expired_after_a_day() -> None:
    (signer, *_) = verify_chain(
        Manifest.parse(
            fixture(f"{SAMPLES}/NV_GPU_DRIVER_GH100_570.124.03_expired.xml").read_bytes()
        ).certificates,
        ROOTS.manifests,
    )
    require_valid((signer,), now=1_735_750_000)
    with pytest.raises(GpuChainError, match="not valid at this time"):
        require_valid((signer,), now=NOW)


def test_another_root_for_manifests() -> None:
    (other,) = chain(f"{UNIT}/incorrect_rim_root.crt")
    with pytest.raises(GpuChainError):
        verify_manifest(fixture(SWITCH_RIM).read_bytes(), other)
    with pytest.raises(GpuChainError):
        verify_manifest(fixture(SWITCH_RIM).read_bytes(), ROOTS.devices)


def test_a_real_switch_with_its_manifest_is_accepted_by_the_strict_policy() -> None:
    data, rim = fixture(f"{SDK}/switch_evidence_ls10.json").read_bytes(), fixture(SWITCH_RIM).read_bytes()
    verdict = verify_gpus(data, nonce=bytes.fromhex(SWITCH_NONCE), rims=[rim], policy=REAL, now=NOW)
    assert verdict.accepted
    assert {check.id for check in verdict.checks if check.status is Status.NOT_CHECKED} == {
        "switch-0/nvidia-revoked",
        "switch-0/nvidia-revocation-service",
        "switch-0/nvidia-debug",
        "switch-0/nvidia-firmware-id",
        "nvidia-fabric",
    }
    late = verify_gpus(
        data, nonce=bytes.fromhex(SWITCH_NONCE), rims=[rim], policy=REAL, now=NOW + 3 * 365 * 86400
    )
    assert set(failed(late)) == {"switch-0/nvidia-vbios-rim-dates"}


# Evidence that the strict policy refuses, the manifests beside it, the lines that fail and what they say.
NEGATIVE = [
    (f"{DATA}/gpu/hopperAttestationReportInvalidSignature.txt", f"{DATA}/gpu/hopperCertChain.txt", "HOPPER", (),
     {"gpu-0/nvidia-signature": "does not verify", "gpu-0/nvidia-firmware-id": "…",
      "gpu-0/nvidia-mode": "PPCIE", "nvidia-fabric": "GPUs name 4 switches, 0 of them here"}),
    (f"{DATA}/switch/switchAttestationReportInvalidSignature.txt", f"{DATA}/switch/switchCertChain.txt", "LS10", (),
     {"switch-0/nvidia-signature": "does not verify"}),
    (f"{DATA}/gpu/hopperAttestationReport.txt", f"{UNIT}/hopperCertChain.txt", "HOPPER", (),
     {"gpu-0/nvidia-signature": "does not verify"}),
    (f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt", "HOPPER", (),
     {"gpu-0/nvidia-architecture": "another chip", "gpu-0/nvidia-report": "unknown field"}),
    (f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt", "LS10",
     (f"{SAMPLES}/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",),
     {"switch-0/nvidia-vbios-rim": "changed after it was signed", "switch-0/nvidia-vbios-rim-dates": "not valid at this time"}),
    (f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt", "LS10",
     (f"{SAMPLES}/NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml",),
     {"switch-0/nvidia-vbios-rim": "0 of the 1 that were given"}),
    (f"{DATA}/gpu/hopperAttestationReport.txt", f"{DATA}/gpu/hopperCertChain.txt", "HOPPER",
     ("nvtrust/1010_0200_882_96005E0001_PROD.swidtag", f"{SAMPLES}/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml"),
     {"gpu-0/nvidia-driver-rim": "changed after it was signed", "gpu-0/nvidia-vbios-rim-dates": "not valid at this time"}),
    (f"{DATA}/gpu/hopperAttestationReportExpired.txt", f"{DATA}/gpu/hopperCertChainExpired.txt", "HOPPER",
     (f"{SAMPLES}/NV_GPU_DRIVER_GH100_570.124.03_expired.xml",),
     {"gpu-0/nvidia-driver-rim": "changed after it was signed", "gpu-0/nvidia-driver-rim-dates": "not valid at this time",
      "gpu-0/nvidia-vbios-rim": "0 of the 1"}),
    (f"{UNIT}/hopperAttestationReport.txt", f"{UNIT}/hopperCertChain.txt", "HOPPER",
     (f"{UNIT}/incorrect_signature_driver_rim.xml", f"{UNIT}/incorrect_cert_chain_driver_rim.xml"),
     {"gpu-0/nvidia-driver-rim": "0 of the 2", "gpu-0/nvidia-vbios-rim": "0 of the 2"}),
    # For the driver of this report no genuine manifest is at hand; the firmware's alone says what is wrong.
    (f"{DATA}/gpu/hopperAttestationReport.txt", f"{DATA}/gpu/hopperCertChain.txt", "HOPPER",
     (f"{SAMPLES}/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",),
     {"gpu-0/nvidia-measurements": "11 of 12 equal; indexes 9 are not", "gpu-0/nvidia-driver-rim": "0 of the 1",
      "gpu-0/nvidia-vbios-rim-dates": "not valid at this time"}),
    (f"{DATA}/gpu/hopperAttestationReport.txt", f"{DATA}/gpu/hopperCertChain.txt", "HOPPER",
     ("nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag",),
     {"gpu-0/nvidia-measurements": "8 of 12 equal; indexes 1, 2, 3, 9 are not", "gpu-0/nvidia-driver-rim": "0 of the 1",
      "gpu-0/nvidia-vbios-rim-dates": "not valid at this time"}),
    ("nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt", "HOPPER", (f"{UNIT}/NV_GPU_DRIVER_GH100_550.144.03.xml",),
     {"gpu-0/nvidia-driver-rim": "0 of the 1", "gpu-0/nvidia-vbios-rim": "0 of the 1"}),
]  # fmt: skip


@pytest.mark.parametrize(("report", "chain_name", "arch", "rims", "reasons"), NEGATIVE)
def test_bad_evidence_fails_for_the_reasons_named(
    report: str, chain_name: str, arch: str, rims: tuple[str, ...], reasons: dict[str, str]
) -> None:
    verdict = verify_gpus(
        as_json(hex_report(report), chain_name, arch),
        rims=[fixture(name).read_bytes() for name in rims],
        policy=REAL,
        now=NOW,
    )
    found = {
        check: text for check, text in failed(verdict).items() if not text.startswith("could not be checked")
    }
    assert found.keys() == reasons.keys()
    for check, reason in reasons.items():
        assert reason in found[check]


def test_a_report_with_a_zero_behind_its_signature() -> None:
    report, chain_name = (
        hex_report("coco-trustee/hopper_coco_report1.txt"),
        "coco-trustee/hopper_coco_certs1.txt",
    )
    assert report[-1:] == b"\0"
    assert verify_gpus(as_json(report, chain_name, "HOPPER"), policy=REAL, now=NOW).accepted
    spoilt = verify_gpus(as_json(report[:-1] + b"\1", chain_name, "HOPPER"), policy=REAL, now=NOW)
    assert failed(spoilt)["gpu-0/nvidia-report"] == "the GPU report has another length than it says"


def test_one_switch_shown_four_times_is_refused() -> None:
    data = fixture(f"{SDK}/multi_switch_ls10.json").read_bytes()
    verdict = verify_gpus(data, policy=REAL, now=NOW, left_out=NVIDIA_CHAIN_ONLY)
    assert failed(verdict) == {"nvidia-distinct": "1 of 4"}


def test_eight_gpus_in_protected_pcie_mode_need_their_switches() -> None:
    data = fixture("nvtrust/ppcie_gpu_evidence.json").read_bytes()
    found = failed(verify_gpus(data, policy=REAL, now=NOW))
    assert len(found) == 9
    relaxed = verify_gpus(data, policy=REAL, now=NOW, relaxed=frozenset({"nvidia-mode", "nvidia-fabric"}))
    assert relaxed.accepted
    assert status_of(relaxed, "gpu-7/nvidia-mode") is Status.RELAXED


def test_a_certificate_on_hold_is_refused_by_the_list_only() -> None:
    """The vendor says so on line alone; this verifier is off line, and says that."""
    data = fixture(f"{SDK}/hopper_evidence_cert_hold.json").read_bytes()
    verdict = verify_gpus(data, policy=REAL, now=NOW)
    assert status_of(verdict, "gpu-0/nvidia-revocation-service") is Status.NOT_CHECKED
    assert status_of(verdict, "gpu-0/nvidia-revoked") is Status.NOT_CHECKED
    (device,) = parse_evidence(data)
    held = hashlib.sha256(device.chain[1]).hexdigest()
    listed = verify_gpus(data, policy=replace(REAL, revoked=frozenset({held})), now=NOW)
    assert failed(listed) == {"gpu-0/nvidia-revoked": "a certificate is revoked"}


def test_a_missing_or_changed_certificate_in_the_chain() -> None:
    whole = chain(f"{UNIT}/hopperCertChain.txt")
    for broken in (whole[1:], whole[:1] + whole[2:], whole[:2] + whole[3:], whole[::-1], whole[:1], ()):
        with pytest.raises(GpuChainError):
            verify_chain(broken, ROOTS.devices)
    assert verify_chain(whole[:-1], ROOTS.devices) == verify_chain(whole, ROOTS.devices)


SIGNED_REPORTS = [
    (f"{UNIT}/hopperAttestationReport.txt", f"{UNIT}/hopperCertChain.txt"),
    (f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt"),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("report", "chain_name"), SIGNED_REPORTS)
def test_no_flipped_bit_is_accepted(report: str, chain_name: str) -> None:
    """One bit of each byte, another one for each: of the request, the answer and the signature."""
    data, leaf = hex_report(report), verify_chain(chain(chain_name), ROOTS.devices)[0]
    verify_report(Report.parse(data), leaf)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises((DecodeError, GpuSignatureError)):
            verify_report(Report.parse(bytes(changed)), leaf)


@pytest.mark.exhaustive
def test_every_bit_of_the_request_and_the_heads() -> None:
    data, leaf = hex_report(f"{UNIT}/switchAttestationReport.txt"), verify_chain(chain(f"{UNIT}/switchCertChain.txt"), ROOTS.devices)[0]  # fmt: skip
    for place in (*range(37 + 8 + 2 * 55), *range(37 + 8 + 31 * 55, len(data))):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises((DecodeError, GpuSignatureError)):
                verify_report(Report.parse(bytes(changed)), leaf)


@pytest.mark.parametrize(
    "name", [f"{UNIT}/hopperAttestationReport.txt", f"{UNIT}/switchAttestationReport.txt"]
)
def test_truncated_and_trailing(name: str) -> None:
    data = hex_report(name)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            Report.parse(data[:length])
    for tail in (b"\1", b"\0\1", b"\xff" * 96, data):
        with pytest.raises(DecodeError):
            Report.parse(data + tail)
    assert Report.parse(data + bytes(96)) == Report.parse(data)


@pytest.mark.parametrize("switch", [False, True])
def test_our_reader_agrees_with_the_vendors(switch: bool) -> None:
    prefix, device = ("switch_", "switch") if switch else ("", "hopper")
    theirs = json.loads(fixture(f"{UNIT}/{prefix}spdm_parsed_output.json").read_text())
    request = json.loads(fixture(f"{UNIT}/{prefix}spdm_req_parsed_output.json").read_text())
    ours = Report.parse(hex_report(f"{UNIT}/{device}AttestationReport.txt"))
    blocks = theirs["MeasurementRecord"]["MeasurementBlocks"]
    if theirs["Nonce"] != f"0x{ours.device_nonce.hex()}":
        pytest.skip("the vendor's parsed output is of another report")
    assert {index: value.hex() for index, value in ours.measurements.items()} == {
        int(index): block["DMTFSpecMeasurementValue"].removeprefix("0x") for index, block in blocks.items()
    }
    assert theirs["OpaqueLength"] == len(ours.opaque)
    assert int(theirs["Signature"], 16) == (ours.signature[0] << 384) + ours.signature[1]
    assert request["Nonce"] == f"0x{ours.nonce.hex()}"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (f"{UNIT}/spdm_parsed_output.txt", "nvtrust/hopperAttestationReport.txt"),
        (f"{UNIT}/switch_spdm_parsed_output.txt", f"{UNIT}/switchAttestationReport.txt"),
    ],
)
def test_our_reader_agrees_with_the_vendors_text(text: str, report: str) -> None:
    theirs = dict(line.split(" = ") for line in fixture(text).read_text().splitlines() if " = " in line)
    ours, prefix = Report.parse(hex_report(report)), "SpdmMeasurementResponseMessage"
    assert theirs[f"{prefix}.Nonce"] == f"0x{ours.device_nonce.hex()}"
    values = [value for name, value in theirs.items() if name.endswith("DMTFSpecMeasurementValue")]
    assert values == [f"0x{value.hex()}" for value in ours.measurements.values()]
    assert int(theirs[f"{prefix}.Signature"], 16) == (ours.signature[0] << 384) + ours.signature[1]


def field(theirs: Mapping[str, Any], name: str) -> bytes:
    return bytes.fromhex(theirs[f"OPAQUE_FIELD_ID_{name}"].removeprefix("0x"))


def test_a_gpus_fields_as_the_vendor_reads_them() -> None:
    theirs = json.loads(fixture(f"{UNIT}/spdm_parsed_output.json").read_text())["OpaqueData"][
        "OpaqueDataField"
    ]
    ours = Fields.parse(Report.parse(hex_report(f"{UNIT}/hopperAttestationReport.txt")).opaque, switch=False)
    assert ours.driver == field(theirs, "DRIVER_VERSION").rstrip(b"\0").decode()
    assert ours.vbios == "96.00.74.00.20"
    assert field(theirs, "VBIOS_VERSION") == bytes.fromhex("0074009620000000")
    assert ours.firmware_id == field(theirs, "FWID")
    assert bytes([ours.nvdec0 or 0]) == field(theirs, "NVDEC0_STATUS")
    assert bytes([ours.protected_pcie or 0]) == field(theirs, "PROTECTED_PCIE_STATUS")


def test_a_switchs_fields_as_the_vendor_reads_them() -> None:
    theirs = json.loads(fixture(f"{UNIT}/switch_spdm_parsed_output.json").read_text())["OpaqueData"][
        "OpaqueDataField"
    ]
    ours = Fields.parse(Report.parse(hex_report(f"{UNIT}/switchAttestationReport.txt")).opaque, switch=True)
    assert ours.pdi == field(theirs, "DEVICE_PDI")
    assert ours.vbios == field(theirs, "VBIOS_VERSION").decode()
    assert ours.locked is (field(theirs, "SWITCH_LOCK_STATUS") == b"\1\0")
    assert {link.hex() for link in ours.links} == {
        link.removeprefix("0x") for link in theirs["OPAQUE_FIELD_ID_SWITCH_GPU_PDIS"]
    }


def test_a_report_as_another_verifier_reads_it() -> None:
    """Claims that the Confidential Containers' verifier made of this report, and the one certificate that it takes."""
    theirs = json.loads(fixture("coco-trustee/hopperAttestationReport-claims.txt").read_text())
    report = Report.parse(hex_report("coco-trustee/hopperAttestationReport.txt"))
    assert {str(index): value.hex() for index, value in report.measurements.items()} == theirs["measurements"]
    fields, config = Fields.parse(report.opaque, switch=False), theirs["config"]
    assert (fields.driver, (fields.vbios or "").lower()) == (
        config["driver_version"],
        config["vbios_version"],
    )
    assert (fields.firmware_id or b"").hex() == config["fwid"]
    assert (chr(fields.nvdec0 or 0), chr(fields.protected_pcie or 0)) == (
        config["nvdec0_status"],
        config["protected_pcie_status"],
    )
    assert (
        chain("coco-trustee/hopper_signing_cert.pem") == chain("coco-trustee/hopper_cert_chain_case1.txt")[:1]
    )


@pytest.mark.parametrize(
    ("claims", "device", "report", "chain_name"),
    [
        ("hopperClaimsv3_decoded.json", "gpu", "nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt"),
        ("switch_decoded.json", "switch", f"{UNIT}/switchAttestationReport.txt", f"{UNIT}/switchCertChain.txt"),
    ],
)  # fmt: skip
def test_what_the_vendors_service_claimed_of_a_report(
    claims: str, device: str, report: str, chain_name: str
) -> None:
    """The decoded answer of NVIDIA's remote service. Its other claims in the fixtures are of reports that are not there."""
    (theirs,) = json.loads(fixture(f"{DATA}/{claims}").read_text()).values()
    parsed, certificates = Report.parse(hex_report(report)), verify_chain(chain(chain_name), ROOTS.devices)
    fields = Fields.parse(parsed.opaque, switch=device == "switch")
    assert theirs["eat_nonce"] == parsed.nonce.hex()
    assert theirs["ueid"] == str(certificates[0].serial)
    assert theirs["hwmodel"] == certificates[1].common_name
    version = "x-nvidia-gpu-vbios-version" if device == "gpu" else "x-nvidia-switch-bios-version"
    assert theirs[version] == fields.vbios
    assert theirs.get("x-nvidia-gpu-driver-version") == fields.driver
    assert theirs[f"x-nvidia-{device}-attestation-report-cert-chain-fwid-match"]


ALL_MANIFESTS = [name for name, *_ in MANIFESTS] + [name for name, *_ in BAD_MANIFESTS]


@pytest.mark.parametrize("name", ALL_MANIFESTS)
def test_our_canonical_form_is_that_of_libxml2(name: str) -> None:
    data = fixture(name).read_bytes()
    ours = xml.parse(data)
    theirs = etree.fromstring(data)
    assert ours.canonical() == etree.tostring(theirs, method="c14n")
    *_, signature = ours.elements()
    info = theirs.find("{*}Signature/{*}SignedInfo")
    assert info is not None
    assert signature.elements()[0].canonical() == etree.tostring(info, method="c14n")


@pytest.mark.parametrize("name", [name for name in ALL_MANIFESTS if "chain" not in name])
def test_another_verifier_agrees(name: str) -> None:
    """signxml, trusting the signer that the manifest names: the chain is not what is compared here."""
    data = fixture(name).read_bytes()
    signer = x509.load_der_x509_certificate(Manifest.parse(data).certificates[0])
    try:
        verify_manifest(data, ROOTS.manifests)
        ours = True
    except GpuSignatureError:
        ours = False
    config = SignatureConfiguration(
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        verification_time=signer.not_valid_before_utc + dt.timedelta(hours=1),
    )
    try:
        XMLVerifier().verify(data, x509_cert=signer, expect_config=config)
        theirs = True
    except InvalidSignature:
        theirs = False
    assert ours == theirs


def test_the_vendors_nonces() -> None:
    (switch,) = parse_evidence(fixture(f"{SDK}/switch_evidence_ls10.json").read_bytes())
    assert switch.nonce is not None
    assert switch.nonce.hex() == SWITCH_NONCE
    assert Report.parse(switch.report).nonce == switch.nonce

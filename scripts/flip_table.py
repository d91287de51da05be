"""Makes docs/flip-table.md: every bit of a report or quote flipped, one at a time, and the check that refuses it.

    python scripts/flip_table.py > docs/flip-table.md

Two questions are asked of each field. What refuses a flip as it is? And if whoever flipped it could sign as well (here a simulated
processor does), what refuses it then? Real evidence comes from ../shared/fixtures; without it, its sections are left out.
"""

import base64
import dataclasses
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sottovoce.attest.nvidia.layout import Report
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.verify import verify_gpus
from sottovoce.attest.pem import certificates
from sottovoce.attest.policy import SnpPolicy, TdxPolicy
from sottovoce.attest.snp.layout import SIGNED_SIZE
from sottovoce.attest.snp.verify import SnpReferences, verify_report
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.tdx.verify import TdxReferences, verify_quote
from sottovoce.attest.vendors import amd_intermediates, amd_roots, intel_root, nvidia_roots
from sottovoce.attest.verdict import Verdict
from sottovoce.core.errors import SottovoceError
from sottovoce.simulator.accelerator import DRIVER_PART, VBIOS_PART, SimulatedGpuVendor, State, member
from sottovoce.simulator.gpu_pki import sign_raw
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.pki import GOOD_TCB
from sottovoce.simulator.processor import SimulatedProcessor, sign_report
from sottovoce.simulator.testing import NOW, intel, vendor

FIXTURES: Final = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
BITS: Final = 8
NOT_PARSED: Final = "not parsed"


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field: where it is, how many bytes it has, and why a signed flip of it may pass, if it may."""

    name: str
    at: int
    size: int
    passes: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is flipped; `judge` returns a verdict, or raises."""

    title: str
    data: bytes
    fields: list[Field]
    judge: Callable[[bytes], Verdict]
    resign: Callable[[bytes], bytes] | None = None


@dataclass(kw_only=True)
class Row:
    """One field's outcome: how many flips, how many were accepted, and the checks that refused all or some of them."""

    field: Field
    flips: int = 0
    accepted: int = 0
    always: set[str] | None = None
    ever: set[str] = dataclasses.field(default_factory=set)

    def count(self, refused_by: set[str]) -> None:
        """Enter one flip."""
        self.flips += 1
        self.accepted += not refused_by
        self.always = set(refused_by) if self.always is None else self.always & refused_by
        self.ever |= refused_by


def refusal(subject: Subject, data: bytes, before: frozenset[str]) -> set[str]:
    """The checks that refuse `data` and did not refuse what it was made from; a foreign exception is not caught."""
    try:
        verdict = subject.judge(data)
    except SottovoceError:
        return {NOT_PARSED}
    return {check.id for check in verdict.causes} - before


def rows(subject: Subject, *, step: int = 1) -> Iterator[Row]:
    """Flip every bit of every field, or each `step`th."""
    before = frozenset(check.id for check in subject.judge(subject.data).causes)
    for one in subject.fields:
        row = Row(field=one)
        for bit in range(one.at * BITS, (one.at + one.size) * BITS, step):
            changed = bytearray(subject.data)
            changed[bit // BITS] ^= 1 << bit % BITS
            data = bytes(changed)
            row.count(refusal(subject, subject.resign(data) if subject.resign else data, before))
        yield row


# AMD 56860, SEV-SNP firmware ABI 1.58, table 23.
_IDENTITY: Final = (
    "names the image for its owner; the measurement decides, and ID_KEY_DIGEST says who signed it"
)
_REFERENCE: Final = "compared where there is a reference value; none is given here"
_FIRMWARE: Final = "the firmware's version number; TCB decides"
SNP_FIELDS: Final = [
    Field(name="VERSION", at=0x000, size=4, passes="versions 2 to 4 have fewer fields, and are accepted"),
    Field(name="GUEST_SVN", at=0x004, size=4, passes=_REFERENCE),
    Field(name="POLICY", at=0x008, size=8, passes="ABI version and bit 25, which a policy can demand"),
    Field(name="FAMILY_ID", at=0x010, size=16, passes=_IDENTITY),
    Field(name="IMAGE_ID", at=0x020, size=16, passes=_IDENTITY),
    Field(name="VMPL", at=0x030, size=4),
    Field(name="SIGNATURE_ALGO", at=0x034, size=4),
    Field(name="CURRENT_TCB", at=0x038, size=8, passes="the firmware may be newer than what it reports; reported and committed decide"),
    Field(name="PLATFORM_INFO", at=0x040, size=8, passes="TSME, ECC, IOMMU and trusted I/O, which a policy can demand"),
    Field(name="key flags", at=0x048, size=4, passes="bit 0: an author key signed the identity key; compare ID_KEY_DIGEST"),
    Field(name="reserved", at=0x04C, size=4),
    Field(name="REPORT_DATA", at=0x050, size=64),
    Field(name="MEASUREMENT", at=0x090, size=48),
    Field(name="HOST_DATA", at=0x0C0, size=32, passes=_REFERENCE),
    Field(name="ID_KEY_DIGEST", at=0x0E0, size=48, passes=_REFERENCE),
    Field(name="AUTHOR_KEY_DIGEST", at=0x110, size=48, passes=_IDENTITY),
    Field(name="REPORT_ID", at=0x140, size=32, passes="drawn anew at each launch"),
    Field(name="REPORT_ID_MA", at=0x160, size=32, passes="of the migration agent; the policy refuses one"),
    Field(name="REPORTED_TCB", at=0x180, size=8),
    Field(name="CPUID", at=0x188, size=3, passes="the stepping, and models of one product line"),
    Field(name="reserved", at=0x18B, size=21),
    Field(name="CHIP_ID", at=0x1A0, size=64),
    Field(name="COMMITTED_TCB", at=0x1E0, size=8, passes="more than reported: the firmware is newer"),
    Field(name="CURRENT version", at=0x1E8, size=3, passes=_FIRMWARE),
    Field(name="reserved", at=0x1EB, size=1),
    Field(name="COMMITTED version", at=0x1EC, size=3, passes=_FIRMWARE),
    Field(name="reserved", at=0x1EF, size=1),
    Field(name="LAUNCH_TCB", at=0x1F0, size=8, passes="the firmware at launch; reported and committed decide"),
    Field(name="LAUNCH_MIT_VECTOR", at=0x1F8, size=8, passes="a policy can demand it"),
    Field(name="CURRENT_MIT_VECTOR", at=0x200, size=8, passes="a policy can demand it"),
    Field(name="reserved", at=0x208, size=SIGNED_SIZE - 0x208),
]  # fmt: skip
SNP_UNSIGNED: Final = [
    Field(name="signature, R", at=0x2A0, size=72),
    Field(name="signature, S", at=0x2E8, size=72),
    Field(name="reserved", at=0x330, size=1184 - 0x330),
]


def simulated_snp(*, resign: bool) -> Subject:
    """A report of a simulated processor, compared with the values that it has."""
    chip = vendor().make_chip(now=NOW, chip_id=bytes(range(64)), tcb=GOOD_TCB)
    report = SimulatedProcessor(chip, b"m" * 48).report(b"d" * 64)
    references = SnpReferences(report_data=b"d" * 64, measurements=frozenset({b"m" * 48}), vmpl=0)
    policy = SnpPolicy(roots=(vendor().root,))

    def judge(data: bytes) -> Verdict:
        return verify_report(
            data,
            chip.vcek,
            intermediates=(vendor().ask,),
            crl=vendor().crl,
            policy=policy,
            now=NOW,
            references=references,
        )

    return Subject(
        title="A simulated SEV-SNP report, signed anew",
        data=report,
        fields=SNP_FIELDS,
        judge=judge,
        resign=(lambda data: sign_report(chip, data[:SIGNED_SIZE])) if resign else None,
    )


def real_snp(name: str, vcek: str, line: str, now: int) -> Subject:
    """A real report, as it is."""
    folder = FIXTURES / "sev-snp"
    (der,) = certificates((folder / vcek).read_bytes())
    crl = (folder / "crl" / f"{line}_crl.der").read_bytes()
    policy = SnpPolicy(roots=amd_roots())

    def judge(data: bytes) -> Verdict:
        return verify_report(data, der, intermediates=amd_intermediates(), crl=crl, policy=policy, now=now)

    return Subject(
        title=f"A real SEV-SNP report ({name})",
        data=(folder / name).read_bytes(),
        fields=SNP_FIELDS + SNP_UNSIGNED,
        judge=judge,
    )


# Intel DCAP quoting library API, appendix A.3, version 4.
_INTEL_SVN: Final = "more than what Intel lists"
TDX_FIELDS: Final = [
    Field(name="version", at=0, size=2),
    Field(name="key type", at=2, size=2),
    Field(name="TEE type", at=4, size=4),
    Field(name="QE SVN, PCE SVN", at=8, size=4, passes="not in use: the quoting enclave's own report counts"),
    Field(name="vendor id", at=12, size=16),
    Field(name="user data", at=28, size=20, passes="names the platform for its owner; PPID decides"),
    Field(name="TEE_TCB_SVN", at=48, size=16, passes=_INTEL_SVN),
    Field(name="MRSEAM", at=64, size=48, passes=f"{_REFERENCE}; its version is in TEE_TCB_SVN"),
    Field(name="MRSIGNERSEAM", at=112, size=48),
    Field(name="SEAMATTRIBUTES", at=160, size=8),
    Field(name="TDATTRIBUTES", at=168, size=8, passes="bits 16, 27, 30, 31: defences and features that do no harm"),
    Field(name="XFAM", at=176, size=8, passes="known features"),
    Field(name="MRTD", at=184, size=48),
    Field(name="MRCONFIGID", at=232, size=48, passes="shown as not checked without a reference; a session refuses it"),
    Field(name="MROWNER", at=280, size=48, passes="as MRCONFIGID"),
    Field(name="MROWNERCONFIG", at=328, size=48, passes="as MRCONFIGID"),
    Field(name="RTMR0", at=376, size=48),
    Field(name="RTMR1", at=424, size=48),
    Field(name="RTMR2", at=472, size=48),
    Field(name="RTMR3", at=520, size=48),
    Field(name="REPORTDATA", at=568, size=64),
]  # fmt: skip
_TDX_SIGNED: Final = 632


def _tdx_references(quote: Quote) -> TdxReferences:
    return TdxReferences(
        report_data=quote.report_data,
        mrtds=frozenset({quote.mr_td}),
        rtmrs=tuple(frozenset({value}) for value in quote.rtmrs),
    )


def simulated_tdx() -> Subject:
    """A quote of a simulated platform, compared with the values that it has."""
    platform = intel().make_platform(now=NOW)
    collateral = intel().collateral(now=NOW)
    data = platform.quote(QuoteFields(report_data=b"d" * 64))
    references = _tdx_references(Quote.parse(data))

    def judge(quote: bytes) -> Verdict:
        return verify_quote(quote, collateral, policy=intel().policy, now=NOW, references=references)

    return Subject(
        title="A simulated TDX quote, signed anew",
        data=data,
        fields=TDX_FIELDS,
        judge=judge,
        resign=lambda quote: platform.sign(quote[:_TDX_SIGNED]),
    )


def real_tdx(now: int) -> Subject:
    """A real quote with its collateral, as it is."""
    folder = FIXTURES / "tdx" / "dcap-qvl"
    data, collateral = ((folder / name).read_bytes() for name in ("tdx_quote", "tdx_quote_collateral.json"))
    quote = Quote.parse(data)
    chain = quote.exact.index(quote.certificates)
    behind = [
        Field(name="length", at=632, size=4),
        Field(name="quote's signature", at=636, size=64),
        Field(name="attestation key", at=700, size=64),
        Field(name="type and size", at=764, size=6),
        Field(name="quoting enclave's report", at=770, size=384),
        Field(name="its signature", at=1154, size=64),
        Field(name="its data, with size", at=1218, size=chain - 6 - 1218),
        Field(name="type and size of the certificates", at=chain - 6, size=6),
        Field(name="certificates, PEM", at=chain, size=len(quote.certificates)),
        Field(name="zeros behind the signature", at=len(quote.exact), size=len(data) - len(quote.exact)),
    ]
    policy = TdxPolicy(root=intel_root())

    def judge(changed: bytes) -> Verdict:
        return verify_quote(changed, collateral, policy=policy, now=now)

    return Subject(
        title="A real TDX quote (dcap-qvl/tdx_quote)", data=data, fields=TDX_FIELDS + behind, judge=judge
    )


# attest.nvidia.opaque
_GPU_NAMES: Final = {
    3: "driver version",
    6: "firmware version",
    11: "NVDEC0 status",
    12: "measurement counts",
    20: "firmware id",
    21: "protected PCIe status",
    22: "device ids",
    23: "disabled ports",
    24: "position",
    25: "lock status",
    26: "GPU ids and ports",
    34: "version of the fields",
    36: "feature flag",
}


def gpu_fields(data: bytes, passes: Mapping[str, str]) -> list[Field]:
    """The fields of a GPU's or switch's report (attest.nvidia.layout); `passes` says why a signed flip of one may pass."""
    report = Report.parse(data)
    record = len(data) - len(report.opaque) - 34 - 96
    sizes: list[tuple[str, int]] = [
        ("request: version, code", 2),
        ("request: attributes, operation", 2),
        ("request: nonce", 32),
        ("request: slot", 1),
        ("version, code", 2),
        ("reserved, slot", 2),
        ("number of blocks, length", 4),
        ("first block's head", 7),
        ("first block's value", 48),
        ("other blocks", record - 45 - 55),
        ("device's nonce", 32),
        ("length of the fields", 2),
    ]
    at = 0
    while at < len(report.opaque):
        kind, size = struct.unpack_from("<HH", report.opaque, at)
        name = _GPU_NAMES.get(kind, f"field {kind}")
        sizes += [(f"{name}: type, size", 4), (name, size)]
        at += 4 + size
    sizes.append(("signature", 96))
    found, at = [], 0
    for name, size in sizes:
        found.append(Field(name=name, at=at, size=size, passes=passes.get(name, "")))
        at += size
    return found


_GPU_KIND: Final = "the type, which says what kind of thing is measured: no manifest names it"
_GPU_PASSES: Final = {
    "first block's head": _GPU_KIND,
    "other blocks": f"{_GPU_KIND}; index 35, as the video decoder is off",
    "device's nonce": "the device draws it anew each time",
    "feature flag": "another mode that the policy accepts",
    "firmware id: type, size": "another type: without a firmware id, as in reports of older firmware, it is shown as not checked",
    "protected PCIe status: type, size": "another type: the feature flag says the mode",
}


def _gpu_judge(
    member: Mapping[str, str], nonce: bytes, rims: Sequence[bytes], policy: NvidiaPolicy, now: int
) -> Callable[[bytes], Verdict]:
    def judge(data: bytes) -> Verdict:
        shown = {**member, "evidence": base64.b64encode(data).decode()}
        return verify_gpus(json.dumps([shown]).encode(), nonce=nonce, rims=rims, policy=policy, now=now)

    return judge


def simulated_gpu() -> Subject:
    """A report of a simulated GPU with its two manifests."""
    maker = SimulatedGpuVendor.create(now=NOW)
    measured = {index: bytes([index]) * 48 for index in sorted(VBIOS_PART | DRIVER_PART)}
    gpu = maker.make_device(now=NOW, state=State(measurements=measured))
    rims = [maker.manifest(gpu, part) for part in ("driver", "vbios")]
    data = gpu.report(b"n" * 32)
    return Subject(
        title="A simulated GPU's report, signed anew",
        data=data,
        fields=gpu_fields(data, _GPU_PASSES)[:-1],
        judge=_gpu_judge(member(gpu, data), b"n" * 32, rims, NvidiaPolicy(roots=maker.roots), NOW),
        resign=lambda changed: changed[:-96] + sign_raw(gpu.key, changed[:-96]),
    )


def real_gpu(name: str, rims: Sequence[str], now: int) -> Subject:
    """A real report in the form of the vendor's tools, with manifests, as it is."""
    folder = FIXTURES / "nvidia" / "attestation-sdk"
    (shown,) = json.loads((folder / name).read_bytes())
    data = base64.b64decode(shown["evidence"])
    policy = NvidiaPolicy(roots=nvidia_roots())
    manifests = [(folder / "unit-tests" / rim).read_bytes() for rim in rims]
    return Subject(
        title=f"A real report of a {shown['arch']} device (attestation-sdk/{name})",
        data=data,
        fields=gpu_fields(data, {}),
        judge=_gpu_judge(shown, bytes.fromhex(shown["nonce"]), manifests, policy, now),
    )


def simulated() -> list[Subject]:
    """What can be made anywhere."""
    return [simulated_snp(resign=True), simulated_tdx(), simulated_gpu()]


def real() -> list[Subject]:
    """What needs the fixtures; nothing without them."""
    if not FIXTURES.is_dir():
        return []
    return [
        real_snp("teekit/sev-gcp.bin", "teekit/sev-gcp-vcek.pem", "milan", 1_777_593_600),
        real_tdx(1_750_400_000),
        real_gpu(
            "switch_evidence_ls10.json",
            ["switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"],
            1_780_272_000,
        ),
        real_gpu("hopper_evidence.json", [], 1_780_272_000),
    ]


def table(subject: Subject, *, step: int = 1) -> list[str]:
    """A section of the page."""
    lines = [
        f"## {subject.title}",
        "",
        "| field | offset | bytes | flips | accepted | refused by, always | sometimes by | why some pass |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = passed = 0
    for row in rows(subject, step=step):
        always = row.always or set()
        why = row.field.passes if row.accepted else ""
        cells: list[Any] = [
            row.field.name,
            f"{row.field.at:#05x}",
            row.field.size,
            row.flips,
            row.accepted,
            ", ".join(sorted(always)) or "-",
            ", ".join(sorted(row.ever - always)) or "-",
            why or ("**nobody says why**" if row.accepted else "-"),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        total, passed = total + row.flips, passed + row.accepted
    lines += ["", f"{total:,} flips, {passed:,} accepted.", ""]
    return lines


HEAD: Final = """# Every bit flipped

Made by `python scripts/flip_table.py`. Each bit of a report or quote is flipped alone, and the whole is verified with the strict policy.
*Refused by* names the checks that refuse the flip and do not refuse what it was made from (checks that are not reached any more refuse as
well, and are left out here); "not parsed" is a typed error that says that the
bytes are no report. Nothing else came out of any flip: no other exception, and no acceptance of changed bytes that are signed.

Where a simulated processor signs each flip anew, the signature is right and only the policy can object. What it then accepts is listed with
the reason: a field that decides nothing, or one that is compared only where a reference value is given.
"""


def main() -> None:
    """Print the page."""
    print(
        "\n".join([HEAD, *(line for subject in [*real(), *simulated()] for line in table(subject))]).rstrip()
    )


if __name__ == "__main__":
    main()

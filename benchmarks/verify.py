"""What a device pays to verify evidence: CPU time of `verify_session`, cold and warm, and of its parts.

Cold is the first verification in a fresh process, imports done: what the command line pays. Warm is the same evidence
again, for which the chain, the revocation list and more are remembered: what a device that stays running pays. The
evidence is the in-memory world's with certificates as large as AMD's. For real chips there is no whole evidence, so only
their certificates, lists and reports are measured, or a quote with its collateral.
"""

import argparse
import base64
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from sottovoce.attest.evidence import Evidence
from sottovoce.attest.nvidia.manifest import verify_manifest
from sottovoce.attest.nvidia.policy import NvidiaPolicy, NvidiaRoots
from sottovoce.attest.nvidia.verify import verify_gpus
from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.snp import signatures
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.tdx.signatures import verify_quote as verify_signatures
from sottovoce.attest.tdx.verify import verify_quote
from sottovoce.attest.vendors import amd_root, intel_root, nvidia_roots
from sottovoce.attest.verify import verify_session
from sottovoce.tlog.proof import verify_proof

FRESH, WARM = 15, 200
COLD_BOUND: Final = 5.0
WARM_BOUNDS: Final = {"simulated": 1.2, "simulated TDX": 1.5, "real TDX, a quote alone": 1.5} | dict.fromkeys(
    ("simulated GPU", "real switch"), 3.0
)
EXPORTER, SPKI = bytes(32), b"spki"
OTHERS: Final = 4000
"""Other entries in the log, so that a proof is as long as it will be."""
FIXTURES: Final = Path(__file__).parents[2] / "shared" / "fixtures" / "sev-snp"
GENOA: Final = FIXTURES.parent / "openpcc" / "attest"
Case = Mapping[str, Any]
Parts = dict[str, Callable[[], object]]


def simulated() -> Case:
    """A whole session's evidence, and all that a device knows when it verifies it; on SEV-SNP."""
    from sottovoce.simulator.pki import SimulatedVendor  # noqa: PLC0415 - not in the processes that measure
    from sottovoce.simulator.testing import NOW, EvidenceWorld  # noqa: PLC0415

    world = EvidenceWorld()
    world.vendor = SimulatedVendor.create(now=NOW)
    world.chips = {role: world.vendor.make_chip(now=NOW) for role in world.chips}
    world.hosts = {role: world.host(role) for role in world.hosts}
    seen = grown(world)
    return {
        "evidence": world.evidence(EXPORTER, SPKI).encode(),
        "policy": world.policy(),
        "connection": world.connection(EXPORTER, SPKI, seen=seen),
    }


def simulated_tdx() -> Case:
    """The same on TDX."""
    from sottovoce.simulator.testing import TdxEvidenceWorld  # noqa: PLC0415 - not in the processes that measure

    world = TdxEvidenceWorld()
    seen = grown(world)
    return {
        "evidence": world.quoted(EXPORTER, SPKI).encode(),
        "policy": world.policy(),
        "connection": world.connection(EXPORTER, SPKI, seen=seen),
    }


def grown(world: Any) -> object:
    """The head of the world's log after many others' entries."""
    from sottovoce.simulator.testing import NOW  # noqa: PLC0415
    from sottovoce.tlog.checkpoint import Checkpoint  # noqa: PLC0415
    from sottovoce.tlog.policy import VerifiedCheckpoint  # noqa: PLC0415

    for number in range(OTHERS):
        world.log.append(b"%d" % number)
    for host in world.hosts.values():
        world.append(host.encode())
    head = Checkpoint.parse(world.log.checkpoint(now=NOW).text)
    return VerifiedCheckpoint(origin=head.origin, size=head.size, root=head.root, time=NOW)


def real_tdx() -> Case:
    """A real quote with its collateral."""
    folder = FIXTURES.parent / "tdx" / "dcap-qvl"
    quote, collateral = (folder / name for name in ("tdx_quote", "tdx_quote_collateral.json"))
    return {"quote": quote.read_bytes(), "collateral": collateral.read_bytes()}


def simulated_gpu() -> Case:
    """A GPU's evidence as the vendor's tools write it, with manifests as large as the real ones."""
    from sottovoce.simulator.accelerator import SimulatedGpuVendor, evidence_json  # noqa: PLC0415
    from sottovoce.simulator.testing import NOW  # noqa: PLC0415

    vendor = SimulatedGpuVendor.create(now=NOW)
    gpu = vendor.make_device(now=NOW)
    roots = vendor.roots
    return {
        "gpus": evidence_json([gpu], bytes(32)),
        "rims": [vendor.manifest(gpu, part) for part in ("driver", "vbios")],
        "roots": (roots.devices, roots.manifests),
        "now": NOW,
    }


def real_switch() -> Case:
    """A real NVLink switch with its manifest, at a time when both are valid."""
    folder = FIXTURES.parent / "nvidia" / "attestation-sdk"
    roots = nvidia_roots()
    return {
        "gpus": (folder / "switch_evidence_ls10.json").read_bytes(),
        "rims": [next((folder / "unit-tests").glob("switchVBIOSRim*.xml")).read_bytes()],
        "roots": (roots.devices, roots.manifests),
        "now": 1_780_272_000,
    }


def pem(path: Path, label: str = "CERTIFICATE") -> list[bytes]:
    """The blocks of a PEM file."""
    found = re.findall(f"-----BEGIN {label}-----(.*?)-----END", path.read_text(), re.DOTALL)
    return [base64.b64decode(block) for block in found]


def real(product: str) -> Case:
    """A real chip's report, its certificates and its vendor's list."""
    if product == "Milan":
        report = (FIXTURES / "teekit" / "sev-gcp.bin").read_bytes()
        vcek = pem(FIXTURES / "teekit" / "sev-gcp-vcek.pem")[0]
    else:
        report = pem(GENOA / "azure_sevsnp_report.txt", "REPORT")[0][32 : 32 + 1184]
        vcek = pem(GENOA / "sev_certificates.txt")[-1]
    return {
        "ark": amd_root(product).ark_der,
        "ask": pem(FIXTURES / "amd-roots" / f"ask_ark_{product.lower()}.pem")[0],
        "vcek": vcek,
        "crl": (FIXTURES / "crl" / f"{product.lower()}_crl.der").read_bytes(),
        "report": report,
    }


def parts_of(case: Case) -> Parts:
    """The parts of a verification, in its order. What they leave over of the whole is comparing and writing the verdict."""
    if "quote" in case:
        return _quote(case["quote"], case["collateral"])
    if "gpus" in case:
        return _gpus(case)
    if "evidence" not in case:
        return _platform(case["report"], case["ark"], case["ask"], case["vcek"], case["crl"])
    data, policy = case["evidence"], case["policy"]
    shown = Evidence.decode(pickle.loads(pickle.dumps(data)))  # noqa: S301 - our own bytes, so that nothing is shared
    papers, root = shown.endorsements, policy.snp.roots[0]
    if papers.collateral:
        return {
            "decode": lambda: Evidence.decode(data),
            **_quote(shown.platform.report, papers.collateral, policy.tdx),
        }
    logged = [shown.host, shown.release, *(backend.release for backend in shown.backends)]

    def proofs() -> None:
        for entry in logged:
            verify_proof(entry.proof, entry.entry, policy.log, now=None)

    platform = _platform(shown.platform.report, root.ark_der, papers.ask, papers.vcek, papers.crl)
    return {"decode": lambda: Evidence.decode(data), **platform, f"log proofs, {len(logged)}": proofs}


def _platform(report: bytes, ark: bytes, ask: bytes, vcek: bytes, crl: bytes) -> Parts:
    made: list[Any] = []

    def chain() -> None:
        made[:] = signatures.verify_chain(ark_der=ark, ask_der=ask, vcek_der=vcek)

    return {
        "chain": chain,
        "revocation list": lambda: signatures.verify_revocation_list(crl, ark=made[0]),
        "report signature": lambda: signatures.verify_report(Report.parse(report), made[2]),
    }


def _quote(quote: bytes, collateral: bytes, policy: TdxPolicy | None = None) -> Parts:
    policy = policy or TdxPolicy(root=intel_root())
    document = Collateral.parse(collateral)
    at = document.within(None)
    return {
        "collateral, parsed": lambda: Collateral.parse(collateral),
        "signatures": lambda: verify_signatures(Quote.parse(quote), document, root=policy.root, now=at),
        "verify_quote": lambda: verify_quote(quote, collateral, policy=policy, now=at),
    }


def _gpus(case: Case) -> Parts:
    devices, manifests = case["roots"]
    policy = NvidiaPolicy(roots=NvidiaRoots(devices=devices, manifests=manifests))
    rims = case["rims"]

    def verdict() -> None:
        assert verify_gpus(case["gpus"], rims=rims, policy=policy, now=case["now"]).accepted

    return {
        "manifests": lambda: [verify_manifest(rim, manifests) for rim in rims],
        "verify_gpus": verdict,
    }


def whole(case: Case) -> Parts:
    """The whole verification, as if it were one part."""
    arguments = case["evidence"], {name: case[name] for name in ("policy", "connection")}
    return {"verify_session": lambda: verify_session(arguments[0], **arguments[1])}


def lowest_tenth(values: Sequence[float]) -> float:
    """The tenth percentile. Other programs only ever add to a time, so it shows how noisy the machine was. Bounds are for the median."""
    return sorted(values)[len(values) // 10]


def cpu_ms(parts: Parts, runs: int = 1, of: Callable[[Sequence[float]], float] = median) -> dict[str, float]:
    """CPU time of each, milliseconds, of so many runs."""
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, act in parts.items():
            began = time.process_time_ns()
            act()
            times.setdefault(name, []).append((time.process_time_ns() - began) / 1e6)
    return {name: of(values) for name, values in times.items()}


def child(path: Path, what: str, runs: int) -> None:
    """In a fresh process: measure, and print."""
    case: Case = pickle.loads(path.read_bytes())  # noqa: S301 - our parent wrote it
    print(json.dumps(cpu_ms(whole(case) if what == "whole" else parts_of(case), runs)))


def fresh(case: Case, what: str, folder: Path) -> dict[str, float]:
    """Medians of the first call of each, over fresh processes."""
    spawn(case, what, folder)  # bytecode is made, as it is where the project is set up
    runs = [json.loads(spawn(case, what, folder).stdout) for _ in range(FRESH)]
    return {name: median(run[name] for run in runs) for name in runs[0]}


def spawn(
    case: Case, what: str, folder: Path, *, runs: int = 1, under: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """One fresh process."""
    path = folder / "case"
    path.write_bytes(pickle.dumps(case))
    words = ["-m", "benchmarks.verify", "--child", str(path), "--what", what, "--runs", str(runs)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [*under, sys.executable, *words],
        check=True,
        capture_output=True,
        text=True,
        env=kept | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")},
    )


def instructions(case: Case, folder: Path) -> dict[str, float]:
    """Instructions of a verification in user space, where the machine counts them; nothing elsewhere."""
    if shutil.which("perf") is None:
        return {}
    counts = []
    for runs in (1, 2, 102):
        report = spawn(
            case, "whole", folder, runs=runs, under=("perf", "stat", "-x", ",", "-e", "instructions:u")
        )
        match = re.search(r"^(\d+),", report.stderr, re.MULTILINE)
        if match is None:
            return {}
        counts.append(int(match[1]))
    return {"warm_instructions": (counts[2] - counts[1]) / 100}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.what, arguments.runs)
        return
    cases = {"simulated": simulated(), "simulated TDX": simulated_tdx(), "simulated GPU": simulated_gpu()}
    if FIXTURES.is_dir() and GENOA.is_dir():
        cases |= {f"real {product}": real(product) for product in ("Milan", "Genoa")}
        cases["real TDX, a quote alone"] = real_tdx()
        cases["real switch"] = real_switch()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, case in cases.items():
            row: dict[str, Any] = {"cold": {}, "warm": {}, "warm_free": {}}
            for what, parts in (("whole", whole), ("parts", parts_of)):
                if what == "parts" or "evidence" in case:
                    row["cold"] |= fresh(case, what, folder)
                    row["warm"] |= cpu_ms(parts(case), WARM)
                    row["warm_free"] |= cpu_ms(parts(case), WARM, lowest_tenth)
            result[title] = row
        result |= instructions(cases["simulated"], folder)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


def _bounds(title: str) -> str:
    warm = WARM_BOUNDS.get(title)
    return f"bounds {COLD_BOUND:.0f} and {warm}" if warm else ""


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"{'CPU time, ms; warm: median, lowest tenth':42}{'cold':>8}{'warm':>8}{'':8}")
    for title, row in result.items():
        if not isinstance(row, dict):
            continue
        print(title)
        for name, value in row["cold"].items():
            bound = (
                f"   ({_bounds(title)})" if name in ("verify_session", "verify_quote", "verify_gpus") else ""
            )
            print(f"  {name:40}{value:8.2f}{row['warm'][name]:8.3f}{row['warm_free'][name]:8.3f}{bound}")
    if "warm_instructions" in result:
        print(f"{'instructions of a warm verification':42}{result['warm_instructions'] / 1e6:16.2f} million")
    else:
        print("instructions: this machine does not count them")


if __name__ == "__main__":
    main()

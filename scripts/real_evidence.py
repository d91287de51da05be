"""Makes docs/real-evidence.md: what the verifier says of every real piece of evidence, from the tables that the tests hold it to.

python scripts/real_evidence.py > docs/real-evidence.md
"""

import importlib.util
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
HEAD: Final = """# Real evidence

Made by `python scripts/real_evidence.py` from the tables in `tests/vectors`, which hold the verifier to every line here. The files are those of
other projects' tests and of vendors; they are not part of this repository (CONTRIBUTING.md). Each is judged as of a fixed day, as certificates, lists
and collateral expire. *Signatures* is the policy `chain-only`: whether everything that was signed verifies up to the vendor's root
that ships. *Strict* names the checks that refuse under the default policy ([checks.md](checks.md)); no cloud of these years
offers all that it demands.
"""

ELSEWHERE: Final = """
## Verified by hand, not among the tests

Evidence in public repositories whose files the tests do not have, on 27 November 2026: 16 SNP reports, 23 TDX quotes and 12 NVIDIA devices, all of
which verify up to the vendor's root, with the right product, layout and identity; and 30 reference manifests. Among them are the kinds that
the tables above lack:

| what | where | result |
|---|---|---|
| Turin, report version 5: two chips | `microsoft/TEE-Attestation-Verification` tests/test_data/turin_*; `openanolis/trustee` deps/verifier/test_data/snp/turin-* | signatures, hardware id of 8 bytes and patch levels with FMC fit; strict refuses bits of guest and platform policy |
| Bergamo or Siena, report version 5 | `confidential-dot-ai/attestation-rs` crates/attestation/test_data/snp/live-* | verify; named as a part of their own, by CPUID, though the certificate says Genoa |
| VLEK, report versions 2 and 3 | `edgelesssys/constellation`, `flashbots/cvm-reverse-proxy`, `openanolis/trustee` | verify; strict refuses `signing-key` and `hardware-id` |
| TDX event log with its quote | `google/go-tdx-guest` ccel; `confidential-dot-ai/attestation-rs` | the log leads to the quote's registers |
| Blackwell (GB100), drivers 575.32 and 590.48.01 | `NVIDIA/attestation-sdk` blackwellAttestationReport.txt; `veraison/services` blackwell-evidence.json | strict accepts, without manifests |
| a Hopper GPU with the manifests of driver and firmware | `confidentsecurity/go-nvtrust` pkg/gonvtrust/mocks; manifests of `NVIDIA/nvtrust` | strict accepts as of 2024-06-01: 32 of 32 measurements are equal |
| eight Hopper GPUs with their four switches | `NVIDIA/nvtrust` | topology fits; strict refuses the mode (PPCIE) |

Found nowhere: reports of version 4, Turin Dense, a quote of version 5 with a TD 1.0 body, Blackwell for workstations (GB20x) and Blackwell's switches.
"""


def module(name: str) -> ModuleType:
    """A module of tests/vectors."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    spec = importlib.util.spec_from_file_location(f"tables_{name}", TESTS / "vectors" / f"test_{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _checks(checks: Collection[str]) -> str:
    return ", ".join(f"`{check}`" for check in sorted(checks)) or "accepted"


def _table(head: str, rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield head
    yield "|" + "---|" * (head.count("|") - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _snp() -> Iterator[tuple[str, ...]]:
    tables = module("snp_verdicts")
    for report, certificate, line, checks in tables.POSITIVE:
        day = "-".join(f"{number:02}" for number in tables.DAYS[line])
        yield report, certificate, day, "verify", _checks(checks)
    judged = {report for report, *_ in (*tables.POSITIVE, *tables.NEGATIVE)}
    for report, (certificate, *_) in module("snp_fixtures").REPORTS.items():
        if report not in judged:
            yield report, certificate, "2026-05-01", "verify", "as the other reports of this machine"
    for report, certificate, checks in tables.NEGATIVE:
        day = "-".join(f"{number:02}" for number in tables.DAYS["milan"])
        broken = checks & {"chain", "signature", "chain-dates"}
        yield (
            report,
            certificate,
            day,
            f"refused: {_checks(broken)}",
            f"also {_checks(tables.MILAN | checks - broken)}",
        )


def _tdx() -> Iterator[tuple[str, ...]]:
    tables = module("tdx_hardware")
    for quote, collateral, day, checks in tables.VERDICTS:
        signed = {"tdx-collateral", "tdx-signature", "tdx-collateral-dates"} & checks
        verdict = f"refused: {_checks(signed)}" if signed else "verify"
        yield quote, collateral, day, verdict, _checks(checks)
    for quote, fmspc, checks in tables.STRANGERS:
        yield (
            quote,
            f"of another platform; this one's FMSPC is {fmspc}",
            "2025-06-20",
            "verify",
            _checks(checks | tables.UNRATED),
        )


def _nvidia() -> Iterator[tuple[str, ...]]:
    tables = module("nvidia_hardware")
    for report, chain, *_ in tables.REPORTS:
        yield report, chain, "verify", "accepted, without manifests"
    for evidence, devices, said in tables.LISTS:
        yield evidence, f"{devices} in the file", "verify", _checks(said)
    for report, chain, _, manifests, reasons in tables.NEGATIVE:
        names = ", ".join(Path(name).name for name in manifests)
        yield (
            report,
            f"{chain}{' with ' if names else ''}{names}",
            "see the reasons",
            "; ".join(f"`{check}`: {reason}" for check, reason in sorted(reasons.items())),
        )


def _manifests() -> Iterator[tuple[str, ...]]:
    tables = module("nvidia_hardware")
    for manifest, product, version, active, _ in tables.MANIFESTS:
        yield manifest, f"verifies: {product} {version}, {active} reference values"
    for manifest, _, reason in tables.BAD_MANIFESTS:
        yield manifest, f"refused: {reason}"


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "## AMD SEV-SNP\n"
    yield from _table("| report | certificate | as of | signatures | strict |", _snp())
    yield "The evidence of Azure's paravisors, in its own forms, has a verdict line by line in `tests/vectors/test_paravisor_hardware.py`.\n"
    yield "## Intel TDX\n"
    yield from _table("| quote | collateral | as of | signatures | strict |", _tdx())
    yield "## NVIDIA\n"
    yield from _table("| report or evidence | certificates, manifests | signatures | strict |", _nvidia())
    yield "## NVIDIA's reference manifests\n"
    yield from _table("| manifest | |", _manifests())
    yield ELSEWHERE.strip()


if __name__ == "__main__":
    print("\n".join(page()).rstrip())

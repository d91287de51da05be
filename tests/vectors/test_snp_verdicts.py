"""What the strict policy says of every real SEV-SNP report, line by line; origin in ../shared/fixtures/PROVENANCE.tsv.

At a fixed time for each vendor's list, as these expire. No cloud of these years offers all that protocol 6.6 demands.
"""

import base64
import datetime as dt
from typing import Any

import pytest

from fixtures_dir import need
from sottovoce.attest.pem import certificates, plain
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.snp.layout import REPORT_SIZE
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES, SNP_REFERENCE_RULES
from sottovoce.attest.snp.verify import SNP_CHAIN_ONLY, SnpReferences, verify_report
from sottovoce.attest.vendors import amd_intermediates, amd_roots
from sottovoce.attest.verdict import Status, Verdict
from sottovoce.core.errors import DecodeError

POLICY = SnpPolicy(roots=amd_roots())
# The day is one on which the vendor's list is current.
DAYS = {"milan": (2026, 5, 1), "genoa": (2025, 10, 15), "turin": (2026, 9, 1)}

# Milan hides no ciphertext, has no AES-256-XTS, and these clouds use hyper-threading and two sockets (protocol 6.6). Its firmware was
# older than the floor of AMD-SB-3019 to 3030.
MILAN = {
    "product",
    "tcb-floor",
    "policy-smt",
    "policy-single-socket",
    "policy-aes-256-xts",
    "policy-rapl",
    "policy-ciphertext-hiding",
    "platform-smt",
    "platform-rapl",
    "platform-ciphertext-hiding",
}
# These two were made before firmware looked for aliases (AMD-SB-3015).
NO_ALIAS_CHECK = {"platform-alias-check"}
# Off at the platform, though the guest would allow it
GENOA = MILAN - {"product", "platform-smt"}
# Without a chain nothing that hangs on the certificate can be said.
UNCHAINED = {
    "chain",
    "chain-dates",
    "revocation-list",
    "revocation-list-dates",
    "revoked",
    "product-match",
    "signature",
    "tcb-certificate",
    "tcb-committed",
    "hardware-id",
}

# report, certificate, product line, what fails
POSITIVE = [
    # Started in debug mode
    ("go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer", "milan", MILAN | NO_ALIAS_CHECK | {"policy-debug"}),
    ("coco-trustee/test-report.bin", "coco-trustee/test-vcek.der", "milan", MILAN | NO_ALIAS_CHECK),
    ("teekit/sev-gcp.bin", "teekit/sev-gcp-vcek.pem", "milan", MILAN),
    ("teekit/sev-gcp-x25519-bound.bin", "teekit/sev-gcp-x25519-vcek.pem", "milan", MILAN),
]  # fmt: skip
NEGATIVE = [
    # Signed by a key that the cloud's machines share; its certificate, of December 2024, is expired.
    ("coco-trustee/test-vlek-report.bin", "coco-trustee/test-vlek.der", {"signing-key", "hardware-id", "chain-dates"}),
    # Made wrong on purpose: the certificates' signatures do not verify.
    ("coco-trustee/test-report.bin", "coco-trustee/test-vcek-invalid-legacy.der", UNCHAINED | NO_ALIAS_CHECK),
    ("coco-trustee/test-report.bin", "coco-trustee/test-vcek-invalid-new.der", UNCHAINED | NO_ALIAS_CHECK),
    # Another chip's certificate
    ("coco-trustee/test-report.bin", "go-sev-guest/vcek.testcer", {"signature", "hardware-id", "tcb-certificate"} | NO_ALIAS_CHECK),
]  # fmt: skip


def snp(name: str) -> bytes:
    return need(f"sev-snp/{name}").read_bytes()


def judge(report: bytes, vcek: bytes, line: str, **changes: Any) -> Verdict:
    arguments: dict[str, Any] = {
        "crl": snp(f"crl/{line}_crl.der"),
        "now": int(dt.datetime(*DAYS[line], tzinfo=dt.UTC).timestamp()),
        "policy": POLICY,
        "intermediates": amd_intermediates(),
    }
    return verify_report(report, vcek, **{**arguments, **changes})


def papers(report: str, vcek: str) -> tuple[bytes, bytes]:
    return plain(snp(report)), certificates(snp(vcek))[0]


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


@pytest.mark.parametrize(("report", "vcek", "line", "checks"), POSITIVE)
def test_strict_says_what_a_real_platform_lacks(report: str, vcek: str, line: str, checks: set[str]) -> None:
    verdict = judge(*papers(report, vcek), line)
    assert failed(verdict) == checks
    # What needs a value to compare with is never passed without one.
    not_checked = {check.id for check in verdict.checks if check.status is Status.NOT_CHECKED}
    assert not_checked == {"vmpl", *SNP_REFERENCE_RULES, *SNP_OPTIONAL_RULES}


@pytest.mark.parametrize(("report", "vcek", "line", "checks"), POSITIVE)
def test_signatures_and_chain_of_real_reports(report: str, vcek: str, line: str, checks: set[str]) -> None:
    data = papers(report, vcek)
    assert judge(*data, line, left_out=SNP_CHAIN_ONLY).accepted
    assert judge(*data, line, left_out=SNP_CHAIN_ONLY, crl=b"").accepted
    assert failed(judge(*data, line, crl=b"")) == checks | {
        "revocation-list",
        "revocation-list-dates",
        "revoked",
    }


def test_a_real_genoa_inside_a_paravisors_report() -> None:
    def block(name: str, label: str, number: int) -> bytes:
        text = need(f"openpcc/attest/{name}").read_text()
        return base64.b64decode(text.split(f"-----BEGIN {label}-----")[number].split("-----END")[0])

    report = block("azure_sevsnp_report.txt", "REPORT", 1)[32 : 32 + REPORT_SIZE]
    vcek = block("sev_certificates.txt", "CERTIFICATE", -1)
    verdict = judge(report, vcek, "genoa")
    assert failed(verdict) == GENOA
    assert judge(report, vcek, "genoa", left_out=SNP_CHAIN_ONLY).accepted


@pytest.mark.parametrize(("report", "vcek", "checks"), NEGATIVE)
def test_what_is_wrong_is_refused_for_that_reason(report: str, vcek: str, checks: set[str]) -> None:
    assert failed(judge(*papers(report, vcek), "milan")) == checks | MILAN


def test_another_product_lines_list() -> None:
    data = papers(*POSITIVE[0][:2])
    assert "revocation-list" in failed(judge(*data, "milan", crl=snp("crl/genoa_crl.der")))


def test_a_stale_list() -> None:
    data = papers(*POSITIVE[2][:2])
    later = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
    assert failed(judge(*data, "milan", now=later)) == MILAN | {"revocation-list-dates"}


def test_reference_values() -> None:
    report, vcek = papers(*POSITIVE[2][:2])
    good = SnpReferences(report_data=report[0x50:0x90], measurements=frozenset({report[0x90:0xC0]}))
    assert judge(report, vcek, "milan", left_out=SNP_CHAIN_ONLY, references=good).accepted
    other = SnpReferences(report_data=b"x" * 64, measurements=frozenset({bytes(48)}))
    verdict = judge(report, vcek, "milan", left_out=SNP_CHAIN_ONLY, references=other)
    assert failed(verdict) == {"report-data", "measurement"}


def test_a_report_of_another_size_is_no_report() -> None:
    report, vcek = papers(*POSITIVE[0][:2])
    for data in (b"", report[:-1], report + b"\0"):
        with pytest.raises(DecodeError, match="1,184 bytes"):
            judge(data, vcek, "milan")

"""Every file of SEV-SNP and paravisor evidence among the fixtures: what it is, and what the verifier must say of it.

The list is complete: a file that comes to the fixtures later fails this test until somebody has said here what it is.
"""

import base64
import datetime as dt
import hashlib
import json
import struct
from typing import Any

import pytest

from fixtures_dir import need
from sottovoce.attest.certificates import Certificate, RevocationList
from sottovoce.attest.paravisor.forms import parse_quote
from sottovoce.attest.pem import certificates, plain
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.snp.forms import key_first, parse_certificates, parse_papers
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.snp.verify import SNP_CHAIN_ONLY, SNP_RELAXABLE, SnpReferences, verify_report
from sottovoce.attest.vendors import AMD_PRODUCTS, amd_intermediates, amd_root, amd_roots
from sottovoce.attest.verdict import Status, Verdict

REPORTS = {
    # report: (certificate, product line, version, VMPL)
    "go-sev-guest/attestation.bin": ("go-sev-guest/vcek.testcer", "Milan", 2, 0),
    "coco-trustee/test-report.bin": ("coco-trustee/test-vcek.der", "Milan", 2, 0),
    "coco-trustee/test-vlek-report.bin": ("coco-trustee/test-vlek.der", "Milan", 3, 1),
    "teekit/sev-gcp.bin": ("teekit/sev-gcp-vcek.pem", "Milan", 5, 0),
    "teekit/sev-gcp-reportdata.bin": ("teekit/sev-gcp-vcek.pem", "Milan", 5, 1),
    "teekit/sev-gcp-x25519-bound.bin": ("teekit/sev-gcp-x25519-vcek.pem", "Milan", 5, 1),
}
FORGED = {
    "coco-trustee/test-vcek-invalid-legacy.der": "coco-trustee/test-report.bin",
    "coco-trustee/test-vcek-invalid-new.der": "coco-trustee/test-report.bin",
}
KEYS_ALONE = {"virtee-sev/vcek_turin.der": "Turin"}
"""Certificates of keys for which there is no report."""
CHAINS = {
    **{f"amd-roots/ask_ark_{line}.pem": ("ask", "ark") for line in ("genoa", "milan")},
    "amd-roots/ask_ark_turin_vcek.pem": ("ask", "ark"),
    **{f"amd-roots/ask_ark_{line}_vlek.pem": ("asvk", "ark") for line in ("genoa", "milan", "turin")},
    **{
        f"amd-roots/coco_{line}_ask_ark_asvk.pem": ("ask", "ark", "asvk")
        for line in ("genoa", "milan", "turin")
    },
    "go-sev-guest/milan.testcer": ("ask", "ark"),
    "go-sev-guest/milanvlek.testcer": ("asvk", "ark"),
    "teekit/sev-gcp-cert-chain.pem": ("ask", "ark"),
    "teekit/sev-gcp-x25519-cert-chain.pem": ("ask", "ark"),
    "virtee-sev/cert_chain_milan": ("ask", "ark"),
    "virtee-sev/cert_chain_turin": ("ask", "ark"),
}
LISTS = {f"crl/{product.lower()}_crl.der": product for product in AMD_PRODUCTS}
PARAVISOR = {
    f"coco-az-snp-vtpm/{name}"
    for name in (
        *("evidence-v0.json", "evidence-v1.json", "evidence-v2.json", "hcl-report.bin", "vcek.pem"),
        *("quote.bin", "tpm-quote-v1.json", "tpm-quote.msg", "tpm-quote.sig"),
    )
}
"""Verified in test_paravisor_hardware."""
OTHER = {"teekit/sev-gcp-x25519-bound.txt", "launch-digest"}
"""What one report's data were made of; and measurements, which are no evidence."""

POLICY = SnpPolicy(roots=amd_roots())


def snp(name: str) -> bytes:
    return need(f"sev-snp/{name}").read_bytes()


def at(year: int, month: int, day: int) -> int:
    return int(dt.datetime(year, month, day, tzinfo=dt.UTC).timestamp())


NOW = at(2026, 5, 1)
"""Milan's revocation list is current, and all certificates of chips' keys are valid."""
VLEK_NOW = at(2025, 6, 1)
"""The certificate of the shared key holds for one year."""


def block(name: str, label: str, number: int = 1) -> bytes:
    text = need(f"openpcc/attest/{name}").read_text()
    return base64.b64decode(text.split(f"-----BEGIN {label}-----")[number].split("-----END")[0])


def judge(report: bytes, vcek: bytes, **changes: Any) -> Verdict:
    arguments: dict[str, Any] = {
        "intermediates": amd_intermediates(),
        "policy": POLICY,
        "now": NOW,
        "left_out": SNP_CHAIN_ONLY,
    }
    return verify_report(report, vcek, **{**arguments, **changes})


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


def test_no_file_is_forgotten() -> None:
    folder = need("sev-snp/go-sev-guest").parent
    known = {
        *REPORTS,
        *(key for key, *_ in REPORTS.values()),
        *FORGED,
        *KEYS_ALONE,
        *CHAINS,
        *LISTS,
        *PARAVISOR,
        *OTHER,
    }
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("launch-digest/")} == known - {"launch-digest"}


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_verifies_to_the_pinned_root(name: str) -> None:
    key, product, version, vmpl = REPORTS[name]
    report, vcek = parse_papers(snp(name)).report, parse_certificates(snp(key)).certificates[0]
    parsed = Report.parse(report)
    assert (parsed.version, parsed.vmpl) == (version, vmpl)
    now = VLEK_NOW if parsed.signing_key else NOW
    verdict = judge(report, vcek, now=now)
    assert verdict.accepted
    assert {check.id: check.found for check in verdict.checks}["chain"] == f"{product} root"
    # Not under another product line's root.
    other = next(one for one in AMD_PRODUCTS if one != product)
    assert "chain" in failed(judge(report, vcek, policy=SnpPolicy(roots=(amd_root(other),)), now=now))
    # Nor by another chip's key.
    stranger = (
        "go-sev-guest/vcek.testcer" if key != "go-sev-guest/vcek.testcer" else "teekit/sev-gcp-vcek.pem"
    )
    assert failed(judge(report, parse_certificates(snp(stranger)).certificates[0])) == {"signature"}


@pytest.mark.parametrize("name", FORGED)
def test_every_certificate_made_wrong_is_refused_by_the_chain(name: str) -> None:
    report = snp(FORGED[name])
    assert failed(judge(report, snp(name))) == {"chain", "chain-dates", "signature"}


def test_a_shared_key_with_its_chain() -> None:
    report, vlek = snp("coco-trustee/test-vlek-report.bin"), snp("coco-trustee/test-vlek.der")
    strict: dict[str, Any] = {"left_out": frozenset(), "crl": snp("crl/milan_crl.der"), "now": VLEK_NOW}
    lines = {check.id: check for check in judge(report, vlek, **strict).checks}
    assert lines["signing-key"].found == "VLEK, the certificate is a VLEK's"
    assert {lines[check].status for check in ("signing-key", "hardware-id")} == {Status.FAIL}
    assert {lines[check].status for check in ("tcb-certificate", "product-match")} == {Status.PASS}
    # Its certificate holds for a year.
    assert failed(judge(report, vlek)) == {"chain-dates"}
    # A policy for evidence on its own may accept it, and says so.
    relaxed = judge(report, vlek, **strict, relaxed=SNP_RELAXABLE)
    assert relaxed.accepted
    assert {"signing-key", "hardware-id"} <= set(relaxed.relaxed)


@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_holds_what_ships(name: str) -> None:
    found = parse_certificates(snp(name)).certificates
    line = next(
        one for one in ("milan", "genoa", "turin") if one in name or (one == "milan" and "gcp" in name)
    )
    shipped = dict(
        zip(("ask", "asvk"), amd_intermediates()[AMD_PRODUCTS.index(line.title()) * 2 :][:2], strict=True)
    )
    shipped["ark"] = amd_root(line.title()).ark_der
    assert found == tuple(shipped[which] for which in CHAINS[name])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_chain_in_any_order_with_and_without_its_root(reverse: bool) -> None:
    report, (vcek,) = (
        snp("teekit/sev-gcp.bin"),
        parse_certificates(snp("teekit/sev-gcp-vcek.pem")).certificates,
    )
    for name in ("amd-roots/coco_milan_ask_ark_asvk.pem", "go-sev-guest/milan.testcer"):
        chain = parse_certificates(snp(name)).certificates
        chain = chain[::-1] if reverse else chain
        assert key_first((*chain, vcek), report)[0] == vcek
        assert judge(report, vcek, intermediates=chain).accepted
    vleks = parse_certificates(snp("go-sev-guest/milanvlek.testcer")).certificates
    assert failed(judge(report, vcek, intermediates=vleks)) == {"chain", "chain-dates", "signature"}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_in_its_days(name: str) -> None:
    data = snp(name)
    days = RevocationList.parse(data)
    report, vcek = snp("go-sev-guest/attestation.bin"), snp("go-sev-guest/vcek.testcer")
    wrong = failed(judge(report, vcek, crl=data, now=days.next_update))
    assert wrong == (
        set() if LISTS[name] == "Milan" else {"revocation-list", "revocation-list-dates", "revoked"}
    )


def test_the_lists_and_roots_in_pem() -> None:
    text = need("openpcc/attest/sev_certificates.txt").read_bytes()
    crls = [block("sev_certificates.txt", "X509 CRL", number) for number in (1, 2)]
    assert crls == [snp("crl/genoa_crl.der"), snp("crl/milan_crl.der")]
    found = [one for one in certificates(text) if one not in crls]
    ship = amd_intermediates()
    assert set(found[:4]) == {ship[0], amd_root("Milan").ark_der, ship[2], amd_root("Genoa").ark_der}
    assert Certificate.parse(found[4]).common_name == "SEV-VCEK"


def test_a_report_of_version_4_whose_certificate_is_not_here() -> None:
    report = plain(block("gce_sevsnp_report.txt", "REPORT"))
    parsed = Report.parse(report)
    assert (parsed.version, parsed.cpuid, parsed.current_version) == (4, (0x19, 0x01, 1), (1, 55, 31))
    assert parsed.mitigations is None
    vcek = parse_certificates(snp("teekit/sev-gcp-vcek.pem")).certificates[0]
    assert failed(judge(report, vcek)) == {"signature"}
    assert {"signature", "hardware-id"} <= failed(judge(report, vcek, left_out=frozenset()))


def test_what_a_bound_reports_data_are_made_of() -> None:
    lines = need("sev-snp/teekit/sev-gcp-x25519-bound.txt").read_text().split()
    values = dict(line.split("=") for line in lines)
    data = hashlib.sha512(bytes.fromhex(values["NONCE"] + values["X25519_KEY"])).digest()
    report, vcek = snp("teekit/sev-gcp-x25519-bound.bin"), snp("teekit/sev-gcp-x25519-vcek.pem")
    key = parse_certificates(vcek).certificates[0]
    assert judge(report, key, references=SnpReferences(report_data=data)).accepted
    other = SnpReferences(report_data=hashlib.sha512(b"another key").digest())
    assert failed(judge(report, key, references=other)) == {"report-data"}


def test_a_quote_in_another_programs_form_is_the_one_that_is_verified() -> None:
    # Rust's bincode: each part behind its length, u64 little-endian; 24 registers.
    data = snp("coco-az-snp-vtpm/quote.bin")
    quote = parse_quote(snp("coco-az-snp-vtpm/tpm-quote-v1.json"))
    assert quote.pcrs is not None
    parts = (quote.signature, quote.message)
    whole = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    assert data == whole + struct.pack("<Q", len(quote.pcrs)) + b"".join(quote.pcrs)
    assert json.loads(snp("coco-az-snp-vtpm/tpm-quote-v1.json")).keys() == {"signature", "message", "pcrs"}

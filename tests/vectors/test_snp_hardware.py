"""Real SEV-SNP reports and certificates; origin in ../shared/fixtures/PROVENANCE.tsv.

At a fixed time, as real certificates and lists expire.
"""

import base64
import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fixtures_dir import need
from sottovoce.attest.certificates import Certificate, RevocationList
from sottovoce.attest.snp.layout import Report, Tcb
from sottovoce.attest.snp.policy import cpuid_fits
from sottovoce.attest.snp.signatures import (
    ChainError,
    ReportSignatureError,
    require_current,
    require_valid,
    verify_chain,
    verify_report,
    verify_revocation_list,
)
from sottovoce.attest.snp.vcek import certified_tcb, hardware_id, product_name
from sottovoce.attest.vendors import AMD_PRODUCTS, amd_root

NOW = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
CHAINS = {"Milan": "ask_ark_milan.pem", "Genoa": "ask_ark_genoa.pem", "Turin": "ask_ark_turin_vcek.pem"}
# report, VCEK, product, report version
REPORTS = [
    ("go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer", "Milan", 2),
    ("coco-trustee/test-report.bin", "coco-trustee/test-vcek.der", "Milan", 2),
    ("teekit/sev-gcp.bin", "teekit/sev-gcp-vcek.pem", "Milan", 5),
    ("teekit/sev-gcp-x25519-bound.bin", "teekit/sev-gcp-x25519-vcek.pem", "Milan", 5),
]


def ders(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return pem_blocks(path, "CERTIFICATE") if data.startswith(b"-----") else [data]


def pem_blocks(path: Path, label: str) -> list[bytes]:
    blocks = path.read_text().split(f"-----BEGIN {label}-----")[1:]
    return [base64.b64decode(block.split("-----END")[0]) for block in blocks]


def ask(product: str) -> bytes:
    return ders(need(f"sev-snp/amd-roots/{CHAINS[product]}"))[0]


def snp(name: str) -> Path:
    return need(f"sev-snp/{name}")


@pytest.mark.parametrize(("report_name", "vcek_name", "product", "version"), REPORTS)
def test_real_reports_verify_to_the_root_that_ships(
    report_name: str, vcek_name: str, product: str, version: int
) -> None:
    report = Report.parse(snp(report_name).read_bytes())
    (vcek_der,) = ders(snp(vcek_name))
    chain = verify_chain(ark_der=amd_root(product).ark_der, ask_der=ask(product), vcek_der=vcek_der)
    require_valid(*chain, now=NOW)
    vcek = chain[2]
    verify_report(report, vcek)
    assert report.version == version
    assert product_name(vcek) == product
    assert cpuid_fits(report, product)
    assert certified_tcb(vcek, turin=report.is_turin) == report.tcb(report.reported_tcb)
    assert hardware_id(vcek, turin=False) == report.chip_id


def test_a_real_genoa_report_inside_a_paravisors() -> None:
    (paravisor,) = pem_blocks(need("openpcc/attest/azure_sevsnp_report.txt"), "REPORT")
    vcek_der = pem_blocks(need("openpcc/attest/sev_certificates.txt"), "CERTIFICATE")[-1]
    report = Report.parse(paravisor[32 : 32 + 1184])  # behind the 32-byte header of the paravisor's report
    _, _, vcek = verify_chain(ark_der=amd_root("Genoa").ark_der, ask_der=ask("Genoa"), vcek_der=vcek_der)
    verify_report(report, vcek)
    assert product_name(vcek) == "Genoa"
    assert cpuid_fits(report, "Genoa")
    assert (report.version, report.cpuid) == (3, (0x19, 0x11, 1))
    assert certified_tcb(vcek, turin=report.is_turin) == report.tcb(report.reported_tcb)
    assert hardware_id(vcek, turin=False) == report.chip_id


@pytest.mark.parametrize("product", AMD_PRODUCTS)
def test_real_revocation_lists(product: str) -> None:
    ark = Certificate.parse(amd_root(product).ark_der)
    data = snp(f"crl/{product.lower()}_crl.der").read_bytes()
    at = RevocationList.parse(data).this_update + 1
    revoked = verify_revocation_list(data, ark=ark)
    require_current(revoked, now=at)
    assert Certificate.parse(ask(product)).serial not in revoked.serials
    with pytest.raises(ChainError, match="not current"):
        require_current(revoked, now=revoked.next_update + 1)
    other = next(name for name in AMD_PRODUCTS if name != product)
    with pytest.raises(ChainError, match="another issuer"):
        verify_revocation_list(data, ark=Certificate.parse(amd_root(other).ark_der))


@pytest.mark.parametrize("product", ["Genoa", "Turin"])
def test_another_products_root(product: str) -> None:
    (vcek,) = ders(snp("go-sev-guest/vcek.testcer"))
    with pytest.raises(ChainError):
        verify_chain(ark_der=amd_root(product).ark_der, ask_der=ask(product), vcek_der=vcek)


@pytest.mark.parametrize("name", ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"])
def test_certificates_made_wrong_are_refused(name: str) -> None:
    (vcek_der,) = ders(snp(f"coco-trustee/{name}"))
    with pytest.raises(ChainError):
        verify_chain(ark_der=amd_root("Milan").ark_der, ask_der=ask("Milan"), vcek_der=vcek_der)


def test_turin_has_an_fmc_level_and_an_eight_byte_id() -> None:
    (der,) = ders(snp("virtee-sev/vcek_turin.der"))
    _, _, vcek = verify_chain(ark_der=amd_root("Turin").ark_der, ask_der=ask("Turin"), vcek_der=der)
    assert len(hardware_id(vcek, turin=True)) == 8
    assert certified_tcb(vcek, turin=True).fmc is not None


def test_a_vlek_report_says_so() -> None:
    report = Report.parse(snp("coco-trustee/test-vlek-report.bin").read_bytes())
    assert report.signing_key == 1


def test_one_reports_signature_does_not_fit_anothers_key() -> None:
    (vcek_der,) = ders(snp("go-sev-guest/vcek.testcer"))
    report = Report.parse(snp("coco-trustee/test-report.bin").read_bytes())
    with pytest.raises(ReportSignatureError):
        verify_report(report, Certificate.parse(vcek_der))


def test_a_certificate_with_serial_number_zero_is_read() -> None:
    (vcek_der,) = ders(snp("go-sev-guest/vcek.testcer"))
    assert Certificate.parse(vcek_der).serial == 0


def test_our_reader_agrees_with_another_on_the_roots() -> None:
    for product in AMD_PRODUCTS:
        der = amd_root(product).ark_der
        ours, theirs = Certificate.parse(der), x509.load_der_x509_certificate(der)
        assert ours.serial == theirs.serial_number
        assert ours.subject == theirs.subject.public_bytes()
        assert ours.not_after == int(theirs.not_valid_after_utc.timestamp())
        assert ours.signed == theirs.tbs_certificate_bytes
        assert theirs.public_bytes(Encoding.DER) == der


def test_patch_levels_are_compared_one_by_one() -> None:
    floor = Tcb(bootloader=3, tee=0, snp=8, microcode=115)
    assert floor.at_least(floor)
    assert not Tcb(bootloader=9, tee=9, snp=7, microcode=255).at_least(floor)

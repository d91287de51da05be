"""Real evidence of Azure's confidential VMs; origin in ../shared/fixtures/PROVENANCE.tsv.

At a fixed time, as real certificates and lists expire. All of it lies outside what the strict policy accepts, and each line that
refuses is named.
"""

import base64
import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fixtures_dir import need
from sottovoce.attest.paravisor.appraisal import ParavisorReferences
from sottovoce.attest.paravisor.claims import RuntimeClaims
from sottovoce.attest.paravisor.forms import ParavisorEvidence, parse_evidence, parse_quote
from sottovoce.attest.paravisor.layout import HclReport
from sottovoce.attest.paravisor.quote import SignedQuote, TpmQuote
from sottovoce.attest.paravisor.signatures import (
    ClaimsError,
    QuoteSignatureError,
    require_bound,
    verify_quote,
)
from sottovoce.attest.paravisor.verify import PARAVISOR_CHAIN_ONLY, verify_paravisor
from sottovoce.attest.pem import certificates
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.snp.verify import SnpReferences
from sottovoce.attest.vendors import amd_intermediates, amd_roots
from sottovoce.attest.verdict import Verdict
from sottovoce.core.errors import DecodeError

NOW = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
COCO = "sev-snp/coco-az-snp-vtpm"
TDX = "tdx/coco-az-tdx-vtpm"
CLAIMS_AT = 32 + 1184 + 20
CHALLENGE = b"challenge"
USER_DATA = bytes.fromhex(
    "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef"
)
SETTINGS = {
    "policy-smt", "policy-single-socket", "policy-aes-256-xts", "policy-rapl", "policy-ciphertext-hiding",
    "platform-smt", "platform-rapl", "platform-ciphertext-hiding", "paravisor-console",
}  # fmt: skip
"""What Azure does not offer, on any of these machines."""


def coco(version: int) -> ParavisorEvidence:
    return parse_evidence(need(f"{COCO}/evidence-v{version}.json").read_bytes())


def pieces() -> ParavisorEvidence:
    """The same kind of evidence of a third machine, file by file."""
    return ParavisorEvidence(
        report=need(f"{COCO}/hcl-report.bin").read_bytes(),
        vcek=certificates(need(f"{COCO}/vcek.pem").read_bytes()),
        quote=parse_quote(need(f"{COCO}/tpm-quote-v1.json").read_bytes()),
    )


def genoa() -> ParavisorEvidence:
    text = need("openpcc/attest/azure_sevsnp_report.txt").read_bytes()
    report = base64.b64decode(text.split(b"-----BEGIN REPORT-----")[1].split(b"-----END")[0])
    return ParavisorEvidence(
        report=report,
        vcek=certificates(need("openpcc/attest/sev_certificates.txt").read_bytes())[-1:],
        quote=None,
    )


def verify(evidence: ParavisorEvidence, *, product: str = "milan", **changes: Any) -> Verdict:
    crl = need(f"sev-snp/crl/{product}_crl.der").read_bytes()
    arguments: dict[str, Any] = {
        "quote": evidence.quote,
        "intermediates": (*evidence.vcek[1:], *amd_intermediates()),
        "crl": crl,
        "policy": SnpPolicy(roots=amd_roots()),
        "now": NOW,
        **changes,
    }
    return verify_paravisor(evidence.report, evidence.vcek[0], **arguments)


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed} - {"revocation-list-dates"}


NONCES = {0: CHALLENGE, 1: CHALLENGE, 2: USER_DATA}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_each_evidence_with_its_nonce(version: int) -> None:
    evidence = coco(version)
    assert evidence.quote is not None
    assert evidence.quote.pcrs is not None
    expected = ParavisorReferences(nonce=NONCES[version], pcrs={0: evidence.quote.pcrs[0]})
    assert verify(evidence, expected=expected, crl=b"", left_out=PARAVISOR_CHAIN_ONLY).accepted
    assert failed(verify(evidence, expected=expected)) == {"product", "tcb-floor", *SETTINGS}
    other = replace(expected, nonce=b"another challenge")
    assert failed(verify(evidence, expected=other, crl=b"", left_out=PARAVISOR_CHAIN_ONLY)) == {
        "paravisor-nonce"
    }


def test_user_data_that_the_guest_had_put_in() -> None:
    expected = ParavisorReferences(user_data=USER_DATA.ljust(64, b"\0"))
    chain_only: dict[str, Any] = {"expected": expected, "crl": b"", "left_out": PARAVISOR_CHAIN_ONLY}
    assert verify(coco(2), **chain_only).accepted
    assert failed(verify(coco(1), **chain_only)) == {"paravisor-user-data"}


def test_the_third_machine() -> None:
    verdict = verify(pieces(), expected=ParavisorReferences(nonce=CHALLENGE))
    assert failed(verdict) == {"product", "tcb-floor", "platform-alias-check", *SETTINGS}


def test_a_genoa_machine() -> None:
    evidence = genoa()
    measurement = HclReport.parse(evidence.report).hardware[0x90:0xC0]
    references = SnpReferences(measurements=frozenset({measurement}))
    verdict = verify(evidence, product="genoa", references=references)
    assert failed(verdict) == {"tcb-floor", *SETTINGS} - {"platform-smt"}
    assert verify(evidence, crl=b"", references=references, left_out=PARAVISOR_CHAIN_ONLY).accepted


def test_one_machines_quote_with_another_machines_report() -> None:
    evidence = replace(coco(1), quote=coco(2).quote)
    assert failed(verify(evidence, crl=b"", left_out=PARAVISOR_CHAIN_ONLY)) == {"paravisor-quote-signature"}
    # Two starts of one machine have one key; the quote's clock is no evidence of order.
    assert verify(replace(coco(1), quote=coco(0).quote), crl=b"", left_out=PARAVISOR_CHAIN_ONLY).accepted


def test_a_quote_whose_key_is_in_no_report() -> None:
    quote = SignedQuote(
        message=need(f"{COCO}/tpm-quote.msg").read_bytes(),
        signature=need(f"{COCO}/tpm-quote.sig").read_bytes(),
    )
    parsed = TpmQuote.parse(quote.message)
    assert (parsed.nonce, parsed.selected) == (CHALLENGE, (*range(8), 14))
    for evidence in (pieces(), coco(0), coco(2), genoa()):
        found = verify(replace(evidence, quote=quote), crl=b"", left_out=PARAVISOR_CHAIN_ONLY)
        assert failed(found) == {"paravisor-quote-signature"}


def test_a_chip_that_another_certificate_is_for() -> None:
    evidence = replace(pieces(), vcek=coco(1).vcek)
    assert "signature" in failed(verify(evidence, crl=b"", left_out=PARAVISOR_CHAIN_ONLY))


@pytest.mark.parametrize("version", [0, 1])
def test_tdx_claims_are_bound_to_the_quote(version: int) -> None:
    members = json.loads(need(f"{TDX}/evidence-v{version}.json").read_bytes())
    td_quote = members.pop("td_quote")
    quote = bytes(td_quote) if version == 0 else base64.urlsafe_b64decode(td_quote)
    evidence = parse_evidence(json.dumps(members).encode())
    outer = HclReport.parse(evidence.report)
    assert outer.kind == "tdx"
    assert evidence.report == need(f"{TDX}/hcl-report.bin").read_bytes()
    # Intel TDX DCAP quote, version 4: a header of 48 bytes, the TD report's last 64 of 584 bytes are its data.
    report_data = quote[48 + 520 : 48 + 584]
    assert quote == need(f"{TDX}/td-quote.bin").read_bytes()
    require_bound(outer.claims, report_data)
    require_bound(outer.claims, outer.td_report_data)
    for wrong in (outer.claims[:-1], outer.claims + b"\0", b""):
        with pytest.raises(ClaimsError):
            require_bound(wrong, report_data)
    claims = RuntimeClaims.parse(outer.claims)
    assert evidence.quote is not None
    verify_quote(evidence.quote, claims.attestation_key)
    verify_quote(parse_quote(need(f"{TDX}/tpm-quote-v1.json").read_bytes()), claims.attestation_key)
    with pytest.raises(DecodeError, match="TDREPORT"):
        verify(replace(evidence, vcek=pieces().vcek))


def test_a_newer_tdx_machine() -> None:
    text = need("openpcc/attest/azure_tdx_report.txt").read_bytes()
    report, quote = (
        base64.b64decode(text.split(b"-----BEGIN %s-----" % name)[1].split(b"-----END")[0])
        for name in (b"REPORT", b"QUOTE")
    )
    outer = HclReport.parse(report)
    require_bound(outer.claims, outer.td_report_data)
    require_bound(outer.claims, quote[48 + 520 : 48 + 584])
    assert RuntimeClaims.parse(outer.claims).secure_boot is True


def test_another_makers_tpm() -> None:
    """A quote of a TPM outside any paravisor, its signature in a TPMT_SIGNATURE."""
    members = json.loads(need("tpm/coco-trustee/tpm_evidence.json").read_bytes())
    message, signature = (base64.b64decode(members["tpm_quote"][name]) for name in ("message", "signature"))
    key = serialization.load_der_public_key(base64.b64decode(members["ak_public"]))
    assert isinstance(key, rsa.RSAPublicKey)
    pcrs = tuple(map(bytes.fromhex, members["tpm_quote"]["pcrs"]))
    quote = SignedQuote(message=message, signature=signature, pcrs=pcrs)
    verify_quote(quote, key)
    parsed = TpmQuote.parse(message)
    assert parsed.digest_of(pcrs) == parsed.pcr_digest
    with pytest.raises(QuoteSignatureError):
        verify_quote(replace(quote, message=message[:-1] + bytes([message[-1] ^ 1])), key)


@pytest.mark.exhaustive
def test_no_flipped_bit_of_a_real_report_is_accepted() -> None:
    evidence = pieces()
    lenient: dict[str, Any] = {"crl": b"", "left_out": PARAVISOR_CHAIN_ONLY}
    assert verify(evidence, **lenient).accepted
    claims_end = evidence.report.rindex(b"}") + 1
    unread = []
    for at, data in enumerate(flip(evidence.report)):
        try:
            found = failed(verify(replace(evidence, report=data), **lenient))
        except DecodeError:
            unread.append(at)
            continue
        # What the processor signed, its signature, and the claims that it vouches for; no other byte parses when flipped.
        assert found & ({"paravisor-claims"} if at >= CLAIMS_AT else {"signature", "version"}), at
    assert {*range(32), *range(32 + 1184, CLAIMS_AT), *range(claims_end, len(evidence.report))} <= {*unread}
    assert not {*range(CLAIMS_AT, claims_end)} & {*unread}


@pytest.mark.exhaustive
def test_no_flipped_bit_of_a_real_quote_is_accepted() -> None:
    evidence = pieces()
    quote = evidence.quote
    assert quote is not None
    assert quote.pcrs is not None
    lenient: dict[str, Any] = {"crl": b"", "left_out": PARAVISOR_CHAIN_ONLY}
    flips = [replace(quote, message=flipped) for flipped in flip(quote.message)]
    flips += [replace(quote, signature=flipped) for flipped in flip(quote.signature)]
    for other in flips:
        assert "paravisor-quote-signature" in failed(verify(replace(evidence, quote=other), **lenient))
    for number, value in enumerate(quote.pcrs):
        pcrs = (*quote.pcrs[:number], next(flip(value)), *quote.pcrs[number + 1 :])
        other = replace(quote, pcrs=pcrs)
        assert failed(verify(replace(evidence, quote=other), **lenient)) == {"paravisor-pcr-digest"}


def flip(data: bytes) -> Any:
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]

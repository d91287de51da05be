"""A paravisor's evidence from a simulated one: every check refuses, for its own reason and no other."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from paravisor_kit import (
    CHIP,
    EXPECTED,
    MEASUREMENT,
    NONCE,
    OPTIONAL,
    QUOTE,
    REPORT,
    USER_DATA,
    VENDOR,
    VTPM,
    failed,
    paravisor,
    skipped,
    verify,
)
from sottovoce.attest.paravisor.appraisal import ParavisorReferences
from sottovoce.attest.paravisor.layout import HclReport
from sottovoce.attest.paravisor.quote import SignedQuote, TpmQuote
from sottovoce.attest.paravisor.rules import PARAVISOR_RULES
from sottovoce.attest.paravisor.signatures import (
    ClaimsError,
    QuoteSignatureError,
    claims_report_data,
    require_bound,
    verify_quote,
)
from sottovoce.attest.paravisor.verify import (
    PARAVISOR_CHAIN_ONLY,
    PARAVISOR_RELAXABLE,
)
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.snp.verify import SnpReferences
from sottovoce.attest.verdict import Status, VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.paravisor import SimulatedParavisor, simulated_quote
from sottovoce.simulator.pki import SimulatedVendor
from sottovoce.simulator.processor import ReportFields
from sottovoce.simulator.testing import NOW, EvidenceWorld


def report_with(change: Callable[[ReportFields], ReportFields]) -> bytes:
    """A paravisor's report around a hardware report with other fields."""
    return SimulatedParavisor(CHIP, MEASUREMENT, user_data=USER_DATA, change=change).hcl_report()


def test_good_evidence_passes_every_line() -> None:
    verdict = verify()
    assert verdict.accepted
    assert skipped(verdict) == OPTIONAL
    assert {check.id for check in verdict.checks} >= PARAVISOR_RULES.keys()
    assert "report-data" not in {check.id for check in verdict.checks}


def test_what_the_paravisor_could_do_stands_in_every_verdict() -> None:
    (line,) = [check for check in verify().checks if check.id == "paravisor-trust"]
    assert line.status is Status.NOT_CHECKED
    assert "reads all memory" in line.found


def test_claims_that_the_report_does_not_vouch_for() -> None:
    other = paravisor(lambda claims: claims["vm-configuration"].update({"tpm-enabled": False}))
    swapped = VTPM.hcl_report(other.claims_json(), report_data=claims_report_data(VTPM.claims_json()))
    assert failed(verify(swapped)) == {"paravisor-claims"}


@pytest.mark.parametrize("at", [0, 31, 32, 63])
def test_each_part_of_the_report_data_counts(at: int) -> None:
    data = bytearray(claims_report_data(VTPM.claims_json()))
    data[at] ^= 1
    assert failed(verify(VTPM.hcl_report(report_data=bytes(data)))) == {"paravisor-claims"}


def test_a_report_that_a_program_in_the_guest_asked_for() -> None:
    """It could hold claims with any key: only the paravisor itself can ask at VMPL 0."""
    report = report_with(lambda fields: replace(fields, vmpl=2))
    assert failed(verify(report)) == {"vmpl"}
    assert failed(verify(report, left_out=PARAVISOR_CHAIN_ONLY)) == {"vmpl"}


def test_claims_without_a_key_leave_the_quote_unverified() -> None:
    other = paravisor(lambda claims: claims["keys"].pop(0))
    assert failed(verify(other.hcl_report())) == {
        "paravisor-key",
        "paravisor-quote-signature",
        *claims_lines(),
    }


def claims_lines() -> set[str]:
    return {"paravisor-secure-boot", "paravisor-console", "paravisor-user-data"}


def test_a_quote_by_another_key() -> None:
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(QUOTE.message, padding.PKCS1v15(), hashes.SHA256())
    assert failed(verify(quote=replace(QUOTE, signature=signature))) == {"paravisor-quote-signature"}


@pytest.mark.parametrize(
    ("scheme", "hash_"),
    [(padding.PKCS1v15(), hashes.SHA1()), (padding.PKCS1v15(), hashes.SHA384()),  # noqa: S303 - the weak hash is what is refused
     (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())],
)  # fmt: skip
def test_a_quote_signed_in_another_way(scheme: Any, hash_: hashes.HashAlgorithm) -> None:
    signature = VTPM.attestation_key.sign(QUOTE.message, scheme, hash_)
    assert failed(verify(quote=replace(QUOTE, signature=signature))) == {"paravisor-quote-signature"}


def test_a_signature_that_says_its_scheme() -> None:
    head = bytes.fromhex("0014000b0100")
    assert verify(quote=replace(QUOTE, signature=head + QUOTE.signature)).accepted
    for other in ("0016000b0100", "001400040100", "0014000c0100", "0014000b0000"):
        quote = replace(QUOTE, signature=bytes.fromhex(other) + QUOTE.signature)
        assert failed(verify(quote=quote)) == {"paravisor-quote-signature"}


@pytest.mark.parametrize(
    "head", ["ff5443488018", "005443478018", "ff5443478017", "ff544347801a", "ff5443478019"]
)
def test_something_else_that_the_key_signed(head: str) -> None:
    message = bytes.fromhex(head) + QUOTE.message[6:]
    quote = SignedQuote(message=message, signature=VTPM.sign(message), pcrs=VTPM.pcrs)
    assert failed(verify(quote=quote)) == {
        "paravisor-quote", "paravisor-nonce", "paravisor-pcr-digest", "paravisor-pcrs",
    }  # fmt: skip


@pytest.mark.parametrize("nonce", [b"m" * 32, b"n" * 31, b"n" * 33, b""])
def test_a_quote_for_another_nonce(nonce: bytes) -> None:
    assert failed(verify(quote=VTPM.quote(nonce))) == {"paravisor-nonce"}


@pytest.mark.parametrize("size", [1, 64])
def test_the_shortest_and_the_longest_nonce(size: int) -> None:
    nonce = b"n" * size
    assert verify(quote=VTPM.quote(nonce), expected=replace(EXPECTED, nonce=nonce)).accepted


def test_without_a_nonce_freshness_is_not_checked() -> None:
    verdict = verify(expected=replace(EXPECTED, nonce=None))
    assert verdict.accepted
    assert skipped(verdict) == OPTIONAL | {"paravisor-nonce"}


def test_other_registers_than_those_quoted() -> None:
    pcrs = (*VTPM.pcrs[:3], bytes(32), *VTPM.pcrs[4:])
    assert failed(verify(quote=replace(QUOTE, pcrs=pcrs))) == {"paravisor-pcr-digest"}


def test_another_value_of_an_expected_register() -> None:
    assert failed(verify(expected=replace(EXPECTED, pcrs={4: bytes(32)}))) == {"paravisor-pcrs"}
    # A lie about the register fits the reference, and not the quote.
    lie = replace(QUOTE, pcrs=(*VTPM.pcrs[:4], bytes(32), *VTPM.pcrs[5:]))
    assert failed(verify(quote=lie, expected=replace(EXPECTED, pcrs={4: bytes(32)}))) == {
        "paravisor-pcr-digest"
    }


def test_an_expected_register_that_is_not_in_the_quote() -> None:
    assert verify(quote=VTPM.quote(NONCE, (0, 7))).accepted
    assert failed(verify(quote=VTPM.quote(NONCE, (0, 1, 2)))) == {"paravisor-pcrs"}


def test_registers_that_nobody_shows() -> None:
    bare = replace(QUOTE, pcrs=None)
    assert failed(verify(quote=bare)) == {"paravisor-pcrs"}
    verdict = verify(quote=bare, expected=replace(EXPECTED, pcrs={}))
    assert verdict.accepted
    assert skipped(verdict) == OPTIONAL | {"paravisor-pcr-digest", "paravisor-pcrs"}


def test_without_a_quote() -> None:
    lines = {"paravisor-quote", "paravisor-quote-signature", "paravisor-pcr-digest"}
    assert failed(verify(quote=None)) == {"paravisor-nonce", "paravisor-pcrs"}
    verdict = verify(quote=None, expected=ParavisorReferences(user_data=USER_DATA))
    assert verdict.accepted
    assert skipped(verdict) == OPTIONAL | lines | {"paravisor-nonce", "paravisor-pcrs"}
    said = "no quote was given"
    assert {check.found for check in verdict.checks if check.id in lines | {"paravisor-nonce"}} == {said}
    expecting = {check.id: (check.found, check.wanted) for check in verify(quote=None).failed}
    assert expecting == {
        "paravisor-nonce": (said, NONCE.hex()),
        "paravisor-pcrs": (said, "PCR 0, 7"),
    }


def test_other_user_data() -> None:
    assert failed(verify(expected=replace(EXPECTED, user_data=bytes(64)))) == {"paravisor-user-data"}
    verdict = verify(expected=replace(EXPECTED, user_data=None))
    assert skipped(verdict) == OPTIONAL | {"paravisor-user-data"}


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [("secure-boot", False, "paravisor-secure-boot"), ("console-enabled", True, "paravisor-console"),
     ("secure-boot", None, "paravisor-secure-boot"), ("console-enabled", None, "paravisor-console")],
)  # fmt: skip
def test_settings_of_the_machine(name: str, value: bool | None, check: str) -> None:
    def change(claims: dict[str, Any]) -> None:
        del claims["vm-configuration"][name]
        if value is not None:
            claims["vm-configuration"][name] = value

    report = paravisor(change).hcl_report()
    assert failed(verify(report)) == {check}
    relaxed = verify(report, relaxed=frozenset({check}))
    assert relaxed.accepted
    assert [line.id for line in relaxed.checks if line.status is Status.RELAXED] == [check]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"crl": b""}, "revocation-list"),
        ({"references": SnpReferences(measurements=frozenset({bytes(48)}))}, "measurement"),
        ({"references": SnpReferences(guest_svn=1)}, "guest-svn"),
        ({"policy": SnpPolicy(roots=(VENDOR.root,), tightened=frozenset({"platform-tsme"}))}, "platform-tsme"),
    ],
)  # fmt: skip
def test_the_checks_of_the_snp_report_are_there(changes: dict[str, Any], check: str) -> None:
    assert check in failed(verify(**changes))


def test_another_chip_or_another_vendor() -> None:
    assert {"signature", "hardware-id"} <= failed(verify(vcek=VENDOR.make_chip(now=NOW).vcek))
    other = SimulatedVendor.create(now=NOW, bits=2048)
    assert "chain" in failed(verify(policy=SnpPolicy(roots=(other.root,))))


def test_chain_only_judges_what_leads_from_the_processor_to_the_quote() -> None:
    verdict = verify(crl=b"", left_out=PARAVISOR_CHAIN_ONLY)
    assert verdict.accepted
    passed = {check.id for check in verdict.checks if check.status is Status.PASS}
    assert passed == {
        "chain", "chain-dates", "version", "signature", "vmpl", "paravisor-claims", "paravisor-key", "paravisor-quote",
        "paravisor-quote-signature", "paravisor-nonce", "paravisor-user-data", "paravisor-pcr-digest", "paravisor-pcrs",
    }  # fmt: skip
    debug = report_with(lambda fields: replace(fields, policy=fields.policy | 1 << 19))
    assert verify(debug, left_out=PARAVISOR_CHAIN_ONLY).accepted
    assert failed(verify(debug)) == {"policy-debug"}


@pytest.mark.parametrize(
    "check", sorted(PARAVISOR_RULES.keys() - {"paravisor-secure-boot", "paravisor-console"})
)
def test_what_leads_to_the_quote_cannot_be_relaxed(check: str) -> None:
    assert check not in PARAVISOR_RELAXABLE
    with pytest.raises(UsageError):
        verify(relaxed=frozenset({check}))


@pytest.mark.parametrize("references", [SnpReferences(report_data=bytes(64)), SnpReferences(vmpl=1)])
def test_references_that_this_evidence_fixes(references: SnpReferences) -> None:
    with pytest.raises(UsageError):
        verify(references=references)


@pytest.mark.parametrize(
    "values",
    [{"nonce": b""}, {"nonce": bytes(65)}, {"user_data": bytes(63)}, {"pcrs": {24: bytes(32)}}, {"pcrs": {0: bytes(20)}},
     {"pcrs": {-1: bytes(32)}}],
)  # fmt: skip
def test_references_that_nothing_could_meet(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ParavisorReferences(**values)


@pytest.mark.exhaustive
def test_no_flipped_bit_of_the_report_is_accepted() -> None:
    """Only zeros follow the claims, and there a flip is an error as well."""
    assert verify().accepted
    used = REPORT.rindex(b"}") + 1
    for at in (*range(used), used, len(REPORT) - 1):
        data = bytearray(REPORT)
        data[at] ^= 1 << at % 8
        try:
            verdict = verify(bytes(data))
        except DecodeError:
            continue
        assert not verdict.accepted, at


@pytest.mark.exhaustive
def test_no_flipped_bit_of_the_quote_is_accepted() -> None:
    for at in range(len(QUOTE.message)):
        message = bytearray(QUOTE.message)
        message[at] ^= 1 << at % 8
        assert "paravisor-quote-signature" in failed(verify(quote=replace(QUOTE, message=bytes(message))))
    for at in range(len(QUOTE.signature)):
        signature = bytearray(QUOTE.signature)
        signature[at] ^= 1 << at % 8
        assert failed(verify(quote=replace(QUOTE, signature=bytes(signature)))) == {
            "paravisor-quote-signature"
        }


def test_the_parts_alone() -> None:
    outer = HclReport.parse(REPORT)
    require_bound(outer.claims, claims_report_data(outer.claims))
    for wrong in (
        b"",
        bytes(64),
        claims_report_data(outer.claims)[:32],
        claims_report_data(outer.claims + b" "),
    ):
        with pytest.raises(ClaimsError):
            require_bound(outer.claims, wrong)
    verify_quote(QUOTE, VTPM.attestation_key.public_key())
    with pytest.raises(QuoteSignatureError):
        verify_quote(replace(QUOTE, message=QUOTE.message + b"\0"), VTPM.attestation_key.public_key())
    assert TpmQuote.parse(QUOTE.message).nonce == NONCE
    assert json.loads(outer.claims)["vm-configuration"]["vmUniqueId"] == "SIMULATED"
    with pytest.raises(DecodeError):
        outer.td_report_data  # noqa: B018 - it raises


def test_an_unsigned_quote_is_not_taken_for_one() -> None:
    message = simulated_quote(NONCE, VTPM.pcrs, range(24))
    assert failed(verify(quote=SignedQuote(message=message, signature=bytes(256), pcrs=VTPM.pcrs))) == {
        "paravisor-quote-signature"
    }


def test_no_session_accepts_it() -> None:
    """Neither whole nor as the hardware report inside, whose data are the claims' digest."""
    world = EvidenceWorld()
    good = world.evidence(b"e" * 32, b"key")
    chip = world.chips["orchestrator"]
    hcl = SimulatedParavisor(chip, world.measurements["orchestrator"]).hcl_report()
    for report, check in ((hcl, "version"), (HclReport.parse(hcl).hardware, "binding")):
        evidence = replace(good, platform=replace(good.platform, report=report))
        with pytest.raises(VerificationRefused) as caught:
            verify_session(
                evidence.encode(), policy=world.policy(), connection=world.connection(b"e" * 32, b"key")
            )
        assert check in {line.id for line in caught.value.verdict.failed}

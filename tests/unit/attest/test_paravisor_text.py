"""What a verdict on a paravisor's evidence says, word for word."""

from dataclasses import replace
from typing import Any

import pytest

from paravisor_kit import CHIP, EXPECTED, NONCE, QUOTE, REPORT, USER_DATA, VENDOR, VTPM, paravisor, verify
from sottovoce.attest.paravisor.appraisal import ParavisorReferences
from sottovoce.attest.paravisor.forms import parse_evidence
from sottovoce.attest.paravisor.rules import PARAVISOR_RULES
from sottovoce.attest.paravisor.verify import PARAVISOR_RELAXABLE, verify_paravisor
from sottovoce.attest.policy import ACCEPTED_PRODUCTS, SnpPolicy
from sottovoce.attest.verdict import Verdict
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.testing import NOW
from verdict_text import judged, written


def own(text: str) -> str:
    """The lines of the paravisor's own checks, without what depends on keys made for the test."""
    return "\n".join(
        line for line in text.splitlines() if "paravisor-" in line and "paravisor-claims" not in line
    )


def digest(verdict: Verdict) -> str:
    (line,) = [check for check in verdict.checks if check.id == "paravisor-pcr-digest"]
    return line.wanted


def test_good_evidence() -> None:
    verdict = verify()
    assert (
        own(judged(verdict))
        == f"""\
pass | paravisor-key | yes | RSA, 2,048 to 4,096 bits, exponent 65,537
pass | paravisor-quote | yes | TPM_ST_ATTEST_QUOTE, TPM_GENERATED
pass | paravisor-quote-signature | yes | RSASSA-PKCS1-v1_5, SHA-256
pass | paravisor-nonce | {NONCE.hex()} | {NONCE.hex()}
pass | paravisor-user-data | {USER_DATA.hex()} | {USER_DATA.hex()}
pass | paravisor-pcr-digest | {digest(verdict)} over PCR 0-23 | {digest(verdict)}
pass | paravisor-pcrs | PCR 0, 7 | PCR 0, 7
pass | paravisor-secure-boot | on | on
pass | paravisor-console | off | off"""
    )
    (trust,) = [check.found for check in verdict.checks if check.id == "paravisor-trust"]
    assert trust.startswith(
        "who controls the paravisor reads all memory, signs any quote and claims any setting"
    )


def test_evidence_that_is_wrong_in_its_settings_and_registers() -> None:
    def change(claims: dict[str, Any]) -> None:
        claims["vm-configuration"] = {"secure-boot": False, "console-enabled": True, "tpm-enabled": True}

    other = paravisor(change)
    right = {number: VTPM.pcrs[number] for number in (0, 1, 2, 9, 11, 12)}
    expected = replace(EXPECTED, pcrs={**right, 7: bytes(32), 8: bytes(32)})
    verdict = verify(other.hcl_report(), quote=VTPM.quote(NONCE, (0, 1, 2, 7, 8, 11, 12)), expected=expected)
    assert own(judged(verdict)).splitlines()[-4:] == [
        f"pass | paravisor-pcr-digest | {digest(verdict)} over PCR 0-2, 7-8, 11-12 | {digest(verdict)}",
        "fail | paravisor-pcrs | PCR 7-9: another value, or not quoted | PCR 0-2, 7-9, 11-12",
        "fail | paravisor-secure-boot | off | on",
        "fail | paravisor-console | on | off",
    ]


def test_settings_that_the_claims_do_not_name() -> None:
    other = paravisor(lambda claims: claims.update({"vm-configuration": {"tpm-enabled": True}}))
    lines = own(judged(verify(other.hcl_report())))
    assert "fail | paravisor-secure-boot | not said | on" in lines
    assert "fail | paravisor-console | not said | off" in lines


def test_registers_that_nobody_shows() -> None:
    verdict = verify(quote=replace(QUOTE, pcrs=None), expected=ParavisorReferences())
    assert own(written(verdict)).splitlines()[2:4] == [
        "paravisor-pcr-digest | no registers were shown",
        "paravisor-pcrs | no reference value was given",
    ]


def test_everything_that_may_be_relaxed_may_be_relaxed_together() -> None:
    assert verify(relaxed=PARAVISOR_RELAXABLE).relaxed == tuple(sorted(PARAVISOR_RELAXABLE))
    assert {"paravisor-secure-boot", "paravisor-console"} == PARAVISOR_RULES.keys() & PARAVISOR_RELAXABLE


def test_without_a_list_there_is_none() -> None:
    verdict = verify_paravisor(
        REPORT, CHIP.vcek, intermediates=(VENDOR.ask,), policy=SnpPolicy(roots=(VENDOR.root,)), now=NOW
    )
    (line,) = [check for check in verdict.failed if check.id == "revocation-list"]
    assert line.found == "there is no revocation list"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "the members of the evidence are not JSON"),
        (b'{"hcl_report": "AA=A"}', "the evidence's bytes are not base64url in its canonical form"),
        (b'{"hcl_report": "WR=="}', "the evidence's bytes are not base64url in its canonical form"),
    ],
)
def test_the_words_for_what_does_not_parse(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refused:
        parse_evidence(data)
    assert str(refused.value) == said


def test_base64url_has_whole_padding_or_none() -> None:
    assert parse_evidence(b'{"hcl_report": "WFg="}').report == b"XX"
    assert parse_evidence(b'{"hcl_report": "WFg"}').report == b"XX"
    assert parse_evidence(b'{"hcl_report": "WFhY"}').report == b"XXX"
    assert parse_evidence(b'{"hcl_report": "XFhY"}').report == b"\\XX"
    # "X" at an end is a digit, not padding.
    assert parse_evidence(b'{"hcl_report": "AAAX"}').report == b"\0\0\x17"


def test_the_longest_evidence() -> None:
    longest = b'{"hcl_report": "WFg"}'.ljust(256 * 1024)
    assert parse_evidence(longest).report == b"XX"
    with pytest.raises(DecodeError, match="longer"):
        parse_evidence(longest + b" ")


def test_what_the_policy_lowers_is_named() -> None:
    policy = SnpPolicy(roots=(VENDOR.root,), products=ACCEPTED_PRODUCTS | {"Milan"})
    assert verify(policy=policy).relaxed == ("product",)

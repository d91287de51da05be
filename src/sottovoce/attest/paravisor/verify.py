"""A paravisor's evidence on its own: report, claims and, if there is one, the virtual TPM's quote.

    verdict = verify_paravisor(
        hcl_report, vcek, quote=quote, intermediates=amd_intermediates(), crl=crl,
        policy=SnpPolicy(roots=amd_roots()), now=1_800_000_000, expected=ParavisorReferences(nonce=nonce),
    )

No session accepts this evidence (decision record 15). What is accepted here says: a genuine processor started the paravisor with
this launch measurement, and it, or who controls it, says the rest.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from sottovoce.attest.paravisor.appraisal import ParavisorReferences, appraise_claims, appraise_quote
from sottovoce.attest.paravisor.layout import HclReport
from sottovoce.attest.paravisor.quote import SignedQuote
from sottovoce.attest.paravisor.rules import PARAVISOR_RULES
from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.snp.verify import (
    SNP_CHAIN_ONLY,
    SNP_RELAXABLE,
    SNP_REPORT_RULES,
    SnpReferences,
    examine,
)
from sottovoce.attest.verdict import Checklist, Verdict
from sottovoce.core.errors import DecodeError, UsageError

__all__ = ["PARAVISOR_CHAIN_ONLY", "PARAVISOR_RELAXABLE", "verify_paravisor"]

_RULES: Final = {
    **{check: rule for check, rule in SNP_REPORT_RULES.items() if check != "report-data"},
    **PARAVISOR_RULES,
}
"""The report's data are the claims' digest, which has a line of its own."""
_SETTINGS: Final = frozenset({"paravisor-secure-boot", "paravisor-console"})
_ALWAYS: Final = frozenset({"vmpl"})
"""Without it, every program in the CVM could ask for a report over claims of its own, so that nothing would lead to the key."""
PARAVISOR_RELAXABLE: Final = SNP_RELAXABLE | _SETTINGS
"""What a policy may relax. What leads from the processor to the quote is never relaxed."""
PARAVISOR_CHAIN_ONLY: Final = (SNP_CHAIN_ONLY & _RULES.keys()) - _ALWAYS | _SETTINGS
"""What the policy `chain-only` leaves out."""
_PARAVISOR_VMPL: Final = 0


def verify_paravisor(
    report: bytes,
    vcek: bytes,
    *,
    quote: SignedQuote | None = None,
    intermediates: Iterable[bytes],
    crl: bytes = b"",
    policy: SnpPolicy,
    now: int,
    references: SnpReferences | None = None,
    expected: ParavisorReferences | None = None,
    relaxed: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
) -> Verdict:
    """Every check of a paravisor's report (`attest.paravisor.layout`) whose processor's key has the certificate `vcek` (DER).

    `references` are compared with the SNP report, `expected` with claims and quote. References hold no report data, as those are the
    claims' digest, and no VMPL but 0. The rest is as for `snp.verify.verify_report`.

    Raises:
        DecodeError: an input is not what it should be at all, or the report is one of TDX.
        UsageError: `relaxed` or `left_out` names a check that cannot be relaxed or left out, or `references` what cannot be.
    """
    if not relaxed <= PARAVISOR_RELAXABLE:
        raise UsageError("a policy relaxes a check that cannot be relaxed")
    if not left_out <= PARAVISOR_CHAIN_ONLY:
        raise UsageError("a policy leaves out a check that is never left out")
    wanted = references or SnpReferences()
    if wanted.report_data is not None or wanted.vmpl not in (None, _PARAVISOR_VMPL):
        raise UsageError(
            "a paravisor's report is asked for at VMPL 0, and its report data are the claims' digest",
            hint="the values of one's own stand in the user data of the claims and in the quote's nonce",
        )
    outer = HclReport.parse(report)
    if outer.kind != "sev-snp":
        raise DecodeError(
            "the paravisor's report holds a TDREPORT, which only its own machine can verify",
            hint="the TDX quote that was made from it can be verified",
        )
    wanted = replace(wanted, vmpl=_PARAVISOR_VMPL)
    compared = expected or ParavisorReferences()
    checks = Checklist(_RULES, relaxed=relaxed, lowered=policy.lowered, left_out=left_out - wanted.given)
    platform = examine(
        outer.hardware,
        vcek,
        checks,
        intermediates=intermediates,
        crl=crl,
        policy=policy,
        now=now,
        references=wanted,
        list_optional=bool(left_out),
        bound_by_caller=True,
    )
    claims = appraise_claims(outer.claims, platform.report_data if platform else None, compared, checks)
    appraise_quote(quote, claims, compared, checks)
    return checks.verdict()

"""An SNP report on its own, without a session: what its signature, its certificates and its fields say.

    verdict = verify_report(report, vcek, crl=crl, policy=SnpPolicy(roots=amd_roots()), now=1_800_000_000)
    if verdict.accepted: ...

A session's evidence is verified by `attest.verify.verify_session`: it binds the report to a connection, a release and a log.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.certificates import Certificate, RevocationList
from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.platform import AppraisedPlatform
from sottovoce.attest.policy import RELAXABLE, SnpPolicy
from sottovoce.attest.references import NO_REFERENCE, compare, only, require_sizes
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.attest.snp.appraisal import appraise
from sottovoce.attest.snp.layout import REPORT_SIZE, Report
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES, SNP_REFERENCE_RULES, SNP_RULES
from sottovoce.attest.snp.signatures import verify_chain
from sottovoce.attest.verdict import Checklist, Verdict, quietly
from sottovoce.core.errors import DecodeError, UsageError

__all__ = [
    "SNP_CHAIN_ONLY",
    "SNP_RELAXABLE",
    "SNP_REPORT_RULES",
    "SnpReferences",
    "examine",
    "verify_report",
]

SNP_RELAXABLE: Final = RELAXABLE | {
    "signing-key",
    "hardware-id",
    "tcb-floor",
    "tcb-committed",
    "policy-migrate",
    "revocation-list",
    "revocation-list-dates",
    "revoked",
}
"""What a policy may relax for a report on its own. Signatures, the chain and its dates, and debug mode are never relaxed."""
SNP_REPORT_RULES: Final = {**SNP_RULES, **SNP_OPTIONAL_RULES, **SNP_REFERENCE_RULES}
"""Every check of a report on its own."""
_SIGNATURES: Final = frozenset(
    {
        "chain",
        "chain-dates",
        "revocation-list",
        "revocation-list-dates",
        "revoked",
        "version",
        "signature",
    }
)
SNP_CHAIN_ONLY: Final = frozenset(SNP_REPORT_RULES.keys() - _SIGNATURES)
"""What the policy `chain-only` leaves out: everything but signatures, chain and revocation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReferences:
    """What a report is compared with. A value that is not given is shown as not checked, never as passed.

    Attributes:
        report_data: 64 bytes.
        measurements: 48 bytes each; one of them.
        chips: hardware ids, 64 bytes each, 8 on Turin; one of them.
        host_data: 32 bytes.
        id_keys: SHA-384 digests of identity keys, 48 bytes each; one of them.
    """

    report_data: bytes | None = None
    measurements: frozenset[bytes] | None = None
    chips: frozenset[bytes] | None = None
    vmpl: int | None = None
    host_data: bytes | None = None
    id_keys: frozenset[bytes] | None = None
    guest_svn: int | None = None

    def __post_init__(self) -> None:
        require_sizes("report data", only(self.report_data), (64,))
        require_sizes("host data", only(self.host_data), (32,))
        require_sizes("measurement", self.measurements, (48,))
        require_sizes("chip id", self.chips, (64, 8))
        require_sizes("identity key digest", self.id_keys, (48,))
        if self.vmpl is not None and self.vmpl not in range(4):
            raise UsageError("a VMPL is 0 to 3")
        if self.guest_svn is not None and self.guest_svn < 0:
            raise UsageError("a security version is not negative")

    @property
    def given(self) -> frozenset[str]:
        """The checks for which there is a value to compare with."""
        values = {
            "report-data": self.report_data,
            "measurement": self.measurements,
            "chip": self.chips,
            "vmpl": self.vmpl,
            "host-data": self.host_data,
            "id-key": self.id_keys,
            "guest-svn": self.guest_svn,
        }
        return frozenset(check for check, value in values.items() if value is not None)


def verify_report(
    report: bytes,
    vcek: bytes,
    *,
    intermediates: Iterable[bytes],
    crl: bytes = b"",
    policy: SnpPolicy,
    now: int,
    references: SnpReferences | None = None,
    relaxed: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
) -> Verdict:
    """Every check of a report (1,184 bytes) that was signed by the key of `vcek` (DER), at `now`, unix seconds.

    `intermediates` are candidates for the certificate between root and `vcek` (DER each); the one that fits is taken. `crl` is the
    vendor's revocation list (DER); without one its lines fail, or stand as not checked where the policy leaves out all but the chain.

    Raises:
        DecodeError: an input is not what it should be at all, so that there is nothing to judge.
        UsageError: `relaxed` or `left_out` names a check that cannot be relaxed or left out.
    """
    if not relaxed <= SNP_RELAXABLE:
        raise UsageError("a policy relaxes a check that cannot be relaxed")
    if not left_out <= SNP_CHAIN_ONLY:
        raise UsageError("a policy leaves out a check that is never left out")
    wanted = references or SnpReferences()
    checks = Checklist(
        SNP_REPORT_RULES, relaxed=relaxed, lowered=policy.lowered, left_out=left_out - wanted.given
    )
    examine(
        report,
        vcek,
        checks,
        intermediates=intermediates,
        crl=crl,
        policy=policy,
        now=now,
        references=wanted,
        list_optional=bool(left_out),
    )
    return checks.verdict()


def examine(
    report: bytes,
    vcek: bytes,
    checks: Checklist,
    *,
    intermediates: Iterable[bytes],
    crl: bytes,
    policy: SnpPolicy,
    now: int,
    references: SnpReferences,
    list_optional: bool,
    bound_by_caller: bool = False,
) -> AppraisedPlatform | None:
    """Record every line of `SNP_REPORT_RULES`, for evidence that holds an SNP report; the rest is as for `verify_report`.

    `list_optional` leaves a missing revocation list to the reader. With `bound_by_caller`, there is no line for the report data.
    Returns what the report says, whether or not it is believed; None where there is none that parses.

    Raises:
        DecodeError: an input is not what it should be at all, so that there is nothing to judge.
    """
    _require_usable(report, vcek, crl)
    if not crl and list_optional:
        for check in ("revocation-list", "revocation-list-dates", "revoked"):
            checks.skip(check, "no revocation list was given")
    endorsements = Endorsements(vcek=vcek, ask=_issuer(vcek, tuple(intermediates), policy), crl=crl)
    simulated = all(root.product == SIMULATED_PRODUCT for root in policy.roots)
    appraised = appraise(
        report,
        endorsements,
        policy,
        checks,
        kind=SIMULATED_KIND if simulated else "sev-snp",
        now=now,
        without_list=not crl and list_optional,
    )
    for check in SNP_OPTIONAL_RULES.keys() - policy.tightened:
        checks.skip(check, "the policy does not demand it")
    if appraised is None:
        return None
    platform, parsed = appraised
    _compare(parsed, platform.hardware_id, references, checks, bound_by_caller=bound_by_caller)
    return platform


def _require_usable(report: bytes, vcek: bytes, crl: bytes) -> None:
    if len(report) != REPORT_SIZE:
        raise DecodeError("this is not an SNP report, which has 1,184 bytes")
    Certificate.parse(vcek)
    if crl:
        RevocationList.parse(crl)


def _issuer(vcek: bytes, intermediates: tuple[bytes, ...], policy: SnpPolicy) -> bytes:
    for candidate in intermediates:
        for root in policy.roots:
            if quietly(
                lambda ark=root.ark_der, ask=candidate: verify_chain(ark_der=ark, ask_der=ask, vcek_der=vcek)  # type: ignore[misc]
            ):
                return candidate
    # None fits; the line for the chain says why with the one that the key's certificate names, if there is one.
    named = Certificate.parse(vcek).issuer
    for candidate in intermediates:
        certificate = quietly(lambda der=candidate: Certificate.parse(der))  # type: ignore[misc]
        if certificate is not None and certificate.subject == named:
            return candidate
    return intermediates[0] if intermediates else b""


def _compare(
    report: Report, chip: bytes, wanted: SnpReferences, checks: Checklist, *, bound_by_caller: bool
) -> None:
    compare("chip", chip, wanted.chips, checks)
    if not bound_by_caller:
        compare("report-data", report.report_data, only(wanted.report_data), checks)
    compare("measurement", report.measurement, wanted.measurements, checks)
    compare("host-data", report.host_data, only(wanted.host_data), checks)
    compare("id-key", report.id_key_digest, wanted.id_keys, checks)
    if wanted.vmpl is None:
        checks.skip("vmpl", f"{report.vmpl}; {NO_REFERENCE}")
    else:
        checks.add("vmpl", ok=report.vmpl == wanted.vmpl, found=str(report.vmpl), wanted=str(wanted.vmpl))
    if wanted.guest_svn is None:
        checks.skip("guest-svn", f"{report.guest_svn}; {NO_REFERENCE}")
    else:
        at_least = f"at least {wanted.guest_svn}"
        ok = report.guest_svn >= wanted.guest_svn
        checks.add("guest-svn", ok=ok, found=str(report.guest_svn), wanted=at_least)

"""What a verdict on a TDX quote says, word for word."""

from dataclasses import replace
from typing import Any

from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.tdx.verify import TdxReferences, verify_quote
from sottovoce.attest.vendors import intel_root
from sottovoce.attest.verdict import Verdict
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.testing import NOW, intel
from verdict_text import judged, written

PLATFORM = intel().make_platform(now=NOW, ppid=bytes(range(16)))
FIELDS = QuoteFields(report_data=b"d" * 64)
COLLATERAL = intel().collateral(now=NOW)


def verdict(fields: QuoteFields = FIELDS, collateral: bytes = COLLATERAL, **changes: Any) -> Verdict:
    return verify_quote(
        PLATFORM.quote(fields), collateral, **{"policy": intel().policy, "now": NOW, **changes}
    )


GOOD = """\
pass | tdx-collateral | Intel's | Intel's
pass | tdx-collateral-dates | yes | current
pass | tdx-version | 4 | 4 or 5, of a trust domain
pass | tdx-signature | ECDSA P-256 | by a quoting enclave that the pinned root vouches for
pass | tdx-trailing | 0 bytes | nothing, or zeros
pass | tdx-tcb-status | UpToDate | UpToDate
pass | tdx-advisories | none | none
pass | tdx-hardware-id | 0001020304050607… | an id
pass | tdx-debug | 0x0 | 0x0
pass | tdx-migratable | 0 | 0
pass | tdx-sept-ve-disable | 1 | 1
pass | tdx-perfmon | 0 | 0
pass | tdx-attributes-reserved | 0x0 | 0x0
pass | tdx-xfam | 0xe7 | 0x3, and nothing beyond 0x6dbe7
pass | tdx-seam | Intel's | Intel's: signer and attributes zero
pass | tdx-service-td | none | none
pass | tdx-partition | machine 0 | machine 0
pass | tdx-devices | none | none
pass | tdx-config | as wanted | zero"""

BAD = """\
pass | tdx-collateral | Intel's | Intel's
fail | tdx-collateral-dates | a part of the collateral is not valid at this time | current
pass | tdx-version | 5 | 4 or 5, of a trust domain
pass | tdx-signature | ECDSA P-256 | by a quoting enclave that the pinned root vouches for
pass | tdx-trailing | 0 bytes | nothing, or zeros
fail | tdx-tcb-status | OutOfDate | SWHardeningNeeded or UpToDate
fail | tdx-advisories | INTEL-SA-00001, INTEL-SA-00002 | none but INTEL-SA-00002
fail | tdx-evaluation | 17 | at least 18
pass | tdx-hardware-id | 0001020304050607… | an id
pass | tdx-debug | 0x0 | 0x0
pass | tdx-migratable | 0 | 0
pass | tdx-sept-ve-disable | 1 | 1
fail | tdx-perfmon | 1 | 0
fail | tdx-attributes-reserved | 0x4000000000000000 | 0x0
fail | tdx-xfam | 0x10 | 0x3, and nothing beyond 0x6dbe7
pass | tdx-seam | Intel's | Intel's: signer and attributes zero
pass | tdx-service-td | none | none
pass | tdx-partition | machine 0 | machine 0
pass | tdx-devices | none | none
fail | tdx-config | other values: mr_owner | as given, else zero"""


def test_a_good_quote() -> None:
    assert judged(verdict()) == GOOD


def test_a_bad_one() -> None:
    fields = replace(
        FIELDS,
        version=5,
        td_attributes=1 << 28 | 1 << 63 | 1 << 62,
        xfam=0x10,
        mr_owner=b"o" * 48,
        mr_config_id=b"c" * 48,
    )
    collateral = intel().collateral(
        now=NOW, status="OutOfDate", advisories=("INTEL-SA-00002", "INTEL-SA-00001")
    )
    policy = replace(
        intel().policy,
        statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
        advisories=frozenset({"INTEL-SA-00002"}),
        evaluation=18,
    )
    references = TdxReferences(mr_config_id=b"c" * 48)
    result = verdict(fields, collateral, policy=policy, now=NOW + 90 * 86400, references=references)
    assert judged(result) == BAD


def test_what_is_said_of_values_that_nobody_gave() -> None:
    none = "no reference value was given"
    lines = [
        "tdx-evaluation | the policy does not demand it",
        f"tdx-platform | {bytes(range(16)).hex()}; {none}",
        f"report-data | {b'd'.hex() * 64}; {none}",
        f"tdx-module | {'11' * 48}; {none}",
        f"tdx-mrtd | {'22' * 48}; {none}",
        *(
            f"tdx-rtmr-{number} | {value * 48}; {none}"
            for number, value in enumerate(("30", "31", "32", "00"))
        ),
        "tdx-event-log | no event log was given",
    ]
    assert written(verdict()) == "\n".join(lines)


def test_why_there_is_no_status() -> None:
    reasons = {
        "not rated, as the TD can be debugged": replace(FIELDS, td_attributes=1 << 28 | 1),
        "not rated, as the TD can be profiled": replace(FIELDS, td_attributes=1 << 28 | 1 << 4),
        "not rated, as the TD can be migrated": replace(FIELDS, td_attributes=1 << 28 | 1 << 29),
        "not rated, as the TD is interrupted when its pages are taken": replace(FIELDS, td_attributes=0),
        "not rated, as the TD has unknown attributes": replace(FIELDS, td_attributes=1 << 28 | 1 << 40),
        "not rated, as a service TD is bound": replace(FIELDS, version=5, mr_service_td=b"s" * 48),
        "Intel knows no patch level as low as the platform's": replace(
            FIELDS, tee_tcb_svn=bytes([5, 1]) + bytes(14)
        ),
        "the TDX module is not one that Intel knows": replace(FIELDS, mr_signer_seam=b"s" * 48),
    }
    for reason, fields in reasons.items():
        assert f"fail | tdx-tcb-status | {reason} | UpToDate" in judged(verdict(fields)), reason


def test_whose_fault_it_is() -> None:
    """The collateral's, the quote's, or neither can be told."""
    other = TdxPolicy(root=intel_root())
    lines = judged(verdict(policy=other))
    assert "fail | tdx-signature | the platform's certificates do not lead to the pinned root |" in lines
    good = PLATFORM.quote(FIELDS)
    cases = {
        700: "the quote's key is not the quoting enclave's",
        640: "the quote's signature does not verify",
        800: "the quoting enclave is not signed for by the platform",
    }
    for at, reason in cases.items():
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        text = judged(verify_quote(changed, COLLATERAL, policy=intel().policy, now=NOW))
        assert f"fail | tdx-signature | {reason} |" in text, reason
    text = judged(verdict(collateral=b""))
    assert "fail | tdx-collateral | there is none | Intel's" in text

"""What a verdict on a TDX quote says, word for word."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.tdx.appraisal import appraise
from sottovoce.attest.tdx.collateral import MAX_COLLATERAL, Collateral, CollateralAgeError
from sottovoce.attest.tdx.eventlog import EventLog
from sottovoce.attest.tdx.rules import TDX_OPTIONAL_RULES, TDX_RULES
from sottovoce.attest.tdx.verify import TDX_CHAIN_ONLY, TDX_RELAXABLE, TdxReferences, verify_quote
from sottovoce.attest.vendors import intel_root
from sottovoce.attest.verdict import Checklist, Status, Verdict
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.testing import NOW, intel
from tdx_kit import HEADER, event
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
        assert "pass | tdx-collateral | Intel's | Intel's" in text
    text = judged(verdict(collateral=b""))
    assert "fail | tdx-collateral | there is none | Intel's" in text


def appraised(quote: bytes, collateral: bytes = COLLATERAL, **changes: Any) -> str:
    """As in a session, where all that is shown is judged."""
    checks = Checklist({**TDX_RULES, **TDX_OPTIONAL_RULES})
    appraise(quote, collateral, changes.pop("policy", intel().policy), checks, **{"now": NOW, **changes})
    verdict = checks.verdict()
    return f"{judged(verdict)}\n{written(verdict)}"


def test_what_cannot_be_read_has_a_line() -> None:
    good = PLATFORM.quote(FIELDS)
    unknown = b"\x06" + good[1:]
    wanted = "4 or 5, of a trust domain"
    assert f"fail | tdx-version | a quote of an unknown version | {wanted}" in appraised(unknown)
    assert "fail | tdx-collateral | the collateral is malformed | Intel's" in appraised(good, b"x")
    assert "fail | tdx-collateral | there is none | Intel's" in appraised(good, b"")


def test_collateral_of_somebody_else() -> None:
    document = json.loads(COLLATERAL)
    document["tcb_info_signature"] = "00" * 64
    lines = appraised(PLATFORM.quote(FIELDS), json.dumps(document).encode())
    assert "fail | tdx-collateral | the patch levels are not signed by Intel | Intel's" in lines
    chained = replace(PLATFORM, chain=PLATFORM.chain + b"X").quote(FIELDS)
    signed = "by a quoting enclave that the pinned root vouches for"
    assert f"fail | tdx-signature | the platform's certificates are not plain PEM | {signed}" in appraised(
        chained
    )


def test_without_a_clock_the_collateral_is_judged_as_of_its_end() -> None:
    lines = appraised(PLATFORM.quote(FIELDS), now=None)
    assert "tdx-collateral-dates | left to the device, which has a clock" in lines
    assert "pass | tdx-collateral | Intel's | Intel's" in lines


def test_signatures_are_judged_as_of_now() -> None:
    """Collateral that outlives every certificate: at its end none of these would be valid."""
    long = intel().collateral(now=NOW, life=100 * 365 * 86400)
    good = PLATFORM.quote(FIELDS)
    assert "pass | tdx-signature" in appraised(good, long)
    assert "pass | tdx-signature" not in appraised(good, long, now=NOW + 99 * 365 * 86400)


def test_a_platform_without_an_id() -> None:
    nobody = intel().make_platform(now=NOW, ppid=bytes(16))
    assert "fail | tdx-hardware-id | none | an id" in appraised(nobody.quote(FIELDS))


def test_which_advisories_are_allowed() -> None:
    policy = replace(intel().policy, advisories=frozenset({"INTEL-SA-00002", "INTEL-SA-00001"}))
    lines = appraised(PLATFORM.quote(FIELDS), policy=policy)
    assert "pass | tdx-advisories | none | none but INTEL-SA-00001, INTEL-SA-00002" in lines


def test_event_logs() -> None:
    """It is compared even where a policy leaves everything else out."""
    log = HEADER + event(1, b"a" * 48) + event(2, b"b" * 48)
    quote = PLATFORM.quote(replace(FIELDS, rtmrs=EventLog.parse(log).registers))
    line = "tdx-event-log | 2 events{} | the quote's RTMR0 to RTMR3"
    for left_out in (frozenset[str](), TDX_CHAIN_ONLY):
        same = verify_quote(
            quote, COLLATERAL, policy=intel().policy, now=NOW, event_log=log, left_out=left_out
        )
        assert "pass | " + line.format("") in judged(same)
        other = verify_quote(
            PLATFORM.quote(replace(FIELDS, rtmrs=(bytes(48),) * 4)),
            COLLATERAL,
            policy=intel().policy,
            now=NOW,
            event_log=log,
            left_out=left_out,
        )
        assert "fail | " + line.format(", which lead to another RTMR0, RTMR1") in judged(other)
    without = verify_quote(quote, COLLATERAL, policy=intel().policy, now=NOW, left_out=TDX_CHAIN_ONLY)
    assert "tdx-event-log" in {line.id for line in without.checks if line.status is Status.NOT_CHECKED}
    assert "tdx-event-log | no event log was given" in written(without)


def test_all_that_may_be_relaxed_may_be() -> None:
    assert verdict(relaxed=TDX_RELAXABLE).accepted


def test_when_collateral_is_current() -> None:
    collateral = Collateral.parse(COLLATERAL)
    first, end = NOW - 3600, NOW - 3600 + 30 * 86400
    assert (collateral.issued, collateral.next_update) == (first, end)
    for now, within in ((first, first), (NOW, NOW), (end - 1, end - 1)):
        collateral.require_current(now=now)
        assert collateral.within(now) == within
    for now, within in ((first - 1, first), (end, end - 1)):
        with pytest.raises(CollateralAgeError):
            collateral.require_current(now=now)
        assert collateral.within(now) == within
    assert collateral.within(None) == end - 1


def test_the_longest_collateral() -> None:
    longest = COLLATERAL.ljust(MAX_COLLATERAL)
    assert Collateral.parse(longest).evaluation == 17
    with pytest.raises(DecodeError, match="longer than its limit"):
        Collateral.parse(longest + b" ")

"""A session with a CVM on TDX: the same twelve steps, with the platform's own lines."""

from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.evidence import Endorsements, Evidence, Platform
from sottovoce.attest.nvidia.policy import NvidiaRoots
from sottovoce.attest.platform import AppraisedPlatform
from sottovoce.attest.policy import (
    NVIDIA_PRODUCTS,
    SIMULATED_NVIDIA_PRODUCTS,
    TDX_PRODUCT,
    Root,
    platform_policies,
)
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.attest.verdict import Status, VerificationRefused
from sottovoce.attest.verify import VerifiedSession, verify_session
from sottovoce.core.errors import UsageError
from sottovoce.simulator.testing import NOW, TdxEvidenceWorld, intel

EXPORTER, SPKI = b"e" * 32, b"public key"
WORLD = TdxEvidenceWorld()
GOOD = WORLD.quoted(EXPORTER, SPKI)


def verify(evidence: Evidence, *, policy: Any = None, **connection: Any) -> VerifiedSession:
    return verify_session(
        evidence.encode(),
        policy=policy or WORLD.policy(),
        connection=WORLD.connection(EXPORTER, SPKI, **connection),
    )


def failed(evidence: Evidence, **kwargs: Any) -> set[str]:
    with pytest.raises(VerificationRefused) as caught:
        verify(evidence, **kwargs)
    return {check.id for check in caught.value.verdict.failed}


def test_good_evidence_passes() -> None:
    verified = verify(GOOD)
    assert isinstance(verified.platform, AppraisedPlatform)
    assert verified.platform.product == TDX_PRODUCT
    assert verified.host.hardware_id == WORLD.platforms["orchestrator"].ppid.hex()
    not_checked = {line.id for line in verified.verdict.checks if line.status is Status.NOT_CHECKED}
    assert not_checked == {"release-log-seen", "host-log-seen"}


def test_between_cvms_dates_are_left_to_the_device() -> None:
    verified = verify(GOOD, now=None)
    line = next(line for line in verified.verdict.checks if line.id == "tdx-collateral-dates")
    assert line.status is Status.NOT_CHECKED


def test_evidence_of_another_connection() -> None:
    assert failed(WORLD.quoted(b"x" * 32, SPKI)) == {"binding"}


@pytest.mark.parametrize("field", ["mr_td", "rtmr"])
def test_other_software(field: str) -> None:
    def change(fields: Any) -> Any:
        if field == "mr_td":
            return replace(fields, mr_td=b"x" * 48)
        return replace(fields, rtmrs=(*fields.rtmrs[:3], b"x" * 48))

    assert failed(WORLD.quoted(EXPORTER, SPKI, change=change)) == {"measurement"}


def test_what_the_host_configures_is_refused_in_a_session() -> None:
    changed = WORLD.quoted(EXPORTER, SPKI, change=lambda f: replace(f, mr_config_id=b"c" * 48))
    assert failed(changed) == {"tdx-config"}


def test_another_machine_of_the_same_vendor() -> None:
    other = WORLD.intel.make_platform(now=NOW)
    bound = WORLD.fields("orchestrator", verify(GOOD).platform.report_data)
    changed = replace(GOOD, platform=Platform(kind="tdx", report=other.quote(bound)))
    assert failed(changed) == {"host"}


def test_stale_or_missing_collateral() -> None:
    assert failed(WORLD.quoted(EXPORTER, SPKI, life=3600)) == {"tdx-collateral-dates"}
    assert "tdx-collateral" in failed(replace(GOOD, endorsements=Endorsements()))


def test_patch_levels() -> None:
    assert failed(WORLD.quoted(EXPORTER, SPKI, status="OutOfDate")) == {"tdx-tcb-status"}
    policy = WORLD.policy(tdx=replace(WORLD.intel.policy, evaluation=18))
    assert failed(GOOD, policy=policy) == {"tdx-evaluation"}


def test_a_policy_without_a_root_of_intels_accepts_no_quote() -> None:
    with pytest.raises(VerificationRefused) as caught:
        verify(GOOD, policy=WORLD.policy(tdx=None))
    assert {(check.id, check.found, check.wanted) for check in caught.value.verdict.causes} == {
        ("tdx-signature", "a quote", "no root for one is pinned")
    }


def test_a_quote_does_not_pass_for_a_report() -> None:
    changed = replace(GOOD, platform=Platform(kind=SIMULATED_KIND, report=GOOD.platform.report))
    assert "version" in failed(changed)


def test_simulated_roots_need_permission() -> None:
    with pytest.raises(UsageError, match="simulated"):
        WORLD.policy(allow_simulated=False)


def test_policies_from_pinned_roots() -> None:
    amd = Root(product="Genoa", ark_der=b"x")
    assert platform_policies([amd])[1:] == (None, None)
    snp, tdx, nvidia = platform_policies([amd, WORLD.intel.pin])
    assert nvidia is None
    assert [root.product for root in snp.roots] == ["Genoa"]
    assert tdx is not None
    assert tdx.root == WORLD.intel.root
    with pytest.raises(UsageError):
        platform_policies([amd, amd])
    with pytest.raises(UsageError):
        platform_policies([WORLD.intel.pin])


def nvidia_pins(names: tuple[str, ...]) -> list[Root]:
    return [Root(product=name, ark_der=name.encode()) for name in names]


@pytest.mark.parametrize("names", [NVIDIA_PRODUCTS, SIMULATED_NVIDIA_PRODUCTS])
def test_accelerators_from_pinned_roots(names: tuple[str, ...]) -> None:
    amd = Root(product="Genoa", ark_der=b"x")
    snp, _, nvidia = platform_policies([amd, *nvidia_pins(names)])
    assert [root.product for root in snp.roots] == ["Genoa"]
    assert nvidia is not None
    simulated = names == SIMULATED_NVIDIA_PRODUCTS
    assert nvidia.roots == NvidiaRoots(
        devices=names[0].encode(), manifests=names[1].encode(), simulated=simulated
    )
    for half in (names[:1], names[1:]):
        with pytest.raises(UsageError, match="two certificates"):
            platform_policies([amd, *nvidia_pins(half)])


def test_genuine_and_simulated_accelerators_do_not_mix() -> None:
    pins = nvidia_pins((*NVIDIA_PRODUCTS, *SIMULATED_NVIDIA_PRODUCTS))
    with pytest.raises(UsageError, match="not both"):
        platform_policies([Root(product="Genoa", ark_der=b"x"), *pins])


def test_what_the_policy_lowers_is_part_of_the_verdict() -> None:
    weak = replace(intel().policy, statuses=frozenset({"UpToDate", "OutOfDate"}))
    assert verify(GOOD, policy=WORLD.policy(tdx=weak)).verdict.relaxed == ("tdx-tcb-status",)


def test_a_quote_that_does_not_verify_is_of_no_listed_host() -> None:
    report = GOOD.platform.report
    spoilt = replace(
        GOOD, platform=replace(GOOD.platform, report=report[:700] + bytes([report[700] ^ 1]) + report[701:])
    )
    with pytest.raises(VerificationRefused) as caught:
        verify(spoilt)
    (host,) = (line for line in caught.value.verdict.failed if line.id == "host")
    assert host.found == "could not be checked, as something before it failed"

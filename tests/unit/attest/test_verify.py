"""Every check of protocol section 6 refuses, for its own reason and no other."""

import functools
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.attest.evidence import EVIDENCE_TYPE, Backend, Batch, Evidence, Platform
from sottovoce.attest.policy import RELAXABLE, Root, SessionPolicy, SnpPolicy
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.attest.snp.floors import PARTS, Floor
from sottovoce.attest.snp.layout import REPORT_SIZE, SIGNED_SIZE, Tcb
from sottovoce.attest.verdict import Status, Verdict, VerificationRefused
from sottovoce.attest.verify import VerifiedSession, verify_session
from sottovoce.core import cbor
from sottovoce.core.errors import UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.simulator.pki import GOOD_TCB, SimulatedVendor
from sottovoce.simulator.processor import GOOD_PLATFORM, GOOD_POLICY
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.entries import Accelerator, Revocations
from sottovoce.tlog.history import History
from sottovoce.tlog.merkle import leaf_hash, tree_head
from sottovoce.tlog.policy import VerifiedCheckpoint

EXPORTER, SPKI = b"e" * 32, b"public key"
GOOD_FLOOR = Floor(tcb=GOOD_TCB, source="this test")
WORLD = EvidenceWorld()
GOOD = WORLD.evidence(EXPORTER, SPKI)


def verify(
    evidence: Evidence | bytes, *, world: EvidenceWorld = WORLD, policy: Any = None, **connection: Any
) -> VerifiedSession:
    data = evidence if isinstance(evidence, bytes) else evidence.encode()
    return verify_session(
        data, policy=policy or world.policy(), connection=world.connection(EXPORTER, SPKI, **connection)
    )


def failed(evidence: Evidence | bytes, **kwargs: Any) -> set[str]:
    with pytest.raises(VerificationRefused) as caught:
        verify(evidence, **kwargs)
    return {check.id for check in caught.value.verdict.failed}


def test_good_evidence_passes_every_line() -> None:
    verified = verify(GOOD)
    assert verified.host.id == "host-orchestrator"
    assert {check.status for check in verified.verdict.checks} == {Status.PASS, Status.NOT_CHECKED}
    assert [check.id for check in verified.verdict.checks if check.status is Status.NOT_CHECKED] == [
        "release-log-seen",
        "host-log-seen",
    ]
    sections = [check.rule.section for check in verified.verdict.checks]
    assert set(sections) == {f"6.{number}" for number in range(1, 13)}


def test_the_last_checkpoint_is_compared() -> None:
    first = verify(GOOD)
    entry = WORLD.log.policy().verify_checkpoint(WORLD.log.checkpoint(now=NOW), now=NOW)
    verified = verify(GOOD, seen=entry)
    assert verified.verdict.count(Status.PASS) == first.verdict.count(Status.PASS) + 2
    seen = {"release-log-seen", "host-log-seen"}
    assert failed(GOOD, seen=replace(entry, root=bytes(32))) == {*seen, "log-fork"}
    assert failed(GOOD, seen=replace(entry, size=entry.size + 1)) == seen


def test_an_earlier_tree_head_is_proved_by_what_came_with_the_directory() -> None:
    leaves = [*WORLD.log.leaves, leaf_hash(b"more"), leaf_hash(b"and more")]
    size = len(WORLD.log.leaves)
    head = Checkpoint(origin=WORLD.log.origin, size=len(leaves), root=tree_head(leaves))
    seen = VerifiedCheckpoint(origin=head.origin, size=head.size, root=head.root, time=NOW)
    history = History.of(head.origin, leaves, (size,))
    found = {c.id: c.found for c in verify(GOOD, seen=seen, history=history).verdict.checks}
    assert found["release-log-seen"] == f"size {size}, proved to lead to size {size + 2}"
    both = {"release-log-seen", "host-log-seen"}
    assert failed(GOOD, seen=seen) == both
    assert failed(GOOD, seen=seen, history=History.of(head.origin, leaves, (size - 1,))) == both
    assert failed(GOOD, seen=seen, history=History.of(head.origin, leaves[:-1], (size,))) == both
    # The log was rewritten in between: it is a fork, with the proof of it at hand.
    leaves[0] = bytes(32)
    seen = replace(seen, root=tree_head(leaves))
    history = History.of(head.origin, leaves, (size,))
    assert failed(GOOD, seen=seen, history=history) == {*both, "log-fork"}
    with pytest.raises(VerificationRefused) as caught:
        verify(GOOD, seen=seen, history=history)
    found = {c.id: c.found for c in caught.value.verdict.checks}
    assert found["log-fork"] == f"size {size} does not lead to the tree head seen"


def test_two_logs_of_one_size_in_one_evidence() -> None:
    """An operator who holds the log's key and all witnesses' shows the host from another tree."""
    fork = EvidenceWorld()
    fork.log.key, fork.log.witnesses = WORLD.log.key, WORLD.log.witnesses
    host = WORLD.hosts["orchestrator"].encode()
    fork.log.leaves = [bytes(32)] * len(WORLD.log.leaves)
    fork.log.leaves.pop()
    fork.append(host)
    assert failed(replace(GOOD, host=fork.prove(host))) == {"log-fork"}
    predictor, guard = GOOD.backends
    fork.log.leaves[0] = leaf_hash(guard.release.entry)
    fork.logged[guard.release.entry] = 0
    forked = replace(guard, release=fork.prove(guard.release.entry))
    assert failed(replace(GOOD, backends=(predictor, forked))) == {"log-fork"}


@pytest.mark.parametrize("forked", ["release", "host", "predictor", "guard"])
def test_each_checkpoint_is_compared_with_the_others(forked: str) -> None:
    """One proof is from another tree of the same size, signed by the same log and witnesses."""
    fork = EvidenceWorld()
    fork.log.key, fork.log.witnesses = WORLD.log.key, WORLD.log.witnesses
    backends = {backend.role: backend for backend in GOOD.backends}
    entry = (backends[forked].release if forked in backends else getattr(GOOD, forked)).entry
    fork.log.leaves[0], fork.logged[entry] = leaf_hash(entry), 0
    if forked in backends:
        backends[forked] = replace(backends[forked], release=fork.prove(entry))
        evidence = replace(GOOD, backends=tuple(backends.values()))
    else:
        changes: dict[str, Any] = {forked: fork.prove(entry)}
        evidence = replace(GOOD, **changes)
    assert failed(evidence) == {"log-fork"}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"policy": GOOD_POLICY | 1 << 19}, "policy-debug"),
        ({"policy": GOOD_POLICY | 1 << 18}, "policy-migrate"),
        ({"policy": GOOD_POLICY | 1 << 16}, "policy-smt"),
        ({"policy": GOOD_POLICY | 1 << 21}, "policy-cxl"),
        ({"policy": GOOD_POLICY ^ 1 << 20}, "policy-single-socket"),
        ({"policy": GOOD_POLICY ^ 1 << 22}, "policy-aes-256-xts"),
        ({"policy": GOOD_POLICY ^ 1 << 23}, "policy-rapl"),
        ({"policy": GOOD_POLICY ^ 1 << 24}, "policy-ciphertext-hiding"),
        ({"policy": GOOD_POLICY ^ 1 << 17}, "policy-reserved"),
        ({"policy": GOOD_POLICY | 1 << 63}, "policy-reserved"),
        ({"platform_info": GOOD_PLATFORM | 1}, "platform-smt"),
        ({"platform_info": GOOD_PLATFORM ^ 1 << 3}, "platform-rapl"),
        ({"platform_info": GOOD_PLATFORM ^ 1 << 4}, "platform-ciphertext-hiding"),
        ({"platform_info": GOOD_PLATFORM ^ 1 << 5}, "platform-alias-check"),
        ({"platform_info": GOOD_PLATFORM | 1 << 8}, "platform-reserved"),
        ({"platform_info": GOOD_PLATFORM | 1 << 40}, "platform-reserved"),
        ({"vmpl": 1}, "vmpl"),
        ({"key_flags": 1 << 2}, "signing-key"),
        ({"key_flags": 7 << 2}, "signing-key"),
        ({"key_flags": 2}, "signing-key"),
        ({"reported_tcb": replace(GOOD_TCB, snp=24), "committed_tcb": replace(GOOD_TCB, snp=24)}, "tcb-certificate"),
        ({"committed_tcb": replace(GOOD_TCB, microcode=83)}, "tcb-committed"),
    ],
)  # fmt: skip
def test_each_field_of_the_report(change: dict[str, Any], check: str) -> None:
    evidence = WORLD.evidence(EXPORTER, SPKI, change=lambda fields: replace(fields, **change))
    assert failed(evidence) == {check}


@pytest.mark.parametrize("bit", range(5, 32))
def test_each_reserved_bit_of_the_key_information(bit: int) -> None:
    evidence = WORLD.evidence(EXPORTER, SPKI, change=lambda fields: replace(fields, key_flags=1 << bit))
    assert "version" in failed(evidence)


def test_an_author_key_is_no_fault() -> None:
    assert verify(WORLD.evidence(EXPORTER, SPKI, change=lambda fields: replace(fields, key_flags=1)))


def test_an_unknown_report_version() -> None:
    evidence = WORLD.evidence(EXPORTER, SPKI, change=lambda fields: replace(fields, version=6))
    assert "version" in failed(evidence)


def test_a_masked_or_foreign_chip_id() -> None:
    for chip_id in (bytes(64), b"x" * 64):
        change = functools.partial(replace, chip_id=chip_id)
        assert failed(WORLD.evidence(EXPORTER, SPKI, change=change)) == {"hardware-id", "host"}


def test_an_old_chip_is_below_the_floor() -> None:
    world = EvidenceWorld()
    old = Tcb(bootloader=9, tee=0, snp=23, microcode=84)
    world.chips["orchestrator"] = world.vendor.make_chip(
        now=NOW, tcb=old, chip_id=world.chips["orchestrator"].chip_id
    )
    assert failed(world.evidence(EXPORTER, SPKI), world=world) == {"tcb-floor"}


def test_a_product_without_a_floor_is_refused() -> None:
    assert failed(GOOD, policy=WORLD.policy(floors={"Genoa": GOOD_FLOOR})) == {"tcb-floor"}


@pytest.mark.parametrize(("exporter", "spki"), [(b"f" * 32, SPKI), (EXPORTER, b"another key")])
def test_evidence_of_another_connection(exporter: bytes, spki: bytes) -> None:
    assert failed(WORLD.evidence(exporter, spki)) == {"binding"}


def test_a_clients_evidence_is_not_a_servers_and_the_other_way_round() -> None:
    clients = replace(WORLD.evidence(EXPORTER, SPKI, from_client=True), backends=GOOD.backends)
    assert failed(clients) == {"binding"}
    assert failed(GOOD, from_client=True) == {"binding"}


def test_a_batch_that_does_not_hold_this_session() -> None:
    for batch in (Batch(index=0, size=2, path=(bytes(32),)), Batch(index=0, size=2, path=())):
        assert failed(replace(GOOD, batch=batch)) == {"binding"}


def test_another_vendor() -> None:
    other = SimulatedVendor.create(now=NOW, bits=2048)
    assert "chain" in failed(GOOD, policy=WORLD.policy(roots=(other.root,)))


def test_certificates_out_of_their_dates() -> None:
    stale = {
        "revocation-list-dates",
        "release-dates",
        "release-log-age",
        "host-log-age",
        "backend-predictor",
        "backend-guard",
    }
    assert failed(GOOD, now=NOW + 30 * 365 * 86400) == {"chain-dates", *stale}
    assert failed(GOOD, now=NOW - 2 * 86400) == {"chain-dates", *stale}


@pytest.mark.parametrize(
    "crl", [b"", b"garbage", SimulatedVendor.revocation_list(WORLD.vendor.ask_key, now=NOW)]
)
def test_no_revocation_list_or_somebody_elses(crl: bytes) -> None:
    changed = replace(GOOD, endorsements=replace(GOOD.endorsements, crl=crl))
    assert failed(changed) == {"revocation-list", "revocation-list-dates", "revoked"}


def test_a_stale_revocation_list() -> None:
    stale = SimulatedVendor.revocation_list(WORLD.vendor.ark_key, now=NOW - 90 * 86400)
    changed = replace(GOOD, endorsements=replace(GOOD.endorsements, crl=stale))
    assert failed(changed) == {"revocation-list-dates"}


def test_a_revoked_certificate() -> None:
    revoked = SimulatedVendor.revocation_list(WORLD.vendor.ark_key, now=NOW, serials=(2,))
    changed = replace(GOOD, endorsements=replace(GOOD.endorsements, crl=revoked))
    assert failed(changed) == {"revoked"}


@pytest.mark.parametrize(
    ("revocations", "check"),
    [
        (lambda: Revocations(releases=frozenset({digest(GOOD.release.entry)})), "release-revoked"),
        (lambda: Revocations(hosts=frozenset({"host-orchestrator"})), "host"),
        (lambda: Revocations(certificates=frozenset({digest(GOOD.endorsements.vcek)})), "revoked"),
        (lambda: Revocations(releases=frozenset({digest(GOOD.backends[0].release.entry)})), "backend-predictor"),
        (lambda: Revocations(hosts=frozenset({"host-guard"})), "backend-guard"),
    ],
)  # fmt: skip
def test_what_the_directory_revokes(revocations: Callable[[], Revocations], check: str) -> None:
    assert failed(GOOD, revocations=revocations()) == {check}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_host_that_this_device_did_not_draw() -> None:
    assert failed(GOOD, candidates=("host-a", "host-b")) == {"candidate"}


def test_a_host_that_is_not_in_the_directory() -> None:
    assert failed(GOOD, hosts=(WORLD.hosts["predictor"], WORLD.hosts["guard"])) == {"host"}


def test_a_measurement_that_is_not_in_the_release() -> None:
    world = EvidenceWorld()
    world.measurements["orchestrator"] = b"\xee" * 48
    assert failed(world.evidence(EXPORTER, SPKI), world=world) == {"measurement"}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"role": "guard"}, "role"),
        ({"security_version": 0}, "security-version"),
        ({"issued": NOW - 22 * 86400, "expires": NOW - 86400}, "release-dates"),
        ({"issued": NOW + 60, "expires": NOW + 120}, "release-dates"),
        ({"platform": "sev-snp"}, "platform"),
        ({"vmpl": 3}, "vmpl"),
        ({"accelerators": (Accelerator(architecture="HOPPER", manifests=("ab" * 32,)),)}, "accelerators"),
    ],
)
def test_each_rule_about_the_release(changes: dict[str, Any], check: str) -> None:
    world = EvidenceWorld()
    world.releases["orchestrator"] = replace(world.release("orchestrator"), **changes)
    world.append(world.releases["orchestrator"].encode())
    assert failed(world.evidence(EXPORTER, SPKI), world=world) == {check}


def test_an_entry_of_another_kind_in_place_of_the_release() -> None:
    swapped = replace(GOOD, release=GOOD.host)
    assert "measurement" in failed(swapped)


def test_a_release_and_a_host_that_were_never_logged() -> None:
    other = EvidenceWorld()
    for name in ("release", "host"):
        logged = getattr(other.evidence(EXPORTER, SPKI), name)
        assert f"{name}-log" in failed(replace(GOOD, **{name: logged}))


def test_the_log_of_another_environment() -> None:
    other = EvidenceWorld(origin="log.example/production")
    assert {"release-log", "host-log", "backend-guard"} <= failed(
        GOOD, policy=WORLD.policy(log=other.log.policy())
    )


def test_a_stale_checkpoint() -> None:
    found = failed(GOOD, now=NOW + 86_401)
    assert found == {"release-log-age", "host-log-age", "backend-predictor", "backend-guard"}


def test_accelerators_that_nobody_declared() -> None:
    assert failed(replace(GOOD, accelerators=(b"evidence",))) == {"accelerators"}


def test_back_ends() -> None:
    predictor, guard = GOOD.backends
    assert failed(replace(GOOD, backends=())) == {"backend-predictor", "backend-guard"}
    assert failed(replace(GOOD, backends=(predictor,))) == {"backend-guard"}
    assert failed(replace(GOOD, backends=(predictor, guard, guard))) == {"backend-guard"}
    assert failed(replace(GOOD, backends=(predictor, replace(guard, release=predictor.release)))) == {
        "backend-guard"
    }
    assert failed(replace(GOOD, backends=(predictor, replace(guard, measurement=bytes(48))))) == {
        "backend-guard"
    }
    assert failed(replace(GOOD, backends=(replace(predictor, host="host-x"), guard))) == {"backend-predictor"}
    other = replace(guard, role="orchestrator")
    assert failed(replace(GOOD, backends=(predictor, guard, other))) == {"backends-only"}
    assert failed(GOOD, policy=WORLD.policy(require_backends=("guard",))) == {"backends-only"}


def words(check: str, evidence: Evidence, **kwargs: Any) -> tuple[str, str]:
    """What is found and wanted where this one line fails."""
    with pytest.raises(VerificationRefused) as caught:
        verify(evidence, **kwargs)
    (line,) = (one for one in caught.value.verdict.failed if one.id == check)
    return line.found, line.wanted


def test_what_is_said_of_a_back_end() -> None:
    (predictor, guard), wanted = GOOD.backends, "one appraisal of a logged guard"

    def said(changed: Backend, **kwargs: Any) -> tuple[str, str]:
        return words("backend-guard", replace(GOOD, backends=(predictor, changed)), **kwargs)

    assert said(replace(guard, release=predictor.release)) == (
        "its release has another role; its measurement is not the release's",
        wanted,
    )
    assert said(replace(guard, measurement=bytes(48))) == ("its measurement is not the release's", wanted)
    assert said(replace(guard, host="host-x")) == ("its host is not in the directory", wanted)
    revoked = Revocations(releases=frozenset({digest(guard.release.entry)}), hosts=frozenset({"host-guard"}))
    assert said(guard, revocations=revoked) == ("its release is revoked; its host is revoked", wanted)
    unproved = replace(guard, release=replace(guard.release, proof=b""))
    assert said(unproved)[0] not in {"", "None"}
    world = EvidenceWorld()
    world.releases["guard"] = replace(
        world.release("guard"), platform="sev-snp", security_version=0, issued=NOW - 7200, expires=NOW
    )
    world.append(world.releases["guard"].encode())
    assert words("backend-guard", world.evidence(EXPORTER, SPKI), world=world) == (
        "its release is for another platform; its release is too old; its release is not valid now",
        wanted,
    )
    good = {check.id: check for check in verify(GOOD).verdict.checks}["backend-guard"]
    assert (good.found, good.wanted) == (f"on host-guard, {guard.measurement.hex()[:16]}…", wanted)


def test_a_back_end_of_another_platform() -> None:
    world = EvidenceWorld()
    world.releases["guard"] = replace(world.release("guard"), platform="sev-snp")
    world.append(world.releases["guard"].encode())
    assert failed(world.evidence(EXPORTER, SPKI), world=world) == {"backend-guard"}


def test_a_back_end_on_a_host_of_another_platform() -> None:
    guard = WORLD.hosts["guard"]
    hosts = (WORLD.hosts["orchestrator"], WORLD.hosts["predictor"], replace(guard, platform="sev-snp"))
    assert failed(GOOD, hosts=hosts) == {"backend-guard"}


def test_a_refusal_says_which_check_and_nothing_of_the_peers() -> None:
    with pytest.raises(VerificationRefused) as caught:
        verify(GOOD, candidates=("host-a", "host-b"))
    assert str(caught.value) == "refused: check 6.5 failed: the host is one that this device drew"
    assert (caught.value.code, caught.value.check) == ("verification", "candidate")
    assert "Refresh the directory" in caught.value.hint


def test_without_a_clock_what_needs_one_is_listed_as_not_checked() -> None:
    verified = verify(GOOD, now=None)
    skipped = {check.id for check in verified.verdict.checks if check.status is Status.NOT_CHECKED}
    times = {"chain-dates", "revocation-list-dates", "release-dates", "release-log-age", "host-log-age"}
    assert skipped == {*times, "release-log-seen", "host-log-seen"}


def test_relaxing_is_by_name_and_is_shown() -> None:
    evidence = WORLD.evidence(
        EXPORTER, SPKI, change=lambda f: replace(f, platform_info=GOOD_PLATFORM ^ 1 << 4)
    )
    verified = verify(evidence, policy=WORLD.policy(relaxed=frozenset({"platform-ciphertext-hiding"})))
    relaxed = [check.id for check in verified.verdict.checks if check.status is Status.RELAXED]
    assert relaxed == ["platform-ciphertext-hiding"]


@pytest.mark.parametrize(
    "changes",
    [
        {"relaxed": frozenset({"binding"})}, {"relaxed": frozenset({"nonsense"})}, {"roots": ()}, {"environment": ""},
        {"role": "mirror"}, {"require_backends": ("mirror",)}, {"require_backends": ("orchestrator",)}, {"allow_simulated": False},
        {"products": frozenset()}, {"floors": {}}, {"minimum_security_version": -1}, {"require_backends": ("guard", "guard")},
    ],
)  # fmt: skip
def test_policies_that_cannot_be_written_down(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        WORLD.policy(**changes)


def test_the_lowest_security_version() -> None:
    assert verify(GOOD, policy=WORLD.policy(minimum_security_version=0)).verdict.accepted


def test_a_production_policy_refuses_simulated_hardware() -> None:
    with pytest.raises(UsageError):
        SessionPolicy(
            **{
                **{f: getattr(WORLD.policy(), f) for f in SessionPolicy.__dataclass_fields__},
                "allow_simulated": False,
            }
        )


def test_real_platform_kind_with_a_simulated_root() -> None:
    platform = Platform(kind="sev-snp", report=GOOD.platform.report)
    backends = {"backend-predictor", "backend-guard"}
    assert failed(replace(GOOD, platform=platform)) == {"product-match", "host", "platform", *backends}


def of_product(name: str, root: str) -> tuple[EvidenceWorld, SessionPolicy]:
    """A world whose orchestrator's certificate names a product, and a policy that has our root under another name."""
    world = EvidenceWorld()
    world.chips["orchestrator"] = world.vendor.make_chip(now=NOW, product=name)
    world.hosts["orchestrator"] = replace(world.host("orchestrator"), product=root)
    world.append(world.hosts["orchestrator"].encode())
    return world, world.policy(
        roots=(Root(product=root, ark_der=world.vendor.ark),),
        floors=dict.fromkeys(PARTS, GOOD_FLOOR),
    )


def test_relaxing_the_product_does_not_let_simulated_hardware_pass_for_real() -> None:
    policy = WORLD.policy(relaxed=frozenset({"product"}))
    platform = Platform(kind="sev-snp", report=GOOD.platform.report)
    assert "product-match" in failed(replace(GOOD, platform=platform), policy=policy)


@pytest.mark.parametrize(
    ("name", "root"), [("Genoa", "Simulated"), ("Simulated", "Genoa"), ("Milan", "Genoa"), ("", "Genoa")]
)
def test_a_certificate_that_names_another_product_than_its_root(name: str, root: str) -> None:
    world, policy = of_product(name, root)
    assert "product-match" in failed(world.evidence(EXPORTER, SPKI), world=world, policy=policy)


@pytest.mark.parametrize("relaxed", [frozenset(), RELAXABLE])
@pytest.mark.parametrize(
    ("root", "kind", "fits"),
    [
        ("Genoa", "sev-snp", True), ("Genoa", SIMULATED_KIND, False),
        ("Simulated", SIMULATED_KIND, True), ("Simulated", "sev-snp", False),
    ],
)  # fmt: skip
def test_a_root_vouches_for_its_own_kind_of_platform(
    root: str, kind: str, fits: bool, relaxed: frozenset[str]
) -> None:
    """Everything else about the platform is right, in the log and in the evidence."""
    world, policy = of_product(root, root)
    policy = replace(policy, relaxed=relaxed, require_backends=())
    world.hosts["orchestrator"] = replace(world.hosts["orchestrator"], platform=kind)
    world.releases["orchestrator"] = replace(world.release("orchestrator"), platform=kind)
    for entry in (world.hosts["orchestrator"], world.releases["orchestrator"]):
        world.append(entry.encode())
    evidence = world.evidence(EXPORTER, SPKI)
    platform = replace(evidence.platform, kind=kind)
    changed = replace(evidence, platform=platform, backends=())
    if fits:
        assert verify(changed, world=world, policy=policy).host.platform == kind
    else:
        assert failed(changed, world=world, policy=policy) == {"product-match"}


def test_the_processor_in_the_report_is_of_the_product() -> None:
    """Our simulated processors say that they are Genoa, which the certificate here is not."""
    world, policy = of_product("Turin", "Turin")
    assert "product-match" in failed(world.evidence(EXPORTER, SPKI), world=world, policy=policy)


def test_lines_of_text_are_whole_and_print() -> None:
    evidence = WORLD.evidence(
        EXPORTER, SPKI, change=lambda fields: replace(fields, policy=GOOD_POLICY | 1 << 16)
    )
    lines = verify(evidence, policy=WORLD.policy(relaxed=frozenset({"policy-smt"}))).verdict.lines()
    assert (
        "relaxed     6.6   guest refuses hyper-threading: 1 (wanted: 0; from: AMD 56860 table 10, bit 16) [policy-smt]; "
        "the policy lets that pass, so an attacker could watch the CVM from a thread on the same core"
    ) in lines
    assert (
        "not checked 6.9   the release's log is the one that this device saw: "
        "this verifier has seen no checkpoint before (from: RFC 9162 §2.1.4) [release-log-seen]"
    ) in lines
    with pytest.raises(VerificationRefused) as caught:
        verify(evidence)
    (line,) = (line for line in caught.value.verdict.lines() if line.startswith("fail"))
    assert line.endswith(
        " [policy-smt]; without it, an attacker could watch the CVM from a thread on the same core"
    )
    check = caught.value.verdict.failed[0]._replace(found="\x1b[2J\n\u202eyes ✓")
    assert (
        Verdict(checks=(check,))
        .lines()[0]
        .startswith(
            "fail        6.6   guest refuses hyper-threading: \ufffd[2J\ufffd\ufffdyes ✓ (wanted: 0; "
        )
    )


def test_what_a_session_s_policy_lowers_is_part_of_the_verdict() -> None:
    weak = SnpPolicy(roots=(WORLD.vendor.root,), products=frozenset({"Simulated", "Milan"}))
    policy = WORLD.policy(snp=weak, relaxed=frozenset({"policy-smt"}))
    assert verify(WORLD.evidence(EXPORTER, SPKI), policy=policy).verdict.relaxed == ("policy-smt", "product")


def test_milan_is_refused_by_default_and_shown_when_relaxed() -> None:
    assert failed(GOOD, policy=WORLD.policy(products=frozenset({"Genoa"}))) == {"product"}
    policy = WORLD.policy(products=frozenset({"Genoa"}), relaxed=frozenset({"product"}))
    assert [c.id for c in verify(GOOD, policy=policy).verdict.checks if c.status is Status.RELAXED] == [
        "product"
    ]
    assert "Milan" not in WORLD.policy().snp.products


def test_nobody_else_makes_a_verified_session() -> None:
    with pytest.raises(UsageError):
        VerifiedSession(object())
    with pytest.raises(UsageError):
        verify(GOOD).release = None  # type: ignore[assignment]


@pytest.mark.parametrize("data", [b"", b"\x80", GOOD.encode()[:-1], GOOD.encode() + b"\0", bytes(70_000)])
def test_what_is_not_evidence(data: bytes) -> None:
    with pytest.raises(VerificationRefused) as caught:
        verify(data)
    assert caught.value.check == "decode"
    assert all(check.status is Status.FAIL for check in caught.value.verdict.checks)


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None)
@given(st.integers(0, SIGNED_SIZE * 8 - 1))
def test_no_flipped_bit_of_the_signed_report_is_accepted(bit: int) -> None:
    report = bytearray(GOOD.platform.report)
    report[bit // 8] ^= 1 << bit % 8
    changed = replace(GOOD, platform=replace(GOOD.platform, report=bytes(report)))
    assert failed(changed) & {"signature", "version"}


def boundaries(data: bytes) -> set[int]:
    """The first and the last byte of every field, and the byte before each, which ends its length."""
    report = GOOD.platform.report
    fields = [
        report[start:end]
        for start, end in itertools.pairwise(
            (0x000, 0x004, 0x008, 0x010, 0x020, 0x030, 0x034, 0x038, 0x040, 0x048, 0x04C, 0x050, 0x090, 0x0C0, 0x0E0,
             0x110, 0x140, 0x160, 0x180, 0x188, 0x18B, 0x1A0, 0x1E0, 0x1E8, 0x1F0, 0x1F8, 0x200, 0x208, 0x2A0, 0x2D0,
             0x2E8, 0x318, 0x330, REPORT_SIZE)
        )
    ]  # fmt: skip
    at, found = data.index(report), set(range(64))
    for field in fields:
        found |= {at, at + len(field) - 1}
        at += len(field)
    papers = GOOD.endorsements
    logged = [GOOD.release, GOOD.host, *(backend.release for backend in GOOD.backends)]
    for piece in (
        report,
        papers.vcek,
        papers.ask,
        papers.crl,
        *(part for item in logged for part in (item.entry, item.proof)),
    ):
        at = -1
        while (at := data.find(piece, at + 1)) >= 0:
            found |= {at - 3, at - 2, at - 1, at, at + len(piece) - 1, at + len(piece)}
    return {at for at in found if at < len(data)}


@pytest.mark.exhaustive
def test_no_changed_byte_of_the_evidence_is_accepted() -> None:
    """Every eighth byte and the ends of every field; each of the eight bits has its turn."""
    good = GOOD.encode()
    for at in sorted({*range(0, len(good), 8), *boundaries(good)}):
        data = bytearray(good)
        data[at] ^= 1 << (at // 8 + at) % 8
        with pytest.raises(VerificationRefused):
            verify(bytes(data))


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pieces_cut_out_doubled_or_moved_are_refused(draw: st.DataObject) -> None:
    good = GOOD.encode()
    start, end = sorted(draw.draw(st.tuples(*[st.integers(0, len(good))] * 2), label="piece"))
    to = draw.draw(st.integers(0, len(good)), label="to")
    rest = good[:start] + good[end:]
    for data in (rest, good[:to] + good[start:end] + good[to:], rest[:to] + good[start:end] + rest[to:]):
        if data != good:
            with pytest.raises(VerificationRefused):
                verify(data)


ANY_CBOR = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.integers(1, 7), ANY_CBOR, max_size=3), st.none() | ANY_CBOR)
def test_any_value_in_place_of_another_is_refused(members: dict[int, Any], whole: Any) -> None:
    """Evidence whose outer form is right and whose members are whatever CBOR can say."""
    body = cbor.decode(cbor.decode(GOOD.encode(), limit=LIMITS.evidence)[1], limit=LIMITS.evidence)
    records = [whole, [EVIDENCE_TYPE, cbor.encode(whole)], [EVIDENCE_TYPE, cbor.encode({**body, **members})]]
    for record in records:
        if record != [EVIDENCE_TYPE, cbor.encode(body)]:
            with pytest.raises(VerificationRefused):
                verify(cbor.encode(record))


REPLACED: list[tuple[str, Callable[[bytes], Evidence]]] = [
    ("report", lambda data: replace(GOOD, platform=replace(GOOD.platform, report=data))),
    ("vcek", lambda data: replace(GOOD, endorsements=replace(GOOD.endorsements, vcek=data))),
    ("ask", lambda data: replace(GOOD, endorsements=replace(GOOD.endorsements, ask=data))),
    ("crl", lambda data: replace(GOOD, endorsements=replace(GOOD.endorsements, crl=data))),
    ("release", lambda data: replace(GOOD, release=replace(GOOD.release, entry=data))),
    ("release proof", lambda data: replace(GOOD, release=replace(GOOD.release, proof=data))),
    ("host", lambda data: replace(GOOD, host=replace(GOOD.host, entry=data))),
    ("host proof", lambda data: replace(GOOD, host=replace(GOOD.host, proof=data))),
    ("back end", lambda data: replace(GOOD, backends=(replace(GOOD.backends[0], measurement=data), GOOD.backends[1]))),
    ("path", lambda data: replace(GOOD, batch=Batch(index=0, size=2, path=(data,)))),
    ("accelerator", lambda data: replace(GOOD, accelerators=(data,))),
]  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.parametrize("put", [put for _, put in REPLACED], ids=[name for name, _ in REPLACED])
@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_in_place_of_one_part_are_refused(put: Callable[[bytes], Evidence], data: bytes) -> None:
    with pytest.raises(VerificationRefused):
        verify(put(data))

"""What the verdict on a session says beyond the platform's own lines, word for word: steps 5 and 7 to 12 of protocol section 6."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.binding import report_data, session_leaf
from sottovoce.attest.evidence import Batch, Evidence, Logged
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tlog.entries import Revocations
from verdict_text import judged, written

EXPORTER, SPKI = b"e" * 32, b"public key"
WORLD = EvidenceWorld()
GOOD = WORLD.evidence(EXPORTER, SPKI)
CHIP = WORLD.chips["orchestrator"].chip_id.hex()[:16]
BOUND = report_data(session_leaf(EXPORTER, SPKI)).hex()[:16]
DAY = 86400
AFTER_PLATFORM = (
    "decode", "host", "candidate", "vmpl", "binding", "measurement", "role", "platform", "release-dates",
    "security-version", "release-revoked", "release-log", "release-log-age", "release-log-seen", "log-fork",
    "host-log", "host-log-age", "host-log-seen", "accelerators", "backend-predictor", "backend-guard",
    "backends-only",
)  # fmt: skip


def lines(
    evidence: Evidence | bytes, *, world: EvidenceWorld = WORLD, policy: Any = None, **connection: Any
) -> str:
    """Those of the lines that this file is about."""
    data = evidence if isinstance(evidence, bytes) else evidence.encode()
    try:
        verdict = verify_session(
            data, policy=policy or world.policy(), connection=world.connection(EXPORTER, SPKI, **connection)
        ).verdict
    except VerificationRefused as refused:
        verdict = refused.verdict
    ours = replace(verdict, checks=tuple(check for check in verdict.checks if check.id in AFTER_PLATFORM))
    return "\n".join(part for part in (judged(ours), written(ours)) if part)


PASSES = f"""\
pass | decode | yes | one CMW record, at most 64 KiB
pass | host | host-orchestrator | a listed Simulated host for the role orchestrator
pass | candidate | host-orchestrator | host-orchestrator or host-other
pass | vmpl | 0 | 0
pass | binding | {BOUND}… | {BOUND}…, from this connection's exporter
pass | measurement | 0101010101010101… | 0101010101010101…
pass | role | orchestrator | orchestrator
pass | platform | simulated-snp | simulated-snp
pass | release-dates | 21.0 days left | issued, and not expired
pass | security-version | 1 | at least 1
pass | release-revoked | not revoked | not revoked
pass | release-log | entry 0 of 6 | 2 of 2 pinned witnesses, log.example/test
pass | release-log-age | 0.0 hours old | at most 24 hours
pass | log-fork | size 6 | one tree head a size
pass | host-log | entry 1 of 6 | 2 of 2 pinned witnesses, log.example/test
pass | host-log-age | 0.0 hours old | at most 24 hours
pass | accelerators | not declared, none shown | those declared
pass | backend-predictor | on host-predictor, 0202020202020202… | one appraisal of a logged predictor
pass | backend-guard | on host-guard, 0303030303030303… | one appraisal of a logged guard
pass | backends-only | 0 others | none
release-log-seen | this verifier has seen no checkpoint before
host-log-seen | this verifier has seen no checkpoint before"""


def test_a_good_session() -> None:
    assert lines(GOOD) == PASSES


def changed(text: str, **replaced: str) -> str:
    """`text` with the lines of these checks replaced; `_` stands for `-`."""
    names = {name.replace("_", "-"): line for name, line in replaced.items()}
    out = []
    for line in text.splitlines():
        first, second, *_ = line.split(" | ")
        name = second if first in {"pass", "fail"} else first
        out.append(names.pop(name, line))
    assert not names
    return "\n".join(out)


def test_another_machine_for_another_connection() -> None:
    shown = WORLD.evidence(b"x" * 32, SPKI)
    other = report_data(session_leaf(b"x" * 32, SPKI)).hex()[:16]
    revocations = Revocations(
        releases=frozenset({hashlib.sha256(GOOD.release.entry).hexdigest()}),
        hosts=frozenset({"host-orchestrator"}),
    )
    policy = WORLD.policy(minimum_security_version=2, role="predictor", require_backends=())
    assert lines(shown, policy=policy, revocations=revocations, candidates=("b", "a")) == changed(
        PASSES,
        host=f"fail | host | {CHIP}… is not listed or is revoked | a listed Simulated host for the role predictor",
        candidate="fail | candidate | host-orchestrator | a or b",
        binding=f"fail | binding | {other}… | {BOUND}…, from this connection's exporter",
        role="fail | role | orchestrator | predictor",
        security_version="fail | security-version | 1 | at least 2",
        release_revoked="fail | release-revoked | revoked | not revoked",
        backends_only="fail | backends-only | 2 others | none",
    ).replace(
        "pass | backend-predictor | on host-predictor, 0202020202020202… | one appraisal of a logged predictor\n",
        "",
    ).replace(
        "pass | backend-guard | on host-guard, 0303030303030303… | one appraisal of a logged guard\n", ""
    )


def test_between_two_cvms_there_is_no_clock_and_no_directory() -> None:
    text = lines(
        WORLD.evidence(EXPORTER, SPKI, role="predictor"),
        policy=WORLD.policy(role="predictor", require_backends=()),
        now=None,
        candidates=None,
        hosts=None,
        revocations=None,
    ).splitlines()
    assert "candidate | between CVMs no candidates are drawn" in text
    assert "release-dates | left to the device, which has a clock" in text
    assert "release-revoked | the directory of that day is not at hand" in text
    assert "pass | host | host-predictor | a listed Simulated host for the role predictor" in text
    assert not [line for line in text if line.startswith("fail")]


def test_where_no_directory_is_at_hand_a_back_ends_host_is_only_said() -> None:
    text = lines(GOOD, hosts=None).splitlines()
    said = "said to be on host-guard, 0303030303030303… | one appraisal of a logged guard"
    assert f"pass | backend-guard | {said}" in text


@pytest.mark.parametrize(
    ("issued", "found"), [(NOW, "on host-guard, "), (NOW + 1, "its release is not valid now")]
)
def test_a_back_ends_release_counts_from_its_first_second(issued: int, found: str) -> None:
    world = EvidenceWorld()
    world.releases["guard"] = replace(world.release("guard"), issued=issued)
    world.append(world.releases["guard"].encode())
    text = lines(world.evidence(EXPORTER, SPKI), world=world)
    assert f" | backend-guard | {found}" in text


def test_no_candidate_at_all() -> None:
    assert "fail | candidate | host-orchestrator | a candidate" in lines(GOOD, candidates=())


@pytest.mark.parametrize(
    ("at", "days", "ok"),
    [
        (NOW - 3601, "21.0", False),
        (NOW - 3600, "21.0", True),
        (NOW - 3600 + 21 * DAY - 1, "0.0", True),
        (NOW - 3600 + 21 * DAY, "0.0", False),
        (NOW + 22 * DAY, "-1.0", False),
    ],
)
def test_how_long_a_release_lasts(at: int, days: str, ok: bool) -> None:
    outcome = "pass" if ok else "fail"
    assert f"{outcome} | release-dates | {days} days left | issued, and not expired" in lines(GOOD, now=at)


def test_a_batch_that_does_not_fit() -> None:
    text = lines(replace(GOOD, batch=Batch(index=0, size=4, path=(bytes(32),))))
    assert f"fail | binding | {BOUND}… | a batch proof that fits" in text


def test_what_is_no_release() -> None:
    text = lines(replace(GOOD, release=GOOD.host)).splitlines()
    (line,) = (one for one in text if " | measurement | " in one)
    assert line == "fail | measurement | the log entry is not of the kind release | a release"
    unreached = "could not be checked, as something before it failed | checked"
    for check in ("role", "platform", "release-dates", "security-version", "release-revoked", "vmpl"):
        assert f"fail | {check} | {unreached}" in text
    assert "fail | accelerators | not declared, none shown | those declared" in text


def test_what_is_no_host() -> None:
    text = lines(replace(GOOD, host=Logged(entry=b"{}", proof=GOOD.host.proof))).splitlines()
    unreached = "could not be checked, as something before it failed | checked"
    assert (
        f"fail | host | {CHIP}… is not listed or is revoked | a listed Simulated host for the role orchestrator"
        in text
    )
    assert f"fail | candidate | {unreached}" in text


def test_another_release() -> None:
    world = EvidenceWorld()
    release = replace(
        world.release("orchestrator"), measurements=("aa" * 48, "bb" * 48), vmpl=1, platform="sev-snp"
    )
    world.releases["orchestrator"] = release
    world.append(release.encode())
    text = lines(world.evidence(EXPORTER, SPKI), world=world).splitlines()
    assert f"fail | measurement | 0101010101010101… | {'aa' * 8}… or {'bb' * 8}…" in text
    assert "fail | vmpl | 0 | 1" in text
    assert "fail | platform | sev-snp | simulated-snp" in text


def test_accelerators_that_nobody_can_judge() -> None:
    text = lines(replace(GOOD, accelerators=(b"evidence",)))
    assert "fail | accelerators | no vendor's root is pinned | those declared" in text


def test_what_does_not_parse() -> None:
    text = lines(b"x").splitlines()
    assert text[0] == "fail | decode | CBOR ends too early | one CMW record, at most 64 KiB"
    unreached = "could not be checked, as something before it failed | checked"
    assert set(text[1:]) == {f"fail | {check} | {unreached}" for check in AFTER_PLATFORM[1:]}


def test_a_checkpoint_that_is_old_another_or_forked() -> None:
    seen = WORLD.log.policy().verify_checkpoint(WORLD.log.checkpoint(now=NOW), now=NOW)
    text = lines(GOOD, seen=replace(seen, root=bytes(32)), now=NOW + 25 * 3600).splitlines()
    for what in ("release", "host"):
        assert f"fail | {what}-log-age | 25.0 hours old | at most 24 hours" in text
        assert f"fail | {what}-log-seen | size 6 | the tree head seen, of size 6" in text
    assert "fail | log-fork | two heads of one size among 6 | one tree head a size" in text
    text = lines(GOOD, seen=replace(seen, size=7)).splitlines()
    assert "pass | log-fork | size 6, 7 | one tree head a size" in text
    assert "fail | release-log-seen | size 6 | the tree head seen, of size 7" in text
    text = lines(GOOD, seen=seen).splitlines()
    assert "pass | host-log-seen | size 6 | the tree head seen, of size 6" in text


@pytest.mark.parametrize(("age", "ok"), [(24 * 3600, True), (24 * 3600 + 1, False)])
def test_the_last_second_of_a_checkpoint(age: int, ok: bool) -> None:
    outcome = "pass" if ok else "fail"
    assert f"{outcome} | host-log-age | 24.0 hours old" in lines(GOOD, now=NOW + age)


def test_an_entry_of_no_log() -> None:
    unproved = replace(GOOD, release=replace(GOOD.release, proof=b""))
    wanted = "2 of 2 pinned witnesses, log.example/test"
    (line,) = (one for one in lines(unproved).splitlines() if " | release-log | " in one)
    assert line.startswith("fail | release-log | ")
    assert line.endswith(f" | {wanted}")
    assert line.split(" | ")[2] not in {"", "None", "could not be checked, as something before it failed"}

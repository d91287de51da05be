"""What a verdict on an SNP report says, word for word: good, bad, without a chain, without a list, and on Turin."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.policy import ACCEPTED_PRODUCTS, Root, SnpPolicy
from sottovoce.attest.snp import appraisal, signatures
from sottovoce.attest.snp.floors import FLOORS, Floor, part_of
from sottovoce.attest.snp.layout import SIGNED_SIZE, Tcb, tcb_from
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES, SNP_RULES
from sottovoce.attest.snp.signatures import ChainError, require_valid
from sottovoce.attest.snp.verify import SNP_CHAIN_ONLY, SNP_RELAXABLE, SnpReferences, verify_report
from sottovoce.attest.verdict import Checklist, Status, Verdict
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.pki import GOOD_TCB, SimulatedChip, SimulatedVendor
from sottovoce.simulator.processor import (
    GOOD_PLATFORM,
    GOOD_POLICY,
    ReportFields,
    SimulatedProcessor,
    sign_report,
)
from sottovoce.simulator.testing import NOW, vendor
from verdict_text import judged, written

CHIP = vendor().make_chip(now=NOW, chip_id=bytes(range(64)))
POLICY = SnpPolicy(roots=(vendor().root,))
DAY = 86400


def report(chip: SimulatedChip = CHIP, **changes: Any) -> bytes:
    def change(fields: ReportFields) -> ReportFields:
        return replace(fields, **changes)

    return SimulatedProcessor(chip, b"m" * 48, change=change).report(b"d" * 64)


def verdict(data: bytes, chip: SimulatedChip = CHIP, **changes: Any) -> Verdict:
    arguments: dict[str, Any] = {
        "intermediates": (vendor().ask,),
        "crl": vendor().crl,
        "policy": POLICY,
        "now": NOW,
    }
    return verify_report(data, chip.vcek, **{**arguments, **changes})


GOOD = """\
pass | chain | Simulated root | a pinned root: Simulated
pass | chain-dates | yes | all three valid
pass | revocation-list | yes | present, signed by the root
pass | revocation-list-dates | yes | current
pass | revoked | not revoked | not revoked
pass | product-match | Simulated root, simulated-snp, the certificate and the report agree | the same product
pass | product | Simulated | Genoa or Siena or Simulated or Turin
pass | version | 5 | 2, 3, 4 or 5, reserved bytes zero
pass | signature | yes | ECDSA P-384, SHA-384
pass | signing-key | VCEK | VCEK, not masked
pass | tcb-certificate | bl 10 tee 0 snp 23 ucode 84 | bl 10 tee 0 snp 23 ucode 84
pass | tcb-floor | Simulated: bl 10 tee 0 snp 23 ucode 84 | at least bl 10 tee 0 snp 23 ucode 84 (the simulator)
pass | tcb-committed | bl 10 tee 0 snp 23 ucode 84 | at least bl 10 tee 0 snp 23 ucode 84
pass | hardware-id | 0001020304050607… in the report, 0001020304050607… in the certificate | equal, and not masked
pass | policy-reserved | 0x1d2001f | bit 17 set, 26 and above clear
pass | policy-debug | 0 | 0
pass | policy-migrate | 0 | 0
pass | policy-smt | 0 | 0
pass | policy-cxl | 0 | 0
pass | policy-single-socket | 1 | 1
pass | policy-aes-256-xts | 1 | 1
pass | policy-rapl | 1 | 1
pass | policy-ciphertext-hiding | 1 | 1
pass | platform-reserved | 0x3c | bits 8 and above clear
pass | platform-smt | 0 | 0
pass | platform-rapl | 1 | 1
pass | platform-ciphertext-hiding | 1 | 1
pass | platform-alias-check | 1 | 1"""

BAD = """\
pass | chain | Simulated root | a pinned root: Simulated
pass | chain-dates | yes | all three valid
pass | revocation-list | yes | present, signed by the root
fail | revocation-list-dates | the revocation list is not current | current
pass | revoked | not revoked | not revoked
pass | product-match | Simulated root, simulated-snp, the certificate and the report agree | the same product
pass | product | Simulated | Genoa or Siena or Simulated or Turin
pass | version | 5 | 2, 3, 4 or 5, reserved bytes zero
pass | signature | yes | ECDSA P-384, SHA-384
fail | signing-key | VLEK, masked | VCEK, not masked
fail | tcb-certificate | bl 10 tee 0 snp 23 ucode 84 | bl 10 tee 0 snp 9 ucode 84
pass | tcb-floor | Simulated: bl 10 tee 0 snp 23 ucode 84 | at least bl 10 tee 0 snp 23 ucode 84 (the simulator)
fail | tcb-committed | bl 10 tee 0 snp 3 ucode 84 | at least bl 10 tee 0 snp 9 ucode 84
fail | hardware-id | masked | equal, and not masked
fail | policy-reserved | 0x2ffcffff | bit 17 set, 26 and above clear
fail | policy-debug | 1 | 0
fail | policy-migrate | 1 | 0
pass | policy-smt | 0 | 0
fail | policy-cxl | 1 | 0
pass | policy-single-socket | 1 | 1
pass | policy-aes-256-xts | 1 | 1
pass | policy-rapl | 1 | 1
pass | policy-ciphertext-hiding | 1 | 1
fail | platform-reserved | 0x101 | bits 8 and above clear
fail | platform-smt | 1 | 0
fail | platform-rapl | 0 | 1
fail | platform-ciphertext-hiding | 0 | 1
fail | platform-alias-check | 0 | 1"""


def test_a_good_report() -> None:
    assert judged(verdict(report())) == GOOD


def test_a_bad_one() -> None:
    bad = report(
        policy=0x2FFCFFFF,
        platform_info=0x101,
        key_flags=0b110,
        chip_id=bytes(64),
        reported_tcb=replace(GOOD_TCB, snp=9),
        committed_tcb=replace(GOOD_TCB, snp=3),
    )
    assert judged(verdict(bad, now=NOW + 40 * DAY)) == BAD


def test_what_is_said_of_values_that_nobody_gave() -> None:
    data = report()
    none = "no reference value was given"
    lines = [
        f"chip | {bytes(range(64)).hex()}; {none}",
        f"vmpl | 0; {none}",
        "policy-page-swap | the policy does not demand it",
        "platform-tsme | the policy does not demand it",
        "platform-ecc | the policy does not demand it",
        "platform-iommu-write-safe | the policy does not demand it",
        "mitigation-vectors | the policy does not demand it",
        f"report-data | {b'd'.hex() * 64}; {none}",
        f"measurement | {b'm'.hex() * 48}; {none}",
        f"host-data | {bytes(32).hex()}; {none}",
        f"id-key | {bytes(48).hex()}; {none}",
        f"guest-svn | 0; {none}",
    ]
    assert written(verdict(data)) == "\n".join(lines)


def test_without_a_chain() -> None:
    lines = judged(verdict(report(), intermediates=())).splitlines()
    missing = "the certificate between the root and the key is missing"
    assert lines[0] == f"fail | chain | {missing} | a pinned root: Simulated"
    assert "fail | signature | could not be checked, as something before it failed | checked" in lines
    assert not verdict(report(), intermediates=()).accepted


def test_without_a_list() -> None:
    assert {c.id for c in verdict(report(), crl=b"").failed} == {
        "revocation-list",
        "revocation-list-dates",
        "revoked",
    }
    words = "there is no revocation list | present, signed by the root"
    assert f"fail | revocation-list | {words}" in judged(verdict(report(), crl=b""))
    relaxed = verdict(report(), crl=b"", left_out=SNP_CHAIN_ONLY)
    assert relaxed.accepted
    for check in ("revocation-list", "revocation-list-dates", "revoked"):
        assert f"{check} | no revocation list was given" in written(relaxed)


def test_a_revoked_intermediate() -> None:
    crl = vendor().revocation_list(vendor().ark_key, now=NOW, serials=(2,))
    assert "fail | revoked | revoked | not revoked" in judged(verdict(report(), crl=crl))


@pytest.mark.parametrize("now", [NOW - DAY - 1, NOW + 21 * 365 * DAY])
def test_certificates_that_are_not_valid(now: int) -> None:
    wrong = "fail | chain-dates | a certificate in the chain is not valid at this time | all three valid"
    assert wrong in judged(verdict(report(), now=now))


def test_the_first_and_the_last_second() -> None:
    start, end = NOW - 3600, NOW - 3600 + 30 * DAY
    for now, ok in ((start - 1, False), (start, True), (end, True), (end + 1, False)):
        assert ("revocation-list-dates" not in {c.id for c in verdict(report(), now=now).failed}) is ok


# Turin: another layout of patch levels, and a hardware id of eight bytes.

TURIN_TCB = Tcb(fmc=1, bootloader=2, tee=1, snp=5, microcode=0x52)
TURIN_BYTES = bytes([1, 2, 1, 5, 0, 0, 0, 0x52])
TURIN_ID = b"\x01\x02\x03\x04\x05\x06\x07\x08"
TURIN = vendor().make_chip(now=NOW, chip_id=TURIN_ID, tcb=TURIN_TCB, product="Turin")
TURIN_POLICY = SnpPolicy(roots=(Root(product="Turin", ark_der=vendor().ark),))


def turin(changes: Mapping[int, bytes] = MappingProxyType({}), *, chip: SimulatedChip = TURIN) -> bytes:
    """A report as Turin makes it; changes are by offset."""
    body = bytearray(report()[:SIGNED_SIZE])
    body[0x188:0x18B] = bytes([0x1A, 0x02, 1])
    for at in (0x038, 0x180, 0x1E0, 0x1F0):
        body[at : at + 8] = TURIN_BYTES
    body[0x1A0:0x1E0] = TURIN_ID + bytes(56)
    for at, value in changes.items():
        body[at : at + len(value)] = value
    return sign_report(chip, bytes(body))


def turin_verdict(data: bytes, **changes: Any) -> Verdict:
    return verdict(data, TURIN, **{"policy": TURIN_POLICY, **changes})


def failing(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


def test_turin() -> None:
    result = turin_verdict(turin())
    lines = judged(result)
    # A simulated vendor under Turin's name: only the kind of platform is real.
    assert (
        "pass | tcb-certificate | fmc 1 bl 2 tee 1 snp 5 ucode 82 | fmc 1 bl 2 tee 1 snp 5 ucode 82" in lines
    )
    assert (
        "pass | tcb-floor | Turin: fmc 1 bl 2 tee 1 snp 5 ucode 82 | at least fmc 0 bl 0 tee 0 snp 4 ucode 81"
        in lines
    )
    assert (
        "pass | hardware-id | 0102030405060708… in the report, 0102030405060708… in the certificate" in lines
    )
    assert "pass | product-match | Turin root, sev-snp, the certificate and the report agree" in lines
    assert result.accepted


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({0x1A8: b"\x01"}, {"hardware-id"}),  # behind the eight bytes
        # Turin Dense has no floor of its own.
        ({0x188: bytes([0x1A, 0x11, 0])}, {"tcb-floor"}),
        ({0x1A0: bytes(8)}, {"hardware-id"}),
        ({0x180: bytes([1, 2, 1, 5, 0, 0, 0, 0x53])}, {"tcb-certificate", "tcb-committed"}),
        ({0x1E0: bytes([0, 2, 1, 5, 0, 0, 0, 0x52])}, {"tcb-committed"}),
        ({0x038: bytes([1, 2, 1, 5, 1, 0, 0, 0x52])}, {"tcb-certificate", "tcb-floor", "tcb-committed"}),
        ({0x1F0: bytes([1, 2, 1, 5, 0, 0, 1, 0x52])}, {"tcb-certificate", "tcb-floor", "tcb-committed"}),
        # Genoa's processor under a certificate of Turin: its patch levels are read in Genoa's layout.
        (
            {0x188: bytes([0x19, 0x11, 1])},
            {"product-match", "tcb-certificate", "tcb-floor", "tcb-committed", "hardware-id"},
        ),
        # A stepping without a floor
        ({0x188: bytes([0x1A, 0x02, 2])}, {"tcb-floor"}),
    ],
)
def test_turin_line_by_line(changes: dict[int, bytes], checks: set[str]) -> None:
    assert failing(turin_verdict(turin(changes))) == checks


def test_what_is_wrong_with_a_hardware_id() -> None:
    for changes, words in (
        ({0x1A8: b"\x01"}, "bytes behind the id"),
        ({0x1A0: bytes(8)}, "masked"),
        ({0x1A0: b"\x09"}, "0902030405060708… in the report, 0102030405060708… in the certificate"),
    ):
        assert f"fail | hardware-id | {words} | equal, and not masked" in judged(
            turin_verdict(turin(changes))
        )
    shared = vendor().make_shared_key(now=NOW, chip_id=bytes(range(64)), operator="example")
    words = "0001020304050607… in the report, none in the certificate"
    assert f"fail | hardware-id | {words} | equal, and not masked" in judged(verdict(report(shared), shared))


def test_turin_dense_is_named_and_a_policy_can_give_it_a_floor() -> None:
    dense = turin({0x188: bytes([0x1A, 0x11, 0])})
    words = "Turin Dense: fmc 1 bl 2 tee 1 snp 5 ucode 82 | a part that has a floor in the policy"
    assert f"fail | tcb-floor | {words}" in judged(turin_verdict(dense))
    given = replace(TURIN_POLICY, floors={"Turin Dense": Floor(tcb=TURIN_TCB, source="this test")})
    assert turin_verdict(dense, policy=given).accepted


def test_simulated_hardware_is_nothing_that_a_real_platform_is_told_to_be() -> None:
    refused = turin_verdict(turin(), policy=replace(TURIN_POLICY, products=frozenset({"Genoa", "Simulated"})))
    assert "fail | product | Turin | Genoa" in judged(refused).splitlines()


def test_a_level_below_the_floor_of_turin() -> None:
    for level, low in (("snp", 3), ("microcode", 0x50)):
        tcb = replace(TURIN_TCB, **{level: low})
        chip = vendor().make_chip(now=NOW, chip_id=TURIN_ID, tcb=tcb, product="Turin")
        data = bytes([1, 2, 1, tcb.snp, 0, 0, 0, tcb.microcode])
        changed = turin(dict.fromkeys((0x038, 0x180, 0x1E0, 0x1F0), data), chip=chip)
        result = verdict(changed, chip, policy=TURIN_POLICY)
        assert failing(result) == {"tcb-floor"}


def test_reserved_bytes_of_patch_levels() -> None:
    for at in range(8):
        value = bytes(at) + b"\x01" + bytes(7 - at)
        for is_turin, reserved in ((True, range(4, 7)), (False, range(2, 6))):
            number = int.from_bytes(value, "little")
            if at in reserved:
                with pytest.raises(DecodeError, match="reserved bytes"):
                    tcb_from(number, turin=is_turin)
            else:
                assert sum(level or 0 for level in _levels(tcb_from(number, turin=is_turin))) == 1


def _levels(tcb: Tcb) -> tuple[int | None, ...]:
    return tcb.fmc, tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode


def test_where_each_level_stands() -> None:
    value = int.from_bytes(bytes(range(1, 9)), "little")
    with pytest.raises(DecodeError):
        tcb_from(value, turin=True)
    turin_value = int.from_bytes(bytes([1, 2, 3, 4, 0, 0, 0, 8]), "little")
    genoa_value = int.from_bytes(bytes([1, 2, 0, 0, 0, 0, 7, 8]), "little")
    assert _levels(tcb_from(turin_value, turin=True)) == (1, 2, 3, 4, 8)
    assert _levels(tcb_from(genoa_value, turin=False)) == (None, 1, 2, 7, 8)


def test_each_level_is_compared_with_the_floor() -> None:
    floor = Tcb(fmc=1, bootloader=1, tee=1, snp=1, microcode=1)
    assert floor.at_least(floor)
    for level in ("fmc", "bootloader", "tee", "snp", "microcode"):
        assert not replace(floor, **{level: 0}).at_least(floor)
        assert replace(floor, **{level: 2}).at_least(floor)
    without = replace(floor, fmc=None)
    assert not without.at_least(floor)
    assert floor.at_least(without)


def test_parts() -> None:
    assert part_of("Genoa", (0x19, 0x11, 1)) == "Genoa"
    assert part_of("Genoa", (0x19, 0x11, 2)) == "Genoa-X"
    assert part_of("Genoa", (0x19, 0x11, 3)) == ""
    assert part_of("Genoa", None) == "Genoa"
    assert part_of("Bergamo", None) == ""
    assert part_of("Simulated", (0x19, 0x11, 1)) == "Simulated"
    assert all(floor.source for floor in FLOORS.values())


# Which intermediate is taken, and what it is compared with.


@functools.cache
def stranger() -> SimulatedVendor:
    return SimulatedVendor.create(now=NOW, bits=2048)


def chain_line(*intermediates: bytes) -> str:
    return judged(verdict(report(), intermediates=intermediates)).splitlines()[0]


def test_the_intermediate_that_fits_is_taken() -> None:
    fits = "pass | chain | Simulated root | a pinned root: Simulated"
    assert chain_line(b"garbage", stranger().ask, vendor().ask) == fits
    assert chain_line(vendor().ask, b"garbage") == fits
    two = replace(POLICY, roots=(Root(product="Genoa", ark_der=stranger().ark), vendor().root))
    assert judged(verdict(report(), policy=two)).startswith("pass | chain | Simulated root |")


def test_if_none_fits_the_one_that_the_certificate_names_says_why() -> None:
    named = chain_line(b"garbage", vendor().ark, stranger().ask)
    assert named == chain_line(stranger().ask)
    assert named != chain_line(b"garbage")
    assert named != chain_line(vendor().ark)
    assert chain_line(b"garbage", vendor().ark) == chain_line(b"garbage")
    assert chain_line(vendor().ark) != chain_line()


REFERENCES: list[tuple[str, str, Any, Any]] = [
    ("chip", "chips", frozenset({bytes(range(64)), bytes(64)}), frozenset({bytes(64)})),
    ("report-data", "report_data", b"d" * 64, b"e" * 64),
    ("measurement", "measurements", frozenset({b"m" * 48, bytes(48)}), frozenset({bytes(48)})),
    ("host-data", "host_data", bytes(32), b"h" * 32),
    ("id-key", "id_keys", frozenset({bytes(48)}), frozenset({b"i" * 48})),
    ("vmpl", "vmpl", 0, 1),
    ("guest-svn", "guest_svn", 0, 1),
]


@pytest.mark.parametrize(("check", "name", "right", "wrong"), REFERENCES, ids=[one[0] for one in REFERENCES])
def test_reference_values(check: str, name: str, right: Any, wrong: Any) -> None:
    good = verdict(report(), references=SnpReferences(**{name: right}))
    assert good.accepted
    assert next(line.status for line in good.checks if line.id == check) is Status.PASS
    for left_out in (frozenset[str](), SNP_CHAIN_ONLY):
        bad = verdict(report(), references=SnpReferences(**{name: wrong}), left_out=left_out)
        assert [line.id for line in bad.failed] == [check]


def test_a_security_version_may_be_higher() -> None:
    body = bytearray(report()[:SIGNED_SIZE])
    body[4] = 3  # AMD 56860 table 23, GUEST_SVN
    third = sign_report(CHIP, bytes(body))
    lines = judged(verdict(third, references=SnpReferences(guest_svn=2))).splitlines()
    assert "pass | guest-svn | 3 | at least 2" in lines
    lines = judged(verdict(third, references=SnpReferences(guest_svn=4, vmpl=2))).splitlines()
    assert "fail | guest-svn | 3 | at least 4" in lines
    assert "fail | vmpl | 0 | 2" in lines


def test_all_that_may_be_relaxed_may_be() -> None:
    old = verdict(report(), now=NOW + 31 * DAY, relaxed=SNP_RELAXABLE)
    assert old.accepted
    assert old.relaxed == tuple(sorted(SNP_RELAXABLE))
    assert "relaxed | revocation-list-dates |" in judged(old)
    with pytest.raises(UsageError, match="cannot be relaxed"):
        verdict(report(), relaxed=frozenset({"signature"}))


def test_what_the_policy_lowers_is_named() -> None:
    policy = SnpPolicy(roots=(vendor().root,), products=ACCEPTED_PRODUCTS | {"Milan"})
    assert verdict(report(), policy=policy).relaxed == ("product",)


# What is said of products, parts and levels.


def of_line(named: str, line: str, **policy: Any) -> list[str]:
    """A report of our processors, which say that they are Genoa, by a certificate of this name under that line's root."""
    chip = vendor().make_chip(now=NOW, chip_id=bytes(range(64)), product=named)
    demands = SnpPolicy(roots=(Root(product=line, ark_der=vendor().ark),), **policy)
    return judged(verdict(report(chip), chip, policy=demands)).splitlines()


def test_a_product_is_named_by_its_certificate_where_all_agree() -> None:
    match = (
        "pass | product-match | Genoa root, sev-snp, the certificate and the report agree | the same product"
    )
    for named in ("Genoa", "Siena", "Genoa-B1"):
        lines = of_line(named, "Genoa")
        assert match in lines
        assert f"pass | product | {named.partition('-')[0]} | Genoa or Siena or Turin" in lines
    assert "fail | product | Siena | Genoa" in of_line("Siena", "Genoa", products=frozenset({"Genoa"}))


@pytest.mark.parametrize("named", ["Turin", "Milan", "Bergamo", ""])
def test_a_product_is_the_roots_where_they_do_not(named: str) -> None:
    lines = of_line(named, "Genoa")
    words = "Genoa root, sev-snp, certificate or report of another product"
    assert f"fail | product-match | {words} | the same product" in lines
    assert "pass | product | Genoa | Genoa or Siena or Turin" in lines


def test_an_unknown_part_has_no_floor() -> None:
    dense = turin({0x188: bytes([0x1A, 0x02, 9])})
    words = "an unknown part: fmc 1 bl 2 tee 1 snp 5 ucode 82 | a part that has a floor in the policy"
    assert f"fail | tcb-floor | {words}" in judged(turin_verdict(dense)).splitlines()


def test_levels_that_cannot_be_read() -> None:
    spoilt = turin({0x180: bytes([1, 2, 1, 5, 1, 0, 0, 0x52])})
    words = "a TCB version has reserved bytes that are not zero | equal patch levels"
    assert f"fail | tcb-certificate | {words}" in judged(turin_verdict(spoilt)).splitlines()


@pytest.mark.parametrize(
    ("check", "word", "bit"),
    [
        ("policy-page-swap", "policy", 25),
        ("platform-tsme", "platform_info", 1),
        ("platform-ecc", "platform_info", 2),
        ("platform-iommu-write-safe", "platform_info", 6),
    ],
)
def test_a_demanded_bit(check: str, word: str, bit: int) -> None:
    policy = replace(POLICY, tightened=frozenset({check}))
    good = {"policy": GOOD_POLICY, "platform_info": GOOD_PLATFORM}[word]
    for value, line in (
        (good | 1 << bit, f"pass | {check} | 1 | 1"),
        (good & ~(1 << bit), f"fail | {check} | 0 | 1"),
    ):
        assert line in judged(verdict(report(CHIP, **{word: value}), policy=policy)).splitlines()


def test_a_policy_may_demand_everything_that_is_optional() -> None:
    policy = replace(POLICY, tightened=frozenset(SNP_OPTIONAL_RULES))
    assert not SNP_OPTIONAL_RULES.keys() & {
        line.split(" | ")[0] for line in written(verdict(report(), policy=policy)).splitlines()
    }


def test_the_highest_level() -> None:
    tcb = replace(GOOD_TCB, microcode=255)
    chip = vendor().make_chip(now=NOW, chip_id=bytes(range(64)), tcb=tcb)
    data = report(chip, reported_tcb=tcb, committed_tcb=tcb)
    assert "pass | tcb-certificate | bl 10 tee 0 snp 23 ucode 255 | bl 10 tee 0 snp 23 ucode 255" in judged(
        verdict(data, chip)
    )


def test_the_first_and_the_last_second_of_a_certificate() -> None:
    key = Certificate.parse(CHIP.vcek)
    require_valid(key, now=key.not_before)
    require_valid(key, now=key.not_after)
    for now in (key.not_before - 1, key.not_after + 1):
        with pytest.raises(ChainError, match="not valid at this time"):
            require_valid(key, now=now)


@pytest.mark.parametrize(
    ("launch", "current", "line"),
    [
        (5, 7, "pass | mitigation-vectors | launch 0x5, now 0x7"),
        (5, 5, "pass | mitigation-vectors | launch 0x5, now 0x5"),
        (5, 2, "fail | mitigation-vectors | launch 0x5, now 0x2"),
        (4, 3, "fail | mitigation-vectors | launch 0x4, now 0x3"),
        (0, 0, "pass | mitigation-vectors | launch 0x0, now 0x0"),
        (None, None, "fail | mitigation-vectors | a report without them"),
    ],
)
def test_mitigations_at_launch_and_now(launch: int | None, current: int | None, line: str) -> None:
    body = bytearray(report()[:SIGNED_SIZE])
    if launch is None or current is None:
        body[0] = 3
    else:
        body[0x1F8:0x208] = launch.to_bytes(8, "little") + current.to_bytes(8, "little")
    policy = replace(POLICY, tightened=frozenset({"mitigation-vectors"}))
    found = judged(verdict(sign_report(CHIP, bytes(body)), policy=policy)).splitlines()
    assert f"{line} | all of those at launch" in found


def test_the_keys_that_there_are_and_those_that_are_not_known() -> None:
    for flags, words in (
        (0, "VCEK"),
        (1 << 2, "VLEK"),
        (7 << 2, "none"),
        (3 << 2, "unknown"),
        (3 << 2 | 2, "unknown, masked"),
    ):
        outcome = "fail" if flags else "pass"
        assert f"{outcome} | signing-key | {words} | VCEK, not masked" in judged(
            verdict(report(key_flags=flags))
        )


def test_what_is_no_report_of_a_known_version() -> None:
    body = bytearray(report()[:SIGNED_SIZE])
    body[0] = 6
    line = "fail | version | an SNP report of an unknown version | 2, 3, 4 or 5, reserved bytes zero"
    assert line in judged(verdict(sign_report(CHIP, bytes(body)))).splitlines()


def test_the_roots_that_would_do() -> None:
    two = replace(
        POLICY,
        roots=(Root(product="Genoa", ark_der=stranger().ark), Root(product="Turin", ark_der=stranger().ark)),
    )
    line = judged(verdict(report(), policy=two)).splitlines()[0]
    assert line == "fail | chain | a signature in the chain does not verify | a pinned root: Genoa, Turin"


def test_without_a_chain_nothing_is_said_of_the_product() -> None:
    papers = Endorsements(vcek=CHIP.vcek, ask=stranger().ask, crl=vendor().crl)
    found = appraisal.appraise(report(), papers, POLICY, Checklist(SNP_RULES), kind="simulated-snp", now=NOW)
    assert found is not None
    assert (found[0].product, found[0].measurement) == ("", b"m" * 48)


@pytest.mark.parametrize("number", range(3))
def test_every_certificate_of_the_chain_is_asked_for_its_dates(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Each of the three can be the one that is not valid."""
    verify_chain = signatures.verify_chain

    def short(**given: bytes) -> tuple[Certificate, ...]:
        certificates = list(verify_chain(**given))
        certificates[number] = replace(certificates[number], not_after=NOW - 1)
        return tuple(certificates)

    monkeypatch.setattr(signatures, "verify_chain", short)
    line = "fail | chain-dates | a certificate in the chain is not valid at this time | all three valid"
    assert line in judged(verdict(report())).splitlines()

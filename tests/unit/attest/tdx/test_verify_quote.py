"""Every check of a quote refuses, for its own reason and no other."""

import json
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.pem import armored, certificates
from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.tdx import signatures
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.tdx.rules import TDX_OPTIONAL_RULES, TDX_REFERENCE_RULES, TDX_RULES
from sottovoce.attest.tdx.verify import TDX_CHAIN_ONLY, TDX_RELAXABLE, TdxReferences, verify_quote
from sottovoce.attest.vendors import intel_root
from sottovoce.attest.verdict import Status, Verdict
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.intel import QuoteFields, SimulatedIntel
from sottovoce.simulator.testing import NOW, intel

INTEL = intel()
PLATFORM = INTEL.make_platform(now=NOW)
FIELDS = QuoteFields(report_data=b"d" * 64)
GOOD = PLATFORM.quote(FIELDS)
COLLATERAL = INTEL.collateral(now=NOW)
SEPT = 1 << 28
# What the library does not rate it does not rate for advisories either.
UNRATED = {"tdx-tcb-status", "tdx-advisories"}


def verdict(quote: bytes = GOOD, collateral: bytes = COLLATERAL, **changes: Any) -> Verdict:
    return verify_quote(quote, collateral, **{"policy": INTEL.policy, "now": NOW, **changes})


def failed(*args: bytes, **changes: Any) -> set[str]:
    return {check.id for check in verdict(*args, **changes).failed}


def found(of: Verdict, check: str) -> str:
    return next(line.found for line in of.checks if line.id == check)


@pytest.mark.parametrize("version", [4, 5])
def test_a_good_quote_passes_and_says_what_was_not_checked(version: int) -> None:
    result = verdict(PLATFORM.quote(replace(FIELDS, version=version)))
    assert result.accepted
    not_checked = {line.id for line in result.checks if line.status is Status.NOT_CHECKED}
    assert not_checked == TDX_REFERENCE_RULES.keys() | TDX_OPTIONAL_RULES.keys()
    assert {line.id for line in result.checks} == {*TDX_RULES, *TDX_REFERENCE_RULES, *TDX_OPTIONAL_RULES}


CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"td_attributes": SEPT | 1}, {"tdx-debug", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 4}, {"tdx-debug", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 1}, {"tdx-debug", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 29}, {"tdx-migratable", *UNRATED}),
    ({"td_attributes": 0}, {"tdx-sept-ve-disable", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 63}, {"tdx-perfmon"}),
    ({"td_attributes": SEPT | 1 << 62}, {"tdx-attributes-reserved"}),
    ({"td_attributes": SEPT | 1 << 17}, {"tdx-attributes-reserved", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 40}, {"tdx-attributes-reserved", *UNRATED}),
    ({"td_attributes": SEPT | 1 << 16 | 1 << 27 | 1 << 30 | 1 << 31}, set()),
    ({"xfam": 0xE6}, {"tdx-xfam"}),
    ({"xfam": 0xE7 | 1 << 10}, {"tdx-xfam"}),
    ({"mr_signer_seam": b"\1" * 48}, {"tdx-seam", *UNRATED}),
    ({"seam_attributes": 1}, {"tdx-seam", *UNRATED}),
    ({"version": 5, "mr_service_td": b"\1" * 48}, {"tdx-service-td", *UNRATED}),
    ({"tee_tcb_svn": bytes([1, 1, 2]) + bytes(13)}, UNRATED),
    ({"tee_tcb_svn": bytes([5, 1, 1]) + bytes(13)}, UNRATED),
    ({"version": 5, "tee_tcb_svn_2": bytes([5, 1, 1]) + bytes(13)}, UNRATED),
]


@pytest.mark.parametrize(("change", "checks"), CHANGES)
def test_what_a_signed_quote_says_is_judged_line_by_line(change: dict[str, Any], checks: set[str]) -> None:
    assert failed(PLATFORM.quote(replace(FIELDS, **change))) == checks


def test_relaxing_shows_and_lets_pass() -> None:
    quote = PLATFORM.quote(replace(FIELDS, td_attributes=SEPT | 1 << 63))
    result = verdict(quote, relaxed=frozenset({"tdx-perfmon"}))
    assert result.accepted
    assert result.relaxed == ("tdx-perfmon",)
    assert [line.id for line in result.checks if line.status is Status.RELAXED] == ["tdx-perfmon"]


@pytest.mark.parametrize("check", sorted({*TDX_RULES, *TDX_REFERENCE_RULES} - TDX_RELAXABLE))
def test_what_cannot_be_relaxed(check: str) -> None:
    with pytest.raises(UsageError):
        verdict(relaxed=frozenset({check}))


# Signatures and collateral.


def test_another_vendors_root() -> None:
    assert failed(policy=TdxPolicy(root=intel_root())) >= {"tdx-signature"}
    other = SimulatedIntel.create(now=NOW)
    assert failed(policy=other.policy) >= {"tdx-signature"}
    assert failed(GOOD, other.collateral(now=NOW)) >= {"tdx-collateral", "tdx-signature"}


def test_a_quote_without_collateral_is_refused() -> None:
    assert failed(GOOD, b"") >= {"tdx-collateral", "tdx-collateral-dates", "tdx-signature", "tdx-tcb-status"}


@pytest.mark.parametrize("at", [NOW - 7200, NOW + 30 * 86400 - 3600, NOW + 300 * 86400])
def test_stale_collateral_is_refused_and_nothing_else_is_hidden_by_it(at: int) -> None:
    assert failed(now=at) == {"tdx-collateral-dates"}
    assert verdict(now=at, relaxed=frozenset({"tdx-collateral-dates"})).accepted


def test_the_last_second_of_the_collateral() -> None:
    assert verdict(now=NOW + 30 * 86400 - 3601).accepted


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded", "Revoked"])
def test_patch_levels_that_are_not_up_to_date(status: str) -> None:
    collateral = INTEL.collateral(now=NOW, status=status, advisories=("INTEL-SA-00837",))
    checks = {"tdx-tcb-status", "tdx-advisories"}
    assert failed(GOOD, collateral) == checks
    policy = replace(
        INTEL.policy, statuses=frozenset({"UpToDate", status}), advisories=frozenset({"INTEL-SA-00837"})
    )
    # Revoked is never accepted, whatever the policy says.
    assert failed(GOOD, collateral, policy=policy) == (checks if status == "Revoked" else set())


def test_an_advisory_alone_refuses() -> None:
    collateral = INTEL.collateral(now=NOW, advisories=("INTEL-SA-00837", "INTEL-SA-00615"))
    assert failed(GOOD, collateral) == {"tdx-advisories"}
    policy = replace(INTEL.policy, advisories=frozenset({"INTEL-SA-00837"}))
    assert failed(GOOD, collateral, policy=policy) == {"tdx-advisories"}


def test_collateral_of_another_kind_of_platform() -> None:
    collateral = INTEL.collateral(now=NOW, change_tcb=lambda tcb: {**tcb, "fmspc": "00A06F000000"})
    result = verdict(GOOD, collateral)
    assert {line.id for line in result.failed} == UNRATED
    words = (
        "the collateral is of another kind of platform: its FMSPC is 00A06F000000, the quote's 50806F000000"
    )
    assert found(result, "tdx-tcb-status") == words


def test_collateral_for_sgx() -> None:
    assert failed(GOOD, INTEL.collateral(now=NOW, change_tcb=lambda tcb: {**tcb, "id": "SGX"})) == UNRATED
    enclave = INTEL.collateral(now=NOW, change_enclave=lambda one: {**one, "id": "QE"})
    assert failed(GOOD, enclave) >= {"tdx-collateral", "tdx-signature"}


def test_an_unknown_module() -> None:
    collateral = INTEL.collateral(now=NOW, change_tcb=lambda tcb: {**tcb, "tdxModuleIdentities": []})
    assert failed(GOOD, collateral) == UNRATED


def test_another_quoting_enclave() -> None:
    collateral = INTEL.collateral(now=NOW, change_enclave=lambda one: {**one, "mrsigner": "AB" * 32})
    assert "tdx-signature" in failed(GOOD, collateral)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mrsigner": "AB" * 32}, "the quoting enclave is not the one that Intel names"),
        ({"isvprodid": 9}, "the quoting enclave is not the one that Intel names"),
        ({"miscselect": "00000001"}, "the quoting enclave is not the one that Intel names"),
        (
            {"attributes": "10" + "00" * 15, "attributesMask": "FF" * 16},
            "the quoting enclave is not the one that Intel names",
        ),
        (
            {
                "tcbLevels": [
                    {"tcb": {"isvsvn": 9}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}
                ]
            },
            "Intel knows no patch level as low as the quoting enclave's",
        ),
    ],
)
def test_quoting_enclaves(change: dict[str, Any], words: str) -> None:
    result = verdict(GOOD, INTEL.collateral(now=NOW, change_enclave=lambda one: {**one, **change}))
    assert found(result, "tdx-signature") == words


def test_the_enclaves_identity_is_of_sgx() -> None:
    result = verdict(GOOD, INTEL.collateral(now=NOW, change_enclave=lambda one: {**one, "id": "QE"}))
    assert found(result, "tdx-collateral") == "the quoting enclave's identity is of another platform"


def test_an_enclave_that_adds_other_data_to_its_key() -> None:
    at = GOOD.index(struct.pack("<H", 32) + bytes(range(32)))
    changed = GOOD[:at] + struct.pack("<H", 31) + GOOD[at + 3 :]
    for at in (632, 632 + 4 + 128 + 2):  # what these two count is one byte shorter
        (count,) = struct.unpack_from("<I", changed, at)
        changed = changed[:at] + struct.pack("<I", count - 1) + changed[at + 4 :]
    words = "what the quoting enclave adds to its key has an unknown length"
    assert found(verdict(changed), "tdx-signature") == words


def test_a_revoked_platform() -> None:
    leaf = x509.load_pem_x509_certificates(PLATFORM.chain)[0]
    result = verdict(GOOD, INTEL.collateral(now=NOW, revoked=(leaf.serial_number,)))
    assert found(result, "tdx-signature") == "a certificate is revoked"


def test_certificates_of_another_time() -> None:
    later = INTEL.make_platform(now=NOW + 30 * 86400).quote(FIELDS)
    assert found(verdict(later), "tdx-signature") == "a certificate is not valid yet"
    earlier = INTEL.make_platform(now=NOW - 30 * 365 * 86400).quote(FIELDS)
    assert found(verdict(earlier), "tdx-signature") == "a certificate has expired"


def test_a_signers_certificate_that_is_none() -> None:
    document = json.loads(COLLATERAL)
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        chain = armored(b"no certificate", INTEL.root).decode()
        result = verdict(GOOD, json.dumps({**document, name: chain}).encode())
        assert found(result, "tdx-collateral") == "a certificate of the collateral is malformed"


def test_a_revocation_list_of_another_authority() -> None:
    document = json.loads(COLLATERAL)
    for name, words in (
        ("root_ca_crl", "it has no revocation list of the authority that certifies the platform"),
        ("pck_crl", "a revocation list is not signed by its authority"),
    ):
        text = document[name] if name == "root_ca_crl" else document[name][:-2]
        text += "" if name == "root_ca_crl" else f"{int(document[name][-2:], 16) ^ 1:02x}"
        result = verdict(GOOD, json.dumps({**document, "pck_crl": text}).encode())
        assert found(result, "tdx-collateral") == words


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_platforms_key_signs_no_collateral(name: str) -> None:
    """The key of any machine has a path to the root: taken out of one, it must not call its own patch levels up to date."""
    thief = INTEL.make_platform(now=NOW)
    document = json.loads(INTEL.collateral(now=NOW, status="OutOfDate"))
    document[name] = document[name].replace("OutOfDate", "UpToDate")
    r, s = utils.decode_dss_signature(thief.key.sign(document[name].encode(), ec.ECDSA(hashes.SHA256())))
    document[f"{name}_signature"] = (r.to_bytes(32, "big") + s.to_bytes(32, "big")).hex()
    leaf, authority, root = certificates(thief.chain)
    for chain in ((leaf, authority, root), (leaf, authority), (leaf,)):
        document[f"{name}_issuer_chain"] = armored(*chain).decode()
        result = verdict(GOOD, json.dumps(document).encode())
        assert "is not certified by the pinned root itself" in found(result, "tdx-collateral")
    document[f"{name}_issuer_chain"] = armored(leaf, root).decode()
    assert failed(GOOD, json.dumps(document).encode()) >= {"tdx-signature", *UNRATED}


def test_the_signer_of_patch_levels_has_expired() -> None:
    """The collateral outlives its signer's certificate."""
    long = INTEL.collateral(now=NOW, life=100 * 365 * 86400)
    result = verdict(GOOD, long, now=NOW + 30 * 365 * 86400)
    words = "the certificate of the signer of the patch levels is not valid at this time"
    assert found(result, "tdx-collateral") == words


def test_a_demanded_evaluation() -> None:
    policy = replace(INTEL.policy, evaluation=17)
    assert verdict(policy=policy).accepted
    assert failed(policy=replace(policy, evaluation=18)) == {"tdx-evaluation"}
    older = INTEL.collateral(now=NOW, change_enclave=lambda one: {**one, "tcbEvaluationDataNumber": 16})
    assert failed(GOOD, older, policy=policy) == {"tdx-evaluation"}


@pytest.mark.parametrize(
    "member", ["tcb_info", "qe_identity", "tcb_info_signature", "root_ca_crl", "pck_crl"]
)
def test_one_changed_byte_of_the_collateral(member: str) -> None:
    document = json.loads(COLLATERAL)
    text = document[member]
    at = text.index("17,") if member in ("tcb_info", "qe_identity") else len(text) - 5
    document[member] = text[:at] + ("8" if text[at] != "8" else "9") + text[at + 1 :]
    assert failed(GOOD, json.dumps(document).encode()) & {"tdx-collateral", "tdx-signature"}


def test_certificates_that_can_be_read_in_two_ways() -> None:
    head, _, tail = PLATFORM.chain.partition(b"-----END")
    for chain in (
        PLATFORM.chain + b"x",
        b"text\n" + PLATFORM.chain,
        PLATFORM.chain + PLATFORM.chain[-600:],
        head.replace(b"\n", b"\r\n") + b"-----END" + tail,
    ):
        quote = replace(PLATFORM, chain=chain).quote(FIELDS)
        assert "tdx-signature" in failed(quote)
    assert verdict(replace(PLATFORM, chain=PLATFORM.chain + b"\0").quote(FIELDS)).accepted


def test_what_follows_the_signature() -> None:
    assert verdict(GOOD + bytes(70)).accepted
    assert failed(GOOD + bytes(70) + b"x") == {"tdx-trailing"}


def test_a_platform_without_an_id() -> None:
    platform = INTEL.make_platform(now=NOW, ppid=bytes(16))
    assert failed(platform.quote(FIELDS)) == {"tdx-hardware-id"}


# Reference values.


REFERENCES: list[tuple[str, Callable[[bytes], TdxReferences], bytes]] = [
    ("report-data", lambda value: TdxReferences(report_data=value), FIELDS.report_data),
    ("tdx-platform", lambda value: TdxReferences(platforms=frozenset({value})), PLATFORM.ppid),
    ("tdx-module", lambda value: TdxReferences(modules=frozenset({value})), FIELDS.mr_seam),
    ("tdx-mrtd", lambda value: TdxReferences(mrtds=frozenset({value})), FIELDS.mr_td),
    *(
        (
            f"tdx-rtmr-{number}",
            lambda value, number=number: TdxReferences(
                rtmrs=tuple(frozenset({value}) if number == n else None for n in range(4))
            ),
            FIELDS.rtmrs[number],
        )
        for number in range(4)
    ),
]


@pytest.mark.parametrize(("check", "references", "value"), REFERENCES, ids=[case[0] for case in REFERENCES])
def test_reference_values(check: str, references: Callable[[bytes], TdxReferences], value: bytes) -> None:
    result = verdict(references=references(value))
    assert result.accepted
    assert next(line.status for line in result.checks if line.id == check) is Status.PASS
    other = bytes([value[0] ^ 1]) + value[1:]
    assert failed(references=references(other)) == {check}
    # What is given is compared even where the policy leaves everything else out.
    assert failed(references=references(other), left_out=TDX_CHAIN_ONLY) == {check}
    with pytest.raises(UsageError):
        references(value[1:])


def test_what_the_host_configured() -> None:
    quote = PLATFORM.quote(replace(FIELDS, mr_config_id=b"c" * 48, mr_owner=b"o" * 48))
    result = verdict(quote)
    assert result.accepted
    line = next(line for line in result.checks if line.id == "tdx-config")
    assert line.status is Status.NOT_CHECKED
    assert (b"c" * 48).hex() in line.found
    assert verdict(quote, references=TdxReferences(mr_config_id=b"c" * 48, mr_owner=b"o" * 48)).accepted
    assert failed(quote, references=TdxReferences(mr_config_id=b"c" * 48)) == {"tdx-config"}
    assert failed(references=TdxReferences(mr_config_id=b"c" * 48)) == {"tdx-config"}


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_each_value_of_the_hosts_counts_alone(name: str) -> None:
    given: dict[str, Any] = {name: b"v" * 48}
    references = TdxReferences(**given)
    quote = PLATFORM.quote(replace(FIELDS, **given))
    for left_out in (frozenset[str](), TDX_CHAIN_ONLY):
        result = verdict(quote, references=references, left_out=left_out)
        assert result.accepted
        assert next(line.status for line in result.checks if line.id == "tdx-config") is Status.PASS
        assert failed(references=references, left_out=left_out) == {"tdx-config"}


# Input.


@pytest.mark.parametrize("length", [0, 1, 47, 48, 100, 631, 632, 635, 636, 1000, len(GOOD) - 1])
def test_a_quote_that_is_cut_short(length: int) -> None:
    try:
        assert "tdx-version" in failed(GOOD[:length])
    except DecodeError:
        assert length <= 48


def test_what_is_no_quote_of_a_trust_domain() -> None:
    for data in (b"", b"x" * 48, bytes(5000), GOOD[:4] + b"\0" + GOOD[5:], GOOD + bytes(20_000)):
        with pytest.raises(DecodeError, match="not a TDX quote"):
            verdict(data)


@pytest.mark.parametrize(("at", "value"), [(0, 3), (0, 6), (2, 3), (12, 0)])
def test_other_versions_keys_and_vendors(at: int, value: int) -> None:
    assert "tdx-version" in failed(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])


def refused(quote: bytes) -> bool:
    try:
        return bool(failed(quote))
    except DecodeError:
        return True


@pytest.mark.exhaustive
@pytest.mark.parametrize("version", [4, 5])
def test_every_flipped_bit_is_refused(version: int) -> None:
    """One bit of each byte; every bit of every byte of a real quote is in docs/flip-table.md."""
    quote = PLATFORM.quote(replace(FIELDS, version=version))
    for at in range(len(quote)):
        changed = bytearray(quote)
        changed[at] ^= 1 << at % 8
        assert refused(bytes(changed)), at


def with_member(document: dict[str, str], name: str, value: Any) -> str:
    return json.dumps({**json.loads(document["qe_identity"]), name: value})


def with_fmspc(document: dict[str, str], value: Any) -> str:
    return json.dumps({**json.loads(document["tcb_info"]), "fmspc": value})


def test_the_dates_and_the_number_of_collateral(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's dates are UTC, wherever the verifier is; its first number is 0."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    document = json.loads(COLLATERAL)
    document["qe_identity"] = with_member(document, "tcbEvaluationDataNumber", 0)
    document["qe_identity"] = with_member(
        {"qe_identity": document["qe_identity"]}, "nextUpdate", "2001-09-09T01:46:40Z"
    )
    collateral = Collateral.parse(json.dumps(document).encode())
    monkeypatch.undo()
    time.tzset()
    assert collateral.evaluation == 0
    assert collateral.next_update == 1_000_000_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: {name: text for name, text in document.items() if name != "pck_crl"},
        lambda document: {**document, "other": ""},
        lambda document: {**document, "tcb_info": 1},
        lambda document: {**document, "tcb_info": with_fmspc(document, 1)},
        lambda document: {**document, "tcb_info": with_fmspc(document, "00A06F00000")},
        lambda document: {**document, "tcb_info_issuer_chain": "-----BEGIN CERTIFICATE-----"},
        lambda document: {**document, "tcb_info_issuer_chain": "\ud800"},
        lambda document: {**document, "tcb_info": "{}"},
        lambda document: {**document, "tcb_info": "[]"},
        lambda document: {**document, "qe_identity": "1"},
        lambda document: {**document, "qe_identity": with_member(document, "tcbEvaluationDataNumber", -1)},
        lambda document: {**document, "qe_identity": with_member(document, "tcbEvaluationDataNumber", True)},
        lambda document: {**document, "qe_identity": with_member(document, "tcbEvaluationDataNumber", "1")},
        lambda document: {**document, "qe_identity": with_member(document, "issueDate", 1)},
        lambda document: {**document, "qe_identity": with_member(document, "nextUpdate", "tomorrow")},
        lambda document: {**document, "tcb_info": "[" * 100_000},
        lambda document: {**document, "pck_crl": "zz"},
        lambda document: {**document, "pck_crl": "00"},
        lambda document: {
            **document,
            "pck_crl": document["pck_crl"].replace("020101", "020102", 1),
        },  # its version
        lambda document: [document],
        lambda document: {**document, "tcb_info": "x" * 200_000},
    ],
)
def test_collateral_that_is_malformed(spoil: Callable[[Any], Any]) -> None:
    with pytest.raises(DecodeError):
        verdict(GOOD, json.dumps(spoil(json.loads(COLLATERAL))).encode())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda document: [document], "the collateral is not a JSON object"),
        (
            lambda document: {name: document[name] for name in document if not name.startswith("qe_")},
            "the collateral lacks qe_identity, qe_identity_issuer_chain, qe_identity_signature",
        ),
        (lambda document: {**document, "letter": "dearest"}, "the collateral has an unknown member"),
        (
            lambda document: {**document, "pck_crl": None, "root_ca_crl": 1},
            "not text in the collateral: pck_crl, root_ca_crl",
        ),
        (
            lambda _: {"tcbInfo": {}, "signature": "00"},
            "this is one answer of Intel's service, and not all of the collateral",
        ),
        (
            lambda _: {"enclaveIdentity": {}, "signature": "00"},
            "this is one answer of Intel's service, and not all of the collateral",
        ),
    ],
)
def test_what_is_missing_has_a_name(spoil: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$") as caught:
        Collateral.parse(json.dumps(spoil(json.loads(COLLATERAL))).encode())
    assert "docs/verifying.md" in caught.value.hint


def test_collateral_as_intels_service_answers() -> None:
    """The two documents with their signatures inside, lists as PEM."""
    document = json.loads(COLLATERAL)
    for name, inner in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        signature = document.pop(f"{name}_signature")
        document[name] = f'{{"{inner}":{document[name]},"signature":"{signature}"}}\n'
    for name in ("root_ca_crl", "pck_crl"):
        crl = x509.load_der_x509_crl(bytes.fromhex(document[name]))
        document[name] = crl.public_bytes(serialization.Encoding.PEM).decode()
    assert verdict(GOOD, json.dumps(document).encode()).accepted
    lines = {**document, "tcb_info": document["tcb_info"].replace('Info":{', 'Info":{\n', 1)}
    assert "tdx-collateral" in failed(GOOD, json.dumps(lines).encode())  # read, and not what was signed
    twice = {**document, "tcb_info_signature": "00" * 64}
    with pytest.raises(DecodeError):
        verdict(GOOD, json.dumps(twice).encode())
    spoiled = {**document, "tcb_info": document["tcb_info"].replace("UpToDate", "UpToDatE", 1)}
    assert "tdx-collateral" in failed(GOOD, json.dumps(spoiled).encode())


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_quote_without_certificates(kind: int) -> None:
    at = GOOD.index(struct.pack("<HI", 5, len(PLATFORM.chain)) + PLATFORM.chain)
    result = verdict(GOOD[:at] + bytes([kind]) + GOOD[at + 1 :])
    assert (
        found(result, "tdx-version") == "the TDX quote has an encrypted platform id in place of certificates"
    )


def test_a_quote_of_an_enclave() -> None:
    with pytest.raises(DecodeError, match="a quote of an SGX enclave, not a TDX quote"):
        verdict(GOOD[:4] + bytes(4) + GOOD[8:])


def test_a_parsed_quote_has_all_fields() -> None:
    quote = Quote.parse(PLATFORM.quote(replace(FIELDS, version=5, mr_owner=b"o" * 48)))
    assert (quote.version, quote.mr_td, quote.mr_owner) == (5, FIELDS.mr_td, b"o" * 48)
    assert quote.rtmrs == FIELDS.rtmrs
    assert quote.report_data == FIELDS.report_data
    assert quote.trailing == b""


def test_when_the_signers_of_collateral_are_valid() -> None:
    """Their first and last seconds count; whose certificate is meant is said."""
    collateral = Collateral.parse(COLLATERAL)
    signer = Certificate.parse(collateral.signers[0][0])
    for now in (signer.not_before, signer.not_after):
        signatures._require_signers(collateral, INTEL.root, now=now)
    for now in (signer.not_before - 1, signer.not_after + 1):
        with pytest.raises(signatures.CollateralError, match="the signer of the patch levels is not valid"):
            signatures._require_signers(collateral, INTEL.root, now=now)
    alone = replace(collateral, signers=(collateral.signers[0], collateral.signers[1][:1]))
    with pytest.raises(
        signatures.CollateralError, match="the signer of the quoting enclave's identity is not certified"
    ):
        signatures._require_signers(alone, INTEL.root, now=NOW)


def test_a_verified_quote_names_its_platform() -> None:
    verified = signatures.verify_quote(
        Quote.parse(GOOD), Collateral.parse(COLLATERAL), root=INTEL.policy.root, now=NOW
    )
    assert verified == signatures.VerifiedQuote(status="UpToDate", ppid=PLATFORM.ppid)


def test_what_the_policy_lowers_is_named() -> None:
    policy = replace(
        INTEL.policy, statuses=frozenset({"UpToDate", "OutOfDate"}), advisories=frozenset({"INTEL-SA-00001"})
    )
    assert verdict(policy=policy).relaxed == ("tdx-advisories", "tdx-tcb-status")


def test_certificates_of_a_quote_that_are_not_whole() -> None:
    begin = b"-----BEGIN CERTIFICATE-----"
    spoilt = GOOD.replace(begin, b"-----BEGIN CERTIFICATE+----", 1)
    assert found(verdict(spoilt), "tdx-signature") == "the platform's certificates are malformed"

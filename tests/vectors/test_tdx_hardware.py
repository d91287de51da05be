"""Real TDX quotes; origin in ../shared/fixtures/PROVENANCE.tsv. At a fixed time, as collateral lives 30 days."""

import base64
import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fixtures_dir import FIXTURES, need
from sottovoce.attest.pem import certificates
from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.tdx.eventlog import EventLog
from sottovoce.attest.tdx.forms import read_quote
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.tdx.verify import TDX_CHAIN_ONLY, TdxReferences, verify_quote
from sottovoce.attest.vendors import intel_root
from sottovoce.attest.verdict import Verdict
from sottovoce.core.errors import DecodeError

POLICY = TdxPolicy(root=intel_root())


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())


def read(name: str) -> bytes:
    return need(f"tdx/{name}").read_bytes()


def pick(name: str) -> bytes:
    """A file, or one PEM block or one member of it: file, then # and the label or the member's name."""
    path, _, part = name.partition("#")
    data = (need(path) if path.startswith("openpcc/") else need(f"tdx/{path}")).read_bytes()
    if not part:
        return data
    if data.startswith(b"{"):
        return json.dumps({part: json.loads(data)[part]}).encode()
    begin, end = f"-----BEGIN {part}-----".encode(), f"-----END {part}-----".encode()
    return data[data.index(begin) : data.index(end) + len(end)]


def judge(quote: str, collateral: str, time: str, policy: TdxPolicy = POLICY, **changes: object) -> Verdict:
    return verify_quote(
        read_quote(pick(quote)),
        read(collateral),
        policy=policy,
        now=at(time),
        **changes,  # type: ignore[arg-type]
    )


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


UNRATED = {"tdx-tcb-status", "tdx-advisories"}
# quote, collateral, time, what fails: the strict policy
VERDICTS = [
    ("dcap-qvl/tdx_quote", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", set()),
    # Stale: a month later, and a day before it was issued
    ("dcap-qvl/tdx_quote", "dcap-qvl/tdx_quote_collateral.json", "2025-07-19T12:00:00", {"tdx-collateral-dates"}),
    ("dcap-qvl/tdx_quote", "dcap-qvl/tdx_quote_collateral.json", "2025-06-18", {"tdx-collateral-dates"}),
    # The platform's patch levels are below all that Intel lists.
    ("dcap-qvl/tdx_quote_outdated", "dcap-qvl/tdx_quote_outdated_collateral.json", "2026-03-01", UNRATED),
    ("dcap-qvl/tdx-quote.hex", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", UNRATED),
    ("dcap-qvl/quote-from-tappd.hex", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", UNRATED),
    # Its platform's certificate is of 2026.
    ("go-tdx-guest/quote_v5_sample.dat", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-collateral", "tdx-signature", *UNRATED}),
    ("go-tdx-guest/quote_v5_sample.dat", "dcap-qvl/tdx_quote_outdated_collateral.json", "2026-03-01", set()),
    # SGX: the enclave's identity is not of TDX.
    ("dcap-qvl/tdx_quote", "dcap-qvl/sgx_quote_collateral.json", "2025-06-20", {"tdx-collateral", "tdx-signature", *UNRATED}),
]  # fmt: skip


@pytest.mark.parametrize(("quote", "collateral", "time", "checks"), VERDICTS)
def test_strict(quote: str, collateral: str, time: str, checks: set[str]) -> None:
    assert failed(judge(quote, collateral, time)) == checks


# Quotes without collateral of their own: every signature verifies with that of another platform, which says nothing of patch levels.
STRANGERS = [
    # TDX module 1.5 in debug mode
    ("coco-trustee/tdx_quote_4.dat", "50806F000000", {"tdx-debug"}),
    # A service TD is bound, which can move it.
    ("coco-trustee/tdx_quote_5.dat", "90C06F000000", {"tdx-service-td"}),
    ("teekit/tdx-v5-trustee.dat", "90C06F000000", {"tdx-service-td"}),
    # 39 bytes stand behind the signature, and the TD is interrupted when its pages are taken.
    ("go-tdx-guest/tdx_prod_quote_SPR_E4.dat", "50806F000000", {"tdx-trailing", "tdx-sept-ve-disable"}),
    # Made by paravisors, which are interrupted when their pages are taken; all but the newest
    ("coco-az-tdx-vtpm/td-quote.bin", "00806F050000", {"tdx-sept-ve-disable"}),
    ("coco-az-tdx-vtpm/evidence-v0.json#td_quote", "00806F050000", {"tdx-sept-ve-disable"}),
    ("coco-az-tdx-vtpm/evidence-v1.json#td_quote", "00806F050000", {"tdx-sept-ve-disable"}),
    ("teekit/tdx-v4-azure", "00806F050000", {"tdx-sept-ve-disable"}),
    ("openpcc/attest/azure_tdx_report.txt#QUOTE", "90C06F000000", set()),
    # Followed by 3,000 zeros
    ("teekit/tdx-v4-gcp.json", "00806F050000", set()),
    ("teekit/tdx-v4-gcp-no-nonce.json", "00806F050000", set()),
    ("openpcc/attest/gce_tdx_report.txt", "00806F050000", set()),
]  # fmt: skip


@pytest.mark.parametrize(("quote", "fmspc", "checks"), STRANGERS)
def test_without_collateral_of_its_own(quote: str, fmspc: str, checks: set[str]) -> None:
    collateral, time = "dcap-qvl/tdx_quote_collateral.json", "2025-06-20"
    verdict = judge(quote, collateral, time)
    assert failed(verdict) == checks | UNRATED
    found = next(line.found for line in verdict.checks if line.id == "tdx-tcb-status")
    words = f"the collateral is of another kind of platform: its FMSPC is B0C06F000000, the quote's {fmspc}"
    assert found == words
    assert judge(quote, collateral, time, left_out=TDX_CHAIN_ONLY).accepted


def answers(tcb_info: bytes, qe_identity: bytes, root_crl: bytes, pck_crl: bytes) -> bytes:
    """Collateral as Intel's service answers; the certificates of its signers do not come with the answers, but in headers."""
    document = json.loads(read("dcap-qvl/tdx_quote_outdated_collateral.json"))
    chains = {name: text for name, text in document.items() if name.endswith("_chain")}
    lists = {"root_ca_crl": root_crl.hex(), "pck_crl": pck_crl.hex()}
    return json.dumps(
        {**chains, **lists, "tcb_info": tcb_info.decode(), "qe_identity": qe_identity.decode()}
    ).encode()


def test_answers_of_intels_service() -> None:
    """The patch levels as they came, without a member for their signature; with the same enclave identity."""
    document = json.loads(read("dcap-qvl/tdx_quote_outdated_collateral.json"))
    identity = document["qe_identity"], document["qe_identity_signature"]
    collateral = answers(
        read("go-tdx-guest/sample_tcbinfo_response_v5"),
        f'{{"enclaveIdentity":{identity[0]},"signature":"{identity[1]}"}}'.encode(),
        *(bytes.fromhex(document[name]) for name in ("root_ca_crl", "pck_crl")),
    )
    for quote, checks in (
        ("go-tdx-guest/quote_v5_sample.dat", set()),
        ("dcap-qvl/tdx_quote_outdated", UNRATED),
    ):
        verdict = verify_quote(read(quote), collateral, policy=POLICY, now=at("2026-02-25"))
        assert failed(verdict) == checks


def test_the_signers_certificate_is_newer_than_the_collateral() -> None:
    """Everything is of 2023 but the certificate of whoever signed it, which Intel has renewed since."""
    collateral = answers(
        *(read(f"go-tdx-guest/sample_{name}_response") for name in ("tcbInfo", "qeIdentity")),
        *(read(f"go-tdx-guest/{name}") for name in ("rootcrl.der", "pckcrl")),
    )
    verdict = verify_quote(
        read("coco-trustee/tdx_quote_4.dat"), collateral, policy=POLICY, now=at("2023-06-25")
    )
    assert failed(verdict) == {"tdx-collateral", "tdx-signature", "tdx-debug", *UNRATED}
    line = next(line for line in verdict.checks if line.id == "tdx-collateral")
    assert line.found == "the certificate of the signer of the patch levels is not valid at this time"


def with_members(collateral: str, other: str, *names: str) -> bytes:
    taken = json.loads(read(other))
    return json.dumps({**json.loads(read(collateral)), **{name: taken[name] for name in names}}).encode()


def test_revocation_list_of_the_other_authority() -> None:
    """Intel's processor authority certifies single chips, its platform authority whole machines."""
    collateral = with_members(
        "dcap-qvl/tdx_quote_collateral.json", "dcap-qvl/sgx_quote_collateral.json", "pck_crl"
    )
    verdict = verify_quote(read("dcap-qvl/tdx_quote"), collateral, policy=POLICY, now=at("2025-06-20"))
    assert failed(verdict) == {"tdx-collateral", "tdx-signature", *UNRATED}
    line = next(line for line in verdict.checks if line.id == "tdx-collateral")
    assert line.found == "it has no revocation list of the authority that certifies the platform"


# Files without a quote: collateral, logs, and what only a machine itself could verify
OTHERS = frozenset(
    {
        "coco-az-tdx-vtpm/hcl-report.bin",
        "coco-az-tdx-vtpm/quote.bin",  # of the TPM
        "coco-az-tdx-vtpm/tpm-quote-v1.json",
        "coco-trustee/CCEL_data_ovmf",
        "coco-trustee/CCEL_data_ovmf_out.json",
        "coco-trustee/enclaveIdentity.json",
        "coco-trustee/parse_tdx_claims_expected.json",
        "coco-trustee/tcbInfo.json",
        "dcap-qvl/sgx_quote",
        "dcap-qvl/sgx_quote_collateral.json",
        "dcap-qvl/tdx_quote_collateral.json",
        "dcap-qvl/tdx_quote_outdated_collateral.json",
        "go-tdx-guest/ccel-nonce.dat",
        "go-tdx-guest/ccel_data.dat",
        "go-tdx-guest/ccel_table.dat",
        "go-tdx-guest/pckcrl",
        "go-tdx-guest/report.dat",
        "go-tdx-guest/rootcrl.der",
        "go-tdx-guest/sample_qeIdentity_response",
        "go-tdx-guest/sample_tcbInfo_response",
        "go-tdx-guest/sample_tcbinfo_response_v5",
        "go-tdx-guest/trusted_root.pem",
    }
)


def test_every_quote_has_a_verdict() -> None:
    folder = FIXTURES / "tdx"
    need("tdx")
    judged = {
        name.partition("#")[0] for name in ([case[0] for case in VERDICTS] + [case[0] for case in STRANGERS])
    }
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    made_up = {name for name in there if name.startswith("teekit/tdx/")}
    assert there - judged - OTHERS - made_up == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dcap-qvl/sgx_quote", "quote of an SGX enclave, not a TDX quote"),
        ("coco-az-tdx-vtpm/hcl-report.bin", "paravisor's report, not a TDX quote"),
        ("coco-az-tdx-vtpm/evidence-v0.json", "more than a TDX quote"),
        ("coco-az-tdx-vtpm/quote.bin", "this is not a TDX quote"),
        ("coco-az-tdx-vtpm/tpm-quote-v1.json", "does not hold one TDX quote"),
        ("go-tdx-guest/report.dat", "this is not a TDX quote"),
        ("openpcc/attest/azure_tdx_report.txt", "several PEM blocks"),
    ],
)
def test_what_is_no_quote_says_so(name: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        judge(name, "dcap-qvl/tdx_quote_collateral.json", "2025-06-20")


def test_chain_only_looks_at_signatures_alone() -> None:
    for name in ("tdx_quote", "tdx_quote_outdated"):
        time = "2025-06-20" if name == "tdx_quote" else "2026-03-01"
        verdict = judge(f"dcap-qvl/{name}", f"dcap-qvl/{name}_collateral.json", time, left_out=TDX_CHAIN_ONLY)
        assert verdict.accepted, verdict.lines()


def test_reference_values_of_a_real_quote() -> None:
    quote = Quote.parse(read("dcap-qvl/tdx_quote"))
    references = TdxReferences(
        report_data=quote.report_data,
        mrtds=frozenset({quote.mr_td}),
        rtmrs=tuple(frozenset({value}) for value in quote.rtmrs),
        modules=frozenset({quote.mr_seam}),
    )
    time = "2025-06-20"
    good = judge("dcap-qvl/tdx_quote", "dcap-qvl/tdx_quote_collateral.json", time, references=references)
    assert good.accepted


def test_a_made_up_sample_is_refused_under_any_root() -> None:
    """From Intel's library: zeros and random numbers, signed under a root of its own; its platform names no id."""
    folder = "teekit/tdx"

    def text(name: str) -> str:
        return read(f"{folder}/{name}").decode()

    tcb, enclave = (read(f"{folder}/{name}.json").decode() for name in ("tcbInfo", "qeIdentity"))
    (root,) = certificates(read(f"{folder}/trustedRootCaCert.pem"))
    members = {
        "pck_crl_issuer_chain": text("pckSignChain.pem"),
        "root_ca_crl": read(f"{folder}/rootCaCrl.der").hex(),
        "pck_crl": read(f"{folder}/intermediateCaCrl.der").hex(),
        "tcb_info_issuer_chain": text("tcbSignChain.pem"),
        "qe_identity_issuer_chain": text("tcbSignChain.pem"),
    }
    for name, document, body in (("tcb_info", tcb, "tcbInfo"), ("qe_identity", enclave, "enclaveIdentity")):
        head = f'{{"{body}":'
        assert document.startswith(head)
        members[name], _, rest = document.removeprefix(head).rpartition(',"signature":"')
        members[f"{name}_signature"] = rest.strip().removesuffix('"}')
    collateral = json.dumps(members).encode()
    quote = read(f"{folder}/quote.dat")
    for policy in (TdxPolicy(root=root), POLICY):
        verdict = verify_quote(quote, collateral, policy=policy, now=at("2023-06-01"))
        assert failed(verdict) >= {"tdx-signature", "tdx-sept-ve-disable", "tdx-xfam", "tdx-hardware-id"}


@pytest.mark.parametrize(
    ("name", "events"), [("go-tdx-guest/ccel_data.dat", 43), ("coco-trustee/CCEL_data_ovmf", 20)]
)
def test_real_event_logs(name: str, events: int) -> None:
    log = EventLog.parse(read(name))
    assert log.events == events
    assert [any(register) for register in log.registers] == [True, True, True, False]


def test_the_pinned_root_is_intels() -> None:
    (theirs,) = certificates(read("go-tdx-guest/trusted_root.pem"))
    assert theirs == intel_root()
    root = x509.load_der_x509_certificate(intel_root())
    root.verify_directly_issued_by(root)
    assert base64.b64encode(root.public_bytes(Encoding.DER))

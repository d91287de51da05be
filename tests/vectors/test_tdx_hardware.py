"""Real TDX quotes; origin in ../shared/fixtures/PROVENANCE.tsv. At a fixed time, as collateral lives 30 days."""

import base64
import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fixtures_dir import need
from sottovoce.attest.pem import certificates, plain
from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.tdx.eventlog import EventLog
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


def judge(quote: str, collateral: str, time: str, policy: TdxPolicy = POLICY, **changes: object) -> Verdict:
    return verify_quote(
        plain(read(quote)),
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
    # Collateral of another platform; this one runs TDX module 1.5 in debug mode
    ("coco-trustee/tdx_quote_4.dat", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-debug", *UNRATED}),
    # A service TD is bound, which can move it.
    ("coco-trustee/tdx_quote_5.dat", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-service-td", *UNRATED}),
    # Its platform's certificate is of 2026.
    ("go-tdx-guest/quote_v5_sample.dat", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-collateral", "tdx-signature", *UNRATED}),
    ("go-tdx-guest/quote_v5_sample.dat", "dcap-qvl/tdx_quote_outdated_collateral.json", "2026-03-01", set()),
    # 39 bytes stand behind the signature, and the TD is interrupted when its pages are taken.
    ("go-tdx-guest/tdx_prod_quote_SPR_E4.dat", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-trailing", "tdx-sept-ve-disable", *UNRATED}),
    # Made by a paravisor, which is interrupted when its pages are taken
    ("coco-az-tdx-vtpm/td-quote.bin", "dcap-qvl/tdx_quote_collateral.json", "2025-06-20", {"tdx-sept-ve-disable", *UNRATED}),
]  # fmt: skip


@pytest.mark.parametrize(("quote", "collateral", "time", "checks"), VERDICTS)
def test_strict(quote: str, collateral: str, time: str, checks: set[str]) -> None:
    assert failed(judge(quote, collateral, time)) == checks


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


@pytest.mark.parametrize("name", ["tdx-quote.hex", "quote-from-tappd.hex"])
def test_quotes_in_hexadecimal(name: str) -> None:
    quote = Quote.parse(plain(read(f"dcap-qvl/{name}")))
    assert quote.version == 4
    assert not quote.trailing


def test_a_quote_of_an_sgx_enclave_is_not_one_of_a_trust_domain() -> None:
    with pytest.raises(DecodeError, match="not a TDX quote"):
        judge("dcap-qvl/sgx_quote", "dcap-qvl/sgx_quote_collateral.json", "2025-06-20")


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

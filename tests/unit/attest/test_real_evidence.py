"""A real chip's report and papers inside evidence: a changed byte of any of them is one fault more.

The report was made for another connection, so that even the unchanged evidence is refused, for known reasons.
"""

import base64
import datetime as dt
from dataclasses import replace

import pytest

from fixtures_dir import need
from sottovoce.attest.evidence import Endorsements, Evidence, Platform
from sottovoce.attest.policy import SessionPolicy
from sottovoce.attest.snp.floors import Floor
from sottovoce.attest.snp.layout import Tcb
from sottovoce.attest.vendors import amd_root
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.simulator.testing import EvidenceWorld

WORLD = EvidenceWorld()
EXPORTER, SPKI = b"e" * 32, b"public key"
NOW = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())


def pem(name: str) -> bytes:
    """The first certificate of a file, DER."""
    data = need(f"sev-snp/{name}").read_bytes()
    if not data.startswith(b"-----"):
        return data
    return base64.b64decode(data.decode().split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0])


def real() -> Evidence:
    papers = Endorsements(
        vcek=pem("teekit/sev-gcp-vcek.pem"),
        ask=pem("amd-roots/ask_ark_milan.pem"),
        crl=need("sev-snp/crl/milan_crl.der").read_bytes(),
    )
    report = need("sev-snp/teekit/sev-gcp.bin").read_bytes()
    good = WORLD.evidence(EXPORTER, SPKI)
    return replace(good, platform=Platform(kind="sev-snp", report=report), endorsements=papers)


def policy() -> SessionPolicy:
    floor = Tcb(bootloader=0, tee=0, snp=0, microcode=0)
    return WORLD.policy(
        roots=(amd_root("Milan"),),
        allow_simulated=False,
        floors={"Milan": Floor(tcb=floor, source="this test")},
        relaxed=frozenset({"product"}),
    )


def failed(evidence: Evidence) -> set[str]:
    with pytest.raises(VerificationRefused) as caught:
        verify_session(
            evidence.encode(), policy=policy(), connection=WORLD.connection(EXPORTER, SPKI, now=NOW)
        )
    return {check.id for check in caught.value.verdict.failed}


PLATFORM_IS_RIGHT = {
    "decode", "chain", "chain-dates", "revocation-list", "revoked", "product-match", "version", "signing-key",
    "signature", "tcb-certificate", "tcb-floor", "tcb-committed", "hardware-id", "policy-reserved", "policy-debug",
}  # fmt: skip


def test_a_real_chip_is_believed_and_its_evidence_is_bound_to_another_connection() -> None:
    found = failed(real())
    assert not found & PLATFORM_IS_RIGHT
    assert {"binding", "measurement", "platform", "host"} <= found


def test_a_simulated_root_does_not_vouch_for_a_real_chip_nor_a_real_root_for_a_simulated() -> None:
    evidence = real()
    good = WORLD.evidence(EXPORTER, SPKI)
    assert "chain" in failed(good)
    assert "product-match" in failed(
        replace(evidence, platform=replace(evidence.platform, kind="simulated-snp"))
    )
    with pytest.raises(VerificationRefused) as caught:
        verify_session(
            evidence.encode(), policy=WORLD.policy(), connection=WORLD.connection(EXPORTER, SPKI, now=NOW)
        )
    assert "chain" in {check.id for check in caught.value.verdict.failed}


@pytest.mark.exhaustive
def test_no_changed_byte_of_a_real_chips_papers_goes_unseen() -> None:
    evidence = real()
    known, good = failed(evidence), evidence.encode()
    papers, report = evidence.endorsements, evidence.platform.report
    for piece in (report, papers.vcek, papers.ask, papers.crl):
        start = good.index(piece)
        ends = {start - 1, start, start + 1, start + len(piece) - 1}
        for at in sorted({*range(start, start + len(piece), 16), *ends}):
            data = bytearray(good)
            data[at] ^= 1 << (at // 16 + at) % 8
            with pytest.raises(VerificationRefused) as caught:
                verify_session(
                    bytes(data), policy=policy(), connection=WORLD.connection(EXPORTER, SPKI, now=NOW)
                )
            assert {check.id for check in caught.value.verdict.failed} - known

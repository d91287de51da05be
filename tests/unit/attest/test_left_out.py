"""What a verifier may leave out: everything but signatures, chains and revocation, and never these."""

from collections.abc import Callable

import pytest

from sottovoce.attest.nvidia.verify import NVIDIA_CHAIN_ONLY, NVIDIA_RULE_NAMES, verify_gpus
from sottovoce.attest.paravisor.verify import PARAVISOR_CHAIN_ONLY, verify_paravisor
from sottovoce.attest.policyfile import built_in
from sottovoce.attest.snp.verify import SNP_CHAIN_ONLY, SNP_REPORT_RULES, verify_report
from sottovoce.attest.tdx.rules import TDX_RULES
from sottovoce.attest.tdx.verify import TDX_CHAIN_ONLY, verify_quote
from sottovoce.core.errors import DecodeError, UsageError

STRICT = built_in("strict")


def snp(left_out: frozenset[str]) -> None:
    verify_report(b"", b"", intermediates=(), policy=STRICT.snp, now=0, left_out=left_out)


def tdx(left_out: frozenset[str]) -> None:
    verify_quote(b"", b"", policy=STRICT.tdx, now=0, left_out=left_out)


def paravisor(left_out: frozenset[str]) -> None:
    verify_paravisor(b"", b"", intermediates=(), policy=STRICT.snp, now=0, left_out=left_out)


def nvidia(left_out: frozenset[str]) -> None:
    verify_gpus(b"", policy=STRICT.nvidia, now=0, left_out=left_out)


@pytest.mark.parametrize(
    ("verify", "most", "kept"),
    [
        (snp, SNP_CHAIN_ONLY, SNP_REPORT_RULES.keys() - SNP_CHAIN_ONLY),
        (tdx, TDX_CHAIN_ONLY, TDX_RULES.keys() - TDX_CHAIN_ONLY),
        (paravisor, PARAVISOR_CHAIN_ONLY, SNP_REPORT_RULES.keys() - SNP_CHAIN_ONLY),
        (nvidia, NVIDIA_CHAIN_ONLY, NVIDIA_RULE_NAMES - NVIDIA_CHAIN_ONLY),
    ],
)
def test_what_is_signed_by_whom_is_never_left_out(
    verify: Callable[[frozenset[str]], None], most: frozenset[str], kept: frozenset[str]
) -> None:
    assert len(kept) >= 4
    for check in kept:
        with pytest.raises(UsageError, match="never left out"):
            verify(frozenset({check}))
    with pytest.raises(DecodeError):  # nothing was given that could be verified
        verify(most)


def test_only_one_built_in_policy_leaves_out_anything() -> None:
    most = (SNP_CHAIN_ONLY, PARAVISOR_CHAIN_ONLY, TDX_CHAIN_ONLY, NVIDIA_CHAIN_ONLY)
    for policy, left_out in ((built_in("chain-only"), most), (STRICT, (frozenset(),) * len(most))):
        each = (
            policy.snp_left_out,
            policy.paravisor_left_out,
            policy.tdx_left_out,
            policy.nvidia_left_out,
        )
        assert each == left_out

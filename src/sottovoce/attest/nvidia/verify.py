"""GPUs and switches on their own, without a session: what signatures, certificates, manifests and fields say.

    verdict = verify_gpus(evidence_json, nonce=nonce, rims=(driver, vbios), policy=NvidiaPolicy(roots=nvidia_roots()), now=now)
    if verdict.accepted: ...

In a session the nonce comes from the connection: `attest.nvidia.session`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sottovoce.attest.nvidia.appraisal import appraise_device, appraise_together, device_names
from sottovoce.attest.nvidia.demands import Demands, Lines, References
from sottovoce.attest.nvidia.evidence import parse_evidence
from sottovoce.attest.nvidia.layout import NONCE
from sottovoce.attest.nvidia.manifest import unwrapped
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.rules import GPU_RULES, LIST_RULES, SWITCH_RULES, device_rules
from sottovoce.attest.verdict import Checklist, Verdict
from sottovoce.core.errors import UsageError

__all__ = ["NVIDIA_CHAIN_ONLY", "NVIDIA_RELAXABLE", "NVIDIA_RULE_NAMES", "verify_gpus"]

NVIDIA_RULE_NAMES: Final = frozenset({*GPU_RULES, *SWITCH_RULES, *LIST_RULES})
"""The names that stand behind `device/` in a verdict's ids; those of `LIST_RULES` stand alone."""
NVIDIA_RELAXABLE: Final = frozenset(
    {
        "nvidia-driver-rim-dates",
        "nvidia-vbios-rim-dates",
        "nvidia-mode",
        "nvidia-locked",
        "nvidia-fabric",
    }
)
"""What a policy may relax for devices on their own, for all of them. Signatures, chains and measurements are never relaxed."""
_SIGNATURES: Final = frozenset(
    {
        "nvidia-report",
        "nvidia-chain",
        "nvidia-chain-dates",
        "nvidia-revoked",
        "nvidia-revocation-service",
        "nvidia-architecture",
        "nvidia-signature",
        "nvidia-distinct",
    }
)
NVIDIA_CHAIN_ONLY: Final = NVIDIA_RULE_NAMES - _SIGNATURES
"""What the policy `chain-only` leaves out: everything but signatures, chain and revocation."""
_REFERENCES: Final = frozenset({"nvidia-rim-conflict", "nvidia-measurements"}) | {
    f"nvidia-{part}-rim{suffix}" for part in ("driver", "vbios") for suffix in ("", "-dates")
}


def verify_gpus(
    evidence: bytes,
    *,
    nonce: bytes | None = None,
    rims: Sequence[bytes] = (),
    policy: NvidiaPolicy,
    now: int,
    relaxed: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
) -> Verdict:
    """Every check of every device in `evidence`, the JSON of the vendor's tools, at `now`, unix seconds.

    `nonce` is the one demanded, 32 bytes; `rims` are reference manifests (XML, or the answer of the vendor's service around it).
    Without any the lines that need them stand as not checked. `relaxed` and `left_out` are names of checks without a device.

    Raises:
        DecodeError: an input is not what it should be at all, so that there is nothing to judge.
        UsageError: `relaxed` or `left_out` names a check that cannot be relaxed or left out, or the nonce has a wrong length.
    """
    if not relaxed <= NVIDIA_RELAXABLE:
        raise UsageError("a policy relaxes a check that cannot be relaxed")
    if not left_out <= NVIDIA_CHAIN_ONLY:
        raise UsageError("a policy leaves out a check that is never left out")
    if nonce is not None and len(nonce) != NONCE:
        raise UsageError("the expected nonce must have 32 bytes")
    shown = parse_evidence(evidence)
    references = References.of(tuple(map(unwrapped, rims)), policy.roots.manifests)
    given = ({"nvidia-nonce"} if nonce is not None else set()) | (_REFERENCES if rims else set())
    names = device_names(shown)
    rules = device_rules(names)
    checks = Checklist(
        rules,
        relaxed=_expanded(relaxed, rules),
        lowered=_expanded(policy.lowered, rules),
        left_out=_expanded(left_out - given, rules),
    )
    demands = Demands(policy=policy, nonce=nonce, references=references, now=now)
    devices = [
        appraise_device(one, demands, Lines(checks, name))
        for one, (name, _) in zip(shown, names, strict=True)
    ]
    appraise_together(devices, checks)
    return checks.verdict()


def _expanded(checks: frozenset[str], ids: Iterable[str]) -> frozenset[str]:
    return frozenset(one for one in ids if one.rpartition("/")[2] in checks)

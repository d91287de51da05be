"""What a verifier demands. An empty policy cannot be written down; an unknown name in it is an error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sottovoce.attest.simulated import SIMULATED_PRODUCT
from sottovoce.attest.snp.floors import FLOORS, Floor
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES
from sottovoce.core.errors import UsageError
from sottovoce.tlog.entries import ROLES
from sottovoce.tlog.policy import LogPolicy

if TYPE_CHECKING:
    from sottovoce.attest.nvidia.policy import NvidiaPolicy

__all__ = [
    "ACCEPTED_PRODUCTS",
    "ACCEPTED_STATUSES",
    "BACKEND_ROLES",
    "NVIDIA_PRODUCTS",
    "RELAXABLE",
    "SIMULATED_NVIDIA_PRODUCTS",
    "SIMULATED_PRODUCT",
    "TDX_PRODUCT",
    "Root",
    "SessionPolicy",
    "SnpPolicy",
    "TdxPolicy",
    "platform_policies",
]

BACKEND_ROLES: Final = ("predictor", "guard")
RELAXABLE: Final = frozenset(
    {
        "policy-smt",
        "policy-cxl",
        "policy-single-socket",
        "policy-aes-256-xts",
        "policy-rapl",
        "policy-ciphertext-hiding",
        "platform-smt",
        "platform-rapl",
        "platform-ciphertext-hiding",
        "platform-alias-check",
        "product",
        "tdx-perfmon",
    }
)
"""Checks that some platforms cannot offer (protocol 6.6). No other check can be relaxed at all."""

TDX_PRODUCT: Final = "TDX"
"""What stands for every processor of Intel's: which it is, the collateral knows."""

NVIDIA_PRODUCTS: Final = ("NVIDIA", "NVIDIA manifests")
"""What stands for the root over every GPU and switch, and for the root over the signers of reference manifests."""
SIMULATED_NVIDIA_PRODUCTS: Final = ("Simulated NVIDIA", "Simulated NVIDIA manifests")

ACCEPTED_PRODUCTS: Final = frozenset({"Genoa", "Siena", "Turin", SIMULATED_PRODUCT})
"""Not Milan: it can hide no ciphertext (protocol 6.2). Simulated hardware still needs its root in the policy."""
ACCEPTED_STATUSES: Final = frozenset({"UpToDate"})
"""Intel's words for patch levels that the strict policy accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A vendor's root certificate (DER) for one product line."""

    product: str
    ark_der: bytes

    def __post_init__(self) -> None:
        if not self.product or not self.ark_der:
            raise UsageError("a root needs a product and a certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """The demands on a report and its certificates.

    Attributes:
        floors: part (`snp.floors.PARTS`) → lowest accepted patch levels; a part without one is refused.
        tightened: optional checks that must pass; names of `snp.rules.SNP_OPTIONAL_RULES` only.
    """

    roots: tuple[Root, ...]
    products: frozenset[str] = ACCEPTED_PRODUCTS
    floors: Mapping[str, Floor] = field(default_factory=lambda: FLOORS)
    tightened: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.roots or len({root.product for root in self.roots}) != len(self.roots):
            raise UsageError("a policy needs one root for each product")
        if not self.products or not self.floors:
            raise UsageError("a policy needs products and floors")
        if not self.tightened <= SNP_OPTIONAL_RULES.keys():
            raise UsageError("a policy demands a check that there is not")

    @property
    def lowered(self) -> frozenset[str]:
        """The checks that pass where the strict policy has them fail, by what this policy accepts."""
        lowered = {
            "product": not self.products <= ACCEPTED_PRODUCTS,
            "tcb-floor": any(
                part not in FLOORS or not floor.tcb.at_least(FLOORS[part].tcb)
                for part, floor in self.floors.items()
            ),
        }
        return frozenset(check for check, is_so in lowered.items() if is_so)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy:
    """The demands on a quote and its collateral.

    Attributes:
        root: the certificate that all of Intel's signatures lead to (DER).
        statuses: Intel's words for patch levels that are accepted.
        advisories: Intel's advisories that are accepted although they apply.
        evaluation: the lowest accepted number of Intel's evaluation of patch levels; None where none is demanded.
        simulated: the root is one of simulated hardware.
    """

    root: bytes
    statuses: frozenset[str] = ACCEPTED_STATUSES
    advisories: frozenset[str] = frozenset()
    evaluation: int | None = None
    simulated: bool = False

    def __post_init__(self) -> None:
        if not self.root or not self.statuses:
            raise UsageError("a policy needs a root and an accepted status")

    @property
    def lowered(self) -> frozenset[str]:
        """The checks that pass where the strict policy has them fail, by what this policy accepts."""
        lowered = {
            "tdx-tcb-status": not self.statuses <= ACCEPTED_STATUSES,
            "tdx-advisories": bool(self.advisories),
        }
        return frozenset(check for check, is_so in lowered.items() if is_so)


def platform_policies(
    roots: Iterable[Root],
) -> "tuple[SnpPolicy, TdxPolicy | None, NvidiaPolicy | None]":
    """The strict policies of the platforms and accelerators whose roots are given, one root for each product.

    Raises:
        UsageError: no root of AMD's, two for one product, or one of NVIDIA's two without the other.
    """
    by_product: dict[str, bytes] = {}
    for root in roots:
        if root.product in by_product:
            raise UsageError("a policy needs one root for each product")
        by_product[root.product] = root.ark_der
    tdx = by_product.pop(TDX_PRODUCT, None)
    nvidia = _nvidia(by_product)
    snp = SnpPolicy(roots=tuple(Root(product=name, ark_der=der) for name, der in by_product.items()))
    return snp, TdxPolicy(root=tdx) if tdx else None, nvidia


def _nvidia(by_product: dict[str, bytes]) -> "NvidiaPolicy | None":
    genuine, simulated = (
        tuple(by_product.pop(name, b"") for name in names)
        for names in (NVIDIA_PRODUCTS, SIMULATED_NVIDIA_PRODUCTS)
    )
    if not any(genuine + simulated):
        return None
    if any(genuine) and any(simulated):
        raise UsageError("a policy pins genuine accelerators or simulated ones, not both")
    from sottovoce.attest.nvidia.policy import NvidiaPolicy, NvidiaRoots  # noqa: PLC0415 - only who pins GPUs needs it

    devices, manifests = genuine if any(genuine) else simulated
    return NvidiaPolicy(roots=NvidiaRoots(devices=devices, manifests=manifests, simulated=any(simulated)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """The demands on one session.

    Attributes:
        environment: the name of the environment, for the report.
        role: the role that the CVM must have.
        tdx: None where a quote of Intel's is not accepted.
        nvidia: None where releases with accelerators are not accepted.
        manifests: the reference manifests (XML) at hand; a release says by digest which of them count.
        allow_simulated: whether a root of simulated hardware may be among the roots; never in production.
        relaxed: checks whose failure is shown but does not refuse; names of `RELAXABLE` only.
        require_backends: roles whose appraisals the evidence must hold; it may hold no others.
    """

    environment: str
    role: str
    snp: SnpPolicy
    allow_simulated: bool
    minimum_security_version: int
    log: LogPolicy
    require_backends: tuple[str, ...]
    relaxed: frozenset[str] = frozenset()
    tdx: TdxPolicy | None = None
    nvidia: "NvidiaPolicy | None" = None
    manifests: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if (
            not self.environment
            or self.role not in ROLES
            or not set(self.require_backends) <= set(BACKEND_ROLES)
        ):
            raise UsageError("a session policy needs an environment and known roles")
        if len(set(self.require_backends)) != len(self.require_backends):
            raise UsageError("a session policy names a back end twice")
        simulated = any(root.product == SIMULATED_PRODUCT for root in self.snp.roots)
        simulated |= self.tdx is not None and self.tdx.simulated
        simulated |= self.nvidia is not None and self.nvidia.roots.simulated
        if not self.allow_simulated and simulated:
            raise UsageError("a production policy does not hold a root of simulated hardware")
        if self.minimum_security_version < 0:
            raise UsageError("a session policy needs a lowest security version")
        if not self.relaxed <= RELAXABLE:
            raise UsageError("a session policy relaxes a check that cannot be relaxed")

"""What a verifier demands of GPUs and switches."""

from dataclasses import dataclass
from typing import Final

from sottovoce.attest.nvidia.evidence import ARCHITECTURES
from sottovoce.attest.nvidia.opaque import MODES
from sottovoce.core.errors import UsageError

__all__ = ["ACCEPTED_MODES", "NvidiaPolicy", "NvidiaRoots"]

ACCEPTED_MODES: Final = frozenset({"SPT", "MPT"})
"""Not protected PCIe: there, what Hopper GPUs send each other over NVLink is not encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaRoots:
    """The two roots (DER): one over the devices' keys, one over the signers of reference manifests."""

    devices: bytes
    manifests: bytes
    simulated: bool = False

    def __post_init__(self) -> None:
        if not self.devices or not self.manifests:
            raise UsageError("roots need two certificates")


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaPolicy:
    """The demands on GPUs and switches.

    Attributes:
        architectures: names of `evidence.ARCHITECTURES`.
        modes: values of `opaque.MODES`.
        revoked: SHA-256 digests of certificates, hex, that are not trusted any more; None if there is no such list.
    """

    roots: NvidiaRoots
    architectures: frozenset[str] = frozenset(ARCHITECTURES)
    modes: frozenset[str] = ACCEPTED_MODES
    revoked: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not self.architectures or not self.architectures <= ARCHITECTURES.keys():
            raise UsageError("a policy needs known GPU architectures")
        if not self.modes or not self.modes <= set(MODES.values()):
            raise UsageError("a policy needs known GPU modes")

    @property
    def lowered(self) -> frozenset[str]:
        """The checks that pass where the strict policy has them fail, by what this policy accepts; without a device."""
        return frozenset() if self.modes <= ACCEPTED_MODES else frozenset({"nvidia-mode"})

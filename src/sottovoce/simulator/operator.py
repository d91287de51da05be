"""What the simulated operator publishes beside directories: releases of its roles, and hosts with simulated processors."""

from dataclasses import dataclass

from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.core.limits import LIMITS
from sottovoce.simulator.pki import SimulatedChip
from sottovoce.tlog.artifactentries import Artifact
from sottovoce.tlog.entries import Host, Release

__all__ = ["Published", "host_of", "release_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a role's CVM is measured as."""

    role: str
    measurement: bytes
    artifacts: tuple[Artifact, ...] = ()


def release_of(published: Published, *, version: str, now: int) -> Release:
    """A release of the longest life that a release may have."""
    return Release(
        role=published.role,
        version=version,
        security_version=1,
        platform=SIMULATED_KIND,
        measurements=(published.measurement.hex(),),
        vmpl=0,
        artifacts=published.artifacts,
        accelerators=(),
        issued=now,
        expires=now + LIMITS.release_life,
    )


def host_of(name: str, role: str, chip: SimulatedChip) -> Host:
    """The log entry of a simulated machine."""
    return Host(
        id=name,
        role=role,
        platform=SIMULATED_KIND,
        product=SIMULATED_PRODUCT,
        hardware_id=chip.chip_id.hex(),
    )
